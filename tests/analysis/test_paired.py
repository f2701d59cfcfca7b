"""Layers that are truly equal are rarely told apart; planted differences are found."""

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from analysis.advice.paired import FEW_DRAWS, LEVEL, corrected_p, hold_against, holm

Array = NDArray[np.float64]
LAYERS = 5
UNITS = 200
DIM = 3


def study(rng: np.random.Generator, gains: Array, corpus: int, samples: int = 3) -> Array:
    """What Strata does, small: (samples x 3 trials, layers) held-out correlations of a linear fit.

    Every layer holds `gains` times the signal, and noise; samples are drawn from one corpus, cut
    into ten folds, of which a trial is fitted on eight and tested on one.
    """
    signal = rng.normal(size=corpus)
    noise = rng.normal(size=(corpus, len(gains), DIM))
    layers = signal[:, None, None] * gains[None, :, None] + noise
    return np.array([
        score
        for _ in range(samples)
        for score in trials(rng, signal, layers, rng.permutation(corpus)[:UNITS])
    ])  # fmt: skip


def trials(
    rng: np.random.Generator, signal: Array, layers: Array, drawn: NDArray[np.int64]
) -> list[Array]:
    y, x = signal[drawn], layers[drawn].transpose(1, 0, 2)
    folds = rng.permutation(UNITS) % 10
    scores = []
    for trial in range(3):
        train, test = (folds != 2 * trial) & (folds != 2 * trial + 1), folds == 2 * trial + 1
        inner = x[:, train] - x[:, train].mean(1, keepdims=True)
        weights = np.linalg.solve(
            inner.transpose(0, 2, 1) @ inner, inner.transpose(0, 2, 1) @ y[train][:, None]
        )
        said = (x[:, test] @ weights)[..., 0]
        scores.append(np.array([np.corrcoef(one, y[test])[0, 1] for one in said]))
    return scores


def rates(corpus: int, thin: bool) -> tuple[float, float]:
    """Of 250 studies of equal layers: how many tell any apart, and how many of the layers."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(250):
        scores = study(rng, np.full(LAYERS, 0.5), corpus)
        scores = scores.reshape(3, 3, LAYERS).mean(1) if thin else scores
        found.append(hold_against(scores, int(scores.mean(0).argmax())).told_apart)
    told = np.array(found)
    return float(told.any(1).mean()), float(told.sum() / (250 * (LAYERS - 1)))


@pytest.mark.parametrize("thin", [False, True], ids=["trials", "samples alone"])
@pytest.mark.parametrize("corpus", [UNITS, 10 * UNITS], ids=["samples overlap", "samples apart"])
def test_equal_layers_are_rarely_told_apart_from_the_one_that_happens_to_be_best(
    corpus: int, thin: bool
) -> None:
    any_layer, layer = rates(corpus, thin)
    assert any_layer <= 0.08  # 0.05, and what 250 studies can miss it by (2 standard errors)
    assert layer <= 0.05


def test_a_plain_t_test_would_tell_them_apart_too_often() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(250):
        scores = study(rng, np.full(LAYERS, 0.5), UNITS)
        best = scores.mean(0).argmax()
        differences = np.delete(scores, best, axis=1) - scores[:, [best]]
        wrong += bool(holm(scipy.stats.ttest_1samp(differences, 0).pvalue).min() < LEVEL)
    assert wrong / 250 > 0.1


def test_a_planted_difference_is_found() -> None:
    rng = np.random.default_rng(4)
    gains = np.array([0.5, 0.5, 0.1, 0.5, 0.05])
    told = []
    for _ in range(40):
        scores = study(rng, gains, 10 * UNITS)
        told.append(hold_against(scores, int(scores.mean(0).argmax())).told_apart)
    assert np.mean(told, axis=0)[[2, 4]].min() > 0.8
    assert np.mean(told, axis=0)[[0, 1, 3]].max() < 0.05


def test_corrected_p_by_hand() -> None:
    differences = np.array([[0.1], [0.3], [0.2], [0.4]])
    variance = sum((x - 0.25) ** 2 for x in (0.1, 0.3, 0.2, 0.4)) / 3
    t = 0.25 / np.sqrt((1 / 4 + 1 / 8) * variance)
    assert corrected_p(differences) == pytest.approx([2 * scipy.stats.t.sf(t, 3)])


def test_constant_differences() -> None:
    p = corrected_p(np.array([[0.0, 0.2], [0.0, 0.2]]))
    assert p.tolist() == [1.0, 0.0]
    assert np.isnan(corrected_p(np.array([[0.3]]))).all()


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.01, 0.5]), comparisons=10) == pytest.approx([0.1, 1.0])


def test_with_few_draws_every_pair_counts() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(FEW_DRAWS, 4))
    many, few = hold_against(scores, 0), hold_against(scores[:-1], 0)
    k = int(np.nanargmin(many.p))
    assert many.p[k] == pytest.approx(min(1, 3 * corrected_p(scores[:, [k]] - scores[:, [0]])[0]))
    k = int(np.nanargmin(few.p))
    raw = corrected_p(scores[:-1, [k]] - scores[:-1, [0]])[0]
    assert few.p[k] == pytest.approx(min(1, 6 * raw))


def test_nothing_to_hold_a_single_layer_or_a_single_draw_against() -> None:
    for scores in (np.ones((9, 1)), np.ones((1, 4)), np.empty((0, 4))):
        against = hold_against(scores, 0) if len(scores) else None
        assert against is None or (not against.tested and not against.told_apart.any())
