"""Intervals over speakers: what resampling means, when there is none, and what they cover."""

import numpy as np
import pytest
import reference
import scipy.stats
from numpy.typing import NDArray
from views import merge

from analysis.metrics.cca import PWCCA, Fit, MeanCCA, about
from analysis.metrics.intervals import (
    LEAST_FOLDS,
    SHARE,
    fold_jackknife,
    half_samples,
    jackknife,
    no_fold_interval,
)
from analysis.moments import fold_views, moments_of
from benchmarks.coverage import CASES, coverage, simulate

Array = NDArray[np.float64]
Views = tuple[Array, Array, NDArray[np.int64]]
RIDGES = ((1e-10, 1e-10),)
TRIALS = FOLDS = 7


def related(seed: int = 0, n: int = 480) -> Views:
    """Views with large means, and the fold of each row."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 3))
    x = y @ rng.normal(size=(3, 5)) + rng.normal(size=(n, 5)) + 40
    return x, y, rng.permutation(np.arange(n) % FOLDS)


@pytest.mark.parametrize("metric", [PWCCA(RIDGES), MeanCCA(RIDGES)], ids=lambda m: m.name)
def test_the_interval_of_cca_leaves_out_each_test_fold_in_turn(metric: PWCCA | MeanCCA) -> None:
    """The oracle projects the rows, and takes what a fold adds to those that were fitted on."""
    x, y, fold = related()
    folds = fold_views(x, y, fold, FOLDS)
    trials = [folds.trial(t) for t in range(FOLDS)]

    def sums(fit: Fit, t: int, fitted: NDArray[np.bool_]) -> Array:
        p, q = x @ fit.projection.a.T, y @ fit.projection.b.T
        return np.array(
            [reference.added(*pair, fitted, fold == t) for pair in ((p, q), (p, p), (q, q))]
        )

    def score(kept: list[tuple[Fit, Array]]) -> float:
        xy, xx, yy = np.sum([sums for _, sums in kept], axis=0)
        held_out = np.mean([fit.weights for fit, _ in kept], axis=0) @ (xy / np.sqrt(xx * yy))
        return float(np.sqrt(np.mean([fit.training for fit, _ in kept]) * held_out))

    whole = []
    for t, (train, _, _) in enumerate(trials):
        fitted = (fold != t) & (fold != (t + 1) % FOLDS)
        whole.append((fit := metric.fit(train), sums(fit, t, fitted)))
    variance = 0.0
    for half_folds in ([0, 1, 2], [3, 4, 5, 6]):
        fitted = ~np.isin(fold, half_folds)
        fit = metric.fit(moments_of(x[fitted], y[fitted]))
        half = [(fit, sums(fit, t, fitted)) for t in half_folds]
        without = np.arctanh([score(half[:k] + half[k + 1 :]) for k in range(len(half_folds))])
        variance += (len(half_folds) - 1) * without.var() * (len(half_folds) / FOLDS) ** 2
    expected = scipy.stats.t.interval(0.95, FOLDS - 2, np.arctanh(score(whole)), np.sqrt(variance))
    found = metric.score(folds, with_interval=True)[0]
    assert (found.low, found.high) == pytest.approx(np.tanh(expected), abs=1e-9)


def test_every_trial_of_a_sample_carries_the_interval_of_its_mean() -> None:
    x, y, fold = related()
    folds = fold_views(x, y, fold, TRIALS)
    scores = PWCCA(RIDGES).score(folds, with_interval=True)
    ((low, high),) = {(score.low, score.high) for score in scores}
    assert low < np.mean([score.value for score in scores]) < high
    assert [s.value for s in scores] == [s.value for s in PWCCA(RIDGES).score(folds)]
    assert PWCCA(RIDGES).score(folds)[0].low is None


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = 0.02 * np.random.default_rng(0).normal(size=20)
    without = [float(np.delete(values, k).mean()) for k in range(20)]
    expected = values.mean() + scipy.stats.t.ppf([0.025, 0.975], 19) * scipy.stats.sem(values)
    np.testing.assert_allclose(jackknife(float(values.mean()), without), expected, atol=1e-5)
    assert jackknife(0.0, without[:19]) is None


@pytest.mark.parametrize("speakers", [20, 21])
def test_half_samples_of_a_mean_are_students_interval(speakers: int) -> None:
    values = 0.02 * np.random.default_rng(0).normal(size=speakers)
    found = half_samples(lambda c: c @ values / c.sum(1), speakers, 0, 4_000)
    error = scipy.stats.sem(values)
    t = scipy.stats.t.ppf([0.025, 0.975], speakers - 1)
    np.testing.assert_allclose(found, values.mean() + t * error, atol=0.1 * error)
    assert half_samples(lambda c: c.mean(1), 19, 0, 10) is None


def test_half_samples_leave_speakers_out_and_repeat_none() -> None:
    seen = []

    def score_of(counts: Array) -> Array:
        seen.append(counts)
        return counts[:, 0]

    half_samples(score_of, 21, 0, 1_000)
    halves, whole = seen
    assert set(np.unique(halves)) == {0, 1}
    assert set(halves.sum(1)) == {11}
    assert (whole == 1).all()
    np.testing.assert_allclose(halves.mean(0), 11 / 21, atol=0.06)


def test_half_samples_lie_around_the_sample_itself() -> None:
    """Of a score that falls with the share of speakers that a resample lacks."""

    def diverse(counts: Array) -> Array:
        return 0.5 * (counts > 0).mean(1) + 0.01 * counts[:, 0]

    low, high = np.arctanh(np.array(half_samples(diverse, 40, 0, 1_000)))
    assert (low + high) / 2 == pytest.approx(np.arctanh(0.51))


def test_the_same_seed_gives_the_same_limits() -> None:
    right = np.random.default_rng(0).integers(3, 10, 30)

    def accuracy(counts: Array) -> Array:
        return counts @ right / (10 * counts.sum(1))

    one, again, other = (half_samples(accuracy, 30, seed, 1_000) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_stays_between_none_and_all(share: float) -> None:
    assert fold_jackknife(share, [share] * 20, SHARE) == pytest.approx((share, share))
    nearly = np.ones(20)
    nearly[0] = 0.9
    without = [float(np.delete(nearly, k).mean()) for k in range(20)]
    low, high = fold_jackknife(float(nearly.mean()), without, SHARE)
    assert 0.94 < low < 0.995 <= high <= 1


def test_a_score_that_resamples_do_not_have_has_no_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert half_samples(lambda counts: np.where(counts[:, 0] > 0, 0.5, np.nan), 20, 0, 100) is None
    assert "resamples of 20 speakers have no score" in caplog.text


@pytest.mark.parametrize(
    ("split", "trials", "speakers", "reason"),
    [
        ("speaker", 10, 20, ""),
        ("speaker", LEAST_FOLDS, 40, ""),
        ("frame", 10, 40, "split=frame"),
        ("utterance", 10, 40, "split=utterance"),
        ("speaker", LEAST_FOLDS - 1, 40, "4 folds are tested on, 5 are needed"),
        ("speaker", 10, 19, "tested on 19 known speakers, 20 are needed"),
    ],
)
def test_only_enough_folds_that_keep_enough_speakers_apart_give_intervals(
    split: str, trials: int, speakers: int, reason: str
) -> None:
    why = no_fold_interval(split, trials, speakers)
    assert (reason in why) if reason else not why


def covered(name: str, n: int, way: str) -> tuple[float, float, float]:
    """Coverage of one way's limits, their share that is too high, and the mean score's bias."""
    case = next(c for c in CASES if c.name == name and c.speakers == 40 and c.folds == 10)
    found = [one[way] for one in simulate(case, n, others=way != "strata")]
    truth, score, *limits = np.array(found).T
    held, too_high, _ = coverage(truth, np.array(limits).T)
    return held, too_high, float((score - truth).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["as phones", "as words"])
def test_nineteen_of_twenty_intervals_hold_the_populations_score(name: str) -> None:
    """Bounds that an interval with 95 % passes in 99.9 % of simulations of this size."""
    n = 150
    low, high = scipy.stats.binom.ppf([0.0005, 0.9995], n, 0.95) / n
    assert low <= covered(name, n, "strata")[0] <= high


@pytest.mark.slow
def test_folds_centred_by_their_own_few_speakers_score_too_high() -> None:
    ours, _, bias = covered("layer mostly speaker", 60, "strata")
    student, too_high, before = covered("layer mostly speaker", 60, "Student")
    assert ours > 0.85
    assert student < 0.6
    assert too_high > 0.4
    assert before > 0.012 > 0.007 > abs(bias)


def test_what_a_fold_adds_to_its_training_folds_makes_them_up() -> None:
    x, y, fold = related()
    train, _, test = fold_views(x, y, fold, FOLDS).trial(0)
    whole, one = merge([train, test]), about(test, train)
    np.testing.assert_allclose(one.x.scatter + train.x.scatter, whole.x.scatter)
    np.testing.assert_allclose(one.xy + train.xy, whole.xy)
    assert one.n == test.n
