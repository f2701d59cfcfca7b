"""What a metric is: a pure function of moments, of pooled units or of whole frames."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.intervals import no_fold_interval, no_jackknife
from analysis.metrics.units import Units
from analysis.moments import Folds
from analysis.targets.base import FrameTarget, LabelTarget
from analysis.targets.layers import SecondModel
from analysis.targets.word_vectors import WordVectors
from common.metric import Metric, Score
from common.records import StrataError
from common.seeding import generator
from common.target import FromFile, Target

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

__all__ = [
    "FrameMetric",
    "LabelledMetric",
    "LayersMetric",
    "Metric",
    "MomentMetric",
    "Score",
    "UnitMetric",
    "ViewMetric",
]


def is_label(target: Target) -> bool:
    """Whether a target is the label itself of a unit, and one of some classes."""
    if not isinstance(target, LabelTarget) or isinstance(target, FromFile | SecondModel):
        return False
    return not target.numeric


def takes_two_views(unit: str, target: Target) -> bool:
    """Whether two views are compared: frames with frames, or units with what their labels mean."""
    if isinstance(target, SecondModel | FrameTarget):
        return True
    if isinstance(target, FromFile) and not isinstance(target, WordVectors):
        return False
    return isinstance(target, LabelTarget) or unit == "frame"


@dataclass(frozen=True)
class MomentMetric(Metric):
    """A function of the moments of two views: CCA, CKA."""

    family: ClassVar[str] = "similarity"
    has_interval: ClassVar[bool] = False  # whether it can give one
    on_devices: ClassVar[bool] = False  # whether it takes moments that lie on a GPU

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes any two views."""
        return takes_two_views(unit, target)

    @abstractmethod
    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:
        """Scores of one layer on one sample: one per trial if `held_out`, else exactly one.

        `with_interval`: the folds keep speakers apart, so that a metric which knows how can give
        each of the scores the 95 % interval over test speakers of the sample's mean.
        """

    def no_interval(self, split: str, trials: int, speakers: int) -> str:
        """Why scores of `trials` test folds and `speakers` tested have no 95 % interval, or ""."""
        if not self.has_interval:
            return f"{self.name} has none over speakers"
        return no_fold_interval(split, trials, speakers)


@dataclass(frozen=True)
class ViewMetric(Metric):
    """A function of two views of the same units, row by row: distances, neighbours.

    `rows`: how many units of a sample are compared at most, since pairs of units grow with their
    square.
    """

    family: ClassVar[str] = "similarity"
    held_out: ClassVar[bool] = False
    rows: int

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes the same two views as a metric of moments."""
        return takes_two_views(unit, target)

    def score(self, x: NDArray[np.floating], y: NDArray[np.floating], seed: int) -> list[Score]:
        """Scores of at most `rows` units of a sample, drawn with its seed: x (n, dx), y (n, dy)."""
        if len(x) > self.rows:
            chosen = generator(seed, "rows of views").permutation(len(x))[: self.rows]
            x, y = x[chosen], y[chosen]
        return self.score_views(x, y)

    @abstractmethod
    def score_views(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> list[Score]:
        """Scores of the layer x (n, dx) and the target y (n, dy): the primary figure first."""


@dataclass(frozen=True)
class LabelledMetric(Metric):
    """A function of pooled vectors and their labels: of each layer's, or of all layers' together.

    Derive from `UnitMetric` or `LayersMetric`. `interval_over_folds`: the interval of its primary
    figure is from leaving out each fold of speakers in turn (`intervals.over_folds`).
    """

    interval_over_folds: ClassVar[bool] = False

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes units of any kind, with labels that the corpus itself gives."""
        return is_label(target)

    def check(self, units: Units) -> None:
        """Raise a StrataError if these units, still without vectors (n, 0), cannot be scored.

        Called for every sample before the forward pass.
        """

    def no_interval(self, units: Units) -> str:
        """Why scores of these units, maybe without vectors, have no 95 % interval; "" if they do.

        The interval is over test speakers, with the fit held fixed.
        """
        if self.interval_over_folds:
            return no_jackknife(units)
        return f"{self.name} has none over speakers"

    def without_controls(self) -> Mapping[str, str]:
        """Controls that do not apply to it, and why."""
        return {}

    def refuse_partitions(self, units: Units) -> None:
        """Raise where a fit_partition was given, for a metric that does not fit on one."""
        if not units.scored.all():
            raise StrataError(
                f"{self.name} fits on no partition of its own: leave fit_partition and "
                "score_partition out, or give both the same name"
            )


@dataclass(frozen=True)
class UnitMetric(LabelledMetric):
    """A function of pooled vectors of one layer and their labels."""

    @abstractmethod
    def score(self, units: Units) -> list[Score]:
        """Scores of one layer on one sample: the primary figure, then secondary figures."""


@dataclass(frozen=True)
class LayersMetric(LabelledMetric):
    """A function of pooled vectors of all layers of one dimension together, and their labels."""

    def without_controls(self) -> Mapping[str, str]:
        """Mel has no layers to weight."""
        return {"mel": "mel is one view, and the weights are of many"}

    @abstractmethod
    def score(self, layers: Mapping[str, Units]) -> Mapping[str, list[Score]]:
        """Scores of every layer on one sample: the primary figure, then secondary figures.

        `layers`: the same units in each layer, by its name.
        """


@dataclass(frozen=True)
class FrameMetric(Metric):
    """A function of the frames of utterances or segments.

    `baseline_name`: the name of a control that needs no frames; "" for a metric without one.
    `no_shuffled_labels`: why whole utterances have no control with shuffled labels.
    """

    reads_frames: ClassVar[bool] = True
    baseline_name: ClassVar[str] = ""
    no_shuffled_labels: ClassVar[str] = "frames are compared with boundaries: there are no labels"

    def check(self, frames: "Frames") -> None:
        """Raise a StrataError if these segments, still without frames (0, 0), cannot be scored.

        Called for every sample before the forward pass.
        """

    def no_interval(self, frames: "Frames") -> str:  # noqa: ARG002
        """Why scores of these segments, still without frames, have no 95 % interval; "" if they do.

        Called for every sample before the forward pass.
        """
        return f"{self.name} has none over speakers"

    def baseline(self, frames: "Frames") -> list[Score]:  # noqa: ARG002
        """Scores of the control `baseline_name` on one sample, whatever the frames are."""
        return []

    @abstractmethod
    def score(self, frames: "Frames") -> list[Score]:
        """Scores of one layer on one sample: the primary figure, then secondary figures."""
