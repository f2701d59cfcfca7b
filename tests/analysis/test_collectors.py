"""Rows that come piece by piece and are forgotten: the moments are those of all rows in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.forward import collectors
from analysis.forward.collectors import (
    MomentCollector,
    Pair,
    Sums,
    VectorCollector,
    load_folds,
    load_view,
    valid_rows,
)
from analysis.moments import moments_of
from common.cache.cache import Entry
from common.records import StrataError

DIMS = {"T0": 4, "T1": 3, "mel": 5}
PAIRS: tuple[Pair, ...] = (
    ("T0", "T0"),
    ("T1", "T1"),
    ("mel", "mel"),
    ("T0", "mel"),
    ("T1", "mel"),
    ("T1", "T0"),
)
CPU = torch.device("cpu")

Views = dict[str, torch.Tensor]
Groups = NDArray[np.int64]


def rows_of(n: int, seed: int = 0, mean: float = 10.0) -> Views:
    """Correlated views (n, d) in float32."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 3))
    return {
        view: torch.from_numpy(
            (latent @ rng.normal(size=(3, dim)) + rng.normal(size=(n, dim)) + mean).astype("f4")
        )
        for view, dim in DIMS.items()
    }


def feed(
    collector: MomentCollector, views: Views, groups: Groups, lengths: Sequence[int]
) -> MomentCollector:
    """Hand on views utterance by utterance."""
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        collector.begin(groups[rows])
        for view, frames in views.items():
            collector.add(view, frames[rows])
        collector.end()
        start += length
    assert start == len(groups)
    return collector


# Float64 products as such, and of float32 ones.
each_product = pytest.mark.parametrize("split", [False, True], ids=["float64", "split"])


def collector_of(
    groups: int = 3, split: bool = False, device: torch.device = CPU
) -> MomentCollector:
    return MomentCollector(DIMS, PAIRS, groups, device, split)


def store(collector: MomentCollector, entry: Entry, sums: Sums, prefix: str) -> None:
    """As a consumer does when all has been heard."""
    for name in collector.store(entry, sums, prefix):
        entry.publish(name)


def assert_moments(
    entry: Entry, prefix: str, views: Views, groups: Groups, n_groups: int = 3, rtol: float = 1e-9
) -> None:
    """What was stored is what all rows held in memory give."""
    loaded = {view: load_view(entry, prefix, view, 1) for view in DIMS}
    for x, y in PAIRS:
        folds = load_folds(entry, prefix, loaded[x], loaded[y], (x, y))
        for g in range(n_groups):
            a, b = (views[v].numpy()[groups == g] for v in (x, y))
            expected = moments_of(a, b)
            assert folds.x.parts[g].n == expected.n
            if expected.n:
                np.testing.assert_allclose(folds.x.parts[g].mean, expected.x.mean, rtol=rtol)
            # Relative to the largest entry: one that happens to be near zero has no digits of its
            # own. A single row has no scatter, and what is left of its squares is rounding.
            size = np.abs(expected.x.scatter).max() + np.abs(expected.y.scatter).max()
            rounding = 1e-12 * max((a**2).max(), (b**2).max()) if expected.n == 1 else 0.0
            close = {"rtol": 0, "atol": rtol * size + rounding}
            np.testing.assert_allclose(folds.xy[g], expected.xy, **close)
            np.testing.assert_allclose(folds.x.parts[g].scatter, expected.x.scatter, **close)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """A folder whose files every test replaces."""
    return Entry(tmp_path_factory.mktemp("entry"))


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=12),
    block=st.integers(1, 40),
    seed=st.integers(0, 1000),
    split=st.booleans(),
)
def test_any_chopping_and_any_block_give_the_moments_of_all_rows(
    entry: Entry, lengths: list[int], block: int, seed: int, split: bool
) -> None:
    n = sum(lengths)
    views, groups = rows_of(n, seed), np.random.default_rng(seed).integers(0, 3, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collectors, "BLOCK", block)
        collector = feed(collector_of(split=split), views, groups, lengths)
    store(collector, entry, collector.take(), "any")
    assert_moments(entry, "any", views, groups)


def test_few_rows_wait_and_they_are_multiplied_many_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collectors, "BLOCK", 64)
    views, groups = rows_of(21), np.arange(21) % 3
    collector, blocks = collector_of(), 0
    for utterances in range(1, 101):
        before = collector.sums.counts.copy()
        feed(collector, views, groups, [21])
        assert 7 * utterances - 64 <= collector.sums.counts.min()  # the rest waits
        taken = collector.sums.counts - before
        assert set(taken[taken > 0].tolist()) <= {63.0}  # nine utterances' 7 rows, never fewer
        blocks += np.count_nonzero(taken)
    assert blocks == 3 * 11
    np.testing.assert_array_equal(collector.take().counts, [700] * 3)


def test_a_group_with_more_rows_than_a_block_makes_the_buffers_grow(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectors, "BLOCK", 8)
    lengths = [5, 90, 7, 40, 200, 3]  # what waits in the small buffers must not be lost
    n = sum(lengths)
    views, groups = rows_of(n), np.random.default_rng(0).integers(0, 3, n)
    collector = feed(collector_of(), views, groups, lengths)
    store(collector, entry, collector.take(), "grown")
    assert_moments(entry, "grown", views, groups)


def test_utterances_that_lie_in_one_group_and_groups_that_stay_empty(entry: Entry) -> None:
    views, groups = rows_of(90), np.repeat([2, 0, 2], 30)
    collector = feed(collector_of(4), views, groups, [30] * 3)
    store(collector, entry, collector.take(), "gaps")
    assert_moments(entry, "gaps", views, groups, 4)
    empty = load_view(entry, "gaps", "T0", 2).parts[1]
    assert empty.n == 0
    assert np.isfinite(empty.mean).all()
    assert not empty.scatter.any()


def test_an_utterance_without_rows_changes_nothing_even_as_the_first(entry: Entry) -> None:
    views, groups = rows_of(50), np.arange(50) % 3
    collector = feed(collector_of(), views, groups, [0, 20, 0, 30])
    store(collector, entry, collector.take(), "none")
    assert_moments(entry, "none", views, groups)


@each_product
def test_means_that_dwarf_the_deviations_cost_no_digits(entry: Entry, split: bool) -> None:
    # Raw second sums would be 3e11 here, and 1e-16 of them as large as the 1e-9 asked for.
    views, groups = rows_of(3000, mean=1e4), np.arange(3000) % 3
    collector = feed(collector_of(split=split), views, groups, [300] * 10)
    store(collector, entry, collector.take(), "large")
    assert_moments(entry, "large", views, groups, rtol=1e-9 if split else 1e-11)


def test_taking_starts_again_and_continuing_goes_on(entry: Entry) -> None:
    views, groups = rows_of(300), np.random.default_rng(1).integers(0, 3, 300)
    parts = [{view: rows[k : k + 100] for view, rows in views.items()} for k in (0, 100, 200)]
    collector = collector_of()
    taken = []
    for k, part in enumerate(parts):
        feed(collector, part, groups[100 * k : 100 * k + 100], [60, 40])
        taken.append(collector.take())
    for k, sums in enumerate(taken):
        store(collector, entry, sums, f"part{k}")
        assert_moments(entry, f"part{k}", parts[k], groups[100 * k : 100 * k + 100])

    collector.continue_from(taken[0].copy())
    feed(collector, parts[2], groups[200:], [100])
    both = {view: torch.cat([parts[0][view], parts[2][view]]) for view in views}
    store(collector, entry, collector.take(), "continued")
    assert_moments(entry, "continued", both, np.concatenate([groups[:100], groups[200:]]))

    before = taken[1].copy()
    total = taken[0].copy()
    total.add(taken[1])
    total.add(taken[2])
    store(collector, entry, total, "total")
    assert_moments(entry, "total", views, groups)
    store(collector, entry, taken[1], "again")  # adding it left it as it was
    np.testing.assert_array_equal(taken[1].counts, before.counts)
    assert_moments(entry, "again", parts[1], groups[100:200])


def test_the_wrong_number_of_rows_is_an_error() -> None:
    collector = collector_of()
    collector.begin(np.zeros(5, dtype=np.int64))
    with pytest.raises(ValueError, match="T0: 4 rows, 5 were announced"):
        collector.add("T0", torch.zeros(4, 4))


def test_rows_belong_to_the_collector_once_they_are_added(entry: Entry) -> None:
    views, groups = rows_of(40), np.arange(40) % 3
    kept = {view: rows.clone() for view, rows in views.items()}
    collector = feed(collector_of(), views, groups, [40])
    for rows in views.values():
        rows.zero_()  # the model goes on with its frames
    store(collector, entry, collector.take(), "copied")
    assert_moments(entry, "copied", kept, groups)


def test_a_layer_against_itself_needs_no_cross_scatter(entry: Entry) -> None:
    views, groups = rows_of(60), np.arange(60) % 3
    collector = feed(collector_of(), views, groups, [60])
    store(collector, entry, collector.take(), "self")
    view = load_view(entry, "self", "T0", 1)
    folds = load_folds(entry, "self", view, view, ("T0", "T0"))
    assert folds.x is folds.y
    np.testing.assert_array_equal(folds.xy[1], view.parts[1].scatter)


# Vectors


def test_vectors_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    entry = Entry(tmp_path)
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)).astype("f4"))
    collector = VectorCollector(entry, {"T0": 3, "T1": 3}, 7)
    collector.add("T0", [4, 0], vectors[:2])
    collector.add("T0", np.array([1, 2, 6]), vectors[2:5])
    collector.add("T1", [4, 0, 1, 2, 6], -vectors[:5])
    assert not entry.has("T0")  # nothing is seen before it is whole
    collector.finish()
    np.testing.assert_array_equal(entry.open("T0")[[4, 0, 1, 2, 6]], vectors[:5].numpy())
    np.testing.assert_array_equal(entry.open("T1")[[4, 0, 1, 2, 6]], -vectors[:5].numpy())
    np.testing.assert_array_equal(valid_rows(entry, ["T0", "T1"]), [1, 1, 1, 0, 1, 0, 1])


def test_bfloat16_vectors_are_stored_in_float32(tmp_path: Path) -> None:
    collector = VectorCollector(Entry(tmp_path), {"T0": 2}, 1)
    collector.add("T0", [0], torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16))
    collector.finish()
    stored = Entry(tmp_path).open("T0")
    assert stored.dtype == np.float32
    assert stored.tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_a_vector_is_an_error_that_names_the_layer(tmp_path: Path, bad: float) -> None:
    collector = VectorCollector(Entry(tmp_path), {"T7": 2}, 3)
    collector.add("T7", [1], torch.tensor([[0.0, bad]]))
    with pytest.raises(StrataError, match="layer T7 gives NaN or infinite"):
        collector.flush()
    assert not collector.valid["T7"].any()
