"""How much of a frame is unchanged when the audio farther away is cut off?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import over_folds
from analysis.metrics.units import Units
from analysis.targets.cut_audio import WHOLE, CutAudio
from common.arrays import Array, Mask
from common.narrowing import narrowed
from common.records import StrataError
from common.target import Target

LEAST = 10  # frames


@dataclass(frozen=True)
class ContextKept(UnitMetric):
    """Share of the frames' variance that is left when the context is cut to `width`. (-inf, 1].

    Effective context by truncation (Meng, Goldwater & Tang 2025, arXiv 2505.22487): the distance of
    a frame of the whole utterance from the same frame computed from a window around it. Here
    1 - (mean squared distance) / (variance of the frames of whole utterances): 1 where a layer uses
    nothing outside the window, 0 where a cut frame is no nearer to the whole one than the mean of
    all frames is, whatever the layer's scale.

    `context_kept_WIDTH` is the same for each of the target's widths, in seconds on each side; the
    primary figure is that of `width`.

    Traps. Models that normalise an utterance (its waveform, or by group norm in the first
    convolution) change every frame, however far away the cut is. Few utterances of the training
    data begin in the middle of speech, so some of the change comes from an unusual input, not from
    lost context. One frame of each utterance is drawn, so the samples of a run are the same frames.

    The 95 % interval is over speakers: the jackknife over folds that keep these apart.
    """

    name: ClassVar[str] = "context_kept"
    family: ClassVar[str] = "context"
    held_out: ClassVar[bool] = False
    interval_over_folds: ClassVar[bool] = True

    width: float

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes frames with their cuts."""
        return isinstance(target, CutAudio)

    def without_controls(self) -> Mapping[str, str]:
        """There are no labels to shuffle."""
        return {"shuffled_labels": "frames are compared with themselves: there are no labels"}

    def check(self, units: Units) -> None:
        """Raise unless there are frames, and the width is among the target's."""
        self.refuse_partitions(units)
        labels = narrowed(units.target, CutAudio).labels()
        if f"{self.width:g}" not in labels:
            raise StrataError(
                f"metric.width={self.width:g}: it is not among target.widths "
                f"({', '.join(labels[1:])}): only windows of these widths were encoded"
            )
        if len(units.label) < LEAST * len(labels):
            raise StrataError(
                f"{len(units.label) // len(labels)} frames were drawn, {LEAST} are needed: use "
                "more speech, or narrower target.widths"
            )

    def score(self, units: Units) -> list[Score]:
        """The sample's score, then that of every width."""
        cuts = frames_of(units)
        whole = cuts.pop(WHOLE)
        kept = {label: share_kept(whole, cut) for label, cut in cuts.items()}
        width = f"{self.width:g}"
        of_whole = units.label == units.labels.index(WHOLE)

        def kept_of(rows: Mask) -> float:
            return share_kept(whole[rows[of_whole]], cuts[width][rows[of_whole]])

        low, high = over_folds(units, kept[width], kept_of)
        secondary = [Score(value, f"{self.name}_{label}") for label, value in kept.items()]
        return [Score(kept[width], low=low, high=high), *secondary]


def frames_of(units: Units) -> dict[str, Array]:
    """Vectors (n, d) of the same n frames, for each cut; frames that lack one are left out."""
    labels = narrowed(units.target, CutAudio).labels()
    frame = units.utterance // len(labels)  # a frame's cuts come one after another
    codes = [units.labels.index(label) for label in labels]
    cut_frames = [frame[units.label == code] for code in codes]
    common = np.array([k for k in cut_frames[0] if all(k in other for other in cut_frames[1:])])
    rows = {
        label: np.flatnonzero((units.label == code) & np.isin(frame, common))
        for label, code in zip(labels, codes, strict=True)
    }
    return {label: units.vectors[chosen].astype(np.float64) for label, chosen in rows.items()}


def share_kept(whole: Array, cut: Array) -> float:
    """1 - (mean squared distance of rows (n, d)) / (variance of the rows of `whole`)."""
    variance = ((whole - whole.mean(0)) ** 2).sum()
    if not variance > 0:
        raise StrataError(f"{len(whole)} frames are all the same: their context cannot be measured")
    return float(1 - ((whole - cut) ** 2).sum() / variance)
