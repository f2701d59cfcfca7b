"""Average precision over pairs against its definition and scikit-learn's."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from analysis.metrics.average_precision import pair_precision
from analysis.metrics.similarity import Cosine, Index, Scores, Similarity
from common.records import StrataError


@dataclass(frozen=True, eq=False)
class Given(Similarity):
    """Scores from a symmetric table (n, n), in parts of `size`."""

    table: Scores
    size: int = 3

    def scores(self, rows: Index, columns: Index) -> Scores:
        return self.table[np.ix_(rows, columns)]

    def blocks(self) -> list[Index]:
        n = len(self.table)
        return np.array_split(np.arange(n)[::-1], -(-n // self.size))


def brute_force(
    scores: NDArray[np.generic], label: Index, speaker: Index, recalled: str
) -> float | None:
    """Carlin et al.'s counts at every threshold, pair by pair."""
    pairs = [(i, j) for i in range(len(label)) for j in range(i)]
    if recalled == "across_speakers":
        pairs = [(i, j) for i, j in pairs if speaker[i] != speaker[j]]
    match = np.array([label[i] == label[j] for i, j in pairs], dtype=bool)
    wanted = match & np.array(
        [recalled == "every_pair" or speaker[i] != speaker[j] for i, j in pairs], dtype=bool
    )
    values = np.array([scores[i, j] for i, j in pairs])
    if not wanted.any():
        return None
    precisions = [match[values >= v].sum() / (values >= v).sum() for v in values[wanted]]
    return float(np.mean(precisions))


def random_case(seed: int, n: int, levels: int) -> tuple[Scores, Index, Index]:
    rng = np.random.default_rng(seed)
    table = rng.integers(-levels, levels + 1, (n, n)).astype(np.int32)
    label = rng.integers(0, max(2, n // 3), n)
    label[:3] = [0, 0, 1]
    return np.maximum(table, table.T), label, rng.integers(0, 3, n)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(4, 14), st.sampled_from([1, 3, 10**8]))
def test_every_figure_is_its_definition(seed: int, n: int, levels: int) -> None:
    table, label, speaker = random_case(seed, n, levels)
    found = pair_precision(Given(table), label, speaker)
    for figure in ("every_pair", "swdp", "across_speakers"):
        expected = brute_force(table, label, speaker, figure)
        assert getattr(found, figure) == (expected if expected is None else pytest.approx(expected))
    assert found.pairs == n * (n - 1) // 2


@pytest.mark.parametrize("levels", [2, 10**8])  # with ties, without
def test_it_is_scikit_learns_average_precision(levels: int) -> None:
    table, label, speaker = random_case(1, 60, levels)
    i, j = np.triu_indices(60, 1)
    match = label[i] == label[j]
    found = pair_precision(Given(table, size=16), label, speaker)
    assert found.every_pair == pytest.approx(average_precision_score(match, table[i, j]), rel=1e-12)
    across = speaker[i] != speaker[j]
    expected = average_precision_score(match[across], table[i, j][across])
    assert found.across_speakers == pytest.approx(expected, rel=1e-12)
    assert (found.matches, found.matches_across) == (match.sum(), (match & across).sum())


def test_cosines_of_vectors_in_several_blocks() -> None:
    rng = np.random.default_rng(0)
    n = 1100  # more than a block
    label, speaker = rng.integers(0, 200, n), rng.integers(0, 9, n)
    centre = rng.normal(size=(200, 20))
    vectors = (centre[label] + 2 * rng.normal(size=(n, 20))).astype(np.float32)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    i, j = np.triu_indices(n, 1)
    cosines = np.einsum("pd,pd->p", unit[i], unit[j])
    found = pair_precision(Cosine(vectors), label, speaker)
    expected = average_precision_score(label[i] == label[j], cosines)
    assert found.every_pair == pytest.approx(expected, abs=1e-7)
    assert 3 * found.chance < found.every_pair < 0.9


def test_words_that_are_points_are_told_apart_and_one_point_is_chance() -> None:
    label = np.repeat(np.arange(6), 4)
    speaker = np.tile(np.arange(4), 6)
    apart = np.eye(6, dtype=np.float32)[label]
    perfect = pair_precision(Cosine(apart), label, speaker)
    assert (perfect.every_pair, perfect.swdp, perfect.across_speakers) == (1, 1, 1)
    # 0.1 + 0.2 is no multiple of another: rounding must not tell equal vectors apart
    same = np.full((24, 7), [0.1, 0.2, 0.7, -0.4, 3.3, 1e-3, 9.1], dtype=np.float32)
    scale = np.linspace(0.3, 2, 24, dtype=np.float32)[:, None]
    collapsed = pair_precision(Cosine(same * scale), label, speaker)
    assert collapsed.every_pair == pytest.approx(collapsed.chance, rel=1e-12)


def test_order_rotation_and_scale_change_nothing() -> None:
    rng = np.random.default_rng(3)
    label, speaker = rng.integers(0, 12, 80), rng.integers(0, 4, 80)
    vectors = rng.normal(size=(80, 8))
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    order = rng.permutation(80)
    expected = pair_precision(Cosine(vectors), label, speaker)
    turned = pair_precision(Cosine((7 * vectors @ rotation)[order]), label[order], speaker[order])
    assert turned.every_pair == pytest.approx(expected.every_pair, rel=1e-9)
    assert turned.swdp == pytest.approx(expected.swdp, rel=1e-9)


def test_one_speakers_repetitions_are_no_errors_of_swdp_but_do_not_count() -> None:
    label, speaker = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    table = np.zeros((4, 4), np.int32)
    for (i, j), score in {(0, 1): 9, (2, 3): 8, (0, 2): 7, (1, 2): 6, (0, 3): 1, (1, 3): 1}.items():
        table[i, j] = table[j, i] = score
    found = pair_precision(Given(table), label, speaker)
    assert found.every_pair == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found.swdp == pytest.approx((2 / 3 + 3 / 4) / 2)  # the different word 2-3 is an error
    assert found.across_speakers == 1.0  # and 2-3 is no pair of different speakers


def test_one_speaker_has_no_figure_across_speakers() -> None:
    table, label, _ = random_case(5, 10, 50)
    found = pair_precision(Given(table), label, np.zeros(10, dtype=np.int64))
    assert (found.swdp, found.across_speakers, found.matches_across) == (None, None, 0)
    assert found.every_pair > 0


@pytest.mark.parametrize("label", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_only_one_kind_of_pair_is_an_error(label: list[int]) -> None:
    with pytest.raises(StrataError, match="4 segments of"):
        pair_precision(Given(np.zeros((4, 4), np.int32)), np.array(label), np.arange(4))
