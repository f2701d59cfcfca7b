"""Orthogonality and isotropy: planted directions, an oracle step by step, invariances."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from running import execute
from scipy.stats import ortho_group
from units import planted

from analysis.metrics.geometry import Geometry, Sums, centroids, isoscore, residual_variance
from analysis.metrics.units import Units
from common.records import StrataError

RNG = np.random.default_rng(0)
D = 24


def made(shared: int, apart: int, noise: float = 0.0, seed: int = 0, uneven: bool = False) -> Units:
    """Units whose labels and speakers share some directions, and have some each for itself."""
    rng = np.random.default_rng(seed)
    units = planted(n=4000, labels=20, speakers=40, seed=seed)
    label, speaker = units.label, units.speaker
    if uneven:  # each speaker prefers the labels near his own number
        label = (speaker // 2 + rng.binomial(19, 0.2, 4000)) % 20
    wide = shared + apart
    labels, speakers = rng.normal(size=(20, wide)), rng.normal(size=(40, wide))
    vectors = np.zeros((4000, D))
    vectors[:, :wide] += labels[label]
    vectors[:, :shared] += speakers[speaker][:, :shared]
    vectors[:, wide : wide + apart] += speakers[speaker][:, shared:]
    vectors += noise * rng.normal(size=vectors.shape)
    return replace(units, vectors=vectors.astype(np.float32), label=label)


def value(units: Units, figure: str = "") -> float:
    (score,) = (s for s in Geometry().score(units) if s.metric == figure)
    return score.value


@pytest.mark.parametrize("uneven", [False, True])
def test_directions_apart_and_shared(uneven: bool) -> None:
    assert value(made(0, 6, uneven=uneven)) == pytest.approx(1, abs=1e-6)
    assert value(made(1, 0, uneven=uneven)) == pytest.approx(0, abs=1e-6)
    # The speakers' largest direction weighs most and goes first, so above (1 - 1 / 8) / 2.
    assert (1 - 1 / 8) / 2 < value(made(8, 0, uneven=uneven)) < 0.7
    half = value(made(4, 4, uneven=uneven))
    assert 0.6 < half < 0.9
    assert value(made(0, 6, noise=0.3, uneven=uneven)) > 0.95


def test_plain_means_of_uneven_units_would_not_be_apart() -> None:
    """Why the centroids are fitted together."""
    units = made(0, 6, uneven=True)
    vectors = units.vectors.astype(float)
    means = [
        np.stack([vectors[by == k].mean(0) for k in np.unique(by)])
        for by in (units.label, units.speaker)
    ]
    labels, speakers = (centroid - centroid.mean(0) for centroid in means)
    assert residual_variance(labels, speakers) < 0.9


def test_residual_variance_against_the_definition_step_by_step() -> None:
    view, removed = RNG.normal(size=(9, 7)), RNG.normal(size=(12, 7)) * np.arange(1, 8)
    view, removed = view - view.mean(0), removed - removed.mean(0)
    values, directions = np.linalg.eigh(removed.T @ removed)
    left, expected = view.copy(), 0.0
    for k in np.argsort(-values):
        direction = directions[:, k]
        left = left - np.outer(left @ direction, direction)
        expected += values[k] / values.sum() * (left**2).sum() / (view**2).sum()
    assert residual_variance(view, removed) == pytest.approx(expected)


def test_centroids_are_those_of_least_squares_on_dummies() -> None:
    units = made(2, 3, noise=1.0, uneven=True)
    vectors = units.vectors.astype(float) - units.vectors.mean(0)
    dummies = np.c_[np.eye(20)[units.label], np.eye(40)[units.speaker]]
    effects = np.linalg.lstsq(dummies, vectors, rcond=None)[0]
    labels = effects[:20] - effects[:20].mean(0)
    sums = Sums.of(vectors, units.label, units.speaker)
    np.testing.assert_allclose(centroids(sums)[0], labels, atol=1e-8)
    rest = units.fold != 3
    left = sums.without(Sums.of(vectors[~rest], units.label[~rest], units.speaker[~rest]))
    expected = centroids(Sums.of(vectors[rest], units.label[rest], units.speaker[rest]))
    for centroid, wanted in zip(centroids(left), expected, strict=True):
        np.testing.assert_allclose(centroid, wanted, atol=1e-8)


def published_isoscore(vectors: np.ndarray) -> float:
    """Rudman et al. 2022, algorithm 1, step by step."""
    n = vectors.shape[1]
    rotated = vectors @ np.linalg.svd(vectors, full_matrices=False)[2].T
    diagonal = np.diag(np.cov(rotated.T))
    normalised = np.sqrt(n) * diagonal / np.linalg.norm(diagonal)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (n - np.sqrt(n)))
    used = (n - defect**2 * (n - np.sqrt(n))) ** 2 / n**2
    return (n * used - 1) / (n - 1)


def test_isotropy() -> None:
    for scale in (np.ones(10), np.arange(1, 11), np.r_[100, np.ones(9)]):
        vectors = RNG.normal(size=(5000, 10)) * scale
        vectors -= vectors.mean(0)
        assert isoscore(vectors) == pytest.approx(published_isoscore(vectors), abs=1e-9)
    assert isoscore(RNG.normal(size=(100_000, 10))) == pytest.approx(1, abs=0.01)
    line = RNG.normal(size=(100, 1)) * np.ones(10)
    assert isoscore(line - line.mean(0)) == pytest.approx(0, abs=1e-9)


def test_rotation_scale_and_shift_do_not_matter() -> None:
    units = made(3, 3, noise=0.5)
    turn = 7 * ortho_group.rvs(D, random_state=0)
    moved = replace(units, vectors=(units.vectors @ turn + 5).astype(np.float32))
    before, after = Geometry().score(units), Geometry().score(moved)
    for one, other in zip(before, after, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-4)


def test_shares_of_variance_and_unrelated_labels() -> None:
    units = made(0, 6, noise=0.001)
    assert value(units, "variance_labels") + value(units, "variance_speakers") == pytest.approx(
        1, abs=0.01
    )
    shuffled = units.shuffled()
    assert value(shuffled, "variance_labels") < 0.02
    assert value(shuffled) > 0  # what unrelated directions give: no floor


def test_an_interval_over_folds_of_speakers() -> None:
    (primary, *_) = Geometry().score(made(3, 3, noise=0.5))
    assert primary.low is not None
    assert primary.high is not None
    assert 0 < primary.low < primary.value < primary.high < 1
    mixed = replace(made(3, 3), fold=np.arange(4000) % 10)
    assert "do not keep speakers apart" in Geometry().no_interval(mixed)
    few = replace(made(3, 3), fold=made(3, 3).speaker % 3)
    assert "3 folds of speakers" in Geometry().no_interval(few)


def test_too_few_labels_or_speakers() -> None:
    units = planted(vectors=np.zeros((600, 0), np.float32))
    Geometry().check(units)
    for poor in (planted(labels=2), planted(speakers=2), replace(units, speakers=("",) * 12)):
        with pytest.raises(StrataError, match="directions of centroids need 3 of each"):
            Geometry().check(poor)


@pytest.mark.slow
def test_from_end_to_end(common: tuple[str, ...], cache: str, tmp_path: Path) -> None:
    run = execute(tmp_path, "experiment=geometry", *common, cache, "controls=true")
    rows = run.rows
    assert rows["value"].between(0, 1).all()
    assert {"mel", "random_weights", "shuffled_labels"} <= set(rows["control"])
    figures = [s.metric for s in Geometry().score(made(2, 2))]
    assert set(rows["metric"]) == {"orthogonality", *figures[1:]}
    assert all(a != b for a, b in pairwise(rows["layer"].unique()))
