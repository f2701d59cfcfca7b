"""PWCCA as the code of Pasad et al. computes it, kept for comparing with published numbers."""

import logging
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score
from analysis.metrics.cca import Projection, RidgedCCA, held_out_correlations
from analysis.moments import Folds, Moments
from common.arrays import Array, Mask
from common.records import StrataError

log = logging.getLogger(__name__)

FALLBACK_RIDGES = tuple(product((1e-8, 1e-7, 1e-6, 1e-5), repeat=2))
# Of a direction's squared length times the view's total variance: what float64 cannot distinguish
# from 0.
NULL_VARIANCE = 1e-12


def inverse_root(scatter: Array, ridge: float) -> tuple[Array, Mask, float]:
    """(Sxx / max + ridge)^-1/2 over the dimensions whose scaled variance is at least the ridge.

    Returns the root (r, r), the mask of kept dimensions (d,) and the scale.
    """
    scale = float(np.abs(scatter).max())
    kept = np.abs(np.diag(scatter)) / scale >= ridge
    values, vectors = scipy.linalg.eigh(scatter[np.ix_(kept, kept)] / scale, check_finite=False)
    values = values + ridge
    if values.min() <= 0:
        raise np.linalg.LinAlgError("not positive definite under this ridge")
    return (vectors / np.sqrt(values)) @ vectors.T, kept, scale


def fit_published(train: Moments, ridge_x: float, ridge_y: float) -> Projection:
    """Directions (k, dx), (k, dy); dimensions that were dropped have zero columns."""
    covariance = train.n - 1
    root_x, kept_x, scale_x = inverse_root(train.x.scatter / covariance, ridge_x)
    root_y, kept_y, scale_y = inverse_root(train.y.scatter / covariance, ridge_y)
    cross = train.xy[np.ix_(kept_x, kept_y)] / covariance / np.sqrt(scale_x * scale_y)
    u, _, vt = scipy.linalg.svd(root_x @ cross @ root_y)
    k = min(root_x.shape[0], root_y.shape[0])
    a, b = np.zeros((k, len(kept_x))), np.zeros((k, len(kept_y)))
    a[:, kept_x] = u.T[:k] @ root_x
    b[:, kept_y] = vt[:k] @ root_y
    return Projection(a, b)


def published_weights(directions: Array, scatter: Array, mean: Array, n: int) -> Array:
    """alpha_i = sum_j |L^-1 (A S + n m mu')|_ij, L = chol(A S A' + n m m'), normalised to sum 1.

    `directions` A (k, d) over the kept columns; `scatter` (d, d) and `mean` mu (d,) of the
    held-out fold; m_i is the mean of column i, i < k: the published code adds the column means of
    the view to its projections. That makes the weights depend on the sign of each direction.
    StrataError where the fold has too few units for L.
    """
    k, _ = directions.shape
    m = mean[:k]
    loadings = directions @ scatter + n * np.outer(m, mean)
    gram = directions @ scatter @ directions.T + n * np.outer(m, m)
    try:
        triangle = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError as error:
        raise StrataError(
            f"a held-out fold of {n} units does not suffice to weigh {k} canonical directions as "
            "the published code does: use more instances or utterances, fewer sampling.folds, or "
            "metric=pwcca"
        ) from error
    weights = np.abs(scipy.linalg.solve_triangular(triangle, loadings, lower=True)).sum(1)
    return weights / weights.sum()


def without_null_pairs(projection: Projection, fold: Moments) -> Projection:
    """Leave out pairs along a null direction (of a one-hot view: its rows sum to 1).

    The published code keeps them; their correlation and weight are rounding noise. Such a
    direction is long (its eigenvalue is a ridge of 1e-10), so its variance alone does not show it.
    """
    live = np.ones(len(projection.a), dtype=bool)
    for side, scatter in ((projection.a, fold.x.scatter), (projection.b, fold.y.scatter)):
        variance = np.einsum("kd,kd->k", side @ scatter, side)
        lengths = np.einsum("kd,kd->k", side, side)
        live &= variance > NULL_VARIANCE * lengths * np.trace(scatter)
    return Projection(projection.a[live], projection.b[live])


def weighs_first(projection: Projection) -> bool:
    """Whether the first view has fewer kept columns."""
    first, second = (np.any(side != 0, axis=0).sum() for side in (projection.a, projection.b))
    return bool(first < second)


def published_score(projection: Projection, fold: Moments) -> float:
    """Score a held-out fold. The weighted view has fewer kept columns; on a tie the second."""
    projection = without_null_pairs(projection, fold)
    correlations = held_out_correlations(projection, fold)
    first = weighs_first(projection)
    side, view = (projection.a, fold.x) if first else (projection.b, fold.y)
    kept, scatter, mean = np.any(side != 0, axis=0), view.scatter, view.mean
    # The published code weighs by the first k kept columns; there are just k of the smaller view.
    weights = published_weights(side[:, kept], scatter[np.ix_(kept, kept)], mean[kept], fold.n)
    return float(weights @ correlations)


@dataclass(frozen=True)
class PublishedPWCCA(RidgedCCA):
    """PWCCA exactly as ankitapasad/layerwise-analysis scores it. Range [-1, 1].

    Differs from `pwcca`: covariances are scaled by their largest entry; the weights are taken on
    the held-out fold and use uncentred columns, so that the value depends on the arbitrary sign of
    every singular vector; ridges stay near 1e-10, larger ones are tried only if every fit fails.
    Use it to compare with published tables, not to compare layers.
    """

    name: ClassVar[str] = "pwcca_published"

    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:  # noqa: ARG002
        """One score per trial; the target is the first view, as in the published experiments."""
        trials = (folds.trial(t) for t in range(folds.trials))
        return [self.score_trial(*(part.swapped for part in trial)) for trial in trials]

    def score_trial(self, train: Moments, dev: Moments, test: Moments) -> Score:
        """Fit with every pair of ridges, choose on dev, report on test."""
        fits = self._fits(train, self.ridges) or self._fits(train, FALLBACK_RIDGES)
        if not fits:
            raise StrataError(
                f"no ridge up to {FALLBACK_RIDGES[-1][0]:g} makes the published fit work "
                f"({train.n} units, {len(train.x.mean)} and {len(train.y.mean)} columns): use "
                "metric=pwcca, or more units"
            )
        ridge, projection = max(fits, key=lambda fit: published_score(fit[1], dev))
        weighted = "target" if weighs_first(without_null_pairs(projection, test)) else "layer"
        detail = {"ridge": str(ridge)}
        return Score(published_score(projection, test), detail=detail, weighted=weighted)

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How often each pair of ridges was chosen; a choice at the grid's edge is logged."""
        chosen = Counter(score.detail["ridge"] for score in scores)
        edges = {str(self.ridges[0]), str(self.ridges[-1])}
        at_edge = sum(count for ridge, count in chosen.items() if ridge in edges)
        if len(self.ridges) > 1 and at_edge:
            log.info(
                "%s: %d of %d fits chose a ridge at the edge of the grid (%s): more speech, or "
                "further pairs in experiments.%s.metric.ridges, may change their scores",
                experiment,
                at_edge,
                len(scores),
                ", ".join(f"{ridge} x {count}" for ridge, count in chosen.most_common()),
                experiment,
            )
        return {"ridges_chosen": dict(chosen), "ridges_at_edge": at_edge}

    def _fits(
        self, train: Moments, ridges: tuple[tuple[float, ...], ...]
    ) -> list[tuple[tuple[float, ...], Projection]]:
        fits = []
        for ridge in ridges:
            try:
                fits.append((ridge, fit_published(train, *ridge)))
            except np.linalg.LinAlgError:
                continue  # as the published code does: that pair of ridges is skipped
        return fits
