"""Slow, direct implementations: project the data, no moments. Nothing here imports the project."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def whiten(train: Array, ridge: float, cutoff: float, share: float = 1.0) -> tuple[Array, Array]:
    """Whitened training rows (n, r), and the map (d, r) that whitens centred rows.

    By SVD of the centred data themselves, never of a covariance.
    """
    centred = train - train.mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    mean_eigenvalue = (s**2).sum() / train.shape[1]
    values = s**2 / mean_eigenvalue
    r = int(np.sum(values > cutoff * values[0]))
    r = min(r, int(np.sum(np.cumsum(values) / values.sum() < share * (1 - 1e-12))) + 1)
    scale = 1 / np.sqrt((values[:r] + ridge) * mean_eigenvalue)
    to_white = vt[:r].T * scale
    return centred @ to_white, to_white


def directions(
    x: Array, y: Array, ridges: tuple[float, float], cutoff: float, share: float = 1.0
) -> tuple[Array, Array]:
    """Canonical directions (dx, k), (dy, k) of training rows x (n, dx), y (n, dy)."""
    white_x, map_x = whiten(x, ridges[0], cutoff, share)
    white_y, map_y = whiten(y, ridges[1], cutoff, share)
    u, _, vt = np.linalg.svd(white_x.T @ white_y, full_matrices=False)
    return map_x @ u, map_y @ vt.T


def held_out(x: Array, y: Array, a: Array, b: Array) -> Array:
    """Pearson correlation (k,) of every pair of projections of held-out rows."""
    p, q = (x - x.mean(0)) @ a, (y - y.mean(0)) @ b
    return np.array([np.corrcoef(p[:, i], q[:, i])[0, 1] for i in range(p.shape[1])])


def added(p: Array, q: Array, train: NDArray[np.bool_], test: NDArray[np.bool_]) -> Array:
    """Sum (k,) of centred products of the rows of both, less that of the training rows alone."""

    def products(rows: NDArray[np.bool_]) -> Array:
        return ((p[rows] - p[rows].mean(0)) * (q[rows] - q[rows].mean(0))).sum(0)

    return products(train | test) - products(train)


def gram_schmidt(columns: Array) -> Array:
    """Orthonormal columns (n, k), each after those before it."""
    out: list[Array] = []
    for column in columns.T:
        for _ in range(2):  # twice is enough (Giraud et al. 2005)
            for done in out:
                column = column - (done @ column) * done
        out.append(column / np.linalg.norm(column))
    return np.stack(out, axis=1)


def weights(view: Array, a: Array) -> Array:
    """alpha_i = sum_j |<h_i, x_j>| over the centred columns of a view (n, d), summing to 1."""
    centred = view - view.mean(0)
    alpha = np.abs(gram_schmidt(centred @ a).T @ centred).sum(1)
    return alpha / alpha.sum()


def score(
    metric: str,
    x: Array,
    y: Array,
    fold: NDArray[np.int64],
    trial: int,
    ridges: tuple[float, float],
    cutoff: float = 1e-10,
    variance: float = 0.99,
) -> float:
    """One trial of pwcca, mean_cca or svcca; fold t is test, the next one dev, all others train.

    The geometric mean of what the training folds and the test fold give, twice the latter at most.
    The test fold's part of a product is what it adds to that of the training rows.
    """
    dev, test = fold == (trial + 1) % (fold.max() + 1), fold == trial
    train = ~(dev | test)
    share = variance if metric == "svcca" else 1.0
    a, b = directions(x[train], y[train], ridges, cutoff, share)

    p, q = x @ a, y @ b
    xy, xx, yy = (added(*pair, train, test) for pair in ((p, q), (p, p), (q, q)))

    def value(correlations: Array) -> float:
        if metric != "pwcca":
            return float(correlations.mean())
        live_x, live_y = (int((v[train].std(0) > 0).sum()) for v in (x, y))
        alpha = weights(x[train], a) if live_x <= live_y else weights(y[train], b)
        return float(alpha @ correlations)

    fitted, tested = value(held_out(x[train], y[train], a, b)), value(xy / np.sqrt(xx * yy))
    return 2 * tested if 4 * tested < fitted else float(np.sqrt(fitted * tested))


def cka(x: Array, y: Array) -> float:
    """Linear CKA by its definition: HSIC of centred n x n Gram matrices, biased estimator."""
    n = len(x)
    centre = np.eye(n) - 1 / n

    def hsic(k: Array, g: Array) -> float:
        return float(np.trace(k @ centre @ g @ centre)) / (n - 1) ** 2

    k, g = x @ x.T, y @ y.T
    return hsic(k, g) / float(np.sqrt(hsic(k, k) * hsic(g, g)))
