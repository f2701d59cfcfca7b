"""Frames of segments on disk: of words and the like, or of whole utterances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.units import shuffled_labels
from analysis.sampling.segments import Segments
from common.arrays import Index, Mask
from common.cache.cache import Entry
from common.encoder.frames import FrameGeometry
from common.records import StrataError, Utterance, without_speaker

VERSION = 2  # bumped when the frames that are stored, or taken, would be others


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of u segments in one layer of one sample.

    `segments` has u rows: labelled units, or whole utterances without labels. Segment k lies in
    `utterances[k]`, whose audio has `n_samples[k]` samples; it has `offsets[k + 1] - offsets[k]`
    frames. `hidden` (R, d), memory-mapped, holds them from row `starts[k]` on, and perhaps those of
    other samples. `seed` is that of the sample; `tier` is the one that is analysed. Trial
    t < `trials` tests on fold t, where a metric is held out.
    """

    hidden: NDArray[np.floating]
    starts: Index
    offsets: Index
    geometry: FrameGeometry
    segments: Segments
    utterances: tuple[Utterance, ...]
    n_samples: Index
    tier: str
    seed: int
    trials: int = 1

    @property
    def fold(self) -> Index:
        """The fold (u,) of each segment in this sample."""
        (fold,) = self.segments.folds
        return fold

    @property
    def shape(self) -> tuple[int, int]:
        """Frames of all segments together, and their dimensions."""
        return int(self.offsets[-1]), int(self.hidden.shape[1])

    def refuse_nameless(self, why: str) -> None:
        """Raise where the speaker of an utterance is not known; `why` speakers are needed."""
        if nameless := without_speaker(self.utterances):
            raise StrataError(f"{why}, but {nameless}")

    def of(self, segment: int) -> NDArray[np.floating]:
        """Frames (t, d) of a segment."""
        length = self.offsets[segment + 1] - self.offsets[segment]
        return self.hidden[self.starts[segment] : self.starts[segment] + length]

    def shuffled(self) -> "Frames":
        """The same with labels permuted among the segments, which stay where they are.

        What a metric then finds is its chance level.
        """
        label = shuffled_labels(self.segments.label, self.seed)
        return replace(self, segments=replace(self.segments, label=label))

    def read(self, start: int, end: int) -> NDArray[np.floating]:
        """Frames [start, end) of all segments one after another."""
        first, last = np.searchsorted(self.offsets, [start, end - 1], side="right") - 1
        parts = [self.of(k) for k in range(first, last + 1)]
        skipped = start - self.offsets[first]
        return np.concatenate(parts)[skipped : skipped + end - start]


def segments_with_frames(entry: Entry, layers: Iterable[str]) -> Mask:
    """Which segments (s,) have a frame in each of these layers.

    An experiment takes those that all of its layers have, whatever else the entry holds by now.
    """
    rows = [entry.load(f"{layer}.rows")["rows"] for layer in layers]
    return np.logical_and.reduce([span[:, 1] > 0 for span in rows])


def load_frames(
    entry: Entry,
    layer: str,
    geometry: FrameGeometry,
    segments: Segments,
    chosen: Index,
    utterances: Sequence[Utterance],
    tier: str,
    seed: int,
) -> Frames:
    """Frames of the `chosen` rows (c,) of `segments` in a layer; those without any are left out.

    `geometry`: of the rows as they were stored. `utterances` are the corpus's.
    """
    stored = entry.load(f"{layer}.rows")
    kept = chosen[stored["rows"][chosen, 1] > 0]
    rows = stored["rows"][kept]
    return Frames(
        hidden=entry.open(layer),
        starts=rows[:, 0],
        offsets=np.concatenate([[0], np.cumsum(rows[:, 1])]),
        geometry=geometry,
        segments=segments.take(kept),
        utterances=tuple(utterances[segments.utterance[k]] for k in kept),
        n_samples=stored["n"][kept],
        tier=tier,
        seed=seed,
    )
