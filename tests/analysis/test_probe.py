import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from analysis.metrics.discriminant import choose_shrinkage, fit_discriminant
from common.records import StrataError


def planted(
    n: int, labels: int, d: int, apart: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) of Gaussian classes with one skewed covariance and unequal priors."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(7).normal(size=(d, d)) / np.sqrt(d)
    means = np.random.default_rng(8).normal(size=(labels, d)) * apart
    label = np.minimum(rng.geometric(1.5 / labels, size=n) - 1, labels - 1)
    return (means[label] + rng.normal(size=(n, d)) @ shape + 5).astype(np.float32), label


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 1.0])
def test_it_predicts_what_scikit_learn_does(shrinkage: float) -> None:
    rows, labels = planted(400, 6, 10, 0.5)
    held, _ = planted(300, 6, 10, 0.5, seed=1)
    scaler = StandardScaler().fit(rows.astype(float))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    theirs.fit(scaler.transform(rows.astype(float)), labels)
    model = fit_discriminant(rows, labels)
    ours = model.predict(model.rotated(held), shrinkage)
    np.testing.assert_array_equal(ours, theirs.predict(scaler.transform(held.astype(float))))


def test_scale_shift_and_names_of_labels_do_not_matter() -> None:
    rows, labels = planted(400, 6, 10, 0.5)
    model = fit_discriminant(rows, labels)
    before = model.predict(model.rotated(rows), 0.1)
    scaled = rows * np.linspace(0.5, 60, 10, dtype=np.float32) - 9
    again = fit_discriminant(scaled, labels * 7 + 2)
    np.testing.assert_array_equal(again.predict(again.rotated(scaled), 0.1), before * 7 + 2)


def test_constant_and_repeated_columns_and_more_columns_than_rows() -> None:
    rows, labels = planted(40, 4, 10, 3.0)
    wide = np.concatenate([rows, rows, np.ones((40, 60), np.float32)], axis=1)
    model = fit_discriminant(wide, labels)
    assert np.mean(model.predict(model.rotated(wide), 0.01) == labels) > 0.9


def test_shrinkage_is_chosen_on_dev_and_ties_go_to_the_largest() -> None:
    """Hardly more rows than columns, and noise alike in all: little shrinkage fits that noise."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=600)
    rows = (np.eye(4, 50)[truth] * 2 + rng.normal(size=(600, 50))).astype(np.float32)
    grid = [1e-6, 0.1, 0.5]
    model = fit_discriminant(rows[:60], truth[:60])
    dev, answers = rows[60:], truth[60:]
    hits = [np.mean(model.predict(model.rotated(dev), s) == answers) for s in grid]
    assert hits[0] < max(hits[1:]) - 0.05
    assert choose_shrinkage(model, dev, answers, grid) == grid[int(np.argmax(hits))]
    easy, sure = planted(400, 4, 10, 9.0)
    assert choose_shrinkage(fit_discriminant(easy, sure), easy, sure, [0.1, 0.2]) == 0.2


def test_one_label_or_one_unit_of_each_is_an_error() -> None:
    rows, _ = planted(20, 4, 5, 1.0)
    for labels, told in ((np.zeros(20, int), 1), (np.arange(20), 20)):
        with pytest.raises(StrataError, match=rf"20 training units of {told} label\(s\)"):
            fit_discriminant(rows, labels)
