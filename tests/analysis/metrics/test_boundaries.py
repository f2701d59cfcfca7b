"""One-to-one matching of boundaries against a general matching algorithm, and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from analysis.metrics.boundaries import Counts, matches
from common.records import StrataError

rows = st.lists(st.integers(0, 60), max_size=25, unique=True).map(sorted)


def largest_matching(found: list[int], reference: list[int], tolerance: int) -> int:
    """By Hopcroft and Karp's algorithm, which knows nothing of lines."""
    near = np.abs(np.subtract.outer(found, reference)) <= tolerance
    return int((maximum_bipartite_matching(csr_array(near.astype(int))) >= 0).sum())


@settings(deadline=None, max_examples=300)
@given(rows, rows, st.integers(0, 9))
def test_no_one_to_one_matching_is_larger(
    found: list[int], reference: list[int], tolerance: int
) -> None:
    got = matches(np.array(found, np.int64), np.array(reference, np.int64), tolerance)
    expected = largest_matching(found, reference, tolerance) if found and reference else 0
    assert got == expected


def test_a_boundary_is_matched_once_however_many_peaks_are_near() -> None:
    found, reference = np.array([980, 1000, 1020]), np.array([1000, 5000])
    counts = Counts(len(found), len(reference), matches(found, reference, 320))
    assert counts == Counts(found=3, reference=2, matched=1)
    # Counting every near peak as a hit, as the published script does, would give precision 1.
    assert counts.precision == pytest.approx(1 / 3)
    assert counts.recall == pytest.approx(1 / 2)


def test_neighbours_in_reach_of_each_other_move_on() -> None:
    line = np.arange(0, 200_000, 100)  # each within the tolerance of six others
    assert matches(line + 250, line, 300) == len(line)
    assert matches(line - 250, line, 300) == len(line)
    assert matches(np.repeat(line[:2], 4), line, 300) == 5


@pytest.mark.parametrize(("distance", "hit"), [(320, 1), (321, 0), (-320, 1), (-321, 0)])
def test_the_tolerance_is_exact(distance: int, hit: int) -> None:
    assert matches(np.array([10_000 + distance]), np.array([10_000]), 320) == hit


def test_figures_by_hand() -> None:
    counts = Counts(found=150, reference=100, matched=60)
    assert counts.precision == pytest.approx(0.4)
    assert counts.recall == pytest.approx(0.6)
    assert counts.f1 == pytest.approx(0.48)
    assert counts.over_segmentation == pytest.approx(0.5)
    assert counts.over_segmentation == pytest.approx(counts.recall / counts.precision - 1)
    to_target, to_no_insertion = np.hypot(0.4, 0.5), (-0.5 + 0.6 - 1) / np.sqrt(2)
    assert counts.r_value == pytest.approx(1 - (to_target + abs(to_no_insertion)) / 2)


def test_all_found_and_nothing_else_is_one() -> None:
    perfect = Counts(found=40, reference=40, matched=40)
    assert (perfect.f1, perfect.r_value, perfect.over_segmentation) == (1, 1, 0)


def test_nothing_found_has_no_precision() -> None:
    nothing = Counts(found=0, reference=4, matched=0)
    assert (nothing.f1, nothing.recall, nothing.over_segmentation) == (0, 0, -1)
    with pytest.raises(StrataError, match="precision is undefined"):
        _ = nothing.precision
