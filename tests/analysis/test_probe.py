from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from units import planted

from analysis.metrics.discriminant import fit_best, fit_discriminants
from analysis.metrics.probe import LinearProbe
from analysis.metrics.units import Units
from common.records import StrataError


def fit_discriminant(rows: np.ndarray, labels: np.ndarray, shrinkage: float) -> Pipeline:
    return fit_discriminants(rows, labels, [shrinkage])[0]


def rows_of(
    n: int, labels: int, d: int, apart: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) of Gaussian classes with one skewed covariance and unequal priors."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(7).normal(size=(d, d)) / np.sqrt(d)
    means = np.random.default_rng(8).normal(size=(labels, d)) * apart
    label = np.minimum(rng.geometric(1.5 / labels, size=n) - 1, labels - 1)
    return (means[label] + rng.normal(size=(n, d)) @ shape + 5).astype(np.float32), label


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 1.0])
def test_it_predicts_the_label_of_the_greatest_density(shrinkage: float) -> None:
    """The oracle: densities of Gaussians with one shrunk covariance, by scipy, row by row."""
    rows, labels = rows_of(400, 6, 10, 0.5)
    held, _ = rows_of(300, 6, 10, 0.5, seed=1)
    standard, tested = ((x - rows.mean(0)) / rows.std(0) for x in (rows, held))
    means = np.stack([standard[labels == k].mean(0) for k in range(6)])
    inner = standard - means[labels]
    within = inner.T @ inner / len(rows)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / 10 * np.eye(10)
    priors = np.bincount(labels) / len(labels)
    each = [multivariate_normal(m, within).logpdf(tested) for m in means]
    expected = np.argmax(np.stack(each, axis=1) + np.log(priors), axis=1)
    found = fit_discriminant(rows, labels, shrinkage).predict(held)
    np.testing.assert_array_equal(found, expected)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(standard, labels)
    np.testing.assert_array_equal(found, theirs.predict(tested))


def test_scale_shift_and_names_of_labels_do_not_matter() -> None:
    rows, labels = rows_of(400, 6, 10, 0.5)
    before = fit_discriminant(rows, labels, 0.1).predict(rows)
    scaled = rows * np.linspace(0.5, 60, 10, dtype=np.float32) - 9
    after = fit_discriminant(scaled, labels * 7 + 2, 0.1).predict(scaled)
    np.testing.assert_array_equal(after, before * 7 + 2)


def test_constant_and_repeated_columns_and_more_columns_than_rows() -> None:
    rows, labels = rows_of(40, 4, 10, 3.0)
    wide = np.concatenate([rows, rows, np.ones((40, 60), np.float32)], axis=1)
    assert fit_discriminant(wide, labels, 0.01).score(wide, labels) > 0.9


def test_a_label_of_one_unit_counts() -> None:
    rows, labels = rows_of(60, 4, 10, 3.0)
    lonely = np.where(np.arange(60) == 7, 9, labels)
    rows[7] += 30
    assert list(fit_discriminant(rows, lonely, 0.1).predict(rows[6:8])) == [labels[6], 9]


def test_shrinkage_is_chosen_on_dev_and_ties_go_to_the_largest() -> None:
    """Hardly more rows than columns, and noise alike in all: little shrinkage fits that noise."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=600)
    rows = (np.eye(4, 50)[truth] * 2 + rng.normal(size=(600, 50))).astype(np.float32)
    grid, train, dev = [0.5, 1e-6, 0.1], np.arange(60), np.arange(60, 600)
    hits = [
        fit_discriminant(rows[train], truth[train], s).score(rows[dev], truth[dev]) for s in grid
    ]
    assert hits[1] < max(hits) - 0.05
    model, best = fit_best(rows, truth, train, dev, grid)
    assert best == grid[int(np.argmax(hits))]
    assert model.score(rows[dev], truth[dev]) == max(hits)
    easy, sure = rows_of(400, 4, 10, 9.0)
    assert fit_best(easy, sure, np.arange(200), np.arange(200, 400), [0.2, 0.1])[1] == 0.2


def test_units_that_do_not_vary_within_a_label_are_an_error() -> None:
    labels = np.repeat(np.arange(4), 5)
    with pytest.raises(StrataError, match=r"20 training units of 4 labels do not vary"):
        fit_discriminant(np.eye(4, 5, dtype=np.float32)[labels], labels, 0.1)


GRID = (1e-3, 1e-1)


def values(units: Units, figure: str = "") -> list[float]:
    return [s.value for s in LinearProbe(GRID).score(units) if s.metric == figure]


def test_a_probe_finds_what_is_planted_and_nothing_in_shuffled_labels() -> None:
    units = planted(n=3000)
    assert values(units) == values(units, "probe_balanced") == [1, 1, 1]
    for figure in ("", "probe_balanced"):
        assert np.mean(values(units.shuffled(), figure)) == pytest.approx(1 / 6, abs=0.05)


def test_each_trial_is_that_of_scikit_learn_on_its_folds() -> None:
    """Train, choose and test on different speakers."""
    units = planted(noise=2.0)
    expected: dict[str, list[float]] = {"": [], "probe_balanced": []}
    for trial in range(3):
        dev, test = units.fold == trial + 1, units.fold == trial
        train = ~(dev | test)
        scaler = StandardScaler().fit(units.vectors[train].astype(float))
        x = scaler.transform(units.vectors.astype(float))
        models = [
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s).fit(x[train], units.label[train])
            for s in reversed(GRID)
        ]
        best = max(models, key=lambda m: m.score(x[dev], units.label[dev]))
        expected[""].append(best.score(x[test], units.label[test]))
        found = best.predict(x[test])
        expected["probe_balanced"].append(balanced_accuracy_score(units.label[test], found))
    for figure, wanted in expected.items():
        assert values(units, figure) == pytest.approx(wanted)


def test_a_label_that_is_not_in_training_counts_as_an_error() -> None:
    units = planted()
    fold = np.where(units.label == 0, 0, units.fold)  # all of them in trial 0's test fold
    scores = LinearProbe(GRID).score(replace(units, fold=fold))
    unseen, tested = (int(scores[0].detail[key]) for key in ("unseen", "tested"))
    assert unseen == (units.label == 0).sum()
    assert scores[0].value == pytest.approx(1 - unseen / tested)
    summary = LinearProbe(GRID).summary(scores, "probe_phone")
    assert summary["tested_of_labels_not_trained_on"] == unseen
    assert sum(summary["shrinkages"].values()) == 3


def test_what_cannot_be_probed_is_known_before_there_are_vectors() -> None:
    empty = np.zeros((600, 0), np.float32)
    probe = LinearProbe(GRID)
    probe.check(planted(vectors=empty))
    with pytest.raises(StrataError, match=r"trial 0 trains a probe on \d+ units of 1 label"):
        probe.check(planted(vectors=empty, labels=1))
    units = planted(vectors=empty)
    with pytest.raises(StrataError, match="every label has one instance, or one speaker"):
        probe.check(replace(units, label=np.where(units.fold == 1, 5, units.label % 5)))
    with pytest.raises(StrataError, match="probe fits on no partition of its own"):
        probe.check(replace(units, scored=units.label > 0))
    alone = np.arange(600)
    with pytest.raises(StrataError, match="more units than labels"):
        probe.check(replace(units, label=alone, labels=tuple(map(str, alone))))


def test_shrinkages_are_shares() -> None:
    for wrong in ((), (0.0, 0.1), (1.5,)):
        with pytest.raises(StrataError, match="above 0 and up to 1"):
            LinearProbe(wrong)
