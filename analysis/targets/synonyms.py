"""Synonyms from a file, and near homophones from the corpus's own phones."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, Self

from analysis.targets.base import FileTarget
from common.reading import reading, rows_of
from common.records import Corpus, StrataError

Pair = tuple[str, str]

COLUMNS = ("word1", "word2")
FEWEST = 3  # phones of a near homophone: of shorter words, nearly all are


@dataclass(frozen=True, kw_only=True)
class Synonyms(FileTarget):
    """Words that have a synonym or a near homophone among the words of the corpus.

    `path`: a .csv with the columns `word1` and `word2`, a pair of synonyms a line; with a column
    `similarity` too, only pairs from `least` on. Near homophones are words of three phones or more
    in which just one phone is another: their pronunciation is the most frequent one in the corpus.
    An inserted phone does not count, or a noun would be the near homophone of its plural.
    """

    kind: ClassVar[str] = "synonyms"
    units: ClassVar[tuple[str, ...]] = ("word",)

    least: float | None = None
    synonyms: tuple[Pair, ...] = ()
    homophones: tuple[Pair, ...] = ()

    def prepared(self, labels: Collection[str], corpus: Corpus) -> Self:
        """The target with the pairs of which the corpus has both words."""
        if "phone" not in corpus.tiers:
            raise StrataError(
                f"dataset {corpus.name} ({corpus.partition}) has no phone tier: near homophones "
                "are found by the phones of words"
            )
        synonyms = {pair for pair in self._read() if set(pair) <= set(labels)}
        homophones = minimal_pairs(pronunciations(corpus)) - synonyms
        return replace(self, synonyms=tuple(sorted(synonyms)), homophones=tuple(sorted(homophones)))

    def known(self, labels: Collection[str]) -> Collection[str]:
        """Words of any pair."""
        words = {word for pair in (*self.synonyms, *self.homophones) for word in pair}
        return words & set(labels)

    def _read(self) -> Iterator[Pair]:
        with reading(self.file, "a table of synonyms"):
            needed = (*COLUMNS, *(("similarity",) if self.least is not None else ()))
            for row in rows_of(self.file, ",", needed):
                first, second = sorted((row[name] or "").strip().casefold() for name in COLUMNS)
                similar_enough = self.least is None or float(row["similarity"]) >= self.least
                if first and first != second and similar_enough:
                    yield first, second


def pronunciations(corpus: Corpus) -> Mapping[str, tuple[str, ...]]:
    """The most frequent phones of each word: those whose middle lies in it."""
    variants: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for utterance in corpus.utterances:
        phones = utterance.tiers.get("phone", ())
        at = 0
        for word in utterance.tiers.get("word", ()):
            while at < len(phones) and phones[at].start + phones[at].end < 2 * word.start:
                at += 1
            spoken = []
            while at < len(phones) and phones[at].start + phones[at].end < 2 * word.end:
                spoken.append(phones[at].label)
                at += 1
            if spoken:
                variants[word.label][tuple(spoken)] += 1
    return {word: max(sorted(counts), key=counts.__getitem__) for word, counts in variants.items()}


def minimal_pairs(spoken: Mapping[str, tuple[str, ...]]) -> set[Pair]:
    """Pairs of words, in order, that differ in one phone of `FEWEST` or more."""
    neighbours: defaultdict[tuple[int, tuple[str, ...]], list[str]] = defaultdict(list)
    for word, phones in spoken.items():
        for k in range(len(phones) if len(phones) >= FEWEST else 0):
            neighbours[k, (*phones[:k], "", *phones[k + 1 :])].append(word)
    return {
        (first, second)
        for words in neighbours.values()
        for first, second in combinations(sorted(words), 2)
        if spoken[first] != spoken[second]
    }
