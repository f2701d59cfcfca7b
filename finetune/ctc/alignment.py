"""When each character was spoken: CTC's best path through the frames, and words from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from common.records import StrataError

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """A token and the frames, from `first` to `last` (excluded), in which the model emits it.

    `confidence`: the mean of its probabilities there.
    """

    token: int
    first: int
    last: int
    confidence: float


def best_path(log_p: Probabilities, blank: int) -> list[Span]:
    """Tokens of the best path of all: the most likely token of every frame. `log_p` (T, V)."""
    best = log_p.argmax(1)
    return _spans(best, best, log_p, blank)


def align(log_p: Probabilities, tokens: Sequence[int], blank: int) -> list[Span]:
    """The best path that spells given tokens, none of them the blank (Viterbi).

    `log_p` (T, V) in logarithms. Graves et al. 2006, section 4.1, with a maximum for the sum.
    """
    t, _ = log_p.shape
    states = np.full(2 * len(tokens) + 1, blank, dtype=np.int64)  # blank, token, blank, token, …
    states[1::2] = tokens
    needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
    if t < needed:
        raise StrataError(f"{t} frames are too few for {len(tokens)} characters: {needed} needed")
    skips = np.zeros(len(states), dtype=bool)  # a blank between different tokens may be left out
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = log_p[0, states[:2]]
    came = np.zeros((t, len(states)), dtype=np.int8)  # by how many states
    for k in range(1, t):
        options = np.full((3, len(states)), -np.inf)
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(skips[2:], score[:-2], -np.inf)
        came[k] = options.argmax(0)
        score = options.max(0) + log_p[k, states]
    state = len(states) - 1
    if len(states) > 1 and score[-2] > score[-1]:
        state -= 1
    path = np.empty(t, dtype=np.int64)
    for k in range(t - 1, -1, -1):
        path[k] = state
        state -= came[k, state]
    return _spans(path, states[path], log_p, blank)


def _spans(
    runs: NDArray[np.int64], tokens: NDArray[np.int64], log_p: Probabilities, blank: int
) -> list[Span]:
    """A span for each run of equal values (T,), but for those of the blank."""
    spans, first = [], 0
    for _, group in groupby(runs.tolist()):
        last = first + len(list(group))
        token = int(tokens[first])
        if token != blank:
            confidence = float(np.exp(log_p[first:last, token].astype(np.float64)).mean())
            spans.append(Span(token, first, last, confidence))
        first = last
    return spans


def cut_at_pauses(log_p: Probabilities, blank: int, longest: int) -> list[int]:
    """Frames at which to cut (T, V) so that no piece has more than `longest`: ends of the pieces.

    A cut lies in the middle of the longest run of blanks of a piece's second half.
    """
    t, _ = log_p.shape
    best = log_p.argmax(1)
    ends, start = [], 0
    while t - start > longest:
        cut, length, first = start + longest, 0, start + longest // 2
        for is_blank, group in groupby((best[first : start + longest] == blank).tolist()):
            run = len(list(group))
            if is_blank and run > length:
                cut, length = first + run // 2, run
            first += run
        ends.append(cut)
        start = cut
    return [*ends, t]
