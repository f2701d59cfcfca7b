"""What the configuration and the results know of a metric; `analysis/metrics` holds the metrics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from common.target import Target


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value for one trial, with what was chosen on the way.

    `metric`: "" for the experiment's primary figure, else the name of a secondary figure, which
    gets rows of its own in the results but is neither in the table nor in the plot. `low` and
    `high`: a 95 % interval, where there is one. `weighted`: which view's columns weigh the
    directions of a CCA, "layer" or "target", where a metric weighs them; else "". `pairs`: the
    number of pairs behind a rank correlation.
    """

    value: float
    metric: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    weighted: str = ""
    pairs: int | None = None


@dataclass(frozen=True)
class Metric(ABC):
    """A function of a layer and a target; higher always means "more alike".

    `held_out` says whether it gives one score per trial, or one for the merged sample. Metrics
    of one `family` can stand in for each other: `metric=X` reaches the analyses whose own metric
    is of X's family. Derive from the classes of `analysis.metrics.base`, which say what a metric
    consumes.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    held_out: ClassVar[bool]
    reads_frames: ClassVar[bool] = False  # of whole utterances or units, one after another

    @abstractmethod
    def accepts(self, unit: str, target: Target) -> bool:
        """Whether it can score units of this kind against this target."""

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:  # noqa: ARG002
        """What the run's metadata should keep of all the scores of an experiment."""
        return {}
