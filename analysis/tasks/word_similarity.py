"""Do vectors of words lie as near each other as people find the words alike?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from analysis.word_pairs import Benchmark, Pair
from common.records import StrataError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho on the `pairs` of a benchmark of which both words have a vector."""

    benchmark: str
    rho: float
    pairs: int
    total: int


def static_vectors(vectors: NDArray[np.float32], label: NDArray[np.int64], labels: int) -> Matrix:
    """Mean (labels, d) of the instances (n, d) of each word; a word without one is nan."""
    sums = np.zeros((labels, vectors.shape[1]))
    np.add.at(sums, label, vectors)
    counts = np.bincount(label, minlength=labels)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def covered(benchmark: Benchmark, words: Mapping[str, int]) -> list[Pair]:
    """Pairs of which both words are known."""
    return [p for p in benchmark.pairs if p.first in words and p.second in words]


def usable(benchmark: Benchmark, words: Mapping[str, int], least: int) -> list[Pair]:
    """The covered pairs, or none where there are fewer than `least` or people scored all alike."""
    pairs = covered(benchmark, words)
    varied = len({pair.score for pair in pairs}) > 1
    return pairs if len(pairs) >= least and varied else []


def correlate(vectors: Matrix, words: Mapping[str, int], pairs: Sequence[Pair]) -> float:
    """Spearman's rho of cosines between rows of `vectors` (v, d) with people's scores."""
    first = vectors[[words[pair.first] for pair in pairs]]
    second = vectors[[words[pair.second] for pair in pairs]]
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(1) / np.where(norms > 0, norms, np.nan)
    if not np.isfinite(cosines).all() or np.ptp(cosines) == 0:
        raise StrataError(
            f"the cosines of {len(pairs)} word pairs are all the same or undefined: this layer "
            "has words without a direction"
        )
    return float(spearmanr(cosines, [pair.score for pair in pairs]).statistic)


def correlations(
    vectors: Matrix, words: Mapping[str, int], benchmarks: Sequence[Benchmark], least: int
) -> list[Correlation]:
    """Of every benchmark that has `least` pairs or more of known words."""
    return [
        Correlation(b.name, correlate(vectors, words, pairs), len(pairs), b.total)
        for b in benchmarks
        if (pairs := usable(b, words, least))
    ]


def micro(found: Sequence[Correlation]) -> float:
    """Mean of rho over benchmarks, each with the weight of its pairs."""
    return float(np.average([c.rho for c in found], weights=[c.pairs for c in found]))


def macro(found: Sequence[Correlation]) -> float:
    """Plain mean of rho over benchmarks."""
    return float(np.mean([c.rho for c in found]))
