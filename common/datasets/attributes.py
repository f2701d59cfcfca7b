"""What a table knows of speakers or utterances beside the speech: gender, age, first language, …"""

import csv
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common.reading import decode, reading
from common.records import Corpus, StrataError

log = logging.getLogger(__name__)

KEYS = ("utterance", "speaker")


def with_attributes(corpus: Corpus, path: str) -> Corpus:
    """The corpus with each utterance's attributes from a table.

    A .csv, or a file of any other name with tabs between the columns, and a first line that names
    them. A column `utterance` or `speaker` says whom a line is of; every other column is an
    attribute. Utterances that no line is of, and empty cells, have none: both are counted in the
    log. Raises StrataError where the table has no such column, or no line for anybody.
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
    if not path.is_file():
        raise StrataError(f"dataset.attributes={path}: there is no such file")
    with reading(path, "a table of attributes"):
        text = decode(path)
        delimiter = "," if path.suffix.casefold() == ".csv" else "\t"
        reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
        columns = list(reader.fieldnames or ())
        by = next((key for key in KEYS if key in columns), None)
        if by is None:
            named = {",": "commas", "\t": "tabs"}[delimiter]
            raise StrataError(
                f"dataset.attributes={path}: its first line must name a column utterance or "
                f"speaker among others, separated by {named}; it has "
                f"{', '.join(columns) or 'nothing'}"
            )
        table: dict[str, dict[str, str]] = {}
        for row in reader:
            own = {k: v.strip() for k, v in row.items() if k and k != by and v and v.strip()}
            if (row[by] or "").strip() in table:
                raise StrataError(
                    f"dataset.attributes={path}, line {reader.line_num}: {row[by]} has a line "
                    "already"
                )
            table[(row[by] or "").strip()] = own
    return by, table
