"""CCA against a slow oracle and planted correlations; its ridges, weights and refusals."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import reference
import torch
from gpu import GPU
from numpy.typing import NDArray
from views import CCA, METRICS, RIDGES, TRIALS, Array, one_hot_views, rotation, scores, shared_views

from analysis.metrics.base import Score
from analysis.metrics.cca import (
    PWCCA,
    MeanCCA,
    held_out_correlations,
    projection_weights,
    singular_pairs,
)
from analysis.metrics.cca_published import PublishedPWCCA
from analysis.moments import crossed_folds, fold_views
from common.arrays import on_device, on_host
from common.records import StrataError

# None: numpy. The same code scores on a GPU: on tensors of the CPU wherever the tests run.
DEVICES = [None, torch.device("cpu"), GPU]
on_every_device = pytest.mark.parametrize("device", DEVICES, ids=["numpy", "tensors", "cuda"])


@on_every_device
@pytest.mark.parametrize("views", [shared_views, one_hot_views], ids=["shared", "one-hot"])
@pytest.mark.parametrize("name", CCA)
def test_cca_agrees_with_the_oracle(
    name: str,
    views: Callable[[], tuple[Array, Array, NDArray[np.int64]]],
    device: torch.device | None,
) -> None:
    x, y, fold = views()
    expected = [reference.score(name, x, y, fold, t, RIDGES[0]) for t in range(TRIALS)]
    found = scores(METRICS[name], x, y, fold, device)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_cca_agrees_with_the_oracle_when_the_layer_is_narrower_and_on_a_tie() -> None:
    for dx, dy in ((6, 11), (8, 8)):
        x, y, fold = shared_views(dx=dx, dy=dy)
        expected = [reference.score("pwcca", x, y, fold, t, RIDGES[0]) for t in range(TRIALS)]
        np.testing.assert_allclose(
            scores(METRICS["pwcca"], x, y, fold), expected, rtol=0, atol=1e-10
        )


def spread(n: int, d: int, exponent: float, seed: int) -> Array:
    """Rows whose covariance has eigenvalues from 1 to 10^-exponent."""
    scales = 10 ** (-exponent / 2 * np.arange(d) / d)
    return np.random.default_rng(seed).normal(size=(n, d)) * scales @ rotation(d, seed)


@cache
def ill_conditioned(dx: int, dy: int, exponent: float) -> tuple[Array, Array, NDArray[np.int64]]:
    """Correlations from nearly 1 down to what chance leaves, and rows that sum to a constant."""
    n, shared = 4000, min(dx, dy) - 1
    strength = np.geomspace(30, 1e-3, shared)
    latent = np.random.default_rng(0).normal(size=(n, shared)) * strength
    x, y = spread(n, dx, exponent, 1), spread(n, dy, exponent, 2)
    x += latent @ spread(shared, dx, exponent, 3)
    y += latent @ spread(shared, dy, exponent, 4)
    x -= x.mean(1, keepdims=True)  # as after a layer norm
    return x, y, np.random.default_rng(5).permutation(np.arange(n) % 10)


@cache
def expected_of(name: str, dx: int, dy: int, exponent: float) -> list[float]:
    views = ill_conditioned(dx, dy, exponent)
    return [reference.score(name, *views, t, RIDGES[0]) for t in range(TRIALS)]


@on_every_device
@pytest.mark.parametrize("exponent", [2.0, 6.0])
@pytest.mark.parametrize(("dx", "dy"), [(60, 60), (60, 25), (25, 60)])
@pytest.mark.parametrize("name", CCA)
def test_small_correlations_and_ill_conditioned_views_agree_with_the_oracle(
    name: str, dx: int, dy: int, exponent: float, device: torch.device | None
) -> None:
    found = scores(METRICS[name], *ill_conditioned(dx, dy, exponent), device)
    expected = expected_of(name, dx, dy, exponent)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@on_every_device
@pytest.mark.parametrize(
    "values",
    [
        np.linspace(1, 0.1, 9),
        np.geomspace(1, 1e-7, 9),
        np.array([1.0, 1, 1, 0.5, 0.5, 1e-5, 1e-9, 0, 0]),
        np.zeros(9),
    ],
    ids=["large", "small", "repeated and zero", "none"],
)
@pytest.mark.parametrize("shape", [(9, 9), (30, 9), (9, 30)])
def test_singular_pairs_are_those_of_an_svd(
    shape: tuple[int, int], values: Array, device: torch.device | None
) -> None:
    m, n = shape
    matrix = (rotation(m, 1)[:, :9] * values) @ rotation(n, 2)[:9]
    placed = on_device(matrix, device) if device else matrix
    u, found, v = map(on_host, singular_pairs(placed))
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-11)
    np.testing.assert_allclose((u * found) @ v.T, matrix, rtol=0, atol=1e-12)
    for side in (u, v):
        np.testing.assert_allclose(side.T @ side, np.eye(9), rtol=0, atol=1e-9)


def test_a_tie_weighs_the_layer() -> None:
    x, y, fold = shared_views(dx=8, dy=8)
    metric = PWCCA(((1e-10, 1e-10),))
    assert not np.allclose(scores(metric, x, y, fold), scores(metric, y, x, fold), atol=1e-4)


def test_rotating_the_weighted_view_changes_the_weights_but_no_correlation() -> None:
    x, y, fold = shared_views()
    rotated = y @ rotation(y.shape[1], 4)
    for name in ("mean_cca", "svcca", "cka"):
        np.testing.assert_allclose(
            scores(METRICS[name], x, rotated, fold), scores(METRICS[name], x, y, fold), atol=1e-9
        )
    before, after = (scores(METRICS["pwcca"], x, view, fold) for view in (y, rotated))
    assert np.abs(before - after).max() > 1e-5


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


def test_independent_views_are_near_zero() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(20_000, 10)), rng.normal(size=(20_000, 10))
    fold = rng.permutation(np.arange(20_000) % 10)
    for name in CCA:
        assert np.abs(scores(METRICS[name], x, y, fold)).max() < 0.05


@pytest.mark.parametrize("name", CCA)
def test_fewer_rows_than_columns(name: str) -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(60, 100)), rng.normal(size=(60, 4))
    fold = np.arange(60) % 10
    # Without a ridge every training correlation is 1, and the directions are arbitrary.
    ridges = ((1e-2, 1e-1),)
    value = scores(replace(METRICS[name], ridges=ridges), x, y, fold)
    expected = [reference.score(name, x, y, fold, t, ridges[0]) for t in range(TRIALS)]
    np.testing.assert_allclose(value, expected, atol=1e-8)


def test_nan_is_an_error_not_a_number() -> None:
    x, y, fold = shared_views()
    x[5, 2] = np.nan
    for name in CCA:
        with pytest.raises(StrataError, match="NaN"):
            scores(METRICS[name], x, y, fold)


def test_a_fold_of_one_row_is_refused() -> None:
    x, y, _ = shared_views(n=30)
    fold = np.r_[np.zeros(1), np.arange(29) % 8 + 1].astype(int)
    with pytest.raises(StrataError, match="test fold has 1 units"):
        scores(METRICS["pwcca"], x, y, fold)


@pytest.mark.parametrize(
    ("ridges", "message"),
    [
        ((), "0 pairs"),
        (((1e-3, 1e-3),) * 13, "13 pairs"),
        (((1e-3, -1.0),), "between 0 and 1"),
        (((1e-3, 1e-3), (1e-2, 1e-2)), "pwcca takes one"),
    ],
)
def test_bad_ridges_are_refused(ridges: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        PWCCA(ridges)


GRID = ((1e-11, 1e-11), (1e-10, 1e-11), (1e-10, 1e-10), (1e-9, 1e-9))


def test_a_fold_too_small_for_the_published_weights_is_named() -> None:
    rng = np.random.default_rng(0)
    folds = fold_views(*rng.normal(size=(2, 100, 20)), np.arange(100) % 10, TRIALS)
    with pytest.raises(
        StrataError, match="fold of 10 units does not suffice to weigh 20 canonical"
    ):
        PublishedPWCCA(RIDGES[:1]).score(folds)


def test_a_choice_at_the_edge_of_the_grid_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    metric = PublishedPWCCA(GRID)
    places = (0, 2, 2, -1)
    chosen = [Score(0.5, "", {"ridge": str(GRID[place])}) for place in places]
    with caplog.at_level("INFO"):
        summary = metric.summary(chosen, "cca_test")
        assert "cca_test: 2 of 4 fits chose a ridge at the edge of the grid" in caplog.text
        caplog.clear()
        assert metric.summary(chosen[1:3], "cca_test")["ridges_at_edge"] == 0
        assert not caplog.text
    assert summary["ridges_at_edge"] == 2
    assert summary["ridges_chosen"] == {
        str(GRID[0]): 1,
        str(GRID[2]): 2,
        str(GRID[-1]): 1,
    }


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
        directions = metric.fit(train).projection
        weights = projection_weights(directions.b, train.y.scatter)
        scores.append(weights @ held_out_correlations(directions, test))
    assert scores[0] > 2 * scores[1]


def test_an_interval_bears_a_label_that_some_training_folds_lack() -> None:
    rng = np.random.default_rng(4)
    fold = np.repeat(np.arange(10), 30)
    label = rng.integers(11, size=300)
    label[(fold == 3) | (fold == 4)] = np.where(rng.random(60) < 0.3, 11, label[:60])
    x = np.eye(12)[label] @ rng.standard_normal((12, 20)) + rng.standard_normal((300, 20))
    y = np.eye(12)[label]
    scores = PWCCA(ridges=((1e-10, 1e-10),)).score(fold_views(x, y, fold, 10), True)
    assert len(scores) == 10
    assert scores[0].low < np.mean([score.value for score in scores]) < scores[0].high


@on_every_device
def test_intervals_and_types_held_out_are_the_same_on_a_device(
    device: torch.device | None,
) -> None:
    x, y, _ = shared_views()
    fold, types = np.arange(len(x)) % 10, np.arange(len(x)) // 10 % 6
    for folds in (fold_views(x, y, fold, 10), crossed_folds(x, y, [fold % 6, types], 6)):
        expected = PWCCA(RIDGES).score(folds, with_interval=True)
        found = PWCCA(RIDGES).score(folds.on(device) if device else folds, with_interval=True)
        for one, other in zip(found, expected, strict=True):
            assert one.weighted == other.weighted
            np.testing.assert_allclose(
                np.array([one.value, one.low, one.high], dtype=np.float64),
                np.array([other.value, other.low, other.high], dtype=np.float64),
                rtol=0,
                atol=1e-12,
            )


def test_what_is_computed_on_a_device_is_shared_there() -> None:
    x, y, fold = shared_views()
    folds, device = fold_views(x, y, fold, 3), torch.device("cpu")
    assert folds.x.on(device) is folds.on(device).x
    assert folds.on(device).trial(0)[0].x is folds.on(device).trial(0)[0].x
