"""Word and phone boundaries as peaks in the change from frame to frame, without training."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.metrics import peaks
from analysis.metrics.base import FrameMetric, Score
from analysis.metrics.boundaries import Counts, matches
from analysis.sampling.folds import grouped_folds
from analysis.targets.labels import Phone
from common.arrays import Array, Index, Mask
from common.config.analysis import require
from common.records import SAMPLE_RATE, Interval, StrataError
from common.seeding import generator
from common.target import Target

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

log = logging.getLogger(__name__)

CHOSEN_BY = ("r_value", "f1")
COMB_SPACINGS = range(320, SAMPLE_RATE + 1, 160)  # samples: 20 ms to 1 s


@dataclass(frozen=True, eq=False)
class Line:
    """Boundaries of u utterances end to end, in half samples, with gaps wider than the tolerance.

    utterance (p,), position (p,), ascending.
    """

    utterance: Index
    position: Index

    def where(self, chosen: Mask) -> Index:
        """Positions of the boundaries in the chosen utterances (u,)."""
        return self.position[chosen[self.utterance]]


@dataclass(frozen=True)
class Segmentation(FrameMetric):
    """R-value of boundaries found as peaks in the dissimilarity of neighbouring frames. At most 1.

    Pasad et al., arXiv 2307.00162, section 4: frames z-scored per dimension, cosine or Euclidean
    distance of neighbours, moving average, peaks of some prominence. The three settings are chosen
    on one half of the speakers (whose frames also give the z-scores), by the figure `chosen_by`,
    `r_value` or `f1`, and reported on the other half; the published script reports the best F1 on
    the data it was chosen on.

    F1, the figure of the papers, rewards boundaries that are everywhere: on ten speakers of real
    speech (hubert_tiny) combs chosen by it, with three and eight times as many boundaries as there
    are, have .447 of phones and .220 of words, where T0 has .398 and .204. The R-value (Räsänen et
    al. 2009) of these combs is -0.9 and -4.9; chosen by it, T0 has .480 and .331, the best comb
    .402 and .324. So it is the primary figure, and the control `comb` stands beside it: boundaries
    at equal distances from the start of each recording, the distance chosen as settings are.

    A reference boundary is the start or end of a unit of the tier, each moment once; those at the
    edges of the recording are left out. It is matched with at most one peak within `tolerance_ms`,
    a peak with at most one boundary. A peak lies halfway between the centres of the two frames it
    parts. (The published script puts it at the start of the first: for frames of 25 ms every 20 ms
    that is 22.5 ms too early, or 12.5 ms where an even number of distances is averaged.)

    Secondary figures: F1, precision, recall and over-segmentation.
    """

    windows: tuple[int, ...]
    prominences: tuple[float, ...]
    distances: tuple[peaks.Distance, ...]
    tolerance_ms: float
    chosen_by: str
    name: ClassVar[str] = "boundary_r_value"
    family: ClassVar[str] = "segmentation"
    held_out: ClassVar[bool] = False
    baseline_name: ClassVar[str] = "comb"

    def __post_init__(self) -> None:
        for key, kind in (("windows", int), ("prominences", float), ("distances", str)):
            object.__setattr__(self, key, tuple(map(kind, getattr(self, key))))
            if not getattr(self, key):
                raise StrataError(f"metric.{key} is empty: give at least one value to try")
        if min(self.windows) < 1 or min(self.prominences) < 0:
            raise StrataError(
                f"metric.windows={list(self.windows)}, metric.prominences={list(self.prominences)}:"
                " a window averages 1 or more distances, a prominence is 0 or more"
            )
        if unknown := set(self.distances) - set(peaks.DISTANCES):
            raise StrataError(
                f"metric.distances has {sorted(unknown)}: use {', '.join(peaks.DISTANCES)}"
            )
        require("metric.chosen_by", self.chosen_by, CHOSEN_BY)
        if not 0 < self.tolerance_ms < 1000:
            raise StrataError(f"metric.tolerance_ms={self.tolerance_ms}: use 20, or 1 to 999")

    @property
    def tolerance(self) -> int:
        """Half samples that a peak may be away from its boundary."""
        return round(2 * self.tolerance_ms * SAMPLE_RATE / 1000)

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes frames of whole utterances, against a tier."""
        return unit == "frame" and isinstance(target, Phone)

    def check(self, frames: "Frames") -> None:
        """Raise unless there are two halves of speakers, with boundaries in both."""
        check_reference(frames, reference_line(frames), tuning_half(frames))

    def score(self, frames: "Frames") -> list[Score]:
        """Choose the setting on one half of the speakers, report on the other."""
        tuning = tuning_half(frames)
        rows = np.repeat(tuning, np.diff(frames.offsets))
        curves = peaks.dissimilarities(frames, peaks.fit_scaling(frames, rows))
        reference = reference_line(frames)
        check_reference(frames, reference, tuning)
        return self.reported(self.grid(frames, curves), reference, tuning)

    def baseline(self, frames: "Frames") -> list[Score]:
        """The best comb on the tuning half: a baseline that hears neither speech nor model."""
        reference, tuning = reference_line(frames), tuning_half(frames)
        check_reference(frames, reference, tuning)
        return self.reported(combs(frames), reference, tuning)

    def reported(
        self, grid: Iterable[tuple[str, Line]], reference: Line, tuning: Mask
    ) -> list[Score]:
        """The figures, on the test half, of what scores best on the tuning half (u,)."""
        best, highest, line = "", -np.inf, None
        for setting, found in grid:
            counts = self.count(found, reference, tuning)
            score = counts.f1 if self.chosen_by == "f1" else counts.r_value
            if counts.found and score > highest:
                best, highest, line = setting, score, found
        if line is None:
            raise StrataError("no setting finds a boundary on the tuning speakers: widen the grid")
        return figures(self.count(line, reference, ~tuning), best, highest)

    def grid(
        self, frames: "Frames", curves: dict[peaks.Distance, Array]
    ) -> Iterator[tuple[str, Line]]:
        """Peaks of every setting, by its name; those of all prominences come from one search."""
        for distance in self.distances:
            for window in self.windows:
                found = peaks.peaks(curves[distance], frames.offsets, window)
                half = peaks.half_samples(found.index, window, frames.geometry)
                position = starts(frames)[found.utterance] + half
                for prominence in self.prominences:
                    kept = found.prominence >= prominence
                    line = Line(found.utterance[kept], position[kept])
                    yield f"{distance}, window {window}, prominence {prominence:g}", line

    def count(self, found: Line, reference: Line, chosen: Mask) -> Counts:
        """Matches in the chosen utterances (u,)."""
        ours, theirs = found.where(chosen), reference.where(chosen)
        return Counts(len(ours), len(theirs), matches(ours, theirs, self.tolerance))

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """Which settings were chosen, and how often."""
        chosen = Counter(s.detail["setting"] for s in scores if s.metric == "")
        log.info(
            "%s: chosen on the tuning speakers: %s",
            experiment,
            "; ".join(f"{setting} x {n}" for setting, n in chosen.most_common(3)),
        )
        return {"settings_chosen": dict(chosen)}


def combs(frames: "Frames") -> Iterator[tuple[str, Line]]:
    """Boundaries every `spacing` samples of each recording, for spacings of 20 ms to a second."""
    for spacing in COMB_SPACINGS:
        counts = (frames.n_samples - 1) // spacing
        utterance = np.repeat(np.arange(len(counts)), counts)
        position = starts(frames)[utterance] + 2 * spacing * (1 + peaks.ramps(counts))
        yield f"every {1000 * spacing / SAMPLE_RATE:g} ms", Line(utterance, position)


def figures(counts: Counts, setting: str, tuning_score: float) -> list[Score]:
    """The R-value first, the secondary figures after it."""
    detail = {
        "setting": setting,
        "tuning_score": f"{tuning_score:.4f}",
        "found": str(counts.found),
        "reference": str(counts.reference),
    }
    return [
        Score(counts.r_value, detail=detail),
        Score(counts.f1, metric="boundary_f1"),
        Score(counts.precision, metric="boundary_precision"),
        Score(counts.recall, metric="boundary_recall"),
        Score(counts.over_segmentation, metric="over_segmentation"),
    ]


def tuning_half(frames: "Frames") -> Mask:
    """Utterances (u,) that settings are chosen on: those of a random half of the speakers."""
    frames.refuse_nameless("settings are chosen on one half of the speakers")
    speakers = [utterance.speaker for utterance in frames.utterances]
    if len(set(speakers)) < 2:
        raise StrataError(
            f"{len(speakers)} utterances of {len(set(speakers))} speaker: settings are chosen on "
            "one half of the speakers and reported on the other; use more speakers"
        )
    rng = generator(frames.seed, "tuning half")
    return grouped_folds(speakers, 2, "speaker", rng) == 0


def boundaries(intervals: tuple[Interval, ...], n_samples: int) -> list[int]:
    """Moments, in samples, where a unit starts or ends inside a recording of `n_samples`."""
    moments = {moment for interval in intervals for moment in (interval.start, interval.end)}
    return sorted(moment for moment in moments if 0 < moment < n_samples)


def starts(frames: "Frames") -> Index:
    """Where each utterance (u,) begins on the line, in half samples.

    Ten seconds of room keep neighbours out of reach: frames and their smoothed peaks may lie a
    little outside the audio, and a tolerance is less than one second.
    """
    lengths = 2 * (frames.n_samples + 10 * SAMPLE_RATE)
    return np.cumsum(lengths) - lengths


def reference_line(frames: "Frames") -> Line:
    """The reference's boundaries of every utterance."""
    each = [
        boundaries(utterance.tiers[frames.tier], int(n))
        for utterance, n in zip(frames.utterances, frames.n_samples, strict=True)
    ]
    utterance = np.repeat(np.arange(len(each)), [len(moments) for moments in each])
    position = np.array([moment for moments in each for moment in moments], dtype=np.int64)
    return Line(utterance, starts(frames)[utterance] + 2 * position)


def check_reference(frames: "Frames", reference: Line, tuning: Mask) -> None:
    """Raise unless both halves have boundaries to find."""
    for half, chosen in (("tuning", tuning), ("test", ~tuning)):
        if len(reference.where(chosen)) == 0:
            raise StrataError(
                f"the {half} half of the speakers ({int(chosen.sum())} utterances) has no "
                f"{frames.tier} boundary inside a recording: use more speech"
            )
