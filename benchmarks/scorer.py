"""The scorer from per-fold moments beside the straightforward one, which refits from the data.

    python benchmarks/scorer.py [mel intra phone word]

Shapes of one layer of a base model in the published experiments. Both sides take the same three
trials and the same ridge; the straightforward side stacks the training rows of each trial, takes
their covariance, and projects the training and the held-out rows, as public CCA code does.
Prints both times, their ratio and the largest difference between the scores.
"""

import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.metrics.cca import PWCCA, population_estimate
from analysis.moments import fold_views

Array = NDArray[np.float64]

SHAPES = {
    "mel": (90_000, 768, 80, False),
    "intra": (90_000, 768, 768, False),
    "phone": (7_800, 768, 39, True),
    "word": (7_500, 768, 500, True),
}
RIDGES = ((1e-10, 1e-10),)
TRIALS = 3
CUTOFF = 1e-10


def main() -> None:
    for name in sys.argv[1:] or SHAPES:
        x, y, fold = views(*SHAPES[name])
        start = perf_counter()
        ours = [s.value for s in PWCCA(RIDGES).score(fold_views(x, y, fold, TRIALS))]
        from_moments = perf_counter() - start
        start = perf_counter()
        direct = [straightforward(x, y, fold, trial) for trial in range(TRIALS)]
        from_data = perf_counter() - start
        difference = np.abs(np.subtract(ours, direct)).max()
        print(
            f"{name:6} {len(x)} x {x.shape[1]} / {y.shape[1]}: from moments {from_moments:6.2f} s, "
            f"from data {from_data:7.2f} s, ratio {from_data / from_moments:5.1f}, "
            f"scores differ by {difference:.1e}"
        )


def views(n: int, dx: int, dy: int, labelled: bool) -> tuple[Array, Array, NDArray[np.int64]]:
    """A layer and a target that share some latent columns, with a decaying spectrum."""
    rng = np.random.default_rng(0)
    fold = rng.permutation(np.arange(n) % 10)
    noise = rng.normal(size=(n, dx)) * np.arange(1, dx + 1) ** -0.5
    if labelled:
        label = rng.permutation(np.arange(n) % dy)
        return noise + 0.3 * rng.normal(size=(dy, dx))[label], np.eye(dy)[label], fold
    shared = rng.normal(size=(n, 40))
    target = shared @ rng.normal(size=(40, dy)) + rng.normal(size=(n, dy))
    return noise + 0.1 * shared @ rng.normal(size=(40, dx)), target, fold


def straightforward(x: Array, y: Array, fold: NDArray[np.int64], trial: int) -> float:
    dev, test = fold == trial + 1, fold == trial
    train = ~(dev | test)
    a, b, alpha = fit(x[train], y[train], RIDGES[0])

    def value(held: NDArray[np.bool_]) -> float:
        p, q = (x[held] - x[held].mean(0)) @ a, (y[held] - y[held].mean(0)) @ b
        norms = np.linalg.norm(p, axis=0) * np.linalg.norm(q, axis=0)
        return float(alpha @ ((p * q).sum(0) / norms))

    return float(population_estimate(value(train), np.array(value(test))))


def fit(x: Array, y: Array, ridges: tuple[float, float]) -> tuple[Array, Array, Array]:
    """Directions of both views, and weights from the training rows of the narrower one."""
    x, y = x - x.mean(0), y - y.mean(0)
    wx, wy = inverse_root(x, ridges[0]), inverse_root(y, ridges[1])
    u, _, vt = scipy.linalg.svd(wx.T @ x.T @ y @ wy, full_matrices=False)
    a, b = wx @ u, wy @ vt.T
    view, directions = (x, a) if x.shape[1] <= y.shape[1] else (y, b)
    orthonormal, _ = np.linalg.qr(view @ directions)
    alpha = np.abs(orthonormal.T @ view).sum(1)
    return a, b, alpha / alpha.sum()


def inverse_root(view: Array, ridge: float) -> Array:
    covariance = view.T @ view
    scale = np.trace(covariance) / len(covariance)
    values, vectors = scipy.linalg.eigh(covariance / scale)
    keep = values > CUTOFF * values[-1]
    root: Array = vectors[:, keep] / np.sqrt((values[keep] + ridge) * scale)
    return root


if __name__ == "__main__":
    main()
