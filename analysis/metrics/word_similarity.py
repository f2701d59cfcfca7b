"""Word similarity: cosines of word vectors against human ratings of pairs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import ScoreOf, half_samples, too_few
from analysis.metrics.units import Units
from analysis.targets.word_pairs import Benchmark, Pair, WordPairs
from common.arrays import Array, Index, Vectors
from common.config.analysis import require_at_least
from common.narrowing import narrowed
from common.records import StrataError
from common.target import Target

log = logging.getLogger(__name__)

RESAMPLES = 200  # each recomputes the words' means; 200 give their spread to 5 %


@dataclass(frozen=True)
class WordSimilarity(UnitMetric):
    """Spearman's rho of cosines between words with people's scores, over benchmarks. [-1, 1].

    Pasad et al. 2024 (arXiv 2307.00162), after Chung & Glass 2018: a word's vector is the mean of
    its sampled instances, here less the mean of all words drawn: vectors that share a large mean
    all have cosines near 1, whatever the words are. The primary figure is the micro average: each
    benchmark's rho weighs as much as it has pairs of known words. `word_similarity_centred_macro`
    is the plain mean, and `word_similarity_centred_NAME` the rho of one benchmark. Beside them
    stand those of the vectors as they are, as published: `word_similarity`, `…_macro`, `…_NAME`.
    Chance: 0.

    Benchmarks with fewer than `min_pairs` pairs of known words are left out, and listed: near 0
    rho has a standard error of 1 / sqrt(pairs - 1), 0.23 for 20; mc-30, the smallest, has 30.

    The primary figure has a 95 % interval over speakers: each half of them has its own means, and
    only the pairs whose words its speakers said. It is an interval of the mean score of as many
    other speakers; more speakers have steadier means, and score higher. The pairs are held fixed.
    """

    name: ClassVar[str] = "word_similarity_centred"
    family: ClassVar[str] = "word_similarity"
    held_out: ClassVar[bool] = False

    min_pairs: int

    def __post_init__(self) -> None:
        require_at_least("metric.min_pairs", self.min_pairs, 3)

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes words, with pairs of words."""
        return isinstance(target, WordPairs)

    def check(self, units: Units) -> None:
        """Raise unless some benchmark has enough pairs."""
        self.refuse_partitions(units)
        words, benchmarks = words_of(units), narrowed(units.target, WordPairs).benchmarks()
        if not any(usable(benchmark, words, self.min_pairs) for benchmark in benchmarks):
            counts = (f"{b.name} {len(b.covered(words))} of {b.total}" for b in benchmarks)
            raise StrataError(
                f"no benchmark has {self.min_pairs} pairs of words that were drawn "
                f"({', '.join(counts)}): use more speech, or lower metric.min_pairs"
            )

    def no_interval(self, units: Units) -> str:
        """Too few speakers."""
        return too_few(units.tested(np.arange(len(units.label)))[1])

    def score(self, units: Units) -> list[Score]:
        """The micro average, the macro average, each benchmark's rho; then the same uncentred."""
        words, benchmarks = words_of(units), narrowed(units.target, WordPairs).benchmarks()
        vectors = static_vectors(units.vectors, units.label, len(units.labels))
        found = correlations(centred(vectors), words, benchmarks, self.min_pairs)
        if not found:
            self.check(units)
        detail = {b.name: coverage(b, words, self.min_pairs) for b in benchmarks}
        pairs = sum(one.pairs for one in found)
        low, high = (None, None)
        if not self.no_interval(units):
            score_of, speakers = resampled_score(units, benchmarks, self.min_pairs)
            limits = half_samples(score_of, speakers, units.seed, RESAMPLES)
            low, high = limits or (None, None)
        raw = correlations(vectors, words, benchmarks, self.min_pairs)
        return [
            Score(micro(found), detail=detail, low=low, high=high, pairs=pairs),
            *further(found, self.name),
            Score(micro(raw), self.family, pairs=sum(one.pairs for one in raw)),
            *further(raw, self.family),
        ]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """Each benchmark's coverage, which samples may share; that of the first is logged."""
        ways = [dict(score.detail) for score in scores if not score.metric]
        different = [way for i, way in enumerate(ways) if way not in ways[:i]]
        if different:
            counts = "; ".join(f"{name} {way}" for name, way in different[0].items())
            log.info("%s: pairs of known words: %s", experiment, counts)
        return {"coverage": different}


def words_of(units: Units) -> dict[str, int]:
    """Words with an instance, and their labels."""
    return {units.labels[code]: int(code) for code in np.unique(units.label)}


def coverage(benchmark: Benchmark, words: Mapping[str, int], least: int) -> str:
    """How many of a benchmark's pairs are used, and why others are not."""
    known = len(benchmark.covered(words))
    reasons = {
        "a word not drawn": len(benchmark.pairs) - known,
        "several words in one": benchmark.phrases,
        "incomplete": benchmark.incomplete,
    }
    without = ", ".join(f"{reason} {count}" for reason, count in reasons.items() if count)
    used = "" if usable(benchmark, words, least) else ", left out"
    return f"{known} of {benchmark.total}{used}" + (f" ({without})" if without else "")


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho on the `pairs` of a benchmark of which both words have a vector."""

    benchmark: str
    rho: float
    pairs: int


def static_vectors(vectors: Vectors, label: Index, labels: int) -> Array:
    """Mean (labels, d) of the instances (n, d) of each word; a word without one is nan."""
    sums = np.zeros((labels, vectors.shape[1]))
    np.add.at(sums, label, vectors)
    counts = np.bincount(label, minlength=labels)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def centred(vectors: Array) -> Array:
    """Vectors (labels, d) less the mean of those that are there; a word without one stays nan."""
    return vectors - np.nanmean(vectors, axis=0)


def usable(benchmark: Benchmark, words: Mapping[str, int], least: int) -> list[Pair]:
    """The covered pairs, or none where there are fewer than `least` or all have one score."""
    pairs = benchmark.covered(words)
    varied = len({pair.score for pair in pairs}) > 1
    return pairs if len(pairs) >= least and varied else []


def correlate(vectors: Array, words: Mapping[str, int], pairs: Sequence[Pair]) -> float:
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
    return float(scipy.stats.spearmanr(cosines, [pair.score for pair in pairs]).statistic)


def correlations(
    vectors: Array, words: Mapping[str, int], benchmarks: Sequence[Benchmark], least: int
) -> list[Correlation]:
    """The correlation of every benchmark with `least` pairs or more of known words."""
    return [
        Correlation(b.name, correlate(vectors, words, pairs), len(pairs))
        for b in benchmarks
        if (pairs := usable(b, words, least))
    ]


def micro(found: Sequence[Correlation]) -> float:
    """Mean of rho over benchmarks, each with the weight of its pairs."""
    return float(np.average([c.rho for c in found], weights=[c.pairs for c in found]))


def macro(found: Sequence[Correlation]) -> float:
    """Plain mean of rho over benchmarks."""
    return float(np.mean([c.rho for c in found]))


def further(found: Sequence[Correlation], name: str) -> list[Score]:
    """The macro average and each benchmark's rho, as secondary figures."""
    each = (Score(one.rho, f"{name}_{one.benchmark}", pairs=one.pairs) for one in found)
    return [Score(macro(found), f"{name}_macro", pairs=sum(one.pairs for one in found)), *each]


def resampled_score(
    units: Units, benchmarks: Sequence[Benchmark], least: int
) -> tuple[ScoreOf, int]:
    """The micro average as a function of how often each speaker counts."""
    labels, d = len(units.labels), units.vectors.shape[1]
    codes, _ = units.tested(np.arange(len(units.label)))
    pairs, which = np.unique(codes * labels + units.label, return_inverse=True)
    speaker, word = np.divmod(pairs, labels)
    sums = np.zeros((len(pairs), d))
    np.add.at(sums, which, units.vectors)  # of each word by each speaker
    times, names = np.bincount(which), np.array(units.labels)

    def score(counts: Array) -> float:
        each = scipy.sparse.csr_array(
            (counts[speaker], (word, np.arange(len(pairs)))), (labels, len(pairs))
        )
        n = (each @ times)[:, None]
        means = np.divide(each @ sums, n, out=np.full((labels, d), np.nan), where=n > 0)
        words = {str(names[code]): int(code) for code in np.flatnonzero(n)}
        try:
            found = correlations(centred(means), words, benchmarks, least)
        except StrataError:
            return np.nan
        return micro(found) if found else np.nan

    return lambda counts: np.array([score(row) for row in counts]), int(codes.max()) + 1
