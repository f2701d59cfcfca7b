"""When characters are heard: against every path there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import StrataError
from finetune.ctc.alignment import align, best_path, cut_at_pauses

BLANK = 0


def log_probabilities(t: int, v: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (t, v))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != BLANK]


@given(st.integers(1, 6), st.lists(st.integers(1, 2), max_size=3), st.integers(0, 10_000))
def test_the_path_is_the_best_of_all_that_spell_the_tokens(
    t: int, tokens: list[int], seed: int
) -> None:
    log_p = log_probabilities(t, 3, seed)
    paths = [p for p in itertools.product(range(3), repeat=t) if collapsed(p) == tokens]
    if not paths:
        with pytest.raises(StrataError, match="too few"):
            align(log_p, tokens, BLANK)
        return
    best = max(paths, key=lambda path: sum(log_p[k, n] for k, n in enumerate(path)))
    spans = align(log_p, tokens, BLANK)
    assert [span.token for span in spans] == tokens
    frames = [BLANK] * t
    for span in spans:
        frames[span.first : span.last] = [span.token] * (span.last - span.first)
        probability = np.exp(log_p[span.first : span.last, span.token]).mean()
        assert span.confidence == pytest.approx(probability, rel=1e-5)
    assert frames == list(best)


@given(st.integers(1, 30), st.integers(0, 10_000))
def test_the_best_path_is_the_forced_alignment_of_its_own_tokens(t: int, seed: int) -> None:
    log_p = log_probabilities(t, 4, seed)
    spans = best_path(log_p, BLANK)
    assert spans == align(log_p, [span.token for span in spans], BLANK)


def test_pieces_end_in_pauses() -> None:
    log_p = np.full((1000, 3), -5.0, np.float32)
    log_p[:, 1] = -0.1
    for pause in (180, 400, 610, 800):
        log_p[pause : pause + 20, BLANK] = 0
    ends = cut_at_pauses(log_p, BLANK, 300)
    assert ends == [190, 410, 620, 810, 1000]
    assert cut_at_pauses(log_p[:300], BLANK, 300) == [300]
    silent = np.tile(np.array([0, -9], np.float32), (500, 1))
    assert max(np.diff([0, *cut_at_pauses(silent, BLANK, 100)])) <= 100
