"""Intervals over speakers: what resampling means, when there is none, and what they cover."""

import logging
from itertools import islice

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from analysis.bootstrap import (
    SHARE,
    bootstrap,
    half_samples,
    jackknife,
    speakers_tested,
    tell_none,
    too_few,
)
from analysis.metrics.base import PairedRows
from analysis.metrics.cca import PWCCA, MeanCCA, resampled_score
from analysis.moments import fold_views
from benchmarks.coverage import CASES, coverage, simulate

Array = NDArray[np.float64]
RIDGES = ((1e-10, 1e-10), (1e-2, 1e-2))
TRIALS, SPEAKERS = 3, 24


def related(seed: int = 0, units: int = 20, speakers: int = SPEAKERS) -> PairedRows:
    rng = np.random.default_rng(seed)
    n = units * speakers
    y = rng.normal(size=(n, 3))
    x = y @ rng.normal(size=(3, 5)) + rng.normal(size=(n, 5)) + 40
    fold = rng.permutation(np.arange(n) % 7)
    return PairedRows(x, y, fold, np.repeat(np.arange(speakers) * 3 + 5, units), seed)


@pytest.mark.parametrize("metric", [PWCCA(RIDGES), MeanCCA(RIDGES)], ids=lambda m: m.name)
def test_a_resample_scores_the_rows_that_it_repeats(metric: PWCCA | MeanCCA) -> None:
    """The oracle writes every drawn speaker's rows out, as often as he was drawn."""
    rows = related()
    folds = fold_views(rows.x, rows.y, rows.fold, TRIALS)
    fits = [metric.fit(*folds.trial(t)[:2]) for t in range(TRIALS)]
    score_of, speakers = resampled_score(fits, rows)
    assert speakers == SPEAKERS
    counts = np.random.default_rng(1).multinomial(24, np.full(24, 1 / 24), size=3)
    for value, drawn in zip(score_of(counts.astype(float)), counts, strict=True):
        trials = []
        for t, fit in enumerate(fits):
            own = rows.fold == 2 * t + 1
            times = drawn[(rows.speaker[own] - 5) // 3]
            p = np.repeat(rows.x[own] @ fit.projection.a.T, times, axis=0)
            q = np.repeat(rows.y[own] @ fit.projection.b.T, times, axis=0)
            r = [np.corrcoef(p[:, i], q[:, i])[0, 1] for i in range(p.shape[1])]
            trials.append(fit.weights @ r)
        assert value == pytest.approx(np.mean(trials), abs=1e-12)
    scores = [score.value for score in metric.score(folds)]
    assert score_of(np.ones((1, speakers)))[0] == pytest.approx(np.mean(scores), abs=1e-12)


def test_every_trial_of_a_sample_carries_the_interval_of_its_mean() -> None:
    rows = related()
    folds = fold_views(rows.x, rows.y, rows.fold, TRIALS)
    scores = PWCCA(RIDGES).score(folds, rows)
    ((low, high),) = {(score.low, score.high) for score in scores}
    assert low < np.mean([score.value for score in scores]) < high
    assert [s.value for s in scores] == [s.value for s in PWCCA(RIDGES).score(folds)]
    assert PWCCA(RIDGES).score(folds)[0].low is None


def test_below_twenty_speakers_there_is_none() -> None:
    for speakers, given in ((19, False), (20, True)):
        rows = related(speakers=speakers)
        folds = fold_views(rows.x, rows.y, rows.fold, TRIALS)
        assert (PWCCA(RIDGES).score(folds, rows)[0].low is not None) == given


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
    ("why", "said"),
    [
        (too_few(20), ""),
        (too_few(7), "no 95 % intervals: a sample is tested on 7 known speakers, 20 are needed"),
    ],
)
def test_the_log_says_why_there_is_none(
    why: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        tell_none("cca_phone", why)
    assert (said in caplog.text) if said else not caplog.text


def test_nobody_is_no_speaker() -> None:
    folds, speaker = np.array([1, 1, 3, 0, -1]), np.array([0, 1, 2, 3, 4])
    known = np.array([False, True, True, True, True])
    assert speakers_tested(folds, speaker, known, 2) == 2


def test_nineteen_of_twenty_intervals_hold_the_populations_score() -> None:
    """Bounds that an interval with 95 % passes in 99.9 % of simulations of this size."""
    n = 150
    differ = next(case for case in CASES if case.name == "speakers differ")
    truth, limits, _ = map(np.array, zip(*islice(simulate(differ, n), n), strict=True))
    low, high = scipy.stats.binom.ppf([0.0005, 0.9995], n, 0.95) / n
    assert low <= coverage(truth, limits)[0] <= high


def test_plain_percentiles_fail_where_the_layer_is_mostly_speaker() -> None:
    """The bias of correlations centred by few speakers, which a resample doubles."""
    n = 60
    mostly = next(case for case in CASES if case.name == "layer mostly speaker")
    truth, ours, plain = map(np.array, zip(*simulate(mostly, n), strict=True))
    assert coverage(truth, ours)[0] > 0.85
    covered, too_high, too_low = coverage(truth, plain)
    assert covered < 0.7
    assert too_high > 5 * too_low
