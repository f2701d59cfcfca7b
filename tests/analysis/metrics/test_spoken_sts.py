"""Spoken sentence similarity against every pair of recordings, one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import spearmanr
from units_in_memory import units_of

from analysis.metrics.spoken_sts import SentenceSimilarity, pair_cosines
from analysis.metrics.units import Units
from analysis.targets.sentence_pairs import SentencePairs, SentenceTable, read_pairs
from common.records import StrataError

METRIC = SentenceSimilarity()
LABELS = tuple(f"s{k}" for k in range(12))


def table(folder: Path, rows: list[tuple[str, str, float]]) -> SentencePairs:
    path = folder / "pairs.csv"
    lines = ["id_a,id_b,score", *(f"{a},{b},{score}" for a, b, score in rows)]
    path.write_text("\n".join(lines))
    read_pairs.cache_clear()
    return SentencePairs(path=str(path))


def recorded(target: SentencePairs | None = None, seed: int = 0, noise: float = 0.5) -> Units:
    """Twelve sentences, each read by two to four speakers."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(12, 20))
    label = np.repeat(np.arange(12), rng.integers(2, 5, 12))
    vectors = meaning[label] + noise * rng.normal(size=(len(label), 20))
    return units_of(vectors, label.tolist(), LABELS, [k % 4 for k in range(len(label))], target)


def all_recordings(units: Units, a: str, b: str) -> float:
    """Mean over every pair of different recordings."""
    i, j = (np.flatnonzero(units.label == LABELS.index(s)) for s in (a, b))
    pairs = [(p, q) for p in i for q in j if p != q]
    vectors = units.vectors.astype(np.float64)
    return float(np.mean([1 - cosine(vectors[p], vectors[q]) for p, q in pairs]))


def test_a_pairs_similarity_is_the_mean_over_all_pairs_of_recordings(tmp_path: Path) -> None:
    units = recorded()
    pairs = SentenceTable("id", ("s0", "s4", "s7", "s0"), ("s1", "s9", "s7", "gone"), (1, 2, 3, 4))
    found = pair_cosines(units, pairs)
    expected = [all_recordings(units, a, b) for a, b in (("s0", "s1"), ("s4", "s9"), ("s7", "s7"))]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-10)
    assert np.isnan(found[3])


def test_rho_is_spearmans_with_ties_and_missing_sentences(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [(f"s{i}", f"s{j}", float(rng.integers(6))) for i in range(11) for j in range(i)]
    target = table(tmp_path, [*rows, ("s0", "gone", 5.0), ("gone", "away", 1.0)])
    units = recorded(target)
    METRIC.check(units)
    score, raw = METRIC.score(units)
    centred = replace(units, vectors=units.vectors - units.vectors.mean(0))
    for vectors, found in ((centred, score), (units, raw)):
        cosines = [all_recordings(vectors, a, b) for a, b, _ in rows]
        assert found.value == pytest.approx(spearmanr(cosines, [r[2] for r in rows]).statistic)
    assert score.detail["pairs"] == "55 of 57"
    assert METRIC.summary([score], "spoken_sts") == {"pairs_scored": {"55 of 57": 1}}


def test_people_who_judge_as_the_vectors_do_give_one(tmp_path: Path) -> None:
    units = recorded(noise=0.0)
    rows = [
        (f"s{i}", f"s{j}", 10 + all_recordings(units, f"s{i}", f"s{j}"))
        for i in range(8)
        for j in range(i)
    ]
    target = table(tmp_path, rows)
    _, raw = METRIC.score(recorded(target, noise=0.0))
    assert raw.value == pytest.approx(1)
    opposed = table(tmp_path, [(a, b, -s) for a, b, s in rows])
    _, raw = METRIC.score(recorded(opposed, noise=0.0))
    assert raw.value == pytest.approx(-1)


def test_a_mean_that_all_utterances_share_changes_nothing(tmp_path: Path) -> None:
    """Uncentred, what is planted sinks with it; utterances do not."""
    units = recorded(noise=0.3)
    rows = [
        (f"s{i}", f"s{j}", all_recordings(units, f"s{i}", f"s{j}"))
        for i in range(12)
        for j in range(i)
    ]
    plain = replace(units, target=table(tmp_path, rows))
    plain = replace(plain, vectors=plain.vectors * np.linspace(0.5, 2, len(plain.label))[:, None])
    shared = replace(plain, vectors=plain.vectors + 20 * np.eye(20)[0])
    (centred, raw), (centred_shared, raw_shared) = METRIC.score(plain), METRIC.score(shared)
    assert centred_shared.value == pytest.approx(centred.value, abs=1e-3)
    assert centred.value > 0.6
    assert raw_shared.value < raw.value - 0.2


def test_order_rotation_and_loudness_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    target = table(tmp_path, [("s0", "s1", 1), ("s2", "s3", 2), ("s4", "s5", 3), ("s6", "s1", 0)])
    units = recorded(target)
    expected, raw = METRIC.score(units)
    order = rng.permutation(len(units.label))
    rotation, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    scale = rng.uniform(0.1, 9)
    turned = units_of(
        (scale * (units.vectors @ rotation))[order],
        units.label[order].tolist(),
        LABELS,
        units.speaker[order].tolist(),
        target,
    )
    assert [s.value for s in METRIC.score(turned)] == pytest.approx([expected.value, raw.value])


def test_a_table_of_other_sentences_is_an_error_before_there_are_vectors(tmp_path: Path) -> None:
    target = table(tmp_path, [("x1", "x2", 1), ("s1", "x2", 2), ("s1", "s2", 3)])
    with pytest.raises(StrataError, match=r"1 of 3 pairs .*\(for example 'x1'\)"):
        METRIC.check(recorded(target))
    assert target.known(["s1", "s9", "s2"]) == ["s1", "s2"]


def test_scores_that_are_all_the_same_are_an_error(tmp_path: Path) -> None:
    target = table(tmp_path, [(f"s{k}", f"s{k + 1}", 3) for k in range(5)])
    with pytest.raises(StrataError, match="with 1 different scores"):
        METRIC.check(recorded(target))


def test_a_constant_layer_has_no_rho(tmp_path: Path) -> None:
    target = table(tmp_path, [(f"s{k}", f"s{k + 1}", k) for k in range(5)])
    units = recorded(target)
    same = units_of(
        np.eye(20)[[0] * len(units.label)],
        units.label.tolist(),
        LABELS,
        [0] * len(units.label),
        target,
    )
    with pytest.raises(StrataError, match="all 5 pairs of sentences are equally similar"):
        METRIC.score(same)
    silent = units_of(
        0 * units.vectors, units.label.tolist(), LABELS, [0] * len(units.label), target
    )
    with pytest.raises(StrataError, match="have a vector of zeros"):
        METRIC.score(silent)
