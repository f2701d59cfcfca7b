"""Two kinds of target: one labels units, the other gives each frame some numbers."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from common.arrays import Index
from common.config.analysis import AnalysisConfig
from common.narrowing import narrowed
from common.records import Corpus, Interval, StrataError, Utterance, Waveform
from common.target import FromFile, Target

if TYPE_CHECKING:  # targets are constructed with the configuration, before torch is imported
    import torch


FRAME = 320  # samples of a unit `frame` that has a label: 20 ms
HOP = 160  # samples between the rows of a frame target: 10 ms


class Segment(NamedTuple):
    """A segment of a corpus: its utterance's index, its samples, its label.

    `place`: which interval of its tier it is, or lies in, so that its neighbours can be found; -1
    where it is of no tier.
    """

    utterance: int
    start: int
    end: int
    label: str
    place: int = -1


@dataclass(frozen=True, kw_only=True)
class LabelTarget(Target):
    """A target that gives each unit of the corpus a label.

    `by_type`: units are compared with something that their label determines (a word's vector).
    Folds then keep labels apart, or a score would reward recognising the label itself.
    `numeric`: labels are numbers, which are compared by value.
    """

    by_type: ClassVar[bool] = False
    labels_units: ClassVar[bool] = True
    numeric: ClassVar[bool] = False

    def labelled_by(self, unit: str) -> str:  # noqa: ARG002
        """What gives a unit its label: a tier, `speaker`, `utterance`, …"""
        return self.name

    def unit_name(self, unit: str) -> str:
        """How draws, counts and errors call the units: "phone", or "frame by phone"."""
        by = self.labelled_by(unit)
        return unit if by == unit else f"{unit} by {by}"

    def tier_of(self, unit: str) -> str:
        """The tier whose intervals are the units, or label units `frame`; "" for none."""
        tier = self.labelled_by(unit) if unit == "frame" else unit
        return "" if tier == "utterance" else tier

    def segments(self, corpus: Corpus, unit: str, first_centre: int = FRAME // 2) -> list[Segment]:
        """Every unit of the corpus.

        `first_centre`: sample in the middle of a model's first frame, for units `frame`.
        Raises StrataError where the corpus has no such units.
        """
        tier = self.tier_of(unit)
        if tier and tier not in corpus.tiers:
            raise no_tier(corpus, tier)
        return [
            Segment(index, interval.start, interval.end, self.label(utterance, interval), place)
            for index, utterance in enumerate(corpus.utterances)
            for place, interval in intervals_of(utterance, unit, tier, first_centre)
        ]

    def label(self, utterance: Utterance, interval: Interval) -> str:  # noqa: ARG002
        """The label of a unit: its interval's. Units with the label "" are left out and counted."""
        return interval.label

    def prepared(self, labels: Collection[str], corpus: Corpus) -> Self:  # noqa: ARG002
        """The target with what it needs for these labels, the corpus's, read."""
        return self

    def known(self, labels: Collection[str]) -> Collection[str]:
        """The labels that can be drawn; others are counted as not known."""
        return labels

    def view(self, label: Index, labels: tuple[str, ...]) -> NDArray[np.floating]:  # noqa: ARG002
        """The other view (n, d) of units with label (n,) into `labels`: a column for each."""
        return one_hot(np.unique(label, return_inverse=True)[1])

    def counts(self) -> Mapping[str, int]:
        """What was left out of its file, by reason."""
        return {}


@dataclass(frozen=True, kw_only=True)
class FileTarget(FromFile, LabelTarget):
    """A target read from a file, for units that their own tier labels."""

    def labelled_by(self, unit: str) -> str:
        """The unit's own tier."""
        return unit


@dataclass(frozen=True, kw_only=True)
class FrameTarget(Target):
    """A target that gives each frame of the audio some numbers, one row every 10 ms.

    `masked`: some frames have none (rows of NaN), as unvoiced ones have no pitch; they are left
    out, with the layer's frames, and counted. `version` is bumped when the values would change.
    """

    units: ClassVar[tuple[str, ...]] = ("frame",)
    masked: ClassVar[bool] = False
    version: ClassVar[int]

    @property
    @abstractmethod
    def columns(self) -> int:
        """How many numbers a row has."""

    @abstractmethod
    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":
        """Rows (1 + n // 160, columns) of the waveform (n,) of an utterance, which is named.

        Row t is centred at sample 160 t.
        """

    def prepared(self, corpus: Corpus) -> Self:  # noqa: ARG002
        """The target with what it needs for this corpus read.

        Raises StrataError if it has no values for any of it.
        """
        return self

    def identity(self) -> object:
        """What its values depend on, apart from its name and `version`, for JSON."""
        return asdict(self)


def label_target(analysis: AnalysisConfig) -> LabelTarget:
    """The target of an analysis whose units have labels; `resolve` has constructed it."""
    return narrowed(analysis.target, LabelTarget)


def no_tier(corpus: Corpus, tier: str) -> StrataError:
    """The error where a corpus lacks a tier."""
    return StrataError(
        f"dataset {corpus.name} ({corpus.partition}) has no {tier} tier: it has "
        f"{', '.join(corpus.tiers) or 'none'}; choose an experiment on those"
    )


def one_hot(codes: Index) -> NDArray[np.float64]:
    """One-hot rows (n, codes) of numbers (n,) among 0, 1, …: a column up to the largest."""
    return np.eye(int(codes.max(initial=-1)) + 1)[codes]


def intervals_of(
    utterance: Utterance, unit: str, tier: str, first_centre: int
) -> Iterator[tuple[int, Interval]]:
    """The units of an utterance, each with its place in the tier: intervals, frames, or all of it.

    The whole utterance has place -1.
    """
    if not tier:
        yield -1, Interval(0, utterance.n_samples, utterance.id)
        return
    for place, interval in enumerate(utterance.tiers.get(tier, ())):
        for part in frames_within(interval, first_centre) if unit == "frame" else (interval,):
            yield place, part


def frames_within(interval: Interval, first_centre: int = FRAME // 2) -> Iterator[Interval]:
    """The frames of 20 ms whose centre, `first_centre` + 320 k, lies in an interval.

    Only those that lie in the audio from its start on.
    """
    half = FRAME // 2
    first = -((first_centre - interval.start) // FRAME)
    last = -((first_centre - interval.end) // FRAME)
    for k in range(first, last):
        start = first_centre - half + k * FRAME
        if start >= 0:
            yield Interval(start, start + FRAME, interval.label)
