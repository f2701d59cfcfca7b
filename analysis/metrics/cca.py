"""Canonical correlation analysis from moments: fit on training folds, score on a held-out one.

Conventions: x is the layer, y the target. Each view's covariance is scaled by its mean eigenvalue,
so that a ridge is relative; every fold is centred by its own mean. Numbers as in design section 7.
"""

import logging
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg

from analysis.metrics.base import MomentMetric, Score
from analysis.moments import Array, Folds, Moments, Spectrum
from common.records import StrataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Projection:
    """Canonical directions: a (k, dx) and b (k, dy), by decreasing training correlation."""

    a: Array
    b: Array


@dataclass(frozen=True, slots=True)
class Whitened:
    """Spectra of a trial's training folds, and their rotated cross-covariance, for any ridge."""

    x: Spectrum
    y: Spectrum
    cross: Array  # (rx, ry)

    def fit(self, ridge_x: float, ridge_y: float) -> Projection:
        """Canonical directions under a pair of ridges, relative to each view's mean eigenvalue."""
        wx = 1 / np.sqrt(self.x.values + ridge_x)
        wy = 1 / np.sqrt(self.y.values + ridge_y)
        u, _, vt = scipy.linalg.svd(
            wx[:, None] * self.cross * wy, full_matrices=False, check_finite=False
        )
        a = (u.T * wx) @ self.x.vectors.T / np.sqrt(self.x.scale)
        b = (vt * wy) @ self.y.vectors.T / np.sqrt(self.y.scale)
        return Projection(a, b)


def whiten(train: Moments, x: Spectrum, y: Spectrum) -> Whitened:
    """Rotate the training cross-scatter into both eigenbases."""
    cross = x.vectors.T @ train.xy @ y.vectors / np.sqrt(x.scale * y.scale)
    return Whitened(x, y, cross)


def held_out_correlations(projection: Projection, fold: Moments) -> Array:
    """Signed correlation (k,) of every canonical pair on a fold, centred by the fold's own mean."""
    a, b = projection.a, projection.b
    variance_x = np.einsum("kd,kd->k", a @ fold.x.scatter, a)
    variance_y = np.einsum("kd,kd->k", b @ fold.y.scatter, b)
    if min(variance_x.min(), variance_y.min()) <= 0:
        raise StrataError(
            f"a canonical direction is constant on a held-out fold of {fold.n} units: its "
            "correlation is undefined; use more utterances or instances, or fewer sampling.folds"
        )
    return np.einsum("kd,kd->k", a @ fold.xy, b) / np.sqrt(variance_x * variance_y)


def projection_weights(directions: Array, scatter: Array) -> Array:
    """alpha_i = sum_j |<h_i, x_j>| (k,), normalised to sum 1 (Morcos et al. 2018, section 2.2).

    h are the canonical variates `directions` (k, d) of the centred view, made orthonormal in
    order of correlation; x_j its centred columns; all inner products come from `scatter` (d, d).
    """
    loadings = directions @ scatter
    triangle = np.linalg.cholesky(loadings @ directions.T)
    orthonormal = scipy.linalg.solve_triangular(triangle, loadings, lower=True, check_finite=False)
    weights = np.abs(orthonormal).sum(1)
    return weights / weights.sum()


def check_ridges(ridges: tuple[tuple[float, float], ...]) -> None:
    """At most a dozen pairs of non-negative numbers."""
    if not 1 <= len(ridges) <= 12:
        raise StrataError(
            f"metric.ridges has {len(ridges)} pairs: give 1 to 12 (layer, target) pairs"
        )
    for pair in ridges:
        if len(pair) != 2 or not all(0 <= ridge <= 1 for ridge in pair):
            raise StrataError(
                f"metric.ridges has {list(pair)}: give [layer, target] pairs between 0 and 1, "
                "relative to a view's mean eigenvalue"
            )


@dataclass(frozen=True)
class RidgedCCA(MomentMetric):
    """A CCA score per trial, from ridges chosen on its dev fold.

    `ridges`: pairs (layer, target) to choose from.
    """

    ridges: tuple[tuple[float, float], ...]
    held_out: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridges", tuple(tuple(map(float, pair)) for pair in self.ridges))
        check_ridges(self.ridges)

    @abstractmethod
    def score_trial(self, train: Moments, dev: Moments, test: Moments) -> Score:
        """Fit on train, choose the ridges on dev, report on test."""

    def score(self, folds: Folds) -> list[Score]:
        """One score per trial."""
        return [self.score_trial(*folds.trial(t)) for t in range(folds.trials)]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How often each pair of ridges was chosen; a choice at the grid's edge is logged."""
        chosen = Counter(score.detail["ridge"] for score in scores)
        edges = {str(self.ridges[0]), str(self.ridges[-1])}
        at_edge = sum(count for ridge, count in chosen.items() if ridge in edges)
        if len(self.ridges) > 1 and at_edge:
            log.info(
                "%s: %d of %d fits chose a ridge at the edge of the grid (%s)",
                experiment,
                at_edge,
                len(scores),
                ", ".join(f"{ridge} x {count}" for ridge, count in chosen.most_common()),
            )
        return {"ridges_chosen": dict(chosen), "ridges_at_edge": at_edge}


@dataclass(frozen=True)
class HeldOutCCA(RidgedCCA):
    """CCA whose directions come from the training folds and whose correlations from the test fold.

    Ridges are relative to the mean eigenvalue of their view.
    """

    @abstractmethod
    def aggregate(self, projection: Projection, train: Moments, correlations: Array) -> float:
        """One number from the held-out correlations (k,)."""

    def spectra(self, train: Moments) -> tuple[Spectrum, Spectrum]:
        """The directions of each view that enter the fit."""
        return train.x.spectrum, train.y.spectrum

    def score_trial(self, train: Moments, dev: Moments, test: Moments) -> Score:
        """One eigendecomposition per view, shared by every ridge."""
        whitened = whiten(train, *self.spectra(train))
        projections = [whitened.fit(*pair) for pair in self.ridges]
        chosen = 0
        if len(projections) > 1:
            chosen = int(np.argmax([self._value(p, train, dev) for p in projections]))
        value = self._value(projections[chosen], train, test)
        return Score(value, detail={"ridge": str(self.ridges[chosen])})

    def _value(self, projection: Projection, train: Moments, fold: Moments) -> float:
        return self.aggregate(projection, train, held_out_correlations(projection, fold))


@dataclass(frozen=True)
class PWCCA(HeldOutCCA):
    """Projection-weighted CCA with centred weights from the training folds. Range [-1, 1].

    Morcos et al. 2018 (arXiv 1806.05759), as used by Pasad et al. 2021 (section 3.2), with the
    design's mends: the weights are centred, so nothing depends on the arbitrary sign of a singular
    vector. The weighted view is the one with fewer varying columns; on a tie the layer.
    """

    name: ClassVar[str] = "pwcca"

    def aggregate(self, projection: Projection, train: Moments, correlations: Array) -> float:
        """Weighted mean of the correlations (k,)."""
        if train.x.live_columns <= train.y.live_columns:
            weights = projection_weights(projection.a, train.x.scatter)
        else:
            weights = projection_weights(projection.b, train.y.scatter)
        return float(weights @ correlations)


@dataclass(frozen=True)
class MeanCCA(HeldOutCCA):
    """Plain mean of the held-out canonical correlations. Range [-1, 1]."""

    name: ClassVar[str] = "mean_cca"

    def aggregate(self, projection: Projection, train: Moments, correlations: Array) -> float:  # noqa: ARG002
        """Mean of the correlations (k,)."""
        return float(correlations.mean())


@dataclass(frozen=True)
class SVCCA(MeanCCA):
    """Mean CCA between the leading directions that hold `variance` of each view. Range [-1, 1].

    Raghu et al. 2017 (arXiv 1706.05806, section 2): singular vectors first, then CCA.
    """

    variance: float
    name: ClassVar[str] = "svcca"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.variance <= 1:
            raise StrataError(f"metric.variance={self.variance}: a share of variance in (0, 1]")

    def spectra(self, train: Moments) -> tuple[Spectrum, Spectrum]:
        """Truncated spectra of both views."""
        x, y = super().spectra(train)
        return x.truncated(self.variance), y.truncated(self.variance)
