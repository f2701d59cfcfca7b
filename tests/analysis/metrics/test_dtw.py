"""Dynamic time warping of blocks of pairs against loops over cells, and over paths."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.metrics.alignment import dtw_distances, unit_frames
from analysis.metrics.average_precision import pair_precision
from analysis.metrics.similarity import DTW_STEPS, Warping

Array = NDArray[np.float64]


def naive(x: Array, y: Array) -> float:
    """Cell by cell, in float64 from the frames as they are."""
    cost = np.array([[1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in y] for a in x])
    total = np.full((len(x) + 1, len(y) + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(x)):
        for j in range(len(y)):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = cost[i, j] + before
    return total[-1, -1] / (len(x) + len(y))


def cheapest_of_all_paths(cost: Array) -> float:
    """Every monotone path, by recursion."""

    @cache
    def to(i: int, j: int) -> float:
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        before = [to(a, b) for a, b in steps if a >= 0 and b >= 0]
        return float(cost[i, j]) + (min(before) if before else 0.0)

    return to(cost.shape[0] - 1, cost.shape[1] - 1)


def segments(seed: int, lengths: list[int], d: int = 5) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [np.cumsum(rng.normal(size=(t, d)), axis=0) for t in lengths]


LENGTHS = [1, 2, 9, 5, 5, 30, 12]


def test_distances_are_those_of_a_loop_over_cells() -> None:
    x, y = segments(0, LENGTHS), segments(1, LENGTHS[::-1])
    found = dtw_distances([unit_frames(s) for s in x], [unit_frames(s) for s in y])
    expected = [[naive(a, b) for b in y] for a in x]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


def test_no_path_is_cheaper() -> None:
    x, y = (unit_frames(s) for s in segments(2, [6, 8]))
    cost = 1 - x.astype(np.float64) @ y.astype(np.float64).T
    (found,) = dtw_distances([x], [y])[0] * (6 + 8)
    assert found == pytest.approx(cheapest_of_all_paths(cost), abs=2e-6)


def test_a_segment_spoken_slower_is_the_same_and_scale_and_rotation_do_not_matter() -> None:
    (x,) = segments(3, [7])
    slower = np.repeat(x, [1, 3, 1, 2, 1, 1, 4], axis=0)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    units = [unit_frames(s) for s in (x, slower, 9 * x @ rotation, 3 * slower @ rotation)]
    distances = dtw_distances(units, units)
    assert distances[0, 1] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(distances, distances.T, atol=1e-6)
    np.testing.assert_allclose(distances[:2, :2], distances[2:, 2:], atol=1e-6)
    assert distances[0, 2] > 0.01


def test_a_frame_without_length_is_at_distance_one_of_all() -> None:
    silent = unit_frames(np.zeros((3, 4)))
    (found,) = dtw_distances([silent], [unit_frames(np.ones((3, 4)))])[0]
    assert found == pytest.approx(3 / 6)


def test_segments_of_one_word_rank_first_whatever_their_order_and_length() -> None:
    rng = np.random.default_rng(4)
    words = segments(5, [8, 9, 11, 10], d=12)
    label = np.repeat(np.arange(4), 20)  # more than a block of segments
    spoken = [np.repeat(words[w], rng.integers(1, 4, len(words[w])), axis=0) for w in label]
    noisy = [s + 0.3 * rng.normal(size=s.shape) for s in spoken]
    speaker = rng.integers(0, 5, 80)
    found = pair_precision(Warping([unit_frames(s) for s in noisy]), label, speaker)
    order = rng.permutation(80)
    again = pair_precision(
        Warping([unit_frames(noisy[i]) for i in order]), label[order], speaker[order]
    )
    assert found.every_pair > 0.95 > found.chance
    assert again.every_pair == pytest.approx(found.every_pair, abs=1e-6)


def test_scores_are_minus_the_distances_in_steps() -> None:
    spoken = segments(6, [4, 6, 5])
    rows = np.arange(3)
    expected = [[-naive(a, b) for b in spoken] for a in spoken]
    found = Warping([unit_frames(s) for s in spoken]).scores(rows, rows) / DTW_STEPS
    np.testing.assert_allclose(found, expected, atol=2 / DTW_STEPS)
