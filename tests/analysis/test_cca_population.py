"""CCA scores estimate the population's: planted covariances, whose exact score is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.metrics.base import Score
from analysis.metrics.cca import MOST, PWCCA, SVCCA, HeldOutCCA, MeanCCA, population_estimate
from benchmarks.pwcca_bias import (
    Gaussian,
    Labelled,
    Trial,
    best,
    errors,
    estimates,
    exact_score,
    ours,
    scatter_of,
    widened,
)

Array = NDArray[np.float64]
RIDGES = ((1e-10, 1e-10),)
D = 48


def layer_like() -> Gaussian:
    """Two views with a spectrum like a layer's: variances over five decades.

    What is shared are the target's leading directions, but all of the layer's hold some of them.
    """
    rng, place = np.random.default_rng(0), np.arange(D) / (D - 1)
    spread = 10.0 ** (-2.25 * np.sqrt(place))
    mixed = rng.normal(size=(D, D)) * np.exp(-4 * place)
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    cross = np.sqrt(0.99 * (1 - 0.9 * place**0.35))[:, None] * mixed
    within = cross @ cross.T
    np.fill_diagonal(within, 1)
    x, y = (np.linalg.qr(rng.normal(size=(D, D)))[0] * spread for _ in range(2))
    joint = np.block([[x @ within @ x.T, x @ cross @ y.T], [y @ cross.T @ x.T, y @ y.T]])
    return Gaussian("layer-like", joint, D)


def labelled() -> Labelled:
    rng = np.random.default_rng(1)
    spread = 10.0 ** (-np.arange(24) / 12)
    return Labelled("labels", rng.normal(size=(12, 24)) * spread * 0.5, np.diag(spread**2))


def mean_errors(n: int) -> dict[str, float]:
    return {name: float(e.mean()) for name, e in errors(layer_like(), n, 4, ours)[1].items()}


def chosen_by_the_score(trial: Trial) -> dict[str, float]:
    ridges = best(lambda pair: trial.value(pair, trial.dev))
    return {"dev score": trial.value(ridges, trial.test)}


def test_twenty_rows_a_column_are_enough_where_a_chosen_ridge_never_is() -> None:
    """The ridge that the score itself chose on dev was too high by the same with any n."""
    for n in (20 * D, 400 * D):
        assert errors(layer_like(), n, 4, chosen_by_the_score)[1]["dev score"].mean() > 0.04
        assert abs(mean_errors(n)["strata"]) < 0.01
    assert mean_errors(20 * D)["held out"] < -0.03  # what the same fit gives without the training


def test_the_error_shrinks_with_the_number_of_rows() -> None:
    found = [abs(mean_errors(n)["strata"]) for n in (2 * D, 8 * D, 100 * D)]
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.006


@pytest.mark.parametrize("n", [D // 2, 2 * D])
def test_few_rows_give_too_little_never_too_much(n: int) -> None:
    exact, found = errors(layer_like(), n, 6, ours)
    assert found["strata"].mean() < 0.02
    if n > D:
        assert found["strata"].mean() > -0.35 * exact > found["held out"].mean()


@pytest.mark.parametrize("n", [D, 2 * D, 20 * D])
def test_what_is_unrelated_stays_at_zero_however_far_it_is_overfitted(n: int) -> None:
    joint = layer_like().covariance.copy()
    joint[:D, D:] = joint[D:, :D] = 0
    exact, found = errors(Gaussian("unrelated", joint, D), n, 30, ours)
    assert exact == pytest.approx(0, abs=1e-12)
    scores = found["strata"]
    assert abs(scores.mean()) < 4 * scores.std(ddof=1) / np.sqrt(30)
    assert scores.std() < MOST * found["held out"].std() + 1e-12


@pytest.mark.parametrize(
    ("metric", "population"),
    [
        (PWCCA(RIDGES), layer_like()),
        (MeanCCA(RIDGES), layer_like()),
        (SVCCA(RIDGES, variance=0.9), layer_like()),
        (PWCCA(RIDGES), labelled()),
        (MeanCCA(RIDGES), labelled()),
    ],
    ids=lambda one: one.name,
)
def test_every_cca_tends_to_what_the_population_has(
    metric: HeldOutCCA, population: Gaussian | Labelled
) -> None:
    exact = metric.fit(population.whole()).training
    rng = np.random.default_rng(2)
    trial = Trial(*(population.draw(n, rng) for n in (300_000, 10, 300_000)))
    assert metric.fit(trial.train).value(trial.test) == pytest.approx(exact, abs=0.004)


def test_the_estimate_undoes_the_overfitting_of_a_regression() -> None:
    """One column on d others: the geometric mean of both correlations is R where d / n is small."""
    rng, r, d = np.random.default_rng(3), 0.5, 40
    for n in (400, 1_600):
        fitted, tested = [], []
        for _ in range(60):
            (x, y), (u, v) = (draw_regression(r, d, rows, rng) for rows in (n, 4_000))
            slope = np.linalg.lstsq(x, y, rcond=None)[0]
            fitted.append(np.corrcoef(x @ slope, y)[0, 1])
            tested.append(np.corrcoef(u @ slope, v)[0, 1])
        assert np.mean(fitted) > r + 0.012
        assert np.mean(tested) < r - 0.012
        mean = [float(population_estimate(*pair)) for pair in zip(fitted, tested, strict=True)]
        assert np.mean(mean) == pytest.approx(r, abs=0.01)


def draw_regression(r: float, d: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x = rng.normal(size=(n, d))
    return x, r * x[:, 0] + np.sqrt(1 - r**2) * rng.normal(size=n)


def test_the_estimate_is_bounded_by_the_held_out_value() -> None:
    held_out = np.array([0.0, 0.05, 0.2, 0.5, 1.0])
    expected = np.array([0.0, 0.1, 0.4, np.sqrt(0.4), np.sqrt(0.8)])
    np.testing.assert_allclose(population_estimate(0.8, held_out), expected)
    np.testing.assert_allclose(population_estimate(0.8, -held_out), -expected)


def test_a_few_held_out_speakers_by_chance_do_not_pull_the_mean_below_zero() -> None:
    """A correlation of -.5 is no -1: chance of either sign weighs alike, however wide it is."""
    held_out = np.random.default_rng(2).normal(scale=0.4, size=100_000).clip(-1, 1)
    scores = population_estimate(0.8, held_out)
    assert abs(scores.mean()) < 0.01
    assert np.abs(scores).max() <= np.sqrt(0.8)


def test_the_summary_has_both_halves_and_counts_the_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    halves = [("0.8", "0.1"), ("0.8", "0.6")]
    scores = [Score(0.5, "", {"training": a, "held_out": b}) for a, b in halves]
    with caplog.at_level("INFO"):
        summary = PWCCA(RIDGES).summary(scores, "cca_test")
    assert summary["training_folds_alone"] == pytest.approx(0.8)
    assert summary["test_folds_alone"] == pytest.approx(0.35)
    assert summary["scores_at_bound"] == 1
    assert "cca_test: 1 of 2 scores are 2 times their held-out correlation" in caplog.text


# The simulation


@pytest.mark.parametrize("degrees", [3, 40])
def test_a_drawn_scatter_is_what_rows_would_give(degrees: int) -> None:
    rng = np.random.default_rng(4)
    root = np.tril(rng.normal(size=(4, 4))) + np.eye(4)
    drawn = [scatter_of(root, degrees, rng) for _ in range(4_000)]
    data = [(z := rng.normal(size=(degrees, 4)) @ root.T).T @ z for _ in range(4_000)]
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(
            moment(drawn, axis=0), moment(data, axis=0), rtol=0.1, atol=0.1 * degrees**0.5
        )
    assert np.linalg.matrix_rank(drawn[0]) == min(degrees, 4)


@pytest.mark.parametrize("population", [layer_like(), labelled()], ids=lambda p: p.name)
def test_draws_have_the_population_s_moments(population: Gaussian | Labelled) -> None:
    n, whole = 400_000, population.whole()
    drawn = population.draw(n, np.random.default_rng(5))
    for sums, expected in ((drawn.x.scatter, whole.x.scatter), (drawn.xy, whole.xy)):
        scale = np.abs(expected).max() / whole.n
        np.testing.assert_allclose(sums / n, expected / whole.n, rtol=0, atol=0.02 * scale)


def test_a_widened_layer_has_correlations_between_those_of_the_measured_one() -> None:
    population = layer_like()
    same, _ = widened(population.covariance, D, 1, target_too=True)
    np.testing.assert_allclose(same, population.covariance, atol=1e-8)
    joint, dx = widened(population.covariance, D, 3, target_too=True)
    wide = Gaussian("three", joint, dx)
    assert exact_score(wide) == pytest.approx(exact_score(population), rel=0.2)
    ours, theirs = (spectrum(one.covariance, one.dx) for one in (population, wide))
    np.testing.assert_allclose(theirs[[0, -1]], ours[[0, -1]], rtol=1e-4)
    assert np.median(theirs) == pytest.approx(np.median(ours), rel=0.05)
    assert np.diff(theirs).max() < 0
    beside_mel, dx = widened(population.covariance, D, 3, target_too=False)
    assert (beside_mel.shape, dx) == ((4 * D, 4 * D), 3 * D)
    assert np.linalg.eigvalsh(beside_mel)[0] > 0


def spectrum(joint: Array, dx: int) -> Array:
    """Canonical correlations."""
    x, y = (np.linalg.cholesky(block) for block in (joint[:dx, :dx], joint[dx:, dx:]))
    return np.linalg.svd(
        np.linalg.solve(y, np.linalg.solve(x, joint[:dx, dx:]).T), compute_uv=False
    )


def test_every_estimator_gives_a_number() -> None:
    rng = np.random.default_rng(6)
    found = estimates(Trial(*(labelled().draw(n, rng) for n in (800, 100, 100))))
    assert len(found) == 8
    assert np.isfinite(list(found.values())).all()
