"""Sums per speaker of pairs of projections: correlations of any resample of speakers from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SpeakerSums:
    """Of k pairs (p, q) over the rows of each of s speakers: n (s, 1), the others (s, k)."""

    n: Array
    p: Array
    q: Array
    pp: Array
    qq: Array
    pq: Array

    def correlations(self, counts: Array) -> Array:
        """Correlation (b, k) of every pair where speaker i counts counts[:, i] times; (b, s).

        Centred by the mean of the rows that count. NaN where a projection is constant there.
        """
        n, p, q = counts @ self.n, counts @ self.p, counts @ self.q
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = counts @ self.pq - p * q / n
            variance_p = counts @ self.pp - p**2 / n
            variance_q = counts @ self.qq - q**2 / n
            correlations: Array = covariance / np.sqrt(variance_p * variance_q)
        return correlations


def speaker_sums(p: Array, q: Array, speaker: NDArray[np.int64], speakers: int) -> SpeakerSums:
    """Sums of the rows p, q (n, k) of each speaker; speaker (n,) is below `speakers`."""
    p, q = p - p.mean(0), q - q.mean(0)  # correlations do not change, and sums do not cancel
    member = np.zeros((speakers, len(speaker)))
    member[speaker, np.arange(len(speaker))] = 1
    n = member.sum(1, keepdims=True)
    return SpeakerSums(n, member @ p, member @ q, member @ p**2, member @ q**2, member @ (p * q))
