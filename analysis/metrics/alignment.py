"""Cheapest alignments of many pairs of segments at once: dynamic time warping.

`mean_costs` takes the mean cost of a path's cells (ABX), `dtw_distances` the sum of costs divided
by both lengths (word discrimination), whose blocks of pairs take one matrix product. Libraries were
measured beside it (one core, segments of 25 to 49 frames of 768): dtaidistance's C loops over every
dimension of every pair of frames and took 11 times as long, librosa aligns one pair per call and
took 2.3 times as long.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.arrays import Array, Index, Vectors

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
        batch = order[start : start + PAIRS]
        means[batch] = _mean_costs(costs, first[batch], stride[batch], rows[batch], columns[batch])
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


def unit_frames(segment: NDArray[np.floating]) -> Vectors:
    """Frames (t, d) scaled to length 1; one that is zero stays zero, at distance 1 from all."""
    frames = np.asarray(segment, dtype=np.float32)
    lengths = np.linalg.norm(frames, axis=1, keepdims=True)
    return np.asarray(frames / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def dtw_distances(rows: Sequence[Vectors], columns: Sequence[Vectors]) -> Array:
    """Distances (r, c) between segments of unit frames (t, d): exact, no band.

    The cheapest monotone path through the matrix of cosine distances 1 - <x, y> from first to last
    frames by steps (1, 1), (1, 0) and (0, 1) of equal weight, divided by the sum of the two lengths
    (Carlin et al. 2011, section 3, as their group's tool computes it). Range [0, 2).
    """
    longest = max(map(len, columns))
    y = padded(columns, longest).reshape(longest * len(columns), -1)
    last = np.array([len(segment) for segment in columns]) - 1
    costs = [cheapest((x @ y.T).reshape(len(x), longest, -1), last) for x in rows]
    return np.stack(costs) / (np.array([len(x) for x in rows])[:, None] + last + 1)


def cheapest(cosines: Vectors, last: NDArray[np.intp]) -> Array:
    """Costs (c,) of the cheapest paths of one segment through c others.

    `cosines` (t, longest, c); paths end in the last row, in frame `last` (c,) of each other one.
    """
    path = np.cumsum(1 - cosines[0].astype(np.float64), axis=0)
    for row in cosines[1:]:
        path = next_row(path, 1 - row.astype(np.float64))
    return path[last, np.arange(len(last))]


def next_row(path: Array, cost: Array) -> Array:
    """Cheapest paths (longest, c) to each cell of a row of `cost`; `path` has the row before's.

    A path enters the row in one cell k and walks along it: the minimum over k <= j of
    enter[k] + cost[k] + ... + cost[j].
    """
    along = np.cumsum(cost, axis=0)
    enter = path.copy()
    np.minimum(path[1:], path[:-1], out=enter[1:])
    enter += cost - along
    return np.minimum.accumulate(enter, axis=0) + along


def padded(segments: Sequence[Vectors], longest: int) -> Vectors:
    """Segments (longest, s, d), zeros after each one's end: paths only ever look back."""
    out = np.zeros((longest, len(segments), segments[0].shape[1]), np.float32)
    for i, segment in enumerate(segments):
        out[: len(segment), i] = segment
    return out
