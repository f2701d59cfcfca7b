"""Labels and numbers that the user names: of any tier, of a table, or of the corpus."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.targets.base import FRAME, LabelTarget, Segment, frames_within, no_tier
from analysis.targets.labels import why_lacking
from common.arrays import Index
from common.config.analysis import OWN, UnitSampling
from common.datasets.label_tables import LabelTable, columns_of, key_of, read_labels
from common.records import Corpus, Interval, StrataError, Utterance

GIVE = (
    "target.tier=NAME, a tier of the alignments; target.column=NAME, what the corpus knows of "
    "utterances (speaker, gender, …); or target.table=FILE target.column=NAME"
)


@dataclass(frozen=True, kw_only=True)
class Label(LabelTarget):
    """A label that you name. One of:

    - `tier`: any tier of the alignments by its name (syllable, tone, part of speech, gesture);
    - `column`: what the corpus knows of an utterance (`speaker`, `gender`, …);
    - `table` and `column`: a .csv, or a file with tabs, with a line for each `utterance`, for each
      `speaker`, or for each stretch (`utterance`, `start`, `end` in seconds).

    The unit `own` is what has the label: the tier's intervals, the table's stretches, or whole
    utterances. At other units (`phone`, `word`, `frame`, another tier) a unit has the label that
    holds in its middle, an utterance the one that holds in all of it. Units without a label are
    left out and counted.
    """

    units: ClassVar[tuple[str, ...]] = ()  # any: see `check`

    tier: str | None = None
    table: str | None = None
    column: str | None = None

    @property
    def name(self) -> str:
        """The tier or the column."""
        return self.tier or self.column or "label"

    def check(self, key: str, unit: str, sampling: UnitSampling) -> None:  # noqa: ARG002
        """Raise where the label is named in two ways, or there is no unit."""
        if self.tier is not None and (self.table is not None or self.column is not None):
            raise StrataError(
                f"{key}.target.tier={self.tier} with target.table={self.table} and "
                f"target.column={self.column}: give a tier, or a column, not both"
            )
        if self.table is not None:
            columns = columns_of(self._path(), f"{key}.target.table")
            if self.column not in columns:
                raise StrataError(
                    f"{key}.target.column={self.column}: {self.table} has the columns "
                    f"{', '.join(columns)}"
                )
        if not unit:
            raise StrataError(f"{key}.unit={unit!r}: name a unit: own, phone, word, utterance, …")

    def missing(self, key: str) -> str:  # noqa: ARG002
        """The keys that name the label, where none is given."""
        if self.tier is None and self.column is None:
            return f"which label is not given: {GIVE}"
        return ""

    def unit_of(self, unit: str) -> str:
        """`own` is the tier, the stretches of a table (`segment`), or the utterance."""
        if unit != OWN:
            return unit
        if self.tier is not None:
            return self.tier
        stretches = (
            self.table is not None and key_of(columns_of(self._path(), "table")) == "segment"
        )
        return "segment" if stretches else "utterance"

    def tiers(self, unit: str) -> tuple[str, ...]:
        """The tier of the labels, and the one whose intervals are the units."""
        named = (self.tier, unit if unit not in (OWN, "segment", "frame", "utterance") else None)
        return tuple(tier for tier in named if tier is not None)

    def tier_of(self, unit: str) -> str:
        """The tier whose intervals are the units, or hold the unit `frame`; "" for none."""
        if unit == "frame":
            return self.tier or ""
        return "" if unit in ("segment", "utterance") else unit

    def segments(self, corpus: Corpus, unit: str, first_centre: int = FRAME // 2) -> list[Segment]:
        """Every unit of the corpus, labelled; "" where there is no label."""
        for tier in self.tiers(unit):
            if tier not in corpus.tiers:
                raise no_tier(corpus, tier)
        table = self._table()
        self._check_corpus(corpus, table)
        return [
            Segment(index, *found)
            for index, utterance in enumerate(corpus.utterances)
            for found in self._of_utterance(utterance, unit, first_centre, table)
        ]

    def _of_utterance(
        self, utterance: Utterance, unit: str, first_centre: int, table: LabelTable | None
    ) -> Iterator[tuple[int, int, str, int]]:
        """Start, end, label and place of each unit of an utterance."""
        intervals = self._intervals(utterance, table)
        if unit == "utterance":
            labels = {self._label(interval) for interval in intervals}
            yield 0, utterance.n_samples, labels.pop() if len(labels) == 1 else "", -1
        elif unit == "frame":
            for place, interval in enumerate(intervals):
                for part in frames_within(interval, first_centre):
                    yield part.start, part.end, self._label(part), place if self.tier else -1
        elif unit in ("segment", self.tier):
            for place, interval in enumerate(intervals):
                where = place if self.tier else -1
                yield interval.start, interval.end, self._label(interval), where
        else:
            starts = [interval.start for interval in intervals]
            for place, one in enumerate(utterance.tiers.get(unit, ())):
                middle = (one.start + one.end) // 2
                at = bisect_right(starts, middle) - 1
                inside = at >= 0 and middle < intervals[at].end
                yield one.start, one.end, self._label(intervals[at]) if inside else "", place

    def _intervals(self, utterance: Utterance, table: LabelTable | None) -> Sequence[Interval]:
        """Where each of an utterance's labels holds, in order of time."""
        if self.tier is not None:
            return utterance.tiers.get(self.tier, ())
        if table is not None and table.by == "segment":
            name, start = utterance.recording or (utterance.id, 0)
            return within(table.intervals.get(name, ()), start, start + utterance.n_samples)
        return (Interval(0, utterance.n_samples, self._value(utterance, table)),)

    def _value(self, utterance: Utterance, table: LabelTable | None) -> str:
        """The label of a whole utterance, "" where it has none."""
        if table is None:
            return utterance.attribute(str(self.column))
        key = utterance.speaker if table.by == "speaker" else recording_of(utterance)
        return table.values.get(key, "")

    def _check_corpus(self, corpus: Corpus, table: LabelTable | None) -> None:
        """Raise where nothing of the corpus can have a label."""
        if table is not None:
            by = "speaker" if table.by == "speaker" else "utterance"
            utterances = corpus.utterances
            names = {u.speaker if by == "speaker" else recording_of(u) for u in utterances}
            if not names & set(table.names):
                raise StrataError(
                    f"target.table={self.table}: no {by} of {corpus.name} ({corpus.partition}) is "
                    f"in it; it has {', '.join(table.names[:5])}, the corpus "
                    f"{', '.join(sorted(names)[:5])}"
                )
        elif self.tier is None:
            lacking = [u.id for u in corpus.utterances if not self._value(u, None)]
            if len(lacking) == len(corpus.utterances):
                raise StrataError(why_lacking(str(self.column), corpus, lacking))

    def _table(self) -> LabelTable | None:
        if self.table is None:
            return None
        path = self._path()
        return read_labels(path, path.stat().st_mtime_ns, "target.table", str(self.column))

    def _path(self) -> Path:
        return Path(str(self.table)).expanduser()

    def _label(self, interval: Interval) -> str:
        return interval.label


def recording_of(utterance: Utterance) -> str:
    """The id of an utterance in a table; for a window, its recording's."""
    return utterance.recording[0] if utterance.recording else utterance.id


def within(intervals: Sequence[Interval], start: int, end: int) -> Sequence[Interval]:
    """The parts of intervals that lie in a window [start, end) of their recording, in its time."""
    return [
        Interval(max(interval.start, start) - start, min(interval.end, end) - start, interval.label)
        for interval in intervals
        if interval.start < end and interval.end > start
    ]


@dataclass(frozen=True, kw_only=True)
class Number(Label):
    """A number that you name (age, rating, formant of a vowel), found as a `Label` is.

    Units whose label is not a finite number are left out and counted. `instances` and `labels` of
    the sampling count the units of each different number, so that a frequent value need not be all.
    """

    numeric: ClassVar[bool] = True

    def _label(self, interval: Interval) -> str:
        try:
            return interval.label if isfinite(float(interval.label)) else ""
        except ValueError:
            return ""

    def view(self, label: Index, labels: tuple[str, ...]) -> NDArray[np.floating]:
        """The numbers (n, 1)."""
        return np.array([float(text) for text in labels])[label][:, None]
