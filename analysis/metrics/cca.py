"""Canonical correlation analysis from moments: fit on training folds, score on a held-out one.

Conventions: x is the layer, y the target. Each view's covariance is scaled by its mean eigenvalue,
so that a ridge is relative; every fold is centred by its own mean. The numbers,
step by step: docs/metrics.md.
"""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg

from analysis.metrics.base import MomentMetric, Score
from analysis.metrics.intervals import fold_jackknife
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
    """A CCA score per trial. `ridges`: pairs (layer, target)."""

    ridges: tuple[tuple[float, float], ...]
    held_out: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridges", tuple(tuple(map(float, pair)) for pair in self.ridges))
        check_ridges(self.ridges)


# A score is at most so many times the held-out one. Twice, where training correlations are four
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
    be found: independent views stay at zero however far they are overfitted.
    """
    most = MOST * held_out
    mean = np.sqrt(max(training, 0.0) * np.maximum(held_out, 0.0))
    return np.maximum(np.minimum(mean, most), -1.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a trial's training folds settle: directions, their weights (k,), and their own score.

    The weights sum to 1; `training` is the weighted mean of the training folds' correlations.
    `weighted`: as in `Score`.
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

    def spectra(self, train: Moments) -> tuple[Spectrum, Spectrum]:
        """The directions of each view that enter the fit."""
        return train.x.spectrum, train.y.spectrum

    def fit(self, train: Moments) -> Fit:
        """Directions, weights and training score; one eigendecomposition per view."""
        projection = whiten(train, *self.spectra(train)).fit(*self.ridges[0])
        weights = self.weights(projection, train)
        training = float(weights @ held_out_correlations(projection, train))
        return Fit(projection, weights, training, self.weighted(train))

    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:
        """One score per trial; where it is asked for also the interval of the trials' mean."""
        trials = [folds.trial(t) for t in range(folds.trials)]
        fits = [self.fit(train) for train, _, _ in trials]
        low, high = None, None
        if with_interval:
            low, high = interval(fits, [one[0] for one in trials], [one[2] for one in trials])
        return [
            Score(
                fit.value(test),
                "",
                {"training": repr(fit.training), "held_out": repr(fit.held_out(test))},
                low,
                high,
                fit.weighted,
            )
            for fit, (_, _, test) in zip(fits, trials, strict=True)
        ]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """Mean scores of training and test folds alone, and how many scores met the bound."""
        if not scores:
            return {}
        alone = np.array(
            [(float(s.detail["training"]), float(s.detail["held_out"])) for s in scores]
        )
        training, held_out = alone.T
        at_bound = int(np.count_nonzero(training > MOST**2 * held_out))
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


def interval(
    fits: Sequence[Fit], trained: Sequence[Moments], tested: Sequence[Moments]
) -> tuple[float, float]:
    """95 % interval over speakers of the mean of the trials' scores, the fits held fixed.

    From test folds that keep speakers apart, by leaving out each in turn (`fold_jackknife`). The
    score that is resampled has the numerators and denominators of the correlations summed over
    folds, and centres every fold by its training rows: a fold's own mean takes a share of the
    variance between its few speakers away, so that layers which hold the speaker would score too
    high. benchmarks/coverage.py simulates how often it covers.
    """
    sums = [_second_moments(*one) for one in zip(fits, trained, tested, strict=True)]
    # A label that a trial's training folds lack makes one pair less there.
    k = max(len(fit.weights) for fit in fits)
    xy, xx, yy = (
        np.array([np.pad(own, (0, k - len(own))) for own in column])
        for column in zip(*sums, strict=True)
    )
    weights = np.array([np.pad(fit.weights, (0, k - len(fit.weights))) for fit in fits])
    training = np.array([fit.training for fit in fits])

    def score(kept: Array) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = kept @ xy / np.sqrt((kept @ xx) * (kept @ yy))
        held_out = kept @ weights @ correlations / kept.sum()
        return float(population_estimate(kept @ training / kept.sum(), held_out))

    folds = len(fits)
    without = [score(np.arange(folds) != t) for t in range(folds)]
    return fold_jackknife(score(np.ones(folds)), without)


def _second_moments(fit: Fit, train: Moments, test: Moments) -> tuple[Array, Array, Array]:
    """Sums (k,) over a test fold of pq, p^2, q^2 for every canonical pair (p, q).

    About the training means.
    """
    a, b = fit.projection.a, fit.projection.b
    p, q = a @ (test.x.mean - train.x.mean), b @ (test.y.mean - train.y.mean)
    xy = np.einsum("kd,kd->k", a @ test.xy, b) + test.n * p * q
    xx = np.einsum("kd,kd->k", a @ test.x.scatter, a) + test.n * p**2
    yy = np.einsum("kd,kd->k", b @ test.y.scatter, b) + test.n * q**2
    return xy, xx, yy


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

    How far the score is from the population's, in thousandths, mean ± standard deviation of 2 or 3
    draws (benchmarks/pwcca_bias.py: covariances of wav2vec2_tiny's T6 on the synthetic speech, 768
    columns by `--copies 4`; n counts all ten folds):

        target, columns     exact    n  n/d  chosen on dev by  OAS per  test     this
                                              score   mean     view     folds    score
        mel      192 x 80    .502   4k   21   -59±5   -59±5    -60±4    -61±5    -5±3
                                   40k  208    -9±1    -9±1     -9±1     -9±1    -1±1
                                  150k  781    -3±1    -3±1     -3±1     -3±1     0±1
        mel      768 x 80    .502  15k   20   -22±1   -33±3    -36±3    -48±3    +8±2
        T0       192 x 192   .670   2k   10   +85±3   -34±2    +34±2    -34±2    +3±2
                                    4k   21   +90±2   -15±1    +29±2    -15±1    +4±0
                                   40k  208   +95±0    -1±1     +8±1     -1±1    +1±1
                                  150k  781   +95±0     0±1     +2±1      0±1     0±1
        T0       768 x 768   .642  15k   20   +37±0   -99±2    -41±2    -99±2   -68±1
                                  150k  195   +41±0   -81±0    -69±1    -81±0   -78±0
        phones   192 x 39    .602   2k   10   -55±11  -55±11   -78±19   -55±11   +2±6
                                    4k   21   -23±11  -23±11   -40±10   -23±11   +5±6
        words    192 x 500   .498  10k   20  +129±2   -37±1    -15±8    -37±1   +14±0
                                   40k   80  +145±1   -16±1     -6±1    -16±1    +4±1
        words    768 x 500   .397   8k   10   -66±2   -66±2   -126±2    -66±2   +16±1
                                   15k   20   -40±0   -40±0    -95±2    -40±0   +10±0
        nothing  192 x 80    .000   4k   21    -4±9    -3±10    -5±6     -5±5    -9±11

    "By score" is a ridge of {1e-10, 1e-3, 1e-2, 1e-1} by the dev fold's PWCCA, "by mean" by its
    plain mean correlation; OAS is the shrinkage of Chen et al. 2010 (arXiv 0907.4698). A ridge
    either raises the score by the same for any n, or leaves what overfitting takes: no choice of
    one mends the latter. The mean of training and test folds would do as well, but gives .1 to
    views that have nothing in common.

    So twenty rows for each column of the wider view are enough for an error of about .01, except
    where very many correlations are nearly equal, as in the two views of 768, whose copies have
    nine tenths of each other's: there the score is .07 to .08 too low with any n that was tried,
    and so is the test folds' own. That is not overfitting; presumably directions of nearly equal
    correlation mix, which evens out their weights. Layers of that width that were trained as such
    have not been measured.
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
