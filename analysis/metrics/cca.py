"""Canonical correlation analysis from moments: fit on training folds, score on a held-out one.

Conventions: x is the layer, y the target. Each view's covariance is scaled by its mean eigenvalue,
so that a ridge is relative; training folds are centred by their mean, a test fold as `about` says.
The numbers, step by step: docs/metrics.md.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from analysis.metrics.base import MomentMetric, Score
from analysis.metrics.intervals import CORRELATION, around, jackknife_variance
from analysis.moments import Folds, Moments, Whitening
from common.arrays import Array, eigenvectors, namespace, on_host, solve_triangle
from common.records import StrataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Projection:
    """Canonical directions: a (k, dx) and b (k, dy), by decreasing training correlation."""

    a: Array
    b: Array


# Singular values below this share of the largest are taken from an SVD: their squares, which the
# eigenvalues of a Gram matrix are, have lost half of their digits.
SMALL = 1e-4


def singular_pairs(matrix: Array) -> tuple[Array, Array, Array]:
    """Singular vectors u (m, k), v (n, k) and values (k,), decreasing, of a matrix (m, n).

    By an eigendecomposition of the smaller of its Gram matrices: half the time of an SVD.
    """
    m, n = matrix.shape
    if m < n:
        v, values, u = singular_pairs(matrix.T)
        return u, values, v
    xp = namespace(matrix)
    squares, v = eigenvectors(matrix.T @ matrix)
    v = xp.flip(v, axis=1)
    values = xp.clip(xp.flip(squares), min=0.0) ** 0.5
    scaled = matrix @ v  # u times the values
    large = int((values > SMALL * values[0]).sum())  # none, of a matrix of zeros
    if large == n:
        return scaled / values, values, v
    # The columns of `scaled` are orthogonal but for rounding, so that the triangle is diagonal, but
    # for its corner of small values.
    u, triangle = xp.linalg.qr(scaled)
    signs = xp.where(xp.linalg.diagonal(triangle) < 0, -1.0, 1.0)
    inner_u, inner_values, inner_v = xp.linalg.svd(triangle[large:, large:])
    u = xp.concat([u[:, :large] * signs[:large], u[:, large:] @ inner_u], axis=1)
    v = xp.concat([v[:, :large], v[:, large:] @ inner_v.T], axis=1)
    return u, xp.concat([values[:large], inner_values]), v


def canonical_directions(cross: Array, x: Whitening, y: Whitening) -> tuple[Projection, Array]:
    """Directions, and their correlations (k,), of training folds with the cross-scatter (dx, dy).

    They are the singular vectors of the whitened cross-scatter.
    """
    dx, dy = cross.shape
    whitened = x.matrix @ cross @ y.matrix.T if dx < dy else x.matrix @ (cross @ y.matrix.T)
    u, values, v = singular_pairs(whitened)
    a, b = u.T @ x.matrix, v.T @ y.matrix
    return Projection(a, b), on_host(values / (x.variances(a) * y.variances(b)) ** 0.5)


def about(test: Moments, train: Moments) -> Moments:
    """A test fold's moments with the share of variance and covariance that lies between folds.

    What a fold adds to its training folds' scatter when they are merged: its own, and
    n m / (n + m) times the product of the differences of the means of n and of m rows. About its
    own mean alone, a fold of k speakers lacks a k-th of what differs between speakers, so that
    layers which hold the speaker would score too high; about the training mean, the error of that
    mean would be added. This has the right expectation, for speakers of equally many rows
    (benchmarks/coverage.py).
    """
    share = test.n * train.n / (test.n + train.n)
    p, q = test.x.mean - train.x.mean, test.y.mean - train.y.mean
    x = replace(test.x, scatter=test.x.scatter + share * p[:, None] * p)
    y = replace(test.y, scatter=test.y.scatter + share * q[:, None] * q)
    return Moments(x, y, test.xy + share * p[:, None] * q)


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums (k,) over the n units of a fold of pq, p^2 and q^2 for every canonical pair (p, q)."""

    n: int
    xy: Array
    xx: Array
    yy: Array

    def correlations(self) -> Array:
        """Signed correlation (k,) of every pair."""
        if min(self.xx.min(), self.yy.min()) <= 0:
            raise StrataError(
                f"a canonical direction is constant on a held-out fold of {self.n} units: its "
                "correlation is undefined; use more utterances or instances, or fewer "
                "sampling.folds"
            )
        correlations: Array = self.xy / np.sqrt(self.xx * self.yy)
        return correlations


def pair_sums(projection: Projection, fold: Moments) -> PairSums:
    """Sums from a fold's scatters, unchanged."""
    a, b = projection.a, projection.b
    xp = namespace(a)
    xy = on_host(xp.sum((a @ fold.xy) * b, axis=1))
    xx = on_host(xp.sum((a @ fold.x.scatter) * a, axis=1))
    yy = on_host(xp.sum((b @ fold.y.scatter) * b, axis=1))
    return PairSums(fold.n, xy, xx, yy)


def held_out_correlations(projection: Projection, fold: Moments) -> Array:
    """Signed correlation (k,) of every canonical pair, from a fold's scatters as they are."""
    return pair_sums(projection, fold).correlations()


def projection_weights(directions: Array, scatter: Array) -> Array:
    """alpha_i = sum_j |<h_i, x_j>| (k,), normalised to sum 1 (Morcos et al. 2018, section 2.2).

    h are the canonical variates `directions` (k, d) of the centred view, made orthonormal in
    order of correlation; x_j its centred columns; all inner products come from `scatter` (d, d).
    """
    loadings = directions @ scatter
    xp = namespace(loadings)
    triangle = xp.linalg.cholesky(loadings @ directions.T)
    weights = on_host(xp.sum(xp.abs(solve_triangle(triangle, loadings)), axis=1))
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
    """A CCA score per trial. `ridges`: pairs (layer, target)."""

    ridges: tuple[tuple[float, float], ...]
    held_out: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridges", tuple(tuple(map(float, pair)) for pair in self.ridges))
        check_ridges(self.ridges)


# The largest ratio of a score to the held-out one. Twice, where training correlations are four
# times the held-out ones: then the directions are mostly chance, and so would the correction be.
MOST = 2.0


def population_estimate(training: float, held_out: Array) -> Array:
    """Estimate of a population's weighted mean correlation from the training and held-out ones.

    `training`: of the training folds; `held_out`, of any shape: of a fold that was not fitted.
    The former is too high, the latter too low, by the same factor: sqrt(R^2 + e) and
    R^2 / sqrt(R^2 + e) for the regression of a column on d others over n rows with
    e = (1 - R^2) d / n, to the first order in d / n. So their geometric mean is R, and it is what
    this returns.
    Never more than `MOST` times the held-out value, which alone counts where there is nothing to
    be found: independent views stay at zero however far they are overfitted. A held-out value below
    zero gives the same with a minus sign, so that chance of either sign weighs alike.
    """
    size = np.abs(held_out)
    mean = np.sqrt(max(training, 0.0) * size)
    return np.sign(held_out) * np.minimum(mean, MOST * size)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fit on a trial's training folds: directions, their weights (k,), and the training score.

    The weights sum to 1; `training` is the weighted mean of the training folds' correlations.
    `weighted`: as in `Score`. A test fold is taken `about` its training folds first.
    """

    projection: Projection
    weights: Array
    training: float
    weighted: str

    def held_out(self, fold: Moments) -> float:
        """Weighted mean of a held-out fold's correlations: too low by what was overfitted."""
        return float(self.weights @ held_out_correlations(self.projection, fold))

    def score_of(self, correlations: Array) -> Array:
        """The score (...) where the held-out correlations are these (..., k)."""
        return population_estimate(self.training, correlations @ self.weights)

    def value(self, fold: Moments) -> float:
        """The score of a held-out fold."""
        return float(self.score_of(held_out_correlations(self.projection, fold)))


@dataclass(frozen=True)
class HeldOutCCA(RidgedCCA):
    """CCA whose directions come from the training folds, scored on them and on the test fold.

    The score estimates that of the population (see `population_estimate`). `ridges` is one pair,
    relative to the mean eigenvalue of its view, for every layer and trial; none is chosen, so no
    trial needs its dev fold. That stays out of the training folds all the same: then these are the
    same, and so are their spectra, for every metric of the same statistics.
    """

    has_interval: ClassVar[bool] = True
    on_devices: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.ridges) > 1:
            raise StrataError(
                f"metric.ridges has {len(self.ridges)} pairs: {self.name} takes one [layer, "
                "target] pair for all layers, as [[1e-10,1e-10]], because a ridge chosen by the "
                "score makes it too high, and not equally for every layer"
            )

    @abstractmethod
    def weights(self, projection: Projection, train: Moments) -> Array:
        """Weight (k,) of every canonical pair, from the training folds; they sum to 1."""

    def weighted(self, train: Moments) -> str:  # noqa: ARG002
        """Which view the weights come from: "layer", "target", or "" for neither."""
        return ""

    def whitenings(self, train: Moments) -> tuple[Whitening, Whitening]:
        """Whitenings of the directions of each view that enter the fit."""
        ridge_x, ridge_y = self.ridges[0]
        return train.x.whitening(ridge_x), train.y.whitening(ridge_y)

    def fit(self, train: Moments) -> Fit:
        """Directions, weights and training score."""
        projection, correlations = canonical_directions(train.xy, *self.whitenings(train))
        weights = self.weights(projection, train)
        return Fit(projection, weights, float(weights @ correlations), self.weighted(train))

    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:
        """One score per trial; where it is asked for also the interval of the trials' mean."""
        trials = [folds.trial(t) for t in range(folds.trials)]
        fits = [self.fit(train) for train, _, _ in trials]
        sums = [
            pair_sums(fit.projection, about(test, train))
            for fit, (train, _, test) in zip(fits, trials, strict=True)
        ]
        low, high = None, None
        if with_interval:
            tests = [test for _, _, test in trials]
            low, high = interval(pooled(fits, sums), self.fit, folds.halves(), tests)
        scores = []
        for fit, pairs in zip(fits, sums, strict=True):
            correlations = pairs.correlations()
            held_out = float(fit.weights @ correlations)
            detail = {"training": repr(fit.training), "held_out": repr(held_out)}
            value = float(fit.score_of(correlations))
            scores.append(Score(value, "", detail, low, high, fit.weighted))
        return scores

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """Mean scores of training and test folds alone, and how many scores met the bound."""
        if not scores:
            return {}
        alone = np.array(
            [(float(s.detail["training"]), float(s.detail["held_out"])) for s in scores]
        )
        training, held_out = alone.T
        at_bound = int(np.count_nonzero(training > MOST**2 * np.abs(held_out)))
        if at_bound:
            log.info(
                "%s: %d of %d scores are %g times their held-out correlation, the most they may "
                "be: with so few units for so many columns (or nothing in common) they are too "
                "low rather than too high",
                experiment,
                at_bound,
                len(scores),
                MOST,
            )
        return {
            "ridges": self.ridges[0],
            "training_folds_alone": float(training.mean()),
            "test_folds_alone": float(held_out.mean()),
            "scores_at_bound": at_bound,
        }


def pooled(fits: Sequence[Fit], sums: Sequence[PairSums]) -> Callable[[Array], float]:
    """The score of test folds, each `about` its training folds, with weights (folds,).

    Numerators and denominators of the correlations are summed over folds.
    """
    # A label that a trial's training folds lack makes one pair less there.
    k = max(len(fit.weights) for fit in fits)
    xy, xx, yy = (
        np.array([np.pad(values, (0, k - len(values))) for values in column])
        for column in zip(*((one.xy, one.xx, one.yy) for one in sums), strict=True)
    )
    weights = np.array([np.pad(fit.weights, (0, k - len(fit.weights))) for fit in fits])
    training = np.array([fit.training for fit in fits])

    def score(kept: Array) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = kept @ xy / np.sqrt((kept @ xx) * (kept @ yy))
        held_out = kept @ weights @ correlations / kept.sum()
        return float(population_estimate(kept @ training / kept.sum(), held_out))

    return score


def interval(
    score: Callable[[Array], float],
    fit: Callable[[Moments], Fit],
    halves: tuple[Moments, Moments],
    tests: Sequence[Moments],
) -> tuple[float, float]:
    """95 % interval over speakers of the mean of the trials' scores.

    `score`: of the trials, as in `pooled`; `tests`: their test folds, which keep speakers apart;
    `halves`: the folds of the first half of them, and of the second. How much folds differ is
    measured within each half, by leaving out each fold in turn, with a fit to the other half. The
    trials' own fits are trained on all folds but two: leaving out a fold then leaves the effect
    that its speakers had on the other trials' fits, and limits from that are a tenth too narrow.

    With the effects of speakers that real speech has they cover .93 to .96, where leaving out folds
    with the fits as they are covers .90 to .95; where the layer is mostly the speaker's .92 to .93,
    and that .88 to .90 (benchmarks/coverage.py).
    """
    middle, variances = len(tests) // 2, []
    for folds, other in ((tests[:middle], halves[1]), (tests[middle:], halves[0])):
        fitted = fit(other)
        sums = [pair_sums(fitted.projection, about(test, other)) for test in folds]
        half = pooled([fitted] * len(folds), sums)
        without = [half(np.arange(len(folds)) != t) for t in range(len(folds))]
        variances.append(jackknife_variance(without) * (len(folds) / len(tests)) ** 2)
    degrees = len(tests) - 2  # two halves have a degree of freedom less than one whole
    centre = float(CORRELATION.to(np.asarray(score(np.ones(len(tests))))))
    return around(centre, sum(variances) ** 0.5, degrees)


@dataclass(frozen=True)
class PWCCA(HeldOutCCA):
    """Projection-weighted CCA with centred weights from the training folds. Range [-1, 1].

    Morcos et al. 2018 (arXiv 1806.05759), as used by Pasad et al. 2021 (section 3.2), but
    for this: the weights are centred, so nothing depends on the arbitrary sign of a singular
    vector. The weighted view is the one with fewer varying columns; on a tie the layer.

    Scores weighed by the layer and by the target cannot be compared, as those of mel (80 columns)
    and of layers of 768 beside 500 words: of 499 directions mel has a partner for 80, and weights
    of the words' columns would be taken over those alone, so that a view could score higher than
    another one that holds it. The one with fewer columns has a direction for each.

    With twenty rows for each column of the wider view the score is within about .01 (.015 with
    words) of what unlimited speech would give: docs/metrics.md has the figures and the exception.
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

    def whitenings(self, train: Moments) -> tuple[Whitening, Whitening]:
        """Whitenings of the truncated spectra of both views."""
        ridge_x, ridge_y = self.ridges[0]
        x, y = (view.spectrum.truncated(self.variance) for view in (train.x, train.y))
        return x.whitening(ridge_x), y.whitening(ridge_y)
