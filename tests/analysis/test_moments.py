"""Moments of parts make the moments of the whole, whatever the parts; spectra of views."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from views import merge

from analysis.moments import (
    RELATIVE_CUTOFF,
    FoldedView,
    Spectrum,
    crossed_folds,
    fold_views,
    group_of,
    groups_for,
    merge_views,
    moments_of,
    view_moments,
)
from common.records import StrataError

Array = NDArray[np.float64]


def views(seed: int, n: int, dx: int = 4, dy: int = 3) -> tuple[Array, Array]:
    """Correlated views with means that dwarf their deviations."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dx)) + 100 * rng.normal(size=dx)
    return x, x[:, :dy] + rng.normal(size=(n, dy)) - 50


def spectrum_of(view: Array) -> Spectrum:
    return view_moments(view).spectrum


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1000), groups=st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_any_partition_of_rows_merges_to_the_whole(seed: int, groups: list[int]) -> None:
    x, y = views(seed, len(groups))
    parts = [moments_of(x[np.equal(groups, g)], y[np.equal(groups, g)]) for g in range(7)]
    merged = merge(parts)
    assert merged.n == merged.y.n == len(groups)
    np.testing.assert_allclose(merged.x.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.y.mean, y.mean(0), rtol=1e-12)
    cx, cy = x - x.mean(0), y - y.mean(0)
    for scatter, left, right in (
        (merged.x.scatter, cx, cx),
        (merged.y.scatter, cy, cy),
        (merged.xy, cx, cy),
    ):
        # Means of 100 in float64 leave 1e-14 of a deviation, and each row adds its own.
        np.testing.assert_allclose(scatter, left.T @ right, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 29))
def test_merging_is_associative_and_an_empty_part_adds_nothing(seed: int, cut: int) -> None:
    x, y = views(seed, 30)
    a, b, none = (
        moments_of(x[:cut], y[:cut]),
        moments_of(x[cut:], y[cut:]),
        moments_of(x[:0], y[:0]),
    )
    for merged in map(merge, ([a, b], [b, a], [none, a, b], [a, merge([b, none])])):
        assert merged.n == 30
        np.testing.assert_allclose(merged.xy, moments_of(x, y).xy, rtol=1e-9, atol=1e-9)


def test_moments_survive_means_that_dwarf_the_variance() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(4000, 3)) + 1e7
    moments = moments_of(x, x)
    np.testing.assert_allclose(moments.x.scatter, (len(x) - 1) * np.cov(x.T), rtol=1e-7)


def test_views_of_different_length_are_refused() -> None:
    with pytest.raises(StrataError, match="10 and 9 rows"):
        moments_of(np.ones((10, 2)), np.ones((9, 2)))


def test_an_empty_view_has_zero_moments_and_alone_it_cannot_be_merged() -> None:
    empty = view_moments(np.zeros((0, 3)))
    assert empty.n == 0
    assert not empty.mean.any()
    assert not empty.scatter.any()
    with pytest.raises(StrataError, match="all 2 training folds are empty"):
        merge_views([empty, empty])


def test_folds_that_only_train_share_the_last_group() -> None:
    np.testing.assert_array_equal(group_of(np.arange(10), 3), [0, 1, 2, 3, 4, 4, 4, 4, 4, 4])
    np.testing.assert_array_equal(group_of(np.arange(5), 4), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(group_of(np.arange(5), 5), [0, 1, 2, 3, 4])
    assert [groups_for(10, t) for t in (1, 3, 8, 9, 10)] == [3, 5, 10, 10, 10]


@pytest.mark.parametrize("trials", [1, 3, 4, 9, 10])
def test_fold_views_puts_each_row_into_its_fold_and_trials_see_their_own(trials: int) -> None:
    x, y = views(0, 400)
    fold = np.random.default_rng(1).integers(0, 10, 400)
    folds = fold_views(x, y, fold, trials)
    assert folds.trials == trials
    assert len(folds.x.parts) == len(folds.xy) == min(trials + 2, 10)
    for f in range(min(trials + 1, 10)):
        part = folds.x.parts[f]
        assert part.n == np.count_nonzero(fold == f)
        np.testing.assert_allclose(part.mean, x[fold == f].mean(0))
    last = min(trials + 1, 9)
    rest = moments_of(x[fold >= last], y[fold >= last])
    assert folds.x.parts[-1].n == rest.n
    np.testing.assert_allclose(folds.xy[-1], rest.xy)
    for t in range(trials):
        train, dev, test = folds.trial(t)
        dev_rows = fold == (t + 1) % 10
        kept = (fold != t) & ~dev_rows
        for seen, rows in ((train, kept), (dev, dev_rows), (test, fold == t)):
            expected = moments_of(x[rows], y[rows])
            assert seen.n == expected.n
            np.testing.assert_allclose(seen.x.scatter, expected.x.scatter, rtol=1e-9, atol=1e-8)
            np.testing.assert_allclose(seen.y.mean, expected.y.mean, rtol=1e-9)
            np.testing.assert_allclose(seen.xy, expected.xy, rtol=1e-9, atol=1e-8)


def test_training_moments_equal_their_recomputation_and_are_kept() -> None:
    x, _ = views(2, 300)
    fold = np.arange(300) % 7
    view = FoldedView(tuple(view_moments(x[fold == g]) for g in range(7)), 7)
    for t, train in enumerate(view.training):
        expected = view_moments(x[(fold != t) & (fold != (t + 1) % 7)])
        assert train.n == expected.n
        np.testing.assert_allclose(train.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(train.scatter, expected.scatter, rtol=1e-9, atol=1e-9)
        assert view.training[t].spectrum is train.spectrum  # shared by every ridge and target
    whole = view_moments(x)
    assert view.merged.n == 300
    np.testing.assert_allclose(view.merged.scatter, whole.scatter, rtol=1e-9, atol=1e-9)


def test_a_spectrum_rebuilds_its_scatter_in_units_of_the_mean_eigenvalue() -> None:
    x, _ = views(3, 200, dx=6)
    moments = view_moments(x)
    spectrum = moments.spectrum
    assert (np.diff(spectrum.values) <= 0).all()
    assert spectrum.values.mean() == pytest.approx(1)
    assert spectrum.scale == pytest.approx(np.linalg.eigvalsh(moments.scatter).mean())
    rebuilt = (spectrum.vectors * spectrum.values) @ spectrum.vectors.T * spectrum.scale
    np.testing.assert_allclose(rebuilt, moments.scatter, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 12), shift=st.floats(-10, 10))
def test_a_spectrum_does_not_feel_scale_shift_or_rotation(
    seed: int, exponent: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 5)) * np.arange(1, 6)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    factor = 2.0**exponent
    moved = spectrum_of(factor * (x @ turn + shift))
    before = spectrum_of(x)
    np.testing.assert_allclose(moved.values, before.values, rtol=1e-9)
    assert moved.scale == pytest.approx(before.scale * factor**2, rel=1e-9)


def test_null_directions_are_dropped_and_only_those() -> None:
    labels = np.random.default_rng(4).integers(0, 6, 500)
    assert len(spectrum_of(np.eye(6)[labels]).values) == 5  # rows sum to 1
    x, _ = views(5, 200, dx=4)
    assert len(spectrum_of(np.hstack([x, x[:, :1] - x[:, 1:2]])).values) == 4
    small = np.random.default_rng(6).normal(size=(500, 2)) * [1, 10 * np.sqrt(RELATIVE_CUTOFF)]
    assert len(spectrum_of(small).values) == 2
    assert len(spectrum_of(small * [1, 0.01]).values) == 1


def test_truncation_keeps_the_fewest_directions_with_that_share() -> None:
    values = np.array([4.0, 3.0, 2.0, 1.0])
    spectrum = Spectrum(values, np.eye(4), 2.5)
    kept = {share: len(spectrum.truncated(share).values) for share in (0.1, 0.4, 0.41, 0.7, 0.9, 1)}
    assert kept == {0.1: 1, 0.4: 1, 0.41: 2, 0.7: 2, 0.9: 3, 1: 4}
    cut = spectrum.truncated(0.7)
    np.testing.assert_array_equal(cut.values, values[:2])
    assert cut.vectors.shape == (4, 2)
    assert cut.scale == spectrum.scale


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20),
    share=st.floats(0.01, 1.0),
)
def test_truncation_holds_the_share_and_one_direction_less_would_not(
    values: list[float], share: float
) -> None:
    ordered = np.sort(values)[::-1]
    kept = Spectrum(ordered, np.eye(len(values)), 1.0).truncated(share).values
    total = ordered.sum()
    assert 1 <= len(kept) <= len(values)
    assert kept.sum() >= share * total * (1 - 1e-9)
    assert kept[:-1].sum() <= share * total


def test_constant_columns_are_not_live() -> None:
    x, _ = views(7, 40, dx=4)
    x[:, 2] = 1.0
    assert view_moments(x).live_columns == 3


def normalised(n: int, d: int) -> Array:
    """What a layer norm leaves, in float32: every row sums to zero."""
    rows = np.random.default_rng(8).normal(size=(n, d)) * np.arange(1, d + 1) ** -1.0
    rows -= rows.mean(1, keepdims=True)
    return (rows / rows.std(1, keepdims=True)).astype(np.float32).astype(np.float64)


def with_dead_and_repeated_columns(n: int, d: int) -> Array:
    x, _ = views(9, n, d)
    x[:, 1] = 7.0
    x[:, 4] = x[:, 2] - 3 * x[:, 3] + 1
    return x


@pytest.mark.parametrize("ridge", [1e-10, 1e-3])
@pytest.mark.parametrize(
    ("view", "null"),
    [
        (views(7, 600, 12)[0], 0),
        (normalised(600, 12), 1),
        (np.eye(12)[np.arange(600) % 11], 2),  # a label that does not occur
        (with_dead_and_repeated_columns(600, 12), 2),
    ],
    ids=["full", "normalised", "one-hot", "dead"],
)
def test_whitening_by_cholesky_is_the_spectrum_s_but_for_a_rotation(
    view: Array, null: int, ridge: float
) -> None:
    whole = view_moments(view)
    assert whole.null_space.vectors.shape == (12, null)
    part = replace(view_moments(view[::2]), whole=whole)
    assert part._triangular_whitening(ridge, whole.null_space) is not None
    quick, slow = part.whitening(ridge), part.spectrum.whitening(ridge)
    assert quick.penalty == slow.penalty == ridge * part.scale
    assert quick.matrix.shape == slow.matrix.shape == (12 - null, 12)
    # float32 leaves noise of 1e-8 in a null direction, which turns it by as much from part to part.
    turn = np.linalg.lstsq(slow.matrix.T, quick.matrix.T, rcond=None)[0].T
    np.testing.assert_allclose(turn @ turn.T, np.eye(12 - null), atol=1e-7)
    np.testing.assert_allclose(turn @ slow.matrix, quick.matrix, rtol=1e-7, atol=1e-6)
    scatter = part.scatter
    white = quick.matrix @ (scatter + quick.penalty * np.eye(12)) @ quick.matrix.T
    np.testing.assert_allclose(white, np.eye(12 - null), atol=1e-9)
    np.testing.assert_allclose(
        quick.variances(quick.matrix), np.diag(quick.matrix @ scatter @ quick.matrix.T), atol=1e-9
    )


def test_whitening_leaves_to_the_spectrum_what_only_a_part_of_the_rows_lacks() -> None:
    labels = np.arange(600) % 7
    whole = view_moments(np.eye(7)[labels])
    part = replace(view_moments(np.eye(7)[labels[labels != 3]]), whole=whole)
    assert part._triangular_whitening(1e-10, whole.null_space) is None
    assert part.whitening(1e-10).matrix.shape == (5, 7)
    np.testing.assert_array_equal(
        part.whitening(1e-10).matrix, part.spectrum.whitening(1e-10).matrix
    )


def test_directions_near_the_cutoff_are_left_to_the_spectrum() -> None:
    rng = np.random.default_rng(6)
    for factor, kept in ((10, 2), (0.1, 1)):
        view = rng.normal(size=(500, 2)) * [1, factor * np.sqrt(RELATIVE_CUTOFF)]
        moments = view_moments(view)
        assert moments.whitening(1e-10).matrix.shape == (kept, 2)
        assert len(moments.spectrum.values) == kept


def test_training_folds_know_what_never_varies() -> None:
    x = normalised(300, 6)
    folds = fold_views(x, x[:, :2], np.arange(300) % 10, 10)
    train, _, _ = folds.trial(0)
    assert train.x.whole is folds.x.merged
    assert all(half.x.whole is folds.x.merged for half in folds.halves())
    assert train.x.whitening(1e-10) is folds.trial(0)[0].x.whitening(1e-10)
    cut = crossed_folds(x, x[:, :2], [np.arange(300) % 3, np.arange(300) % 4], 2)
    assert cut.trial(0)[0].x.whole is cut.trial(1)[0].x.whole is not None
