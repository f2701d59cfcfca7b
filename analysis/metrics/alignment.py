"""Mean cost along the cheapest alignment of many pairs of short segments."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

PAIRS = 4096  # aligned side by side, of much the same lengths


def angles(x: Array, y: Array) -> Array:
    """Angles (n, m) between frames (n, d) and (m, d) of length 1, as a share of half a turn.

    0 for the same direction, 0.5 for a frame that is zero with any other, 1 for opposite ones.
    """
    return np.asarray(np.arccos(np.clip(x @ y.T, -1, 1)) / np.pi)


def mean_costs(costs: Array, first: Index, stride: Index, rows: Index, columns: Index) -> Array:
    """Mean cost (p,) of a cell along the cheapest path through each of p matrices.

    Cell (i, j) of pair p is `costs[first[p] + i * stride[p] + j]`; the matrix has `rows[p]` by
    `columns[p]` cells. Paths go from the first cell to the last by steps (1, 1), (0, 1) and (1, 0)
    of equal weight; where several are as cheap the one that is traced back from the end, diagonals
    before steps along a row, counts: so does the code of Libri-Light, and fastabx.
    """
    means = np.empty(len(first))
    order = np.lexsort((columns, rows))
    for start in range(0, len(order), PAIRS):
        own = order[start : start + PAIRS]
        means[own] = _mean_costs(costs, first[own], stride[own], rows[own], columns[own])
    return means


def _mean_costs(costs: Array, first: Index, stride: Index, rows: Index, columns: Index) -> Array:
    """Cell by cell, all pairs at once; cells beyond a pair's own are computed and never used."""
    pairs, width = np.arange(len(first)), int(columns.max())
    total, length = np.empty((2, width, len(first)))  # of the row before, then of this one
    means = np.empty(len(first))
    for i in range(int(rows.max())):
        above, above_length = total.copy(), length.copy()
        for j in range(width):
            cost = np.take(costs, first + i * stride + j, mode="clip")
            if i == 0 and j == 0:
                total[0], length[0] = cost, 1
            elif i == 0:
                total[j], length[j] = total[j - 1] + cost, j + 1
            elif j == 0:
                total[0], length[0] = above[0] + cost, i + 1
            else:
                diagonal, left, up = above[j - 1], total[j - 1], above[j]
                cheapest = np.minimum(np.minimum(diagonal, left), up)
                total[j] = cheapest + cost
                length[j] = 1 + np.where(
                    diagonal <= cheapest,
                    above_length[j - 1],
                    np.where(left <= up, length[j - 1], above_length[j]),
                )
        done = pairs[rows == i + 1]
        last = columns[done] - 1
        means[done] = total[last, done] / length[last, done]
    return means
