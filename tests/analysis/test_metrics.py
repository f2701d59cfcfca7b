"""Every metric against a slow oracle and planted answers, and under what must not change it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from analysis.metrics.base import Metric
from analysis.metrics.cca import (
    PWCCA,
    SVCCA,
    MeanCCA,
    held_out_correlations,
    projection_weights,
)
from analysis.metrics.cca_published import PublishedPWCCA
from analysis.metrics.cka import LinearCKA
from analysis.moments import Folds, fold_views, merge, moments_of
from common.records import StrataError

Array = NDArray[np.float64]

RIDGES = ((1e-10, 1e-10), (1e-4, 1e-4), (1e-2, 1e-2), (1e-2, 1e-6), (1e-1, 1e-1))
METRICS: dict[str, Metric] = {
    "pwcca": PWCCA(RIDGES),
    "mean_cca": MeanCCA(RIDGES),
    "svcca": SVCCA(RIDGES, variance=0.99),
    "cka": LinearCKA(),
}
CCA = ("pwcca", "mean_cca", "svcca")
TRIALS = 3


def shared_views(
    n: int = 900, dx: int = 14, dy: int = 9, shared: int = 6, seed: int = 0
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Two views with some latent columns in common, large means, and a fold for each row."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, shared))
    x = latent @ rng.normal(size=(shared, dx)) + 0.8 * rng.normal(size=(n, dx))
    y = latent @ rng.normal(size=(shared, dy)) + 0.8 * rng.normal(size=(n, dy))
    fold = rng.permutation(np.arange(n) % 10)
    return x + 5 * rng.normal(size=dx), y - 3 * rng.normal(size=dy), fold


def one_hot_views() -> tuple[Array, Array, NDArray[np.int64]]:
    """A layer and one-hot labels, which have a null direction: their rows sum to 1."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 1200)
    x = rng.normal(size=(7, 12))[labels] + rng.normal(size=(1200, 12))
    return x, np.eye(7)[labels], rng.permutation(np.arange(1200) % 10)


def scores(metric: Metric, x: Array, y: Array, fold: NDArray[np.int64]) -> Array:
    return np.array([score.value for score in metric.score(fold_views(x, y, fold, TRIALS))])


@pytest.mark.parametrize("views", [shared_views, one_hot_views], ids=["shared", "one-hot"])
@pytest.mark.parametrize("name", CCA)
def test_cca_agrees_with_the_oracle(
    name: str, views: Callable[[], tuple[Array, Array, NDArray[np.int64]]]
) -> None:
    x, y, fold = views()
    expected = [reference.score(name, x, y, fold, t, list(RIDGES)) for t in range(TRIALS)]
    np.testing.assert_allclose(scores(METRICS[name], x, y, fold), expected, rtol=0, atol=1e-10)


def test_cca_agrees_with_the_oracle_when_the_layer_is_narrower_and_on_a_tie() -> None:
    for dx, dy in ((6, 11), (8, 8)):
        x, y, fold = shared_views(dx=dx, dy=dy)
        expected = [reference.score("pwcca", x, y, fold, t, list(RIDGES)) for t in range(TRIALS)]
        np.testing.assert_allclose(
            scores(METRICS["pwcca"], x, y, fold), expected, rtol=0, atol=1e-10
        )


def test_a_tie_weighs_the_layer() -> None:
    x, y, fold = shared_views(dx=8, dy=8)
    metric = PWCCA(((1e-10, 1e-10),))
    assert not np.allclose(scores(metric, x, y, fold), scores(metric, y, x, fold), atol=1e-4)


@pytest.mark.parametrize("views", [shared_views, one_hot_views], ids=["shared", "one-hot"])
def test_cka_agrees_with_its_definition(
    views: Callable[[], tuple[Array, Array, NDArray[np.int64]]],
) -> None:
    x, y, fold = views()
    value = scores(METRICS["cka"], x, y, fold)
    assert value.shape == (1,)  # no trials
    assert value[0] == pytest.approx(reference.cka(x, y), abs=1e-12)


def rotation(d: int, seed: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 100.0,
        lambda x: -x,
        lambda x: 1e3 * x,
        lambda x: 1e-4 * x,
        lambda x: x[:, ::-1],
        lambda x: x * np.where(np.arange(x.shape[1]) % 2, 1, -1),
    ],
    ids=["shift", "sign", "large scale", "small scale", "permutation", "column signs"],
)
def test_every_metric_ignores(name: str, change: Callable[[Array], Array]) -> None:
    x, y, fold = shared_views()
    expected = scores(METRICS[name], x, y, fold)
    np.testing.assert_allclose(scores(METRICS[name], change(x), y, fold), expected, atol=1e-9)
    np.testing.assert_allclose(scores(METRICS[name], x, change(y), fold), expected, atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_rotating_the_view_that_is_not_weighted_changes_nothing(name: str) -> None:
    x, y, fold = shared_views()  # y has fewer columns: it is weighted
    rotated = x @ rotation(x.shape[1], 3)
    np.testing.assert_allclose(
        scores(METRICS[name], rotated, y, fold), scores(METRICS[name], x, y, fold), atol=1e-9
    )


def test_rotating_the_weighted_view_changes_the_weights_but_no_correlation() -> None:
    x, y, fold = shared_views()
    rotated = y @ rotation(y.shape[1], 4)
    for name in ("mean_cca", "svcca", "cka"):
        np.testing.assert_allclose(
            scores(METRICS[name], x, rotated, fold), scores(METRICS[name], x, y, fold), atol=1e-9
        )
    before, after = (scores(METRICS["pwcca"], x, view, fold) for view in (y, rotated))
    assert np.abs(before - after).max() > 1e-5


@pytest.mark.parametrize("name", METRICS)
def test_row_order_does_not_matter(name: str) -> None:
    x, y, fold = shared_views()
    order = np.random.default_rng(5).permutation(len(x))
    np.testing.assert_allclose(
        scores(METRICS[name], x[order], y[order], fold[order]),
        scores(METRICS[name], x, y, fold),
        atol=1e-10,
    )


def test_planted_correlations_come_back() -> None:
    planted = np.array([0.95, 0.8, 0.6, 0.3, 0.0])
    n, rng = 60_000, np.random.default_rng(6)
    z = rng.normal(size=(n, 5))
    x = z @ rng.normal(size=(5, 5))
    y = (planted * z + np.sqrt(1 - planted**2) * rng.normal(size=(n, 5))) @ rng.normal(size=(5, 5))
    fold = rng.permutation(np.arange(n) % 10)
    value = scores(MeanCCA(((1e-10, 1e-10),)), x, y, fold)
    # Each test fold has n / 10 rows: the error of a correlation there is about 1 / sqrt(n / 10).
    assert np.abs(value - planted.mean()).max() < 3 / np.sqrt(n / 10)


def test_a_view_with_itself_is_one() -> None:
    x, _, fold = shared_views()
    for name, metric in METRICS.items():
        np.testing.assert_allclose(scores(metric, x, x, fold), 1, atol=1e-7, err_msg=name)


def test_independent_views_are_near_zero() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(20_000, 10)), rng.normal(size=(20_000, 10))
    fold = rng.permutation(np.arange(20_000) % 10)
    for name in CCA:
        assert np.abs(scores(METRICS[name], x, y, fold)).max() < 0.05


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("degenerate", ["constant column", "duplicate", "linear combination"])
def test_redundant_columns_are_dropped_not_scored(name: str, degenerate: str) -> None:
    x, y, fold = shared_views()
    extra = {
        "constant column": np.full((len(x), 1), 7.0),
        "duplicate": x[:, :1],
        "linear combination": x[:, :2] @ np.array([[0.3], [-2.0]]),
    }[degenerate]
    wide = np.hstack([x, extra])
    value = scores(METRICS[name], wide, y, fold)
    assert np.isfinite(value).all()
    if name in ("pwcca", "mean_cca") and degenerate == "constant column":
        # The scale of a ridge counts columns: a constant one moves it by a fifteenth.
        np.testing.assert_allclose(value, scores(METRICS[name], x, y, fold), atol=1e-3)


@pytest.mark.parametrize("name", CCA)
def test_fewer_rows_than_columns(name: str) -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(60, 100)), rng.normal(size=(60, 4))
    fold = np.arange(60) % 10
    # Without a ridge every training correlation is 1, and the directions are arbitrary.
    ridges = ((1e-2, 1e-2), (1e-1, 1e-1))
    value = scores(replace(METRICS[name], ridges=ridges), x, y, fold)
    expected = [reference.score(name, x, y, fold, t, list(ridges)) for t in range(TRIALS)]
    np.testing.assert_allclose(value, expected, atol=1e-8)


def test_folds_merge_in_any_order_and_grouping() -> None:
    x, y, fold = shared_views()
    parts = [moments_of(x[fold == f], y[fold == f]) for f in range(10)]
    whole = moments_of(x, y)
    for order in (range(10), range(9, -1, -1), (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)):
        ordered = [parts[f] for f in order]
        for merged in (merge(ordered), merge([merge(ordered[:4]), merge(ordered[4:])])):
            assert merged.n == whole.n
            np.testing.assert_allclose(merged.x.mean, whole.x.mean, rtol=1e-12)
            np.testing.assert_allclose(merged.x.scatter, whole.x.scatter, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(merged.xy, whole.xy, rtol=1e-9, atol=1e-9)
    two = parts[0] + parts[1]
    np.testing.assert_allclose(two.y.scatter, merge(parts[:2]).y.scatter)


def test_moments_survive_means_that_dwarf_the_variance() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(4000, 3)) + 1e7
    moments = moments_of(x, x)
    np.testing.assert_allclose(moments.x.scatter, (len(x) - 1) * np.cov(x.T), rtol=1e-7)


def test_a_constant_target_is_an_error_not_a_number() -> None:
    x, _, fold = shared_views()
    for metric in METRICS.values():
        with pytest.raises(StrataError, match="constant"):
            scores(metric, x, np.ones((len(x), 3)), fold)


def test_nan_is_an_error_not_a_number() -> None:
    x, y, fold = shared_views()
    x[5, 2] = np.nan
    for name in CCA:
        with pytest.raises(StrataError, match="NaN"):
            scores(METRICS[name], x, y, fold)


def test_a_fold_of_one_row_is_refused() -> None:
    x, y, _ = shared_views(n=30)
    fold = np.r_[np.zeros(1), np.arange(29) % 8 + 1].astype(int)
    with pytest.raises(StrataError, match="dev fold has 1 units"):
        scores(METRICS["pwcca"], x, y, fold)


def test_views_of_different_length_are_refused() -> None:
    with pytest.raises(StrataError, match="10 and 9 rows"):
        moments_of(np.ones((10, 2)), np.ones((9, 2)))


def test_ridges_are_chosen_on_dev_not_on_test() -> None:
    x, y, fold = shared_views(n=200, dx=60, dy=5)
    folds = fold_views(x, y, fold, TRIALS)
    metric = METRICS["pwcca"]
    assert isinstance(metric, PWCCA)
    for t, score in enumerate(metric.score(folds)):
        train, dev, test = folds.trial(t)
        on_dev = {str(p): PWCCA((p,)).fit(train, dev).value(dev) for p in RIDGES}
        on_test = {str(p): PWCCA((p,)).fit(train, dev).value(test) for p in RIDGES}
        assert score.detail["ridge"] == max(on_dev, key=lambda ridge: on_dev[ridge])
        assert score.value == pytest.approx(on_test[score.detail["ridge"]], abs=1e-12)


@pytest.mark.parametrize(
    ("ridges", "message"),
    [((), "0 pairs"), (((1e-3, 1e-3),) * 13, "13 pairs"), (((1e-3, -1.0),), "between 0 and 1")],
)
def test_bad_ridges_are_refused(ridges: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        PWCCA(ridges)


def test_a_choice_at_the_edge_of_the_grid_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    x, y, fold = shared_views()
    metric = METRICS["pwcca"]
    chosen = metric.score(fold_views(x, y, fold, TRIALS))
    with caplog.at_level("INFO"):
        summary = metric.summary(chosen, "cca_test")
    counts = summary["ridges_chosen"]
    assert isinstance(counts, dict)
    assert sum(counts.values()) == TRIALS
    edge = {str(RIDGES[0]), str(RIDGES[-1])}
    assert summary["ridges_at_edge"] == sum(v for k, v in counts.items() if k in edge)
    assert ("edge of the grid" in caplog.text) == bool(summary["ridges_at_edge"])


def test_trials_use_disjoint_dev_and_test_folds() -> None:
    fold = np.arange(100) % 10
    rows = np.arange(100.0)[:, None]
    folds: Folds = fold_views(np.hstack([rows, rows**2]), rows, fold, TRIALS)
    for t in range(TRIALS):
        train, dev, test = folds.trial(t)
        assert dev.x.mean[0] == rows[fold == 2 * t].mean()
        assert test.x.mean[0] == rows[fold == 2 * t + 1].mean()
        assert train.n == 80
        np.testing.assert_allclose(
            train.x.mean[0], rows[(fold != 2 * t) & (fold != 2 * t + 1)].mean()
        )


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("fold_of_one", [0, 1, 5], ids=["dev", "test", "train"])
def test_a_label_with_one_unit_does_no_harm_wherever_that_unit_falls(
    name: str, fold_of_one: int
) -> None:
    x, y, fold = one_hot_views()
    expected = scores(METRICS[name], x, y, fold)
    lonely = np.append(np.pad(y, ((0, 0), (0, 1))), np.eye(8)[7:], axis=0)
    found = scores(METRICS[name], np.append(x, x[:1], axis=0), lonely, np.append(fold, fold_of_one))
    # Only mean_cca and svcca count the direction of that label as much as any other.
    np.testing.assert_allclose(found, expected, atol=0.2 if name in ("mean_cca", "svcca") else 0.03)


@pytest.mark.parametrize(
    ("columns", "expected"), [((4, 9), "layer"), ((9, 4), "target"), ((5, 5), "layer")]
)
def test_a_score_says_which_view_weighed_it(columns: tuple[int, int], expected: str) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(400, d)) for d in columns)
    y[:, 0] += x[:, 0]
    folds = fold_views(x, y, np.arange(400) % 10, TRIALS)
    for metric in (PWCCA(RIDGES), PublishedPWCCA(RIDGES[:1])):
        assert {score.weighted for score in metric.score(folds)} == {expected}
    assert {score.weighted for score in MeanCCA(RIDGES).score(folds)} == {""}


def test_weighing_the_wider_target_could_put_a_view_above_one_that_holds_it() -> None:
    """Why mel is not weighed by 500 words: the pairs that it lacks would have no weight."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(6000, 20))
    part = y[:, :4] + rng.normal(size=(6000, 4))
    whole = np.hstack([part, rng.normal(size=(6000, 26))])
    metric = PWCCA(((1e-10, 1e-10),))
    scores = []
    for view in (part, whole):
        train, _, test = fold_views(view, y, np.arange(6000) % 10, 1).trial(0)
        directions = metric.fit(train, test).projection
        weights = projection_weights(directions.b, train.y.scatter)
        scores.append(weights @ held_out_correlations(directions, test))
    assert scores[0] > 2 * scores[1]
