"""Exact average precision over all pairs of many items, a block of pairs at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.metrics.similarity import Scores, Similarity
from common.arrays import Index, Mask
from common.records import StrataError


@dataclass(frozen=True, slots=True)
class PairPrecision:
    """Average precision of same-word pairs among all pairs. Range (0, 1]; chance is `chance`.

    `every_pair`: same word against different word (Carlin et al. 2011, section 2).
    `swdp`: the same ranking and the same precision, but only same-word pairs of *d*ifferent
    s*p*eakers are to be recalled (ibid.; Hermann et al., arXiv 1811.04791): same-word pairs of one
    speaker are no errors, and different-word pairs are, by any speakers.
    `across_speakers`: only pairs of different speakers are ranked.
    The last two are None where no word is said by two speakers.
    `matches` of `pairs` pairs are the same word, `matches_across` of them by different speakers.
    """

    every_pair: float
    swdp: float | None
    across_speakers: float | None
    pairs: int
    matches: int
    matches_across: int

    @property
    def chance(self) -> float:
        """The share of same-word pairs: what scores without information come to."""
        return self.matches / self.pairs


def pair_precision(similarity: Similarity, label: Index, speaker: Index) -> PairPrecision:
    """Rank all n (n - 1) / 2 pairs of items with `label` (n,) by `speaker` (n,).

    Same-word pairs are few: their scores are kept, and of all others only how many reach each of
    them. Equal scores count as one group, as in sklearn.metrics.average_precision_score.
    """
    n = len(label)
    match, same_speaker = matching_scores(similarity, label, speaker)
    values = np.unique(match)
    matches = at_least(match, values)
    across = at_least(match[~same_speaker], values)
    others, others_across = other_counts(similarity, label, speaker, values)
    precision = matches / (matches + others)
    n_across = int((~same_speaker).sum())
    return PairPrecision(
        every_pair=float(precision @ _each(matches) / len(match)),
        swdp=float(precision @ _each(across) / n_across) if n_across else None,
        across_speakers=_average(across, others_across) if n_across else None,
        pairs=n * (n - 1) // 2,
        matches=len(match),
        matches_across=n_across,
    )


def matching_scores(similarity: Similarity, label: Index, speaker: Index) -> tuple[Scores, Mask]:
    """Scores (m,) of all same-word pairs, and (m,) whether one speaker said both."""
    order = np.argsort(label, kind="stable")
    scores, same = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if len(rows) > 1:
            above = np.triu_indices(len(rows), 1)
            scores.append(similarity.scores(rows, rows)[above])
            same.append((speaker[rows][:, None] == speaker[rows])[above])
    words = len(np.unique(label))
    if not scores or words < 2:
        raise StrataError(
            f"{len(label)} segments of {words} words: average precision needs a word that occurs "
            "twice and another word; use more speech"
        )
    return np.concatenate(scores), np.concatenate(same)


def other_counts(
    similarity: Similarity, label: Index, speaker: Index, values: Scores
) -> tuple[Index, Index]:
    """How many different-word pairs reach each of `values`: of all pairs, of different speakers."""
    total = np.zeros(len(values), dtype=np.int64)
    one_speaker = np.zeros(len(values), dtype=np.int64)
    for rows, columns in pairs_of(similarity.blocks()):
        scores = similarity.scores(rows, columns)
        other = label[rows][:, None] != label[columns]
        if rows is columns:
            other &= np.tri(len(rows), k=-1, dtype=bool).T
        total += at_least(scores[other], values)
        other &= speaker[rows][:, None] == speaker[columns]
        one_speaker += at_least(scores[other], values)
    return total, total - one_speaker


def pairs_of(parts: list[Index]) -> Iterator[tuple[Index, Index]]:
    """Pairs of parts, each once; a part with itself is the same object twice."""
    for i, rows in enumerate(parts):
        for columns in parts[i:]:
            yield rows, columns


def at_least(scores: Scores, values: Scores) -> Index:
    """How many scores reach each of the sorted `values`: (v,)."""
    return len(scores) - np.searchsorted(np.sort(scores), values)


def _each(reached: Index) -> Index:
    """How many scores equal each value, from how many reach it."""
    return reached - np.append(reached[1:], 0)


def _average(matches: Index, others: Index) -> float:
    matched = matches > 0
    precision = matches[matched] / (matches[matched] + others[matched])
    return float(precision @ _each(matches)[matched] / matches[0])
