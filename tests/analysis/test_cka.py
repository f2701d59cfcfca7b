"""CKA against its definition."""

from collections.abc import Callable

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from views import METRICS, Array, one_hot_views, scores, shared_views

from analysis.metrics.cka import DebiasedCKA
from analysis.moments import group_of
from common.records import StrataError


@pytest.mark.parametrize("views", [shared_views, one_hot_views], ids=["shared", "one-hot"])
def test_cka_agrees_with_its_definition(
    views: Callable[[], tuple[Array, Array, NDArray[np.int64]]],
) -> None:
    x, y, fold = views()
    value = scores(METRICS["cka"], x, y, fold)
    assert value.shape == (1,)  # no trials
    assert value[0] == pytest.approx(reference.cka(x, y), abs=1e-12)


def murphy(x: Array, y: Array) -> float:
    """Murphy et al. 2024 from (n, n) kernels, term by term of Song et al. 2012, equation 5."""

    def hsic(k: Array, m: Array) -> float:
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        ends = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return float((np.trace(k @ m) + ends - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3)))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def by_kernels(x: Array, y: Array, fold: NDArray[np.int64]) -> float:
    """The blocks of both kernels that lie between different folds, each centred in its own."""

    def mean(k: Array, m: Array) -> float:
        total = weight = 0.0
        for g in np.unique(fold):
            for h in set(np.unique(fold)) - {g}:
                n, o = (fold == g).sum(), (fold == h).sum()
                block = np.ix_(fold == g, fold == h)
                total += n * o * (k[block] * m[block]).sum() / ((n - 1) * (o - 1))
                weight += n * o
        return total / weight

    centred = []
    for view in (x, y):
        means = np.stack([view[fold == g].mean(0) for g in range(fold.max() + 1)])
        centred.append(view - means[fold])
    k, m = (view @ view.T for view in centred)
    return mean(k, m) / float(np.sqrt(mean(k, k) * mean(m, m)))


def debiased(x: Array, y: Array, fold: NDArray[np.int64] | None = None) -> float:
    return float(scores(DebiasedCKA(), x, y, np.arange(len(x)) % 5 if fold is None else fold)[0])


def test_debiased_cka_agrees_with_its_definition() -> None:
    """As many folds as are kept apart, of different sizes."""
    rng = np.random.default_rng(0)
    for n, dx, dy in ((60, 6, 90), (30, 3, 2)):
        x = rng.normal(size=(n, dx)) + 3
        y = np.hstack([x @ rng.normal(size=(dx, dy)), rng.normal(size=(n, dy))])
        fold = np.minimum(np.arange(n) % 9, 6)
        assert debiased(x, y, fold) == pytest.approx(by_kernels(x, y, group_of(fold, 3)), rel=1e-9)


def test_debiased_cka_does_not_depend_on_the_number_of_columns() -> None:
    """Of noise it is 0, of shared directions what many rows give; the biased one grows."""
    rng = np.random.default_rng(1)
    noise, shared, other, biased = [], [], [], []
    for _ in range(20):
        x, y = rng.normal(size=(300, 200)), rng.normal(size=(300, 200))
        noise.append(debiased(x, y))
        biased.append(reference.cka(x, y))
        signal = 3 * rng.normal(size=(300, 4))
        x, y = (np.hstack([signal, rng.normal(size=(300, 100))]) for _ in range(2))
        shared.append(debiased(x, y))
        other.append(murphy(x, y))
    assert np.mean(biased) > 0.3
    assert np.mean(noise) == pytest.approx(0, abs=0.01)
    # ||Sxy||^2 / ||Sxx||^2 of the population: four directions of variance 9, a hundred of 1.
    expected = 4 * 81 / (4 * 81 + 100)
    assert np.mean(shared) == pytest.approx(expected, abs=0.02)
    assert np.mean(other) == pytest.approx(expected, abs=0.02)


def test_debiased_cka_of_a_view_with_itself_and_with_a_constant() -> None:
    x = np.random.default_rng(2).normal(size=(60, 5)) * 4
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
    assert [debiased(x, x), debiased(x, 3 * x @ turn + 1)] == pytest.approx([1, 1])
    with pytest.raises(StrataError, match="no variance that two folds share"):
        debiased(x, np.zeros_like(x))
