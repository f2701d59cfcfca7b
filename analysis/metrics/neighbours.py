"""Mutual nearest neighbours: are the units that are near in one view near in the other?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.base import Score, ViewMetric
from common.arrays import Array, Index
from common.config.analysis import require_at_least
from common.records import StrataError

BLOCK = 512  # rows whose distances to all others are in memory at once


@dataclass(frozen=True)
class MutualNeighbours(ViewMetric):
    """Mean share of a unit's `neighbours` nearest units that both views have. Range [0, 1].

    Huh, Cheung, Wang & Isola 2024 (arXiv 2405.07987, section 2 and appendix A): m_NN, k = 10.
    Euclidean distances. Units that are equally far share the places that are left: the value is
    the mean over all ways of breaking ties, so that one-hot targets, whose units are all 0 or
    sqrt(2) apart, have one. Chance is neighbours / (n - 1), given as `mutual_neighbours_chance`.
    Nothing is fitted, so there are no trials. Invariant to shift, rotation and one common scale.

    At most `rows` units of a sample are compared, drawn with its seed.
    """

    name: ClassVar[str] = "mutual_neighbours"

    neighbours: int
    rows: int

    def __post_init__(self) -> None:
        require_at_least("metric.neighbours", self.neighbours, 1)
        require_at_least("metric.rows", self.rows, 2)

    def score_views(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> list[Score]:
        """The share for x (n, dx) and y (n, dy), and what chance gives."""
        n, _ = x.shape
        if n <= self.neighbours:
            raise StrataError(
                f"{n} units have no {self.neighbours} neighbours each: use more speech, or lower "
                "metric.neighbours"
            )
        shared = 0.0
        for start in range(0, n, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n))
            both = nearest(x, rows, self.neighbours) * nearest(y, rows, self.neighbours)
            shared += float(both.sum())
        value = shared / (n * self.neighbours)
        chance = self.neighbours / (n - 1)
        return [Score(value, detail={"units": str(n)}), Score(chance, f"{self.name}_chance")]


def nearest(view: NDArray[np.floating], rows: Index, k: int) -> Array:
    """How far each unit (b, n) of a view (n, d) is among the k nearest of each of `rows` (b,).

    1 for a unit that is nearer than the k-th, 0 for one farther away; those that are just as far
    share the places left. A unit is not its own neighbour.
    """
    view = np.asarray(view, dtype=np.float64)
    view = view - view.mean(0)
    squares = (view**2).sum(1)
    distances = squares[rows, None] + squares - 2 * view[rows] @ view.T
    # Equal distances must tie in spite of rounding.
    step = 1e-10 * max(float(squares.max()), np.finfo(np.float64).tiny)
    distances = np.rint(distances / step)
    distances[np.arange(len(rows)), rows] = np.inf
    kth = np.partition(distances, k - 1, axis=1)[:, [k - 1]]
    nearer, tied = distances < kth, distances == kth
    places = k - nearer.sum(1, keepdims=True)
    return nearer + tied * places / tied.sum(1, keepdims=True)
