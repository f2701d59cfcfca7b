"""Frames of whole utterances, or of stretches of them, on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.sampling.segments import Stretches
from common.cache.cache import Entry
from common.encoder.frames import FrameGeometry
from common.records import Interval, Utterance
from common.seeding import generator

VERSION = 2  # bumped when the frames that are stored, or taken, would be others

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of u stretches of speech in one layer of one sample.

    Stretch k lies in `utterances[k]`; it is the unit `intervals[k]`, or without intervals the whole
    utterance, `n_samples[k]` samples long. It has `offsets[k + 1] - offsets[k]` frames; `hidden`
    (R, d), memory-mapped, holds them from row `starts[k]` on, and perhaps those of other samples.
    `seed` is the sample's own; `tier` is what the analysis looks at.
    """

    hidden: NDArray[np.floating]
    starts: Index
    offsets: Index
    geometry: FrameGeometry
    utterances: tuple[Utterance, ...]
    n_samples: Index
    tier: str
    seed: int
    intervals: tuple[Interval, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Frames of all stretches together, and their dimensions."""
        return int(self.offsets[-1]), int(self.hidden.shape[1])

    def of(self, stretch: int) -> NDArray[np.floating]:
        """Frames (t, d) of a stretch."""
        length = self.offsets[stretch + 1] - self.offsets[stretch]
        return self.hidden[self.starts[stretch] : self.starts[stretch] + length]

    def shuffled(self) -> "Frames":
        """The same with the intervals permuted among the stretches: what is found is chance."""
        order = generator(self.seed, "shuffled labels", len(self.intervals)).permutation(
            len(self.intervals)
        )
        return replace(self, intervals=tuple(self.intervals[k] for k in order))

    def read(self, start: int, end: int) -> NDArray[np.floating]:
        """Frames [start, end) of all stretches one after another."""
        first, last = np.searchsorted(self.offsets, [start, end - 1], side="right") - 1
        parts = [self.of(k) for k in range(first, last + 1)]
        skipped = start - self.offsets[first]
        return np.concatenate(parts)[skipped : skipped + end - start]


def stretches_with_frames(entry: Entry, layers: Iterable[str]) -> NDArray[np.bool_]:
    """Which stretches (s,) have a frame in each of these layers.

    An experiment takes those that all of its layers have, whatever else the entry holds by now.
    """
    rows = [entry.load(f"{layer}.rows")["rows"] for layer in layers]
    return np.logical_and.reduce([own[:, 1] > 0 for own in rows])


def load_frames(
    entry: Entry,
    layer: str,
    geometry: FrameGeometry,
    stretches: Stretches,
    chosen: Index,
    utterances: Sequence[Utterance],
    intervals: Sequence[Interval],
    tier: str,
    seed: int,
) -> Frames:
    """Frames of the `chosen` stretches (c,) in a layer; those without any are left out.

    `geometry`: of the rows as they were stored. `utterances` are the corpus's; `intervals` one for
    each stretch, or none.
    """
    stored = entry.load(f"{layer}.rows")
    kept = chosen[stored["rows"][chosen, 1] > 0]
    rows = stored["rows"][kept]
    return Frames(
        hidden=entry.open(layer),
        starts=rows[:, 0],
        offsets=np.concatenate([[0], np.cumsum(rows[:, 1])]),
        geometry=geometry,
        utterances=tuple(utterances[stretches.utterance[k]] for k in kept),
        n_samples=stored["n"][kept],
        tier=tier,
        seed=seed,
        intervals=tuple(intervals[k] for k in kept) if intervals else (),
    )
