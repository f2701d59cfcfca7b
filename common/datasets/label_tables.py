"""Tables of labels and attributes: of utterances, of speakers, or of stretches of utterances."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from common.alignments import to_samples
from common.reading import delimiter_of, reading, rows_of, shown
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError

log = logging.getLogger(__name__)

KEYS = ("utterance", "speaker")
TIMES = ("start", "end")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """One column of a table. `by`: "utterance" or "speaker", whose names `values` are of; or
    "segment": then `intervals` has those of each utterance, in order of time.
    """

    by: str
    values: Mapping[str, str]
    intervals: Mapping[str, tuple[Interval, ...]]

    @property
    def names(self) -> list[str]:
        """Utterances or speakers that it has lines of."""
        return list(self.intervals if self.by == "segment" else self.values)


def key_of(columns: list[str]) -> str:
    """What a line of a table with these columns describes; "" where no column says."""
    if {"utterance", *TIMES} <= set(columns):
        return "segment"
    return next((key for key in KEYS if key in columns), "")


def columns_of(path: Path, key: str) -> list[str]:
    """Names of the columns, among them one that says whom a line is of. `key`: for errors."""
    if not path.is_file():
        raise StrataError(f"{key}={path}: there is no such file")
    with reading(path, "a table of labels"):
        columns = list(rows_of(path, delimiter_of(path)).fieldnames or ())
    if not key_of(columns):
        named = {",": "commas", "\t": "tabs"}[delimiter_of(path)]
        raise StrataError(
            f"{key}={path}: its first line must name a column utterance or speaker among others, "
            f"separated by {named}; it has {', '.join(columns) or 'nothing'}"
        )
    return columns


@lru_cache(maxsize=8)
def read_labels(path: Path, changed: int, key: str, column: str) -> LabelTable:  # noqa: ARG001
    """A column of a table; empty cells are no label. `changed`: the file's time, for the cache.

    StrataError where two lines are of one utterance or speaker, or of one moment.
    """
    by = key_of(columns_of(path, key))
    with reading(path, "a table of labels"):
        reader = rows_of(path, delimiter_of(path))
        values: dict[str, str] = {}
        intervals: dict[str, list[Interval]] = {}
        for row in reader:
            name = (row["utterance" if by == "segment" else by] or "").strip()
            label = (row[column] or "").strip()
            where = f"{shown(path)}, line {reader.line_num}"
            if by == "segment":
                labelled = intervals.setdefault(name, [])
                if label:
                    labelled.append(_interval(row, label, where))
                continue
            if name in values:
                raise StrataError(f"{where}: {name} has a line already")
            values[name] = label
    in_order = {name: _in_order(name, found, path) for name, found in intervals.items()}
    return LabelTable(by, values, in_order)


def _interval(row: Mapping[str, str | None], label: str, where: str) -> Interval:
    try:
        start, end = (to_samples(float(row[time] or "")) for time in TIMES)
    except ValueError:
        start, end = -1, -1
    if not 0 <= start < end:
        raise StrataError(
            f"{where}: start {row['start']!r} and end {row['end']!r} are no stretch of time: give "
            "seconds from the start of the audio"
        )
    return Interval(start, end, label)


def _in_order(name: str, intervals: list[Interval], path: Path) -> tuple[Interval, ...]:
    ordered = sorted(intervals, key=lambda interval: interval.start)
    for before, after in pairwise(ordered):
        if after.start < before.end:
            raise StrataError(
                f"{shown(path)}: {name} has {before.label!r} and {after.label!r} at "
                f"{after.start / SAMPLE_RATE:g} s: give each moment one label, or each kind a table"
            )
    return tuple(ordered)


def with_attributes(corpus: Corpus, path: str) -> Corpus:
    """The corpus with each utterance's attributes from a table.

    A .csv, or a file of any other name with tabs between the columns, and a first line that names
    them. A column `utterance` or `speaker` says what a line is of; every other column is an
    attribute. Utterances that no line is of, and empty cells, have none: both are counted in the
    log. Raises StrataError where the table has no such column, or no line of the corpus.
    """
    by, table = read_attributes(Path(path).expanduser())
    names = [u.id if by == "utterance" else u.speaker for u in corpus.utterances]
    utterances = [
        replace(u, attributes={**u.attributes, **table.get(name, {})})
        for u, name in zip(corpus.utterances, names, strict=True)
    ]
    unknown = sum(name not in table for name in names)
    if unknown == len(utterances):
        raise StrataError(
            f"dataset.attributes={path}: no {by} of {corpus.name} ({corpus.partition}) is in it; "
            f"it has {', '.join(list(table)[:5])}, the corpus {', '.join(sorted(set(names))[:5])}"
        )
    if unknown:
        log.warning("%s: %d of %d utterances are not in it", path, unknown, len(utterances))
    return replace(corpus, utterances=tuple(utterances))


def read_attributes(path: Path) -> tuple[str, Mapping[str, Mapping[str, str]]]:
    """Whether lines are of utterances or speakers, and the attributes of each."""
    columns = columns_of(path, "dataset.attributes")
    by = next(key for key in KEYS if key in columns)
    with reading(path, "a table of attributes"):
        reader = rows_of(path, delimiter_of(path))
        table: dict[str, dict[str, str]] = {}
        for row in reader:
            attributes = {k: v.strip() for k, v in row.items() if k and k != by and v and v.strip()}
            if (row[by] or "").strip() in table:
                raise StrataError(
                    f"dataset.attributes={path}, line {reader.line_num}: {row[by]} has a line "
                    "already"
                )
            table[(row[by] or "").strip()] = attributes
    return by, table
