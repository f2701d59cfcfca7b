"""Any data set of the Hugging Face Hub that has audio and, in columns that are named, intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import xxhash

from common import alignments, audio
from common.alignments import to_samples
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import check_convention, convention
from common.encoder.hub import explained
from common.records import Corpus, Interval, StrataError, Utterance, Waveform


@dataclass(frozen=True, kw_only=True)
class Hub(Dataset):
    """The split `partition` of a data set, `repo_id` on the Hub or a folder of its files.

    `subset`: what `datasets` calls the configuration's name, null: the only one. `audio`, `id`,
    `speaker`, `text`: names of columns; null: the row's number, no speaker, no text. `words` and
    `phones_column` hold a row's intervals: a list of {label, start, end}, or of each of these a
    list; null: none. `start` and `end` name the times, of which there are `times_per_second` in a
    second (1000 for milliseconds), and `label` the label; null: the field that is no time.
    `attribute_columns`: further columns to keep, as gender.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    The files are downloaded into the Hub's cache (HF_HOME), and their code, if there is any, is not
    run.
    """

    repo_id: str
    subset: str | None
    revision: str
    audio: str
    id: str | None
    speaker: str | None
    text: str | None
    words: str | None
    phones_column: str | None
    label: str | None
    start: str
    end: str
    times_per_second: float
    attribute_columns: list[str] | None
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_convention(self.phones)
        if self.times_per_second <= 0:
            raise StrataError(
                f"dataset.times_per_second={self.times_per_second}: use 1 for seconds, 1000 for "
                "milliseconds"
            )

    def _list(self, faults: Faults) -> Corpus:
        """List the rows: audio is not decoded or held in memory, but read once, for its hash."""
        source = (self.repo_id, self.subset, self.partition, self.revision, self.audio)
        table = open_table(*source)
        named = (self.id, self.speaker, self.text, self.words, self.phones_column)
        columns = [c for c in (*named, *(self.attribute_columns or ())) if c is not None]
        lacking = [c for c in (*columns, self.audio) if c not in table.column_names]
        if lacking:
            raise StrataError(
                f"dataset.repo_id={self.repo_id}: no column {', '.join(lacking)}; it has "
                f"{', '.join(table.column_names)}"
            )
        rows = files.evenly_spaced(range(len(table)), self.limit, faults.dropped)
        kept_rows = table.select_columns(columns).with_format(None) if columns else None

        def raw(row: int, _: Counter[str]) -> tuple[Mapping[str, Any], dict[str, Any]]:
            values = kept_rows[row] if kept_rows is not None else {}
            tiers = {
                kind: self._intervals(values[column], f"{self.repo_id}, row {row}, {column}")
                for kind, column in (("word", self.words), ("phone", self.phones_column))
                if column is not None
            }
            return values, tiers

        listed = list(faults.usable(rows, raw))
        labels = [i.label for _, (_, tiers) in listed for i in tiers.get("phone", ())]
        phones = convention(labels, self.phones)

        def utterance(
            one: tuple[int, tuple[Mapping[str, Any], dict[str, Any]]], dropped: Counter[str]
        ) -> tuple[Utterance, bytes]:
            row, (values, raw_tiers) = one
            return self._utterance(Row(source, row), values, raw_tiers, phones, dropped)

        made = [found for _, found in faults.usable(listed, utterance)]
        utterances = tuple(one for one, _ in made)
        self._check_ids(utterances)
        return Corpus(
            name="hub",
            partition=self.partition,
            licence=self.licence,
            utterances=utterances,
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, (proof for _, proof in made), phones),
            phones=phones,
        )

    def _intervals(self, value: Any, where: str) -> tuple[Interval, ...]:
        """Intervals of a cell, [{label, start, end}, …] or {label: […], start: […], end: […]}."""
        try:
            if isinstance(value, Mapping):
                value = [
                    dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)
                ]
            rows = [dict(row) for row in value or ()]
            label = self.label or next(
                (key for key in (rows[0] if rows else {}) if key not in (self.start, self.end)), ""
            )
            return tuple(
                Interval(
                    to_samples(row[self.start] / self.times_per_second),
                    to_samples(row[self.end] / self.times_per_second),
                    str(row[label]),
                )
                for row in rows
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StrataError(
                f"{where}: {str(value)[:80]}: no list of {{{self.label or 'label'}, {self.start}, "
                f"{self.end}}} ({error!r}): dataset.label, dataset.start and dataset.end name them"
            ) from error

    def _utterance(
        self,
        row: "Row",
        values: Mapping[str, Any],
        raw: Mapping[str, Sequence[Interval]],
        phones: str,
        dropped: Counter[str],
    ) -> tuple[Utterance, bytes]:
        id = str(values[self.id]) if self.id else f"{row.row:06d}"
        encoded = row.encoded()
        n_samples = audio.header(encoded, id)
        tiers: dict[str, tuple[Interval, ...]] = {}
        for kind, intervals in raw.items():
            if kind == "phone":
                tiers |= alignments.phone_tiers(intervals, n_samples, id, dropped, phones)
            else:
                tiers[kind] = alignments.tier(kind, intervals, n_samples, id, dropped)
        text = str(values[self.text] or "") if self.text else ""
        if not text and "word" in tiers:
            text = alignments.transcript(tiers["word"], raw["word"], dropped)
        speaker = values[self.speaker] if self.speaker else ""
        attributes = {
            c: str(values[c]) for c in self.attribute_columns or () if values[c] is not None
        }
        made = Utterance(
            id, "" if speaker is None else str(speaker), text, n_samples, tiers, row, attributes
        )
        proof = xxhash.xxh3_128_digest(
            encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        )
        return made, proof

    def _check_ids(self, utterances: Sequence[Utterance]) -> None:
        times = Counter(one.id for one in utterances)
        twice = [id for id, n in times.items() if n > 1]
        if twice:
            raise StrataError(
                f"dataset.id={self.id}: {len(twice)} names stand for several rows, such as "
                f"{twice[0]}: name another column, or null for the rows' numbers"
            )


@dataclass(frozen=True)
class Row:
    """Reads one row's waveform (n,). It holds names and a number, so it pickles."""

    source: tuple[str, str | None, str, str, str]
    row: int

    def encoded(self) -> bytes | Path:
        """The row's sound file: its bytes, or where it is."""
        *_, column = self.source
        cell = open_table(*self.source)[self.row][column]
        if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
            raise StrataError(f"{self.source[0]}, row {self.row}: no audio in column {column}")
        return cell["bytes"] if cell.get("bytes") is not None else Path(cell["path"])

    def __call__(self) -> Waveform:
        """Read and decode the row's sound."""
        return audio.read(self.encoded(), f"{self.source[0]}, row {self.row}")


@lru_cache(maxsize=4)
def open_table(repo_id: str, subset: str | None, partition: str, revision: str, column: str) -> Any:
    """A split as `datasets` maps it into memory, its audio not decoded; once in each process."""
    from datasets import Audio, load_dataset

    folder = Path(repo_id).expanduser()
    with explained("dataset", f"{repo_id}@{revision}, split {partition}"):
        if folder.is_dir():
            table = load_dataset(str(folder), subset, split=partition)
        else:
            table = load_dataset(repo_id, subset, split=partition, revision=revision)
        if column in table.column_names:
            table = table.cast_column(column, Audio(decode=False))
        return table
