import itertools
from collections import Counter
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from units import planted

from analysis.metrics.agreement import agreement, bitrate, purity, purity_by_chance
from analysis.metrics.base import Score
from analysis.metrics.kmeans import Clustering, Lloyd, MiniBatch, clusterer_of
from analysis.metrics.mutual_information import MutualInformation, fit_and_held
from common.records import StrataError


def brute_force(clusters: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mutual information and label entropy in nats, cell by cell of the contingency table."""
    n = len(labels)
    joint = Counter(zip(clusters.tolist(), labels.tolist(), strict=True))
    sizes, theirs = Counter(clusters.tolist()), Counter(labels.tolist())
    information = sum(c / n * log(c * n / (sizes[a] * theirs[b])) for (a, b), c in joint.items())
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


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 120), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_purities_are_those_of_a_count_by_hand(n: int, k: int, labels: int, seed: int) -> None:
    clusters, label = codes(n, k, seed).tolist(), codes(n, labels, seed + 1).tolist()
    pairs = list(zip(clusters, label, strict=True))
    of_clusters = [Counter(b for a, b in pairs if a == c) for c in set(clusters)]
    of_labels = [Counter(a for a, b in pairs if b == c) for c in set(label)]
    expected = [sum(max(c.values()) for c in each) / n for each in (of_clusters, of_labels)]
    found = purity(np.array(clusters), np.array(label))
    assert [found.label, found.cluster] == pytest.approx(expected)


def test_purity_by_chance_is_that_of_permuted_labels() -> None:
    """Of 100 clusters of 2,000 units with 10 labels it is twice the share of a label."""
    clusters, labels = codes(2000, 100, 2), codes(2000, 10, 0)
    chance = purity_by_chance(clusters, labels, seed=3)
    every = [
        purity(clusters, np.random.default_rng(k).permutation(labels)) for k in range(100, 300)
    ]
    assert chance.label == pytest.approx(np.mean([one.label for one in every]), abs=0.003)
    assert chance.cluster == pytest.approx(np.mean([one.cluster for one in every]), abs=0.003)
    assert chance.label > 0.2


def test_a_bitrate_is_symbols_a_second_times_bits_a_symbol() -> None:
    assert bitrate(np.arange(64) % 8, seconds=6.4) == pytest.approx(30)  # 10 a second of 3 bits
    assert bitrate(np.zeros(50, int), seconds=1.0) == 0


def test_one_label_and_a_cluster_for_each_unit_say_nothing() -> None:
    with pytest.raises(StrataError, match=r"with one label is undefined \(9 units\)"):
        agreement(codes(9, 3, 0), np.zeros(9, int))
    with pytest.raises(StrataError, match="50 units are in 50 clusters, nearly one each"):
        agreement(np.arange(50), codes(50, 4, 0))


def inertia(rows: np.ndarray, found: Clustering) -> float:
    """Mean squared distance of the rows fitted on to the centres that they were given."""
    return float(((rows - found.centres[found.fitted]) ** 2).sum(1).mean())


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
    assert inertia(fit, found) < 2 * 16 * 0.1**2


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
        inertia(fit, Lloyd(seeds=s, iterations=25).cluster(fit, fit[:1], 6, seed=0))
        for s in (1, 2, 6)
    ]
    assert tries[0] >= tries[1] >= tries[2]
    assert tries[2] < 0.999 * tries[0]
    whole = Lloyd(seeds=1, iterations=2).cluster(fit, fit[:1], 1, seed=0)
    np.testing.assert_allclose(whole.centres, fit.mean(0, keepdims=True), atol=1e-4)


def test_clusters_without_a_row_are_told() -> None:
    assert Clustering(np.array([0, 0, 2]), np.array([1]), np.zeros((4, 1))).in_use == 0.5


def test_an_unknown_clusterer_and_a_missing_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StrataError, match="clusterer=dbscan: choose one of minibatch, faiss"):
        clusterer_of("dbscan", 1500, 3, 25)
    monkeypatch.setattr("analysis.metrics.kmeans.find_spec", lambda _: None)
    with pytest.raises(StrataError, match=r"pip install 'strata\[faiss\]'"):
        clusterer_of("faiss", 1500, 3, 25)
    assert clusterer_of("minibatch", 1500, 3, 25) == MiniBatch(1500)


def metric(clusters: int = 30, clusterer: str = "minibatch") -> MutualInformation:
    return MutualInformation(clusters, clusterer, batch=500, seeds=2, iterations=25)


def named(scores: list[Score]) -> dict[str, float]:
    return {score.metric: score.value for score in scores}


@pytest.mark.parametrize("clusterer", ["minibatch", "faiss"])
def test_clusters_of_planted_units_tell_their_labels(clusterer: str) -> None:
    """And those of labels shuffled by themselves what chance says they do."""
    units = planted(n=2000)
    scores = named(metric(clusterer=clusterer).score(units))
    assert [scores[key] for key in ("", "pnmi", "label_purity")] == pytest.approx([1, 1, 1])
    assert scores["clusters_in_use"] > 0.9
    chance = named(metric(clusterer=clusterer).score(units.shuffled()))
    assert chance["pnmi"] == pytest.approx(chance["pnmi_shuffled"], rel=0.25)
    assert chance[""] == pytest.approx(0, abs=0.02)
    for kind in ("label_purity", "cluster_purity"):
        assert chance[kind] == pytest.approx(scores[f"{kind}_shuffled"], abs=0.02)


def test_vectors_of_noise_score_nothing() -> None:
    """The figure of the papers is .2 of such vectors, and more the fewer units there are."""
    rng = np.random.default_rng(0)
    units = planted(n=2000, vectors=rng.normal(size=(2000, 16)).astype(np.float32))
    scores = named(metric(clusters=100).score(units))
    assert scores["pnmi"] > 0.1
    assert scores[""] == pytest.approx(0, abs=0.02)


def test_the_figures_have_no_bitrate_where_no_durations_are_known() -> None:
    assert "bitrate" not in named(metric().score(planted()))
    scores = named(metric().score(planted(seconds=np.full(600, 0.1))))
    assert scores["bitrate_labels"] == pytest.approx(np.log2(6) / 0.1, rel=0.02)
    assert scores["bitrate"] > scores["bitrate_labels"]  # of more clusters than labels


def test_units_are_fitted_and_scored_apart() -> None:
    """On even and odd folds; on the two partitions where there are two."""
    units = planted()
    fit, held = fit_and_held(units)
    assert set(units.speaker[fit]).isdisjoint(units.speaker[held])
    assert len(fit) + len(held) == 600
    scored = np.arange(600) >= 400
    fit, held = fit_and_held(planted(scored=scored))
    np.testing.assert_array_equal(fit, np.arange(400))
    np.testing.assert_array_equal(held, np.arange(400, 600))


def test_at_most_a_tenth_as_many_clusters_as_fitted_units(caplog) -> None:
    caplog.set_level("INFO")
    units = planted(scored=np.arange(600) >= 400)
    scores = metric(clusters=500).score(units)
    summary = metric(clusters=500).summary(scores, "mi_phone")
    assert summary == {"clusters": [40], "fitted": [400], "scored": [200], "clusterer": "minibatch"}
    assert "mi_phone: 40 clusters instead of 500, a tenth of the 400 units fitted" in caplog.text


def test_too_few_units_and_one_label_are_known_before_there_are_vectors() -> None:
    empty = np.zeros((600, 0), np.float32)
    metric().check(planted(vectors=empty))
    scored = np.arange(600) >= 19
    with pytest.raises(StrataError, match="19 units to fit on are too few for 30 clusters"):
        metric().check(planted(vectors=empty, scored=scored))
    with pytest.raises(StrataError, match=r"the \d+ units to score have one label"):
        metric().check(planted(vectors=empty, labels=1))


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(StrataError, match=r"metric.clusters=1: it must be at least 2"):
        metric(clusters=1)
    with pytest.raises(StrataError, match="choose one of minibatch, faiss"):
        metric(clusterer="spectral")
