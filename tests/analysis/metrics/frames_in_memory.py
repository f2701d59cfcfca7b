"""Frames in memory, as a layer of a corpus would have them on disk."""

from collections.abc import Sequence

import numpy as np
from drawn import segments_of
from geometries import WAV2VEC2
from numpy.typing import NDArray

from analysis.metrics.frames import Frames
from analysis.sampling.segments import whole_utterances
from common.records import Interval, Utterance

# Of wav2vec 2.0 and its kin: 25 ms every 20 ms.


def silent() -> NDArray[np.float32]:
    raise AssertionError("no audio is to be read")


def utterance(name: str, speaker: str, n: int, tiers: dict[str, list[Interval]]) -> Utterance:
    return Utterance(name, speaker, "", n, {t: tuple(ivs) for t, ivs in tiers.items()}, silent)


def frames_of(
    parts: Sequence[NDArray[np.floating]],
    utterances: Sequence[Utterance],
    tier: str = "word",
    seed: int = 0,
    intervals: Sequence[Interval] = (),
) -> Frames:
    """Segments with their frames (t, d), stored back to front and apart from each other.

    They are `intervals` of the utterances, or these as a whole.
    """
    segments = whole_utterances(utterances, np.arange(len(utterances)))
    if intervals:
        segments = segments_of([(k, iv.start, iv.end, iv.label) for k, iv in enumerate(intervals)])
    gap = np.full((3, parts[0].shape[1]), 1e3, dtype=parts[0].dtype)
    hidden = np.concatenate([rows for part in reversed(parts) for rows in (part, gap)])
    lengths = np.array([len(part) for part in parts])
    starts = np.cumsum((lengths + 3)[::-1])[::-1] - (lengths + 3)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n_samples = np.array([u.n_samples for u in utterances])
    return Frames(
        hidden,
        starts,
        offsets,
        WAV2VEC2,
        segments,
        tuple(utterances),
        n_samples,
        tier,
        seed,
    )
