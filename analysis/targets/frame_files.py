"""Frames of a file: articulography, pitch, formants, or any other numbers over time."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import xxhash

from analysis.targets.base import HOP, FrameTarget
from analysis.targets.time_series import (
    TABLES,
    TimeSeries,
    chosen,
    is_series,
    needs_praat,
    read_series,
    read_tables,
)
from common.file_hashes import content_hash
from common.records import Corpus, StrataError, Waveform
from common.target import FromFile

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

UTTERANCE = "utterance"


@dataclass(frozen=True, kw_only=True)
class FrameFiles(FromFile, FrameTarget):
    """Numbers of each frame from files: resampled to a row every 10 ms by their own time stamps.

    `path`: a folder with a file for each utterance, anywhere below it, named as the utterance
    (ID.npz, ID.csv, ID.ema, ID.Pitch, … : `analysis.targets.time_series`); or one .csv or .tsv with
    a column `utterance` beside `time`. `only` takes some of the columns, by name.

    Frames without a value are left out with the layer's frame, and counted; so are all frames of
    utterances without a file. Rows come every 10 ms and layers mostly every 20 ms: movement
    faster than 25 Hz is aliased, so smooth it first.
    """

    kind: ClassVar[str] = "frames"
    masked: ClassVar[bool] = True
    version: ClassVar[int] = 1

    only: list[str] | None = None
    names: tuple[str, ...] = ()
    digest: str = ""
    files: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)
    tables: dict[str, TimeSeries] = field(default_factory=dict, repr=False, compare=False)
    # Of windows of long recordings: the recording that has the file, and the first sample of the
    # window.
    places: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def columns(self) -> int:
        """The columns of the files, known once it is prepared."""
        return len(self.names)

    def identity(self) -> object:
        """What the files hold, wherever they lie."""
        return {"digest": self.digest, "names": list(self.names)}

    def prepared(self, corpus: Corpus) -> Self:
        """The target with the files of the corpus's utterances, and the columns of one of them."""
        places = {
            u.id: (u.recording[0], u.recording[1] - u.context[0])
            for u in corpus.utterances
            if u.recording is not None
        }
        ids = list(dict.fromkeys(places.get(u.id, (u.id, 0))[0] for u in corpus.utterances))
        return replace(self._found(ids), places=places)

    def _found(self, ids: list[str]) -> Self:
        """The target with the files, or the table's rows, of these utterances or recordings."""
        if self.file.is_file():
            return self._with_table(ids)
        found = files_named(self.file)
        files = {id: found[id] for id in ids if id in found}
        self._log_missing(len(files), len(ids), ids, list(found))
        first = next(iter(files.values()))
        for path in files.values():
            if why := needs_praat(path):
                raise StrataError(why)
        names = self._chosen(read_series(first), first).names
        digest = xxhash.xxh3_128()
        for id in sorted(files):
            digest.update(f"{id}\n{content_hash(files[id])}\n".encode())
        return replace(self, names=names, digest=digest.hexdigest(), files=files)

    def _with_table(self, ids: list[str]) -> Self:
        if self.file.suffix.casefold() not in TABLES:
            raise StrataError(
                f"target.path={self.path}: one file for all utterances is a .csv or .tsv with the "
                "columns utterance and time; else give a folder with a file for each utterance"
            )
        tables = read_tables(self.file, UTTERANCE)
        found = {id: self._chosen(tables[id], self.file) for id in ids if id in tables}
        self._log_missing(len(found), len(ids), ids, list(tables))
        names = next(iter(found.values())).names
        return replace(self, names=names, digest=content_hash(self.file), tables=found)

    def _log_missing(self, found: int, total: int, ids: list[str], others: list[str]) -> None:
        if not found:
            raise StrataError(
                f"target.path={self.path}: nothing in it is named as one of the {total} utterances "
                f"(as {', '.join(ids[:3])}): it holds {', '.join(others[:3]) or 'nothing'}"
            )
        if found < total:
            log.warning(
                "%s: %d of %d utterances have no frames there", self.name, total - found, total
            )

    def _chosen(self, series: TimeSeries, path: Path) -> TimeSeries:
        return series if self.only is None else chosen(series, self.only, path)

    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":
        """Rows (1 + n // 160, columns) of an utterance; NaN where its file has no value."""
        import torch

        utterance, start = self.places.get(utterance, (utterance, 0))
        series = self.tables.get(utterance)
        if series is None and utterance in self.files:
            path = self.files[utterance]
            series = self._chosen(read_series(path), path)
            if series.names != self.names:
                raise StrataError(
                    f"{path}: has the columns {', '.join(series.names)}, others have "
                    f"{', '.join(self.names)}; target.only=[…] takes those that all have"
                )
        if series is None:
            empty = np.full((1 + len(waveform) // HOP, self.columns), np.nan, np.float32)
            return torch.from_numpy(empty)
        return torch.from_numpy(series.on_grid(start + len(waveform))[start // HOP :])


def files_named(folder: Path) -> dict[str, Path]:
    """Files of numbers over time below a folder by their path without suffix, or by their name.

    The name alone where it is unique; two files of one path are an error.
    """
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    files = [path for path in paths if is_series(path)]
    by_path: dict[str, Path] = {}
    for path in files:
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in by_path:
            raise StrataError(
                f"{path} and {by_path[key].name} beside it share one name: keep one of them"
            )
        by_path[key] = path
    times = Counter(path.stem for path in files)
    return {path.stem: path for path in files if times[path.stem] == 1} | by_path
