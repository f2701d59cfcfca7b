"""Metrics of two views: slow oracles, invariances, planted answers, hostile views."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ortho_group, spearmanr
from sklearn.neighbors import NearestNeighbors

from analysis.metrics.neighbours import MutualNeighbours, nearest
from analysis.metrics.rsa import RepresentationalSimilarity
from common.records import StrataError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 7)) * np.arange(1, 8)
Y = X[:, :3] @ RNG.standard_normal((3, 5)) + 0.5 * RNG.standard_normal((60, 5))
LABELS = np.eye(4)[RNG.integers(4, size=60)]
RSA = RepresentationalSimilarity(distance="euclidean", rows=3000)
NEIGHBOURS = MutualNeighbours(neighbours=5, rows=3000)


def pair_by_pair(x: np.ndarray, y: np.ndarray) -> float:
    """RSA as its definition reads, one pair of units at a time."""
    pairs = list(combinations(range(len(x)), 2))
    distances = [np.linalg.norm(x[i] - x[j]) for i, j in pairs]
    other = [np.linalg.norm(y[i] - y[j]) for i, j in pairs]
    return float(spearmanr(distances, other).statistic)


def unit_by_unit(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Mutual neighbours by scikit-learn's search, where nothing ties."""
    found = []
    for view in (x, y):
        search = NearestNeighbors(n_neighbors=k + 1).fit(view)
        found.append([set(row) - {i} for i, row in enumerate(search.kneighbors(view)[1])])
    return float(np.mean([len(a & b) / k for a, b in zip(*found, strict=True)]))


@pytest.mark.parametrize("other", [Y, LABELS])
def test_rsa_is_what_its_definition_gives(other: np.ndarray) -> None:
    assert RSA.score_views(X, other)[0].value == pytest.approx(pair_by_pair(X, other), abs=1e-12)


def test_neighbours_are_those_of_a_plain_search() -> None:
    shared, chance = NEIGHBOURS.score_views(X, Y)
    assert shared.value == pytest.approx(unit_by_unit(X, Y, 5), abs=1e-12)
    assert (chance.metric, chance.value) == ("mutual_neighbours_chance", 5 / 59)


def test_tied_neighbours_give_the_mean_over_ways_of_breaking_ties() -> None:
    draws = []
    for seed in range(400):
        jitter = 1e-3 * np.random.default_rng(seed).random((60, 60))
        order = np.argsort(
            ((LABELS[:, None] - LABELS) ** 2).sum(2) + jitter + 1e9 * np.eye(60), axis=1
        )
        shares = nearest(X, np.arange(60), 5)
        draws.append(np.mean([shares[i, order[i, :5]].sum() / 5 for i in range(60)]))
    value = NEIGHBOURS.score_views(X, LABELS)[0].value
    assert value == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 20)


@pytest.mark.parametrize("metric", [RSA, NEIGHBOURS])
def test_the_same_view_gives_one_and_noise_gives_chance(metric) -> None:
    noise = np.random.default_rng(1).standard_normal((400, 6))
    other = np.random.default_rng(2).standard_normal((400, 6))
    scores = metric.score_views(noise, other)
    chance = scores[1].value if len(scores) > 1 else 0.0
    assert metric.score_views(noise, noise)[0].value == pytest.approx(1)
    assert scores[0].value == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize("metric", [RSA, NEIGHBOURS])
def test_shift_rotation_scale_and_order_change_nothing(metric) -> None:
    value = metric.score_views(X, Y)[0].value
    rotation = ortho_group.rvs(7, random_state=3)
    order = RNG.permutation(60)
    assert metric.score_views(5 * X @ rotation + 100, Y)[0].value == pytest.approx(value, abs=1e-9)
    assert metric.score_views(X[order], Y[order])[0].value == pytest.approx(value, abs=1e-12)


def test_views_without_a_score_are_refused() -> None:
    flat = np.ones((60, 3))
    with pytest.raises(StrataError, match="60 units are equally far apart in the target"):
        RSA.score_views(X, flat)
    with pytest.raises(StrataError, match="some unit's vector in the layer has no direction"):
        RepresentationalSimilarity(distance="cosine", rows=10).score_views(np.zeros((60, 2)), Y)
    with pytest.raises(StrataError, match=r"the layer has one column.*distance=euclidean"):
        RepresentationalSimilarity(distance="correlation", rows=10).score_views(X[:, :1], Y)
    with pytest.raises(StrataError, match="60 units have no 60 neighbours"):
        MutualNeighbours(neighbours=60, rows=100).score_views(X, Y)
