"""Draw single frames as units, where the frames of every layer are to be kept."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.sampling.folds import FrameSamples, draw_frames
from analysis.sampling.units import UnitSamples
from common.config import SamplingConfig, UnitSampling
from common.encoder.frames import FrameGeometry
from common.records import Corpus
from common.seeding import generator, hashed_folds

Index = NDArray[np.int64]


def draw_single_frames(
    corpus: Corpus,
    sampling: UnitSampling,
    run: SamplingConfig,
    split: str,
    seed: int,
    geometries: Sequence[FrameGeometry],
) -> UnitSamples:
    """Draw `sampling.frames` frames of the utterances that `draw_frames` draws for each sample.

    A frame can be drawn where all of `geometries`, which have one hop, have it. Its fold is the
    one that it has when all frames are taken.
    """
    drawn = draw_frames(corpus, sampling, run, split, seed)
    lengths = [utterance.n_samples for utterance in corpus.utterances]
    counts = np.array([min(g.n_frames(n) for g in geometries) for n in lengths], dtype=np.int64)
    samples = [
        draw_rows(counts, members, sampling.frames, generator(seed, "single frames", sample))
        for sample, members in enumerate(drawn.members.T)
    ]
    kept = np.unique(np.concatenate(samples))
    utterance, frame = place(counts, kept)
    own = folds_of(drawn, utterance, frame, counts)
    hop = geometries[0].hop
    left_out = int(counts[drawn.members.any(1)].sum()) - len(kept)
    return UnitSamples(
        unit="frame",
        name="frame",
        split=drawn.split,
        labels=("frame",),
        utterance=utterance,
        start=geometries[0].centre(0) - hop // 2 + frame * hop,
        end=geometries[0].centre(0) - hop // 2 + (frame + 1) * hop,
        label=np.zeros(len(kept), dtype=np.int64),
        folds=np.stack([np.where(np.isin(kept, rows), own, -1) for rows in samples]),
        dropped={f"frame: beyond the {sampling.frames} of a sample": left_out},
    )


def draw_rows(
    counts: Index, members: NDArray[np.bool_], wanted: int | None, rng: np.random.Generator
) -> Index:
    """Numbers, through the corpus, of frames of the utterances `members` (u,); counts (u,)."""
    there = np.flatnonzero(np.repeat(members, counts))
    return rng.choice(there, min(wanted or len(there), len(there)), replace=False)


def place(counts: Index, rows: Index) -> tuple[Index, Index]:
    """Utterance and frame in it of frames that are numbered through the corpus."""
    ends = np.cumsum(counts)
    utterance = np.searchsorted(ends, rows, side="right")
    return utterance, rows - (ends - counts)[utterance]


def folds_of(drawn: FrameSamples, utterance: Index, frame: Index, counts: Index) -> Index:
    """Fold (n,) of each frame."""
    if drawn.utterance_folds is not None:
        return drawn.utterance_folds[utterance]
    folds = np.zeros(len(frame), dtype=np.int64)
    for u in np.unique(utterance):
        own = utterance == u
        hashed = hashed_folds(drawn.seed, drawn.ids[u], int(counts[u]), drawn.folds)
        folds[own] = hashed[frame[own]]
    return folds
