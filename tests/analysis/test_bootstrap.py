"""Intervals over speakers: what resampling means, when there is none, and what they cover."""

from itertools import islice

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from analysis.metrics.cca import PWCCA, MeanCCA, interval
from analysis.metrics.intervals import (
    LEAST_FOLDS,
    SHARE,
    bootstrap,
    fold_jackknife,
    half_samples,
    jackknife,
    no_fold_interval,
)
from analysis.moments import fold_views
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
    """The oracle projects the rows, about the means of the rows that each trial was fitted on."""
    x, y, fold = related()
    trials = [fold_views(x, y, fold, FOLDS).trial(t) for t in range(FOLDS)]
    fits = [metric.fit(train) for train, _, _ in trials]
    found = interval(fits, [one[0] for one in trials], [one[2] for one in trials])
    rows = []
    for t, fit in enumerate(fits):
        fitted = (fold != t) & (fold != (t + 1) % FOLDS)
        rows.append(
            (
                (x[fold == t] - x[fitted].mean(0)) @ fit.projection.a.T,
                (y[fold == t] - y[fitted].mean(0)) @ fit.projection.b.T,
            )
        )

    def score(kept: list[int]) -> float:
        r = sum((p * q).sum(0) for p, q in (rows[t] for t in kept)) / np.sqrt(
            sum((rows[t][0] ** 2).sum(0) for t in kept)
            * sum((rows[t][1] ** 2).sum(0) for t in kept)
        )
        held_out = np.mean([fits[t].weights for t in kept], axis=0) @ r
        return float(np.sqrt(np.mean([fits[t].training for t in kept]) * held_out))

    every = list(range(FOLDS))
    without = [score([t for t in every if t != k]) for k in every]
    assert found == pytest.approx(fold_jackknife(score(every), without), abs=1e-9)


def test_every_trial_of_a_sample_carries_the_interval_of_its_mean() -> None:
    x, y, fold = related()
    folds = fold_views(x, y, fold, TRIALS)
    scores = PWCCA(RIDGES).score(folds, with_interval=True)
    ((low, high),) = {(score.low, score.high) for score in scores}
    assert low < np.mean([score.value for score in scores]) < high
    assert [s.value for s in scores] == [s.value for s in PWCCA(RIDGES).score(folds)]
    assert PWCCA(RIDGES).score(folds)[0].low is None


def test_for_a_mean_of_speakers_they_are_students() -> None:
    """Near zero Fisher's z is the identity; 4,000 resamples leave 1 % of noise."""
    values = 0.02 * np.random.default_rng(0).normal(size=20)
    found = bootstrap(lambda counts: counts @ values / counts.sum(1), 20, 0, resamples=4_000)
    error = scipy.stats.sem(values)
    expected = values.mean() + scipy.stats.t.ppf([0.025, 0.975], 19) * error
    np.testing.assert_allclose(found, expected, atol=0.1 * error)


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = 0.02 * np.random.default_rng(0).normal(size=20)
    without = [float(np.delete(values, k).mean()) for k in range(20)]
    expected = values.mean() + scipy.stats.t.ppf([0.025, 0.975], 19) * scipy.stats.sem(values)
    np.testing.assert_allclose(jackknife(float(values.mean()), without), expected, atol=1e-5)
    assert jackknife(0.0, without[:19]) is None


@pytest.mark.parametrize("speakers", [20, 21])
def test_half_samples_of_a_mean_are_students_interval(speakers: int) -> None:
    values = 0.02 * np.random.default_rng(0).normal(size=speakers)
    found = half_samples(lambda c: c @ values / c.sum(1), speakers, 0, resamples=4_000)
    error = scipy.stats.sem(values)
    t = scipy.stats.t.ppf([0.025, 0.975], speakers - 1)
    np.testing.assert_allclose(found, values.mean() + t * error, atol=0.1 * error)
    assert half_samples(lambda c: c.mean(1), 19, 0) is None


def test_half_samples_leave_speakers_out_and_repeat_none() -> None:
    seen = []

    def score_of(counts: Array) -> Array:
        seen.append(counts)
        return counts[:, 0]

    half_samples(score_of, 21, 0)
    halves, own = seen
    assert set(np.unique(halves)) == {0, 1}
    assert set(halves.sum(1)) == {11}
    assert (own == 1).all()
    np.testing.assert_allclose(halves.mean(0), 11 / 21, atol=0.06)


def test_half_samples_lie_around_the_sample_itself_and_the_bootstrap_above() -> None:
    """Of a score that falls with the share of speakers that a resample lacks."""

    def diverse(counts: Array) -> Array:
        return 0.5 * (counts > 0).mean(1) + 0.01 * counts[:, 0]

    low, high = np.arctanh(np.array(half_samples(diverse, 40, 0)))
    assert (low + high) / 2 == pytest.approx(np.arctanh(0.51))
    corrected = bootstrap(diverse, 40, 0)
    assert corrected is not None
    assert corrected[0] > np.tanh(high)


def test_the_same_seed_gives_the_same_limits() -> None:
    right = np.random.default_rng(0).integers(3, 10, 30)

    def accuracy(counts: Array) -> Array:
        return counts @ right / (10 * counts.sum(1))

    assert bootstrap(accuracy, 30, 1, SHARE) == bootstrap(accuracy, 30, 1, SHARE)
    assert bootstrap(accuracy, 30, 1, SHARE) != bootstrap(accuracy, 30, 2, SHARE)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_stays_between_none_and_all(share: float) -> None:
    assert bootstrap(lambda counts: np.full(len(counts), share), 20, 0, SHARE) == (share, share)
    nearly = np.full(20, 10.0)
    nearly[0] = 9
    limits = bootstrap(lambda counts: counts @ nearly / (10 * counts.sum(1)), 20, 0, SHARE)
    assert limits is not None
    assert 0.96 < limits[0] < 0.995 <= limits[1] <= 1


def test_a_score_that_resamples_do_not_have_has_no_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for limits in (bootstrap, half_samples):
        assert limits(lambda counts: np.where(counts[:, 0] > 0, 0.5, np.nan), 20, 0) is None
    assert "resamples of 20 speakers have no score" in caplog.text


@pytest.mark.parametrize(
    ("split", "trials", "speakers", "said"),
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
    split: str, trials: int, speakers: int, said: str
) -> None:
    why = no_fold_interval(split, trials, speakers)
    assert (said in why) if said else not why


def covered(name: str, n: int) -> tuple[float, float, float]:
    """Coverage of ours and of Student's limits, and the latter's share that is too high."""
    case = next(c for c in CASES if c.name == name and c.speakers == 40 and c.folds == 10)
    truth, ours, student = map(np.array, zip(*islice(simulate(case, n), n), strict=True))
    return coverage(truth, ours)[0], *coverage(truth, student)[:2]


def test_nineteen_of_twenty_intervals_hold_the_populations_score() -> None:
    """Bounds that an interval with 95 % passes in 99.9 % of simulations of this size."""
    n = 150
    low, high = scipy.stats.binom.ppf([0.0005, 0.9995], n, 0.95) / n
    assert low <= covered("speakers differ", n)[0] <= high


def test_folds_centred_by_their_own_few_speakers_fail_where_the_layer_is_mostly_speaker() -> None:
    ours, student, too_high = covered("layer mostly speaker", 60)
    assert ours > 0.85
    assert student < 0.6
    assert too_high > 0.4
