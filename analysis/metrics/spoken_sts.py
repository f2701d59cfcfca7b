"""Spoken sentence similarity: cosines of utterances against human ratings of their meanings."""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.units import Units
from analysis.targets.sentence_pairs import SentencePairs, SentenceTable
from common.arrays import Array, Index, Mask
from common.narrowing import narrowed
from common.records import StrataError
from common.target import Target

log = logging.getLogger(__name__)

FEWEST = 3  # pairs: of two, Spearman's rho is 1 or -1 whatever they are


@dataclass(frozen=True)
class SentenceSimilarity(UnitMetric):
    """Spearman's rho between cosines of mean-pooled utterances and human scores. Range [-1, 1].

    Merkx et al., arXiv 2106.08648, section 3, and Pasad et al., arXiv 2307.00162, section 4: a
    pair's similarity is the mean cosine over every recording of the one sentence with every
    recording of the other, whoever speaks, as by default in the published script (which can also
    correlate the cosines one by one, each with a copy of its pair's score). The mean of all
    utterances drawn is subtracted from the vectors: it raises every cosine, whatever the pair.
    `sentence_spearman` is the figure without that, as published. A layer that is constant has no
    rho: an error.
    """

    name: ClassVar[str] = "sentence_spearman_centred"
    family: ClassVar[str] = "sentence_similarity"
    held_out: ClassVar[bool] = False

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes utterances, with pairs of sentences."""
        return isinstance(target, SentencePairs)

    def check(self, units: Units) -> None:
        """Raise unless there are enough pairs of recorded sentences, with scores that differ."""
        self.refuse_partitions(units)
        target = narrowed(units.target, SentencePairs)
        pairs = target.table()
        recorded = pairs.recorded(recordings(units))
        scores = set(np.array(pairs.score)[recorded].tolist())
        if recorded.sum() < FEWEST or len(scores) < 2:
            raise StrataError(
                f"target.path={target.path}: {int(recorded.sum())} of {len(recorded)} pairs "
                f"have recordings of both sentences, with {len(scores)} different scores; rank "
                f"correlation needs {FEWEST} pairs and 2 scores. Sentences are named by {pairs.by}"
                f" (for example {pairs.first[0]!r}): compare with the recordings' names"
            )

    def score(self, units: Units) -> list[Score]:
        """One rho for all pairs with recordings of both sentences, and one without centring."""
        pairs = narrowed(units.target, SentencePairs).table()
        recorded = pairs.recorded(recordings(units))
        vectors = units.vectors.astype(np.float64)
        centred = replace(units, vectors=vectors - vectors.mean(0))
        raw = correlation(units, pairs, recorded)  # first: a constant layer is refused by name
        detail = {"pairs": f"{int(recorded.sum())} of {len(recorded)}"}
        used = int(recorded.sum())
        return [
            Score(correlation(centred, pairs, recorded), detail=detail, pairs=used),
            Score(raw, "sentence_spearman", pairs=used),
        ]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How many pairs of the table have recordings."""
        used = Counter(score.detail["pairs"] for score in scores if score.metric == "")
        log.info("%s: pairs with recordings of both sentences: %s", experiment, ", ".join(used))
        return {"pairs_scored": dict(used)}


def recordings(units: Units) -> dict[str, int]:
    """How many recordings each sentence has."""
    counts = np.bincount(units.label, minlength=len(units.labels))
    return dict(zip(units.labels, counts.tolist(), strict=True))


def correlation(units: Units, pairs: SentenceTable, recorded: Mask) -> float:
    """Spearman's rho of the `recorded` pairs (p,)."""
    cosines = pair_cosines(units, pairs)[recorded]
    if len(np.unique(cosines)) < 2:
        raise StrataError(f"all {len(cosines)} pairs of sentences are equally similar")
    return float(scipy.stats.spearmanr(cosines, np.array(pairs.score)[recorded]).statistic)


def pair_cosines(units: Units, pairs: SentenceTable) -> Array:
    """Mean cosine (p,) over all pairs of different recordings; NaN where there are none.

    The sum over all pairs is the product of the sums; a sentence paired with itself has n of the
    n * n cosines with itself, 1 each, which are taken out.
    """
    codes = {label: code for code, label in enumerate(units.labels)}
    sums, counts = summed(units)
    out = np.full(len(pairs.score), np.nan)
    for p, (a, b) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        if a in codes and b in codes:
            i, j = codes[a], codes[b]
            itself = counts[i] if i == j else 0
            if (n := counts[i] * counts[j] - itself) > 0:
                out[p] = (sums[i] @ sums[j] - itself) / n
    return out


def summed(units: Units) -> tuple[Array, Index]:
    """Sum (l, d) of the unit vectors of each label's recordings, and how many there are (l,)."""
    vectors = np.asarray(units.vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise StrataError(f"{int((lengths == 0).sum())} utterances have a vector of zeros")
    sums = np.zeros((len(units.labels), vectors.shape[1]))
    np.add.at(sums, units.label, vectors / lengths)
    return sums, np.bincount(units.label, minlength=len(units.labels))
