"""Means and centred second moments of views, per group of rows: all that CCA and CKA need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from common.records import StrataError

Array = NDArray[np.float64]
VERSION = 1  # bumped when the meaning of a stored moment changes


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of a pair of views over the same n rows, in float64.

    mean_x (dx,), mean_y (dy,); xx (dx, dx), yy (dy, dy), xy (dx, dy) are sums over rows of
    products of centred columns (scatter matrices: covariance times n - 1).
    """

    n: int
    mean_x: Array
    mean_y: Array
    xx: Array
    yy: Array
    xy: Array

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of the union of two disjoint sets of rows (Chan, Golub & LeVeque 1979)."""
        return merge((self, other))

    @property
    def swapped(self) -> "Moments":
        """The same rows with the two views exchanged."""
        return Moments(self.n, self.mean_y, self.mean_x, self.yy, self.xx, self.xy.T)


def merge(parts: Sequence[Moments]) -> Moments:
    """Moments of the union of disjoint sets of rows; the order of the parts does not matter.

    Chan's pairwise update, taken over all parts at once: within-part scatter adds, and the means
    contribute sum_i n_i (m_i - m)(m_i - m)'.
    """
    filled = [part for part in parts if part.n > 0]
    if not filled:
        raise StrataError(
            f"nothing to merge: all {len(parts)} folds are empty (too few units for this many "
            "folds: use more utterances, or fewer sampling.folds)"
        )
    if len(filled) == 1:
        return filled[0]
    counts = np.array([part.n for part in filled], dtype=np.float64)
    n = int(counts.sum())
    mean_x = np.stack([part.mean_x for part in filled])
    mean_y = np.stack([part.mean_y for part in filled])
    x, y = counts @ mean_x / n, counts @ mean_y / n
    dx, dy = mean_x - x, mean_y - y
    weighted_x = dx * counts[:, None]
    return Moments(
        n,
        x,
        y,
        _total([part.xx for part in filled], weighted_x.T @ dx),
        _total([part.yy for part in filled], (dy * counts[:, None]).T @ dy),
        _total([part.xy for part in filled], weighted_x.T @ dy),
    )


def _total(scatters: list[Array], between: Array) -> Array:
    return reduce(np.add, scatters, between)


def moments_of(x: NDArray[np.floating], y: NDArray[np.floating]) -> Moments:
    """Moments of two views held in memory: x (n, dx), y (n, dy), rows in the same order."""
    n, _ = x.shape
    if len(y) != n:
        raise StrataError(f"views of {n} and {len(y)} rows: both need one row for each unit")
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    return Moments(n, mean_x, mean_y, x.T @ x, y.T @ y, x.T @ y)


@dataclass(frozen=True, slots=True)
class Folds:
    """Moments of one sample, cut for its trials.

    `parts[g]` holds fold g for g < 2 * trials: fold 2t is trial t's dev, fold 2t + 1 its test.
    The last part holds the rows of all other folds, which train every trial.
    """

    parts: tuple[Moments, ...]

    @property
    def trials(self) -> int:
        """Number of (dev, test) pairs."""
        return (len(self.parts) - 1) // 2

    def trial(self, t: int) -> tuple[Moments, Moments, Moments]:
        """(train, dev, test) of trial t; train is everything but its dev and test."""
        dev, test = self.parts[2 * t], self.parts[2 * t + 1]
        for name, fold in (("dev", dev), ("test", test)):
            if fold.n < 2:
                raise StrataError(
                    f"trial {t}: its {name} fold has {fold.n} units, a correlation needs two or "
                    "more; use more utterances, or fewer sampling.folds"
                )
        rest = [part for g, part in enumerate(self.parts) if g not in (2 * t, 2 * t + 1)]
        return merge(rest), dev, test

    def merged(self) -> Moments:
        """All rows of the sample."""
        return merge(self.parts)
