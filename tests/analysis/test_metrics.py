"""Every metric of moments under what must not change it, and on views with little in them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from views import METRICS, Array, one_hot_views, rotation, scores, shared_views

from analysis.metrics.cca import PWCCA, MeanCCA
from common.records import StrataError


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


@pytest.mark.parametrize("name", METRICS)
def test_row_order_does_not_matter(name: str) -> None:
    x, y, fold = shared_views()
    order = np.random.default_rng(5).permutation(len(x))
    np.testing.assert_allclose(
        scores(METRICS[name], x[order], y[order], fold[order]),
        scores(METRICS[name], x, y, fold),
        atol=1e-10,
    )


def test_a_view_with_itself_is_one() -> None:
    x, _, fold = shared_views()
    for name, metric in METRICS.items():
        np.testing.assert_allclose(scores(metric, x, x, fold), 1, atol=1e-7, err_msg=name)


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
    metric = METRICS[name]
    if isinstance(metric, PWCCA | MeanCCA):  # whose ridges count columns
        metric = replace(metric, ridges=((1e-10, 1e-10),))
    value, expected = scores(metric, wide, y, fold), scores(metric, x, y, fold)
    if name in ("pwcca", "mean_cca") or degenerate == "constant column":
        np.testing.assert_allclose(value, expected, atol=1e-9)
    else:  # to svcca's share of variance and to cka such a column is more of the same
        np.testing.assert_allclose(value, expected, atol=0.02)


def test_a_constant_target_is_an_error_not_a_number() -> None:
    x, _, fold = shared_views()
    for metric in METRICS.values():
        with pytest.raises(StrataError, match="constant"):
            scores(metric, x, np.ones((len(x), 3)), fold)


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
