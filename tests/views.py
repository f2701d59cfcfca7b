"""Pairs of views with something in common, and the metrics of moments that score them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.metrics.base import Metric
from analysis.metrics.cca import PWCCA, SVCCA, MeanCCA
from analysis.metrics.cka import LinearCKA
from analysis.moments import Moments, fold_views, merge_cross, merge_views

Array = NDArray[np.float64]
RIDGES = ((1e-10, 1e-10),)
METRICS: dict[str, Metric] = {
    "pwcca": PWCCA(RIDGES),
    "mean_cca": MeanCCA(RIDGES),
    "svcca": SVCCA(RIDGES, variance=0.99),
    "cka": LinearCKA(),
}
CCA = ("pwcca", "mean_cca", "svcca")
TRIALS = 3


def merge(parts: Sequence[Moments]) -> Moments:
    """Moments of a pair of views over the union of disjoint sets of rows."""
    xs, ys = [part.x for part in parts], [part.y for part in parts]
    xy = merge_cross(xs, ys, [part.xy for part in parts])
    return Moments(merge_views(xs), merge_views(ys), xy)


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


def scores(
    metric: Metric,
    x: Array,
    y: Array,
    fold: NDArray[np.int64],
    device: torch.device | None = None,
) -> Array:
    """On tensors of a device, where one is given."""
    folds = fold_views(x, y, fold, TRIALS)
    return np.array([score.value for score in metric.score(folds.on(device) if device else folds)])


def rotation(d: int, seed: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
