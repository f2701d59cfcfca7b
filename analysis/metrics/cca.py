"""Canonical correlation analysis from moments: fit on training folds, score on a held-out one.

Conventions: x is the layer, y the target. Each view's covariance is scaled by its mean eigenvalue,
so that a ridge is relative; every fold is centred by its own mean. Numbers as in design section 7.
"""

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg

from analysis.bootstrap import ScoreOf, bootstrap, too_few
from analysis.metrics.base import MomentMetric, PairedRows, Score
from analysis.moments import Array, Folds, Moments, Spectrum
from analysis.speaker_sums import speaker_sums
from analysis.units import NOBODY
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


@dataclass(frozen=True, slots=True)
class Fit:
    """What one trial's training and dev folds settle: directions, weights (k,) and ridges.

    The weights sum to 1; the score of a fold is the weighted mean of its correlations. `weighted`:
    as in `Score`.
    """

    projection: Projection
    weights: Array
    ridges: tuple[float, float]
    weighted: str

    def value(self, fold: Moments) -> float:
        """The score of a held-out fold."""
        return float(self.weights @ held_out_correlations(self.projection, fold))


@dataclass(frozen=True)
class HeldOutCCA(RidgedCCA):
    """CCA whose directions come from the training folds and whose correlations from the test fold.

    Ridges are relative to the mean eigenvalue of their view.
    """

    with_interval: ClassVar[bool] = True

    @abstractmethod
    def weights(self, projection: Projection, train: Moments) -> Array:
        """Weight (k,) of every canonical pair, from the training folds; they sum to 1."""

    def weighted(self, train: Moments) -> str:  # noqa: ARG002
        """Which view the weights come from: "layer", "target", or "" for neither."""
        return ""

    def spectra(self, train: Moments) -> tuple[Spectrum, Spectrum]:
        """The directions of each view that enter the fit."""
        return train.x.spectrum, train.y.spectrum

    def fit(self, train: Moments, dev: Moments) -> Fit:
        """Choose the ridges on dev; one eigendecomposition per view, shared by every ridge."""
        whitened = whiten(train, *self.spectra(train))
        fits = [self._fit(whitened, train, ridges) for ridges in self.ridges]
        return max(fits, key=lambda fit: fit.value(dev)) if len(fits) > 1 else fits[0]

    def _fit(self, whitened: Whitened, train: Moments, ridges: tuple[float, float]) -> Fit:
        projection = whitened.fit(*ridges)
        return Fit(projection, self.weights(projection, train), ridges, self.weighted(train))

    def score(self, folds: Folds, rows: PairedRows | None = None) -> list[Score]:
        """One score per trial; with the rows also the interval of the trials' mean."""
        trials = [folds.trial(t) for t in range(folds.trials)]
        fits = [self.fit(train, dev) for train, dev, _ in trials]
        low, high = (rows and interval(fits, rows)) or (None, None)
        return [
            Score(fit.value(test), "", {"ridge": str(fit.ridges)}, low, high, fit.weighted)
            for fit, (_, _, test) in zip(fits, trials, strict=True)
        ]


def interval(fits: Sequence[Fit], rows: PairedRows) -> tuple[float, float] | None:
    """95 % interval of the mean of the trials' scores over speakers, the fits held fixed.

    None with too few speakers who are known. Units without a speaker are drawn together, as one
    more than these.
    """
    tested = rows.speaker[np.isin(rows.fold, [2 * t + 1 for t in range(len(fits))])]
    if too_few(len(np.unique(tested[tested != NOBODY]))):
        return None
    score_of, speakers = resampled_score(fits, rows)
    return bootstrap(score_of, speakers, rows.seed)


def resampled_score(fits: Sequence[Fit], rows: PairedRows) -> tuple[ScoreOf, int]:
    """The mean of the trials' scores as a function of how often each test speaker counts.

    A speaker counts equally often in every trial that tests on him. Returns also how many there
    are in all test folds together.
    """
    names = np.unique(rows.speaker[np.isin(rows.fold, [2 * t + 1 for t in range(len(fits))])])
    sums = []
    for t, fit in enumerate(fits):
        own = rows.fold == 2 * t + 1
        codes = np.searchsorted(names, rows.speaker[own])
        p, q = rows.x[own] @ fit.projection.a.T, rows.y[own] @ fit.projection.b.T
        sums.append(speaker_sums(p, q, codes, len(names)))

    def score_of(counts: Array) -> Array:
        trials = zip(sums, fits, strict=True)
        scores = [own.correlations(counts) @ fit.weights for own, fit in trials]
        return np.mean(scores, axis=0)

    return score_of, len(names)


@dataclass(frozen=True)
class PWCCA(HeldOutCCA):
    """Projection-weighted CCA with centred weights from the training folds. Range [-1, 1].

    Morcos et al. 2018 (arXiv 1806.05759), as used by Pasad et al. 2021 (section 3.2), with the
    design's mends: the weights are centred, so nothing depends on the arbitrary sign of a singular
    vector. The weighted view is the one with fewer varying columns; on a tie the layer.

    Scores weighed by the layer and by the target cannot be compared, as those of mel (80 columns)
    and of layers of 768 beside 500 words: of 499 directions mel has a partner for 80, and weights
    of the words' columns would be taken over those alone, so that a view could score higher than
    another one that holds it. The one with fewer columns has a direction for each.
    """

    name: ClassVar[str] = "pwcca"

    def weights(self, projection: Projection, train: Moments) -> Array:
        """How much of the weighted view each direction accounts for."""
        if self.weighted(train) == "layer":
            return projection_weights(projection.a, train.x.scatter)
        return projection_weights(projection.b, train.y.scatter)

    def weighted(self, train: Moments) -> str:
        """The view with fewer varying columns."""
        return "layer" if train.x.live_columns <= train.y.live_columns else "target"


@dataclass(frozen=True)
class MeanCCA(HeldOutCCA):
    """Plain mean of the held-out canonical correlations. Range [-1, 1]."""

    name: ClassVar[str] = "mean_cca"

    def weights(self, projection: Projection, train: Moments) -> Array:  # noqa: ARG002
        """The same for all."""
        k, _ = projection.a.shape
        return np.full(k, 1 / k)


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
