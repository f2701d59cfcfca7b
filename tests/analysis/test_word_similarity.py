from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from analysis.metrics.word_similarity import (
    Correlation,
    centred,
    correlate,
    correlations,
    macro,
    micro,
    static_vectors,
    usable,
)
from analysis.targets.word_pairs import Benchmark, Pair, read_benchmarks
from analysis.targets.word_vectors import read_table
from common.records import StrataError

FILES = {
    "plain": ",word1,word2,similarity\n0,old,New,1.5\n1,car,automobile,9\n2,,,\n",
    "first": ",similarity,word1,word2,relation\n0,6.81,take,remove,synonyms\n",
    "tagged": ",word1,word2,similarity\n0,sun-n,see-v,5\n1,big-j,t-shirt-n,1e1\n",
    "phrases": ",word1,word2,similarity\n0,Promised Land,Baku,0.4\n1,a_b,c,1\n2,x-n,y,2\n",
}


def write(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_columns_suffixes_phrases_and_missing_entries(tmp_path: Path) -> None:
    first, phrases, plain, tagged = read_benchmarks(write(tmp_path))
    assert first == Benchmark("first", (Pair("take", "remove", 6.81),), 1, 0, 0)
    pairs = (Pair("old", "new", 1.5), Pair("car", "automobile", 9.0))
    assert plain == Benchmark("plain", pairs, 3, 0, 1)
    assert tagged.pairs == (Pair("sun", "see", 5.0), Pair("big", "t-shirt", 10.0))
    assert phrases == Benchmark("phrases", (Pair("x-n", "y", 2.0),), 3, 2, 0)
    assert read_benchmarks(tmp_path / "plain.csv") == (plain,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "word1,word2,score\na,b,1\n",
            "no column similarity; its first line names word1, word2, sc",
        ),
        ("", "no column word1, word2, similarity; its first line names nothing"),
        ("word1,word2,similarity\na,b,high\n", "similarity of a and b is high, no number"),
        ("word1,word2,similarity\na,b,nan\n", "similarity of a and b is nan, no number"),
    ],
)
def test_other_tables_are_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StrataError, match=message):
        read_benchmarks(tmp_path)


def test_no_tables_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(StrataError, match="no word pairs there"):
            read_benchmarks(path)


def slow_rho(vectors: np.ndarray, words: dict[str, int], pairs: list[Pair]) -> float:
    """Pearson's correlation of ranks, pair by pair."""
    cosines = []
    for pair in pairs:
        a, b = vectors[words[pair.first]], vectors[words[pair.second]]
        cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    ranks = rankdata(cosines), rankdata([pair.score for pair in pairs])
    return float(np.corrcoef(*ranks)[0, 1])


def planted(n: int, seed: int = 0) -> tuple[np.ndarray, dict[str, int], list[Pair]]:
    rng = np.random.default_rng(seed)
    words = {f"w{i}": i for i in range(n)}
    pairs = [
        Pair(f"w{a}", f"w{b}", float(rng.integers(8)))
        for a, b in rng.integers(n, size=(4 * n, 2))
        if a != b
    ]
    return rng.normal(size=(n, 6)), words, pairs


def test_rho_is_that_of_its_definition() -> None:
    vectors, words, pairs = planted(12)
    found = correlate(vectors, words, pairs)
    assert found == pytest.approx(slow_rho(vectors, words, pairs))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert correlate(3 * vectors @ rotation, words, pairs) == pytest.approx(found)
    assert correlate(vectors, words, pairs[::-1]) == pytest.approx(found)
    stretched = [Pair(p.first, p.second, p.score**3) for p in pairs]
    assert correlate(vectors, words, stretched) == pytest.approx(found)


def test_a_monotone_score_gives_one_and_its_opposite_minus_one() -> None:
    """Planted: people's scores are a monotone function of the angle."""
    angles = np.array([0.0, 0.1, 0.5, 1.2, 2.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    words = {f"w{i}": i for i in range(5)}
    pairs = [Pair("w0", f"w{i}", float(np.exp(-angles[i]))) for i in range(1, 5)]
    assert correlate(vectors, words, pairs) == pytest.approx(1)
    opposite = [Pair(p.first, p.second, -p.score) for p in pairs]
    assert correlate(vectors, words, opposite) == pytest.approx(-1)


def test_static_vectors_are_means_of_instances() -> None:
    vectors = np.array([[1.0, 0], [3, 0], [0, 5]], dtype=np.float32)
    means = static_vectors(vectors, np.array([2, 2, 0]), 3)
    np.testing.assert_array_equal(means[[2, 0]], [[2, 0], [0, 5]])
    assert np.isnan(means[1]).all()


def test_small_and_constant_benchmarks_are_left_out() -> None:
    vectors, words, pairs = planted(12)
    benchmark = Benchmark("b", (*pairs[:7], Pair("w0", "unheard", 1.0)), 9, 1, 0)
    same = Benchmark("same", tuple(Pair(p.first, p.second, 1.0) for p in pairs), 9, 0, 0)
    assert len(benchmark.covered(words)) == 7
    assert usable(benchmark, words, 8) == usable(same, words, 2) == []
    (found,) = correlations(vectors, words, [benchmark, same], 7)
    assert (found.benchmark, found.pairs) == ("b", 7)


def test_averages() -> None:
    found = [Correlation("a", 0.5, 30), Correlation("b", 0.1, 10)]
    assert micro(found) == pytest.approx(0.4)
    assert macro(found) == pytest.approx(0.3)


def test_a_mean_that_all_words_share_changes_nothing() -> None:
    """Without centring rho falls with it; a word without a vector stays without one."""
    vectors, words, _ = planted(30)
    cosine = np.corrcoef(vectors - vectors.mean(0), rowvar=True)
    pairs = [Pair(f"w{a}", f"w{b}", cosine[a, b]) for a in range(30) for b in range(a)]
    shared = vectors * np.linspace(0.5, 2, 30)[:, None] + 10 * np.eye(6)[0]
    expected = correlate(centred(vectors * np.linspace(0.5, 2, 30)[:, None]), words, pairs)
    assert correlate(centred(shared), words, pairs) == pytest.approx(expected)
    assert correlate(shared, words, pairs) < expected - 0.2
    gap = np.vstack([vectors, np.full(6, np.nan)])
    np.testing.assert_array_equal(centred(gap)[:30], centred(vectors))
    assert np.isnan(centred(gap)[30]).all()


def test_a_layer_without_directions_is_an_error() -> None:
    _, words, pairs = planted(12)
    for vectors in (np.zeros((12, 6)), np.ones((12, 6))):
        with pytest.raises(StrataError, match=r"cosines of \d+ word pairs are all the same or und"):
            correlate(vectors, words, pairs)


def test_glove_agrees_with_people(shared_data: Path) -> None:
    """All 13 published benchmarks; GloVe 6B 50d has rho 0.6 to 0.7 on MEN and WordSim-sim."""
    benchmarks = read_benchmarks(shared_data / "text" / "word_similarity")
    assert len(benchmarks) == 13
    assert sum(b.total for b in benchmarks) == 11903
    phrases = {b.name: b.phrases for b in benchmarks if b.phrases}
    assert phrases == {"semeval17": 112, "verb-143": 4}
    assert {b.name: b.incomplete for b in benchmarks if b.incomplete} == {
        "wordsim353-rel": 1,
        "wordsim353-sim": 1,
    }
    words = {word for b in benchmarks for p in b.pairs for word in (p.first, p.second)}
    table = read_table(shared_data / "text" / "glove.6B.50d.subset.txt", words)
    found = correlations(table.vectors.astype(float), table.index, benchmarks, 20)
    rho = {c.benchmark: c.rho for c in found}
    assert 0.6 < rho["men"] < 0.75
    assert rho["wordsim353-sim"] > rho["simlex999"] > 0.1
