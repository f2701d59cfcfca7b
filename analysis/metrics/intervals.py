"""95 % intervals over speakers: what a score would be for other speakers of the same kind."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.units import Units
from common.arrays import Array, Mask
from common.config.analysis import BY_SPEAKER
from common.seeding import generator

log = logging.getLogger(__name__)

ScoreOf = Callable[[Array], Array]  # how often each speaker counts (b, s) -> b scores (b,)
Limits = tuple[float, float]

LEAST_SPEAKERS = 20
LEAST_FOLDS = 5
LEVEL = 0.95
UNDEFINED = 0.01  # share of resamples that may have no score
NEAR_ONE = 1 - 1e-12  # where Fisher's z of a correlation is still finite


@dataclass(frozen=True)
class Scale:
    """A scale on which a score's error is about normal and as wide for every value."""

    to: Callable[[Array], Array]
    back: Callable[[Array], Array]


CORRELATION = Scale(lambda r: np.arctanh(np.clip(r, -NEAR_ONE, NEAR_ONE)), np.tanh)
SHARE = Scale(
    lambda p: np.arcsin(np.sqrt(np.clip(p, 0, 1))),
    lambda x: np.sin(np.clip(x, 0, np.pi / 2)) ** 2,
)


def half_samples(score_of: ScoreOf, speakers: int, seed: int, resamples: int) -> Limits | None:
    """A 95 % interval from the scores of random halves of the speakers: the delete-half jackknife.

    For a score of ranks that depends on the number of different speakers by more than resampling
    can estimate: a bootstrap's spread is then too narrow and that of leaving out one speaker too
    wide (benchmarks/unit_coverage.py). It is an interval of the mean score of equally many
    other speakers (Shao & Wu 1989, A General Theory for Jackknife Variance Estimation; Efron &
    Tibshirani 1993, section 11.7). `score_of` takes counts (b, s), a resample in each row, and
    gives each one's score, with whatever was fitted held fixed. None with fewer than 20 speakers,
    or where resamples have no score (NaN).
    """
    if speakers < LEAST_SPEAKERS:
        return None
    left_out = speakers // 2
    rng = generator(seed, "half samples", speakers)
    order = rng.permuted(np.tile(np.arange(speakers), (resamples, 1)), axis=1)
    values = score_of((order >= left_out).astype(np.float64))
    (score,) = score_of(np.ones((1, speakers)))
    defined = np.isfinite(values)
    if defined.mean() < 1 - UNDEFINED or not np.isfinite(score):
        log.warning(
            "no interval: %d of %d resamples of %d speakers have no score",
            *(np.count_nonzero(~defined), resamples, speakers),
        )
        return None
    apart = CORRELATION.to(values[defined]).std()
    spread = np.sqrt((speakers - left_out) / left_out) * apart
    return around(float(CORRELATION.to(score)), float(spread), speakers - 1)


def around(centre: float, spread: float, degrees: float, scale: Scale = CORRELATION) -> Limits:
    """Student's limits for these degrees of freedom. `centre`, `spread` are on the scale."""
    t = scipy.special.stdtrit(degrees, (1 + LEVEL) / 2)
    low, high = scale.back(centre + np.array([-1, 1]) * t * spread)
    return float(low), float(high)


def jackknife_variance(without: Sequence[float], scale: Scale = CORRELATION) -> float:
    """Variance on the scale of a score, from those `without` each group in turn."""
    values = scale.to(np.asarray(without))
    return float((len(without) - 1) * values.var())


def fold_jackknife(
    score: float,
    without: Sequence[float],
    scale: Scale = CORRELATION,
    *,
    corrected: bool = False,
) -> Limits:
    """A 95 % interval from the scores `without` each group (a fold, a speaker), fits held fixed.

    Student's limits with one degree of freedom less than there are groups (Efron & Tibshirani 1993,
    section 11.5). Where each group was among the training data of the others' fits, as test folds
    of a cross-validation are, they are too narrow: see `analysis.metrics.cca.interval`.
    `corrected`: about the score less what the jackknife estimates its bias to be (section 10.5),
    for a score that is better or worse the fewer groups there are.
    """
    centre, groups = float(scale.to(np.asarray(score))), len(without)
    if corrected:
        each = scale.to(np.asarray(without))
        centre = groups * centre - (groups - 1) * float(each.mean())
    return around(centre, float(np.sqrt(jackknife_variance(without, scale))), groups - 1, scale)


def jackknife(score: float, without: Sequence[float]) -> Limits | None:
    """A 95 % interval from the scores `without` each of the speakers in turn.

    For a score that a speaker who is drawn twice would distort, as mutual information, which takes
    units that occur together for units that belong together. It is of what equally many other
    speakers would score on average (Efron & Tibshirani 1993, section 11.5). None with fewer than 20
    speakers.
    """
    speakers = len(without)
    if speakers < LEAST_SPEAKERS:
        return None
    return fold_jackknife(score, without)


def no_fold_interval(split: str, trials: int, speakers: int) -> str:
    """Why scores from this many test folds and known speakers have no interval, or ""."""
    if split not in BY_SPEAKER:
        return (
            f"folds do not keep speakers apart (split={split}), and an interval is over other "
            "speakers"
        )
    if trials < LEAST_FOLDS:
        return f"{trials} folds are tested on, {LEAST_FOLDS} are needed"
    return too_few(speakers)


def no_jackknife(units: Units) -> str:
    """Why leaving out each fold in turn gives no interval over speakers, or ""."""
    folds = len(np.unique(units.fold))
    pairs = np.unique(np.stack([units.speaker, units.fold]), axis=1)
    if pairs.shape[1] > len(np.unique(units.speaker)):
        return "folds do not keep speakers apart, and an interval is over other speakers"
    if folds < LEAST_FOLDS:
        return f"there are {folds} folds of speakers, {LEAST_FOLDS} are needed"
    _, known = units.tested(np.arange(len(units.label)))
    return too_few(known)


def over_folds(
    units: Units, score: float, score_of: Callable[[Mask], float]
) -> Limits | tuple[None, None]:
    """A 95 % interval over speakers from leaving out each fold in turn; none where `no_jackknife`.

    `score_of` some of the units, a mask (n,) of rows, is a share, as the `score` of them all is.
    """
    if no_jackknife(units):
        return None, None
    each = [score_of(units.fold != fold) for fold in np.unique(units.fold)]
    return fold_jackknife(score, each, SHARE)


def too_few(speakers: int) -> str:
    """Why a sample tested on this many known speakers has no interval, or ""."""
    enough = speakers >= LEAST_SPEAKERS
    why = f"a sample is tested on {speakers} known speakers, {LEAST_SPEAKERS} are needed"
    return "" if enough else why
