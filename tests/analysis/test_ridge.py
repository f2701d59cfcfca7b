"""The probe of numbers against normal equations, planted numbers and other speakers."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from units import planted

from analysis.metrics.ridge import RidgeProbe, interval
from analysis.metrics.units import Units
from analysis.targets.user_labels import Number
from common.records import StrataError

GRID = (1e-3, 0.1, 10.0)


def numbered(noise: float, n: int = 900, speakers: int = 30, seed: int = 0) -> Units:
    """Units whose number is a linear function of their vector, and noise."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    numbers = np.round(20 + vectors @ np.arange(8) + noise * rng.normal(size=n), 6)
    labels, label = np.unique(numbers, return_inverse=True)
    named = tuple(repr(float(x)) for x in labels)
    units = planted(n=n, speakers=speakers, vectors=vectors, label=label)
    return replace(units, labels=named, target=Number(column="x"), trials=10)


def values(units: Units, grid: tuple[float, ...] = GRID) -> list[float]:
    return [score.value for score in RidgeProbe(grid).score(units)]


def test_each_trial_is_that_of_the_normal_equations() -> None:
    units = numbered(noise=4)
    numbers = np.array([float(x) for x in units.labels])[units.label]
    for trial, value in enumerate(values(units)):
        dev, test = units.fold == (trial + 1) % 10, units.fold == trial
        train = ~(dev | test)
        x = units.vectors.astype(float)
        x = (x - x[train].mean(0)) / x[train].std(0)
        y = numbers - numbers[train].mean()
        fits = [
            np.linalg.solve(
                x[train].T @ x[train] + p * train.sum() * np.eye(8), x[train].T @ y[train]
            )
            for p in GRID
        ]
        best = min(fits, key=lambda w: ((x[dev] @ w - y[dev]) ** 2).mean())
        expected = 1 - ((x[test] @ best - y[test]) ** 2).sum() / (y[test] ** 2).sum()
        assert value == pytest.approx(expected, abs=1e-9)


def test_planted_noisy_and_shuffled_numbers() -> None:
    assert min(values(numbered(noise=0))) > 0.999
    signal = 140.0  # the variance of the planted sum
    assert np.mean(values(numbered(noise=signal**0.5, n=4000))) == pytest.approx(0.5, abs=0.03)
    assert -0.05 < np.mean(values(numbered(noise=1).shuffled())) < 0.01


def test_scale_and_shift_of_numbers_and_vectors_do_not_matter() -> None:
    units = numbered(noise=4)
    moved = replace(
        units,
        labels=tuple(repr(-1000 * float(x) + 7) for x in units.labels),
        vectors=units.vectors * np.float32(3) - np.float32(1),
    )
    assert values(moved) == pytest.approx(values(units), abs=1e-5)


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """R2 of the noisy plant is 1/2; speakers do not differ."""
    hits = 0
    for seed in range(40):
        scores = RidgeProbe((1e-3,)).score(numbered(noise=140**0.5, speakers=40, seed=seed))
        low, high = scores[0].low, scores[0].high
        assert low is not None
        assert high is not None
        assert low < np.mean([score.value for score in scores]) < high
        hits += low < 0.5 < high
    assert 34 <= hits <= 40


def test_the_interval_is_the_jackknifes_over_speakers() -> None:
    """Student's limits about the score less its bias, on the logarithm of 1 - R2."""
    units = numbered(noise=4, n=300, speakers=24)
    rng = np.random.default_rng(0)
    trials = []
    for t in range(10):
        rows = np.flatnonzero(units.speaker % 10 == t)  # of two or three speakers
        trials.append((rows, rng.chisquare(1, len(rows)), 1 + rng.chisquare(2, len(rows))))

    def explained(without: int) -> float:
        kept = [(f, m) for rows, *e in trials for f, m in [np.array(e)[:, of(rows) != without]]]
        return -np.log(1 - np.mean([1 - f.sum() / m.sum() for f, m in kept]))

    def of(rows: np.ndarray) -> np.ndarray:
        return units.speaker[rows]

    each = 24 * explained(-1) - 23 * np.array([explained(k) for k in range(24)])
    centre, error = each.mean(), scipy.stats.sem(each)
    expected = 1 - np.exp(-(centre + scipy.stats.t.ppf([0.025, 0.975], 23) * error))
    assert interval(units, trials) == pytest.approx(expected)


def test_what_cannot_be_probed_is_refused() -> None:
    probe, units = RidgeProbe(GRID), numbered(noise=1)
    probe.check(units)
    with pytest.raises(StrataError, match=r"of 1 number\(s\)"):
        probe.check(replace(units, label=np.zeros_like(units.label)))
    with pytest.raises(StrataError, match="r2 fits on no partition"):
        probe.check(replace(units, scored=units.label > 3))
    assert probe.no_interval(numbered(noise=1, speakers=12))
    for wrong in ((), (0.0,), (-1.0,)):
        with pytest.raises(StrataError, match=r"metric\.penalties="):
            RidgeProbe(wrong)


def test_the_summary_tells_which_penalties_were_chosen() -> None:
    scores = RidgeProbe((10.0, 1e-3)).score(numbered(noise=0))
    assert {score.detail["penalty"] for score in scores} == {"0.001"}
    summary = RidgeProbe((10.0, 1e-3)).summary(scores, "probe_number")
    assert summary["penalties"] == {"0.001": 10}
