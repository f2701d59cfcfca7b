"""Attributes of speakers or utterances from a table: gender, age, first language, …"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common.datasets.label_tables import KEYS, columns_of, rows_of
from common.reading import reading
from common.records import Corpus, StrataError

log = logging.getLogger(__name__)


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
        reader = rows_of(path)
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
