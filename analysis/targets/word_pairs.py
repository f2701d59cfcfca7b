"""Word similarity benchmarks: tables of word pairs with the score that people gave them.

In the layout of vecto-ai/word-benchmarks: comma-separated, columns `word1`, `word2` and
`similarity` in any order, others ignored. Words are case-folded like those of a word tier. Where
every word of a file ends in a part of speech (`sun-n`, `see-v`, `big-j`), it is cut off.
"""

import re
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar

from analysis.targets.base import FileTarget
from common.reading import reading, rows_of
from common.records import StrataError

COLUMNS = ("word1", "word2", "similarity")
PART_OF_SPEECH = re.compile(r"-[a-z]$")
PHRASE = re.compile(r"[\s_]")


@dataclass(frozen=True)
class Pair:
    """Two words and how alike people found them, on the scale of their benchmark."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Benchmark:
    """A table's pairs of single words. `total` counts its rows, with those left out by reason:

    `phrases` has a pair with a word of several parts, `incomplete` one that lacks an entry.
    """

    name: str
    pairs: tuple[Pair, ...]
    total: int
    phrases: int
    incomplete: int

    def covered(self, words: Container[str]) -> list[Pair]:
        """Pairs of which both words are known."""
        return [p for p in self.pairs if p.first in words and p.second in words]


@dataclass(frozen=True, kw_only=True)
class WordPairs(FileTarget):
    """Benchmarks of word pairs with the scores that people gave them; units are words."""

    kind: ClassVar[str] = "word_pairs"
    units: ClassVar[tuple[str, ...]] = ("word",)

    def benchmarks(self) -> tuple[Benchmark, ...]:
        """All tables."""
        return read_benchmarks(self.file)

    def known(self, labels: Collection[str]) -> Collection[str]:
        """The words of those pairs that are whole: a word without any partner is not used."""
        words = frozenset(labels)
        pairs = [pair for benchmark in self.benchmarks() for pair in benchmark.covered(words)]
        return frozenset(word for pair in pairs for word in (pair.first, pair.second))


def read_benchmarks(path: str | Path) -> tuple[Benchmark, ...]:
    """Every .csv of a folder by name, or one file."""
    path = Path(path)
    # Without ._x.csv, which macOS leaves on other disks.
    listed = (file for file in path.glob("*.csv") if not file.name.startswith("."))
    files = sorted(listed) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise StrataError(
            f"{path}: no word pairs there; give a .csv or a folder of them, as of "
            "vecto-ai/word-benchmarks (word-similarity/monolingual/en)"
        )
    return tuple(_read(file) for file in files)


def _read(path: Path) -> Benchmark:
    with reading(path, "a table of word pairs"):
        lines = rows_of(path, ",", COLUMNS)
        rows = [tuple((row[name] or "").strip() for name in COLUMNS) for row in lines]
    whole = [row for row in rows if all(row)]
    suffixed = all(PART_OF_SPEECH.search(word) for row in whole for word in row[:2])
    pairs = [_pair(path, row, suffixed) for row in whole]
    single = [pair for pair in pairs if not PHRASE.search(f"{pair.first}{pair.second}")]
    phrases, incomplete = len(pairs) - len(single), len(rows) - len(whole)
    return Benchmark(path.stem, tuple(single), len(rows), phrases, incomplete)


def _pair(path: Path, row: Sequence[str], suffixed: bool) -> Pair:
    first, second = (
        (PART_OF_SPEECH.sub("", word) if suffixed else word).casefold() for word in row[:2]
    )
    try:
        score = float(row[2])
    except ValueError:
        score = float("nan")
    if not isfinite(score):
        raise StrataError(f"{path}: similarity of {row[0]} and {row[1]} is {row[2]}, no number")
    return Pair(first, second, score)
