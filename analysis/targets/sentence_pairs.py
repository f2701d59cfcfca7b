"""A table of sentence pairs with human scores, and which recordings are of which sentence."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from analysis.targets.base import FileTarget
from common.arrays import Mask
from common.reading import delimiter_of, reading, rows_of
from common.records import Interval, StrataError, Utterance

Key = Literal["id", "text"]


@dataclass(frozen=True)
class SentenceTable:
    """Pairs of sentences: `first` and `second` (p,), and how alike people find them: score (p,).

    `by`: whether the table names sentences by the id of their recordings or by their text.
    """

    by: Key
    first: tuple[str, ...]
    second: tuple[str, ...]
    score: tuple[float, ...]

    @cached_property
    def sentences(self) -> frozenset[str]:
        """Every sentence of any pair."""
        return frozenset(self.first) | frozenset(self.second)

    def sentence_of(self, id: str, text: str) -> str | None:
        """The sentence that an utterance is a recording of; None: of none in the table.

        By id: the file's name is the sentence's id, or that and more after "_" or "-" ("12a_jane").
        The longest id that fits counts. By text: the transcripts agree, but for case, punctuation
        and spaces.
        """
        if self.by == "text":
            return found if (found := plain(text)) in self.sentences else None
        name = id.rpartition("/")[2]
        while name and name not in self.sentences:
            name = name[: max(name.rfind("_"), name.rfind("-"), 0)]
        return name or None

    def recorded(self, recordings: Mapping[str, int]) -> Mask:
        """Which pairs (p,) have a recording of both; two where a sentence is paired with itself."""
        return np.array(
            [
                recordings.get(a, 0) > (a == b) and recordings.get(b, 0) > 0
                for a, b in zip(self.first, self.second, strict=True)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class SentencePairs(FileTarget):
    """Pairs of sentences with the scores that people gave them; units are whole utterances.

    An utterance's label is the sentence that it is a recording of, else its own id.
    """

    kind: ClassVar[str] = "sentence_pairs"
    units: ClassVar[tuple[str, ...]] = ("utterance",)

    def label(self, utterance: Utterance, interval: Interval) -> str:  # noqa: ARG002
        """Its sentence in the table; else its id."""
        return self.table().sentence_of(utterance.id, utterance.text) or utterance.id

    def table(self) -> SentenceTable:
        """The file's content."""
        return read_pairs(str(self.path))

    def known(self, labels: Collection[str]) -> Collection[str]:
        """Sentences of the table."""
        sentences = self.table().sentences
        return [label for label in labels if label in sentences]


def plain(text: str) -> str:
    """Words in lower case with single spaces: what two transcripts of a sentence share."""
    return " ".join(re.findall(r"[\w']+", text.casefold().replace("’", "'")))


@lru_cache(maxsize=4)
def read_pairs(path: str) -> SentenceTable:
    """Read a table with a header: columns id_a, id_b or text_a, text_b, and score.

    Separated by commas (.csv) or tabs (any other name); further columns are left alone. SpokenSTS
    (Merkx et al., arXiv 2106.08648), for example: recordings named "<task>-<pair>a_<speaker>.wav"
    and lines "<task>-<pair>a, <task>-<pair>b, 3.8".
    """
    with reading(path, "a table of sentence pairs"):
        file = Path(path).expanduser()
    if not file.is_file():
        raise StrataError(f"target.path={path}: no such file; give a table of sentence pairs")
    separator = delimiter_of(file)
    with reading(path, "a table of sentence pairs"):
        reader = rows_of(file, separator)
        by = _key(path, separator, list(reader.fieldnames or ()))
        rows = [
            _row(path, reader.line_num, row, by)
            for row in reader
            if any(isinstance(cell, str) and cell.strip() for cell in row.values())
        ]
    if not rows:
        raise StrataError(f"target.path={path}: the table has a header and no pairs")
    first, second, score = zip(*rows, strict=True)
    return SentenceTable(by, first, second, score)


def _key(path: str, separator: str, columns: list[str]) -> Key:
    kinds: tuple[Key, ...] = ("id", "text")
    for by in kinds:
        if {f"{by}_a", f"{by}_b", "score"} <= set(columns):
            return by
    named = {",": "commas", "\t": "tabs"}[separator]
    raise StrataError(
        f"target.path={path}: the first line must name the columns id_a, id_b (or text_a, text_b) "
        f"and score, separated by {named}; it has {', '.join(map(repr, columns)) or 'nothing'}"
    )


def _row(path: str, line: int, row: Mapping[str, str | None], by: Key) -> tuple[str, str, float]:
    first, second, score = (row[f"{by}_a"], row[f"{by}_b"], row["score"])
    try:
        value = float(score or "")
    except ValueError:
        value = np.nan
    if not first or not second or not np.isfinite(value):
        raise StrataError(
            f"target.path={path}, line {line}: {first!r}, {second!r}, {score!r} is no pair with a "
            "number as its score"
        )
    if by == "id":
        return first.strip(), second.strip(), value
    return plain(first), plain(second), value
