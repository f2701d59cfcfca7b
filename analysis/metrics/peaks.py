"""Peaks of the smoothed dissimilarity of neighbouring frames, for many utterances at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

from common.arrays import Array, Index, Mask, Vectors
from common.encoder.frames import FrameGeometry

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

Distance = Literal["cosine", "euclidean"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
BLOCK = 2048  # frames that are held in memory at once


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation (d,) of each dimension; a constant one has inverse 0."""

    mean: Array
    inverse: Array

    def z(self, frames: NDArray[np.floating]) -> Vectors:
        """z-scores (t, d) of frames."""
        scaled = frames.astype(np.float32)
        scaled -= self.mean.astype(np.float32)
        scaled *= self.inverse.astype(np.float32)
        return scaled


def fit_scaling(frames: "Frames", rows: Mask) -> Scaling:
    """z-scores by the chosen `rows` (N,) of all frames (N, d); mean and variance in float64."""
    length, d = frames.shape
    n, first, second = 0, np.zeros(d), np.zeros(d)
    shift: Array | None = None
    for start, end in _parts(length):
        block = frames.read(start, end)[rows[start:end]].astype(np.float64)
        if shift is None and len(block):
            shift = block.mean(0)  # without it, large means would lose digits
        if shift is not None:
            block -= shift
            n += len(block)
            first += block.sum(0)
            second += np.einsum("td,td->d", block, block)
    if shift is None:
        raise ValueError("no rows to scale by")
    variance = second / n - (first / n) ** 2
    varies = variance > 1e-12 * (second / n + shift**2)
    inverse = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
    return Scaling(shift + first / n, inverse)


def _parts(n: int) -> Iterator[tuple[int, int]]:
    return ((start, min(n, start + BLOCK)) for start in range(0, n, BLOCK))


def dissimilarities(frames: "Frames", scaling: Scaling) -> dict[Distance, Array]:
    """Distances (N - 1,) between every frame (N, d) and the next, z-scored, a block at a time.

    Cosine distance 1 - cos, in [0, 2], and Euclidean distance.
    """
    length, _ = frames.shape
    out: dict[Distance, Array] = {distance: np.empty(length - 1) for distance in DISTANCES}
    for start, end in _parts(length - 1):
        z = scaling.z(frames.read(start, end + 1))
        lengths = np.sqrt(np.einsum("td,td->t", z, z, dtype=np.float64))
        products = np.einsum("td,td->t", z[1:], z[:-1], dtype=np.float64)
        norms = lengths[1:] * lengths[:-1]
        out["cosine"][start:end] = 1 - products / np.where(norms > 0, norms, 1)
        z[:-1] -= z[1:]
        squares = np.einsum("td,td->t", z[:-1], z[:-1], dtype=np.float64)
        out["euclidean"][start:end] = np.sqrt(squares)
    return out


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks of every utterance's smoothed curve: utterance (p,), where (p,), prominence (p,).

    `index` counts from the utterance's first distance, the one between its frames 0 and 1.
    """

    utterance: Index
    index: Index
    prominence: Array


def peaks(curve: Array, offsets: Index, window: int) -> Peaks:
    """Peaks of each utterance's curve averaged over `window` distances, as scipy finds them.

    `curve` (N - 1,) runs through all utterances, utterance k from `offsets[k]` to
    `offsets[k + 1] - 1` (the distance at its end joins it to the next one and is left out).
    Infinite values between utterances keep a peak's prominence within its own, as the end of a
    signal would, so that one search serves all.
    """
    smooth = np.zeros(max(0, len(curve) - window + 1))
    for j in range(window):  # no running sum: its rounding would make peaks of its own
        smooth += curve[j : j + len(smooth)] / window
    walled = np.full(len(curve) + 1, np.inf)
    lengths = np.maximum(0, np.diff(offsets) - window)
    inside = np.repeat(offsets[:-1], lengths) + ramps(lengths)
    walled[inside] = smooth[inside]
    found, _ = scipy.signal.find_peaks(walled)
    found = found[np.isfinite(walled[found])]
    prominence, _, _ = scipy.signal.peak_prominences(walled, found)
    utterance = np.searchsorted(offsets, found, side="right") - 1
    return Peaks(utterance, found - offsets[utterance], prominence)


def ramps(lengths: Index) -> Index:
    """0 … l - 1 for each length l, one after another."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def half_samples(index: Index, window: int, geometry: FrameGeometry) -> Index:
    """Where peaks lie, in half samples: the middle of the `window` distances that were averaged.

    A distance lies halfway between the centres of its two frames; half samples keep that whole.
    """
    return 2 * (geometry.centre(0) + geometry.steps(index)) + int(window * geometry.hop)
