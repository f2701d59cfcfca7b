import itertools
from collections import Counter
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.metrics.agreement import agreement
from analysis.metrics.kmeans import Clustering, Lloyd, MiniBatch, clusterer_of
from common.records import StrataError


def brute_force(clusters: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mutual information and label entropy in nats, cell by cell of the contingency table."""
    n = len(labels)
    joint = Counter(zip(clusters.tolist(), labels.tolist(), strict=True))
    own, theirs = Counter(clusters.tolist()), Counter(labels.tolist())
    information = sum(c / n * log(c * n / (own[a] * theirs[b])) for (a, b), c in joint.items())
    return information, -sum(c / n * log(c / n) for c in theirs.values())


def codes(n: int, k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(k, size=n)


@settings(max_examples=30, deadline=None)
@given(st.integers(60, 120), st.integers(1, 9), st.integers(2, 9), st.integers(0, 99))
def test_it_is_the_sum_over_the_contingency_table(n: int, k: int, labels: int, seed: int) -> None:
    clusters, label = codes(n, k, seed), codes(n, labels, seed + 1)
    found = agreement(clusters, label)
    information, entropy = brute_force(clusters, label)
    np.testing.assert_allclose([found.information, found.entropy], [information, entropy])
    renamed = agreement(np.random.default_rng(seed).permutation(k)[clusters] - 50, label)
    assert renamed.information == pytest.approx(information)
    assert 0 <= found.normalised <= 1


def test_chance_is_the_mean_over_all_permutations() -> None:
    clusters, labels = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 2, 0, 1])
    every = [brute_force(clusters, np.array(p))[0] for p in itertools.permutations(labels.tolist())]
    assert agreement(clusters, labels).chance == pytest.approx(np.mean(every))


def test_planted_answers() -> None:
    labels = codes(2000, 10, 0)
    perfect = agreement(labels * 3 + codes(2000, 3, 1), labels)  # three clusters a label
    assert perfect.normalised == pytest.approx(1)
    assert perfect.adjusted == pytest.approx(1)
    independent = agreement(codes(2000, 100, 2), labels)
    assert independent.normalised > 0.1  # from nothing but small clusters
    assert independent.normalised == pytest.approx(independent.by_chance, rel=0.05)
    assert independent.adjusted == pytest.approx(0, abs=0.01)


def test_one_label_and_a_cluster_for_each_unit_say_nothing() -> None:
    with pytest.raises(StrataError, match=r"with one label is undefined \(9 units\)"):
        agreement(codes(9, 3, 0), np.zeros(9, int))
    with pytest.raises(StrataError, match="50 units are in 50 clusters, nearly one each"):
        agreement(np.arange(50), codes(50, 4, 0))


def mixture(n: int, k: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 16) around k centres at distance about 6 from one another; their centres' number."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(k, 16))
    label = rng.integers(k, size=n)
    return (centres[label] + spread * rng.normal(size=(n, 16))).astype(np.float32), label


BOTH = [MiniBatch(batch=500), Lloyd(seeds=3, iterations=25)]


@pytest.mark.parametrize("clusterer", BOTH, ids=["minibatch", "faiss"])
def test_both_clusterers_find_planted_clusters(clusterer: MiniBatch | Lloyd) -> None:
    fit, _ = mixture(1500, 8, 0.1)
    held, label = mixture(400, 8, 0.1, seed=1)
    found = clusterer.cluster(fit, held, 16, seed=0)
    assert agreement(found.held, label).normalised == pytest.approx(1)
    assert found.in_use == 1
    assert found.inertia < 2 * 16 * 0.1**2


@pytest.mark.parametrize("clusterer", BOTH, ids=["minibatch", "faiss"])
def test_assignment_is_to_the_nearest_centre_and_seeded(clusterer: MiniBatch | Lloyd) -> None:
    """The centre of a cluster is not known outside; rows fitted on and held out must agree."""
    fit, _ = mixture(800, 8, 1.0)
    first, again = (clusterer.cluster(fit, fit, 20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.fitted, first.held)
    np.testing.assert_array_equal(first.fitted, again.fitted)
    assert not np.array_equal(first.fitted, clusterer.cluster(fit, fit, 20, seed=4).fitted)


def test_lloyd_keeps_the_best_of_its_seeds_and_leaves_no_row_out() -> None:
    """More than 256 rows a centre, where faiss alone would take a part of them."""
    fit, _ = mixture(3000, 12, 0.3)
    tries = [
        Lloyd(seeds=s, iterations=25).cluster(fit, fit[:1], 6, seed=0).inertia for s in (1, 2, 6)
    ]
    assert tries[0] >= tries[1] >= tries[2]
    assert tries[2] < 0.999 * tries[0]
    centres = np.stack([fit.astype(float).mean(0)])
    whole = Lloyd(seeds=1, iterations=2).cluster(fit, fit[:1], 1, seed=0)
    assert whole.inertia == pytest.approx(((fit - centres) ** 2).sum(1).mean(), rel=1e-4)


def test_clusters_without_a_row_are_told() -> None:
    assert Clustering(np.array([0, 0, 2]), np.array([1]), 4, 0.0).in_use == 0.5


def test_an_unknown_clusterer_and_a_missing_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StrataError, match="clusterer=dbscan: choose one of minibatch, faiss"):
        clusterer_of("dbscan", 1500, 3, 25)
    monkeypatch.setattr("analysis.metrics.kmeans.find_spec", lambda _: None)
    with pytest.raises(StrataError, match=r"pip install 'strata\[faiss\]'"):
        clusterer_of("faiss", 1500, 3, 25)
    assert clusterer_of("minibatch", 1500, 3, 25) == MiniBatch(1500)
