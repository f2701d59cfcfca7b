"""What a metric is: a pure function of a sample's moments."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from analysis.moments import Folds


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value for one trial, with what was chosen on the way."""

    value: float
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric(ABC):
    """A function of two views; higher always means "more alike".

    `held_out` tells whether it gives one score per trial, or one for the merged sample.
    """

    name: ClassVar[str]
    held_out: ClassVar[bool]

    @abstractmethod
    def score(self, folds: Folds) -> list[Score]:
        """Scores of one layer on one sample: one per trial if `held_out`, else exactly one."""

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:  # noqa: ARG002
        """What the run's metadata should keep of all the scores of an experiment."""
        return {}
