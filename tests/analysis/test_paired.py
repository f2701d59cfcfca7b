"""Layers that are truly equal are rarely told apart; planted differences are found."""

import numpy as np
import pytest
import scipy.stats
from marks import slow

from analysis.report.advice.curve import MIN_FOLDS, compare_with, corrected_p, holm
from benchmarks.equal_layers import CASES, Speakers, told_apart, told_apart_by_draws

CASES_HELD = (
    "speakers differ much",
    slow("no speaker effects"),
    slow("… and there are 10 of them"),
)


@pytest.mark.parametrize("case", CASES_HELD)
def test_equal_layers_are_rarely_told_apart_whatever_speakers_bring(case: str) -> None:
    """At most 0.05, and what 120 studies can miss it by (2 standard errors)."""
    rng = np.random.default_rng(0)
    separated = [told_apart(CASES[case].scores(rng, by_speaker=True)) for _ in range(120)]
    assert np.any(separated, axis=1).mean() <= 0.09
    assert np.mean(separated) <= 0.05


def test_folds_through_speakers_tell_equal_layers_apart_far_too_often() -> None:
    rng, case = np.random.default_rng(0), CASES["… and there are 10 of them"]
    separated = [told_apart_by_draws(case.scores(rng, by_speaker=False)) for _ in range(60)]
    assert np.any(separated, axis=1).mean() > 0.15


def test_a_planted_difference_is_found() -> None:
    rng = np.random.default_rng(4)
    case = Speakers(slope=0.1, shift=0.3, gains=(0.5, 0.5, 0.1, 0.5, 0.05))
    separated = [told_apart(case.scores(rng, by_speaker=True)) for _ in range(30)]
    assert np.mean(separated, axis=0)[[2, 4]].min() > 0.8
    assert np.mean(separated, axis=0)[[0, 1, 3]].max() < 0.1


def test_corrected_p_by_hand() -> None:
    differences = np.array([[0.1], [0.3], [0.2], [0.4], [0.5]])
    variance = sum((x - 0.3) ** 2 for x in (0.1, 0.3, 0.2, 0.4, 0.5)) / 4
    t = 0.3 / np.sqrt((1 / 5 + 1 / 3) * variance)  # tested on one of five folds, fitted on three
    assert corrected_p(differences) == pytest.approx([2 * scipy.stats.t.sf(t, 4)])


def test_other_seeds_cut_the_same_speakers_anew_and_add_no_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    cuts = rng.normal(0.1, size=(3, 10, 1))
    mean = cuts.mean()
    variance = cuts.var(axis=1, ddof=1).mean()
    t = abs(mean) / np.sqrt((1 / 10 + 1 / 8) * variance)
    found = corrected_p(cuts.reshape(30, 1), list(np.repeat([0, 1, 2], 10)))
    assert found == pytest.approx([2 * scipy.stats.t.sf(t, 9)])


def test_constant_differences_and_too_few_folds() -> None:
    p = corrected_p(np.array([[0.0, 0.2]] * 5))
    assert p.tolist() == [1.0, 0.0]
    assert np.isnan(corrected_p(np.array([[0.3]] * 4))).all()


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.01, 0.5]), comparisons=10) == pytest.approx([0.1, 1.0])


def test_with_few_draws_every_pair_counts() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(MIN_FOLDS, 4))
    many, few = compare_with(scores, 0), compare_with(scores[:-1], 0)
    k = int(np.nanargmin(many.p))
    assert many.p[k] == pytest.approx(min(1, 3 * corrected_p(scores[:, [k]] - scores[:, [0]])[0]))
    k = int(np.nanargmin(few.p))
    raw = corrected_p(scores[:-1, [k]] - scores[:-1, [0]])[0]
    assert few.p[k] == pytest.approx(min(1, 6 * raw))


def test_nothing_to_hold_a_single_layer_or_a_single_draw_against() -> None:
    for scores in (np.ones((9, 1)), np.ones((1, 4)), np.empty((0, 4))):
        against = compare_with(scores, 0) if len(scores) else None
        assert against is None or (not against.tested and not against.told_apart.any())
