"""Numbers over time, with time stamps of their own, and what reads them from a file.

A `.npz` holds the arrays `times` (t,), in seconds, and `values` (t,) or (t, k); `names` (k,), where
it is there, says what the columns are. A `.csv`, or `.tsv` with tabs, has a line of names, a column
`time` in seconds, and numbers; an empty cell is no value. `.Pitch`, `.PitchTier`, `.Intensity` and
`.Formant` are Praat's (the extra `f0` reads them). Any other file that begins with "EST_File Track"
is one of the Edinburgh Speech Tools, in which MOCHA-TIMIT and mngu0 keep articulography (`.ema`):
a header, then for each frame its time, whether it is valid, and the channels, as text or float32.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.targets.base import HOP
from common.arrays import Array, Vectors
from common.reading import decode, reading, shown
from common.records import SAMPLE_RATE, StrataError

FORMANTS = 3  # of those that Praat found
PRAAT = (".pitch", ".pitchtier", ".intensity", ".formant")
TRACK = b"EST_File Track"
TABLES = {".csv": ",", ".tsv": "\t"}
PLAIN = (".npz", *TABLES, *PRAAT)


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """times (t,) in seconds, increasing; values (t, k), NaN where there is none; names (k,)."""

    times: Array
    values: Array
    names: tuple[str, ...]

    def on_grid(self, n_samples: int) -> Vectors:
        """Rows (1 + n_samples // 160, k): one every 10 ms, row r at sample 160 r.

        Stamps closer than 10 ms are averaged: each belongs to the nearest row. Otherwise a row
        lies on the line between its two neighbours, or takes the first or last stamp where it is no
        more than half a step beyond it. NaN where a neighbour has no value, or where two stamps are
        more than twice the median step apart: a gap is not bridged.
        """
        rows, k = 1 + n_samples // HOP, self.values.shape[1]
        at = np.arange(rows) * HOP / SAMPLE_RATE
        step = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        grid = np.full((rows, k), np.nan)
        if len(self.times) > 1 and step < HOP / SAMPLE_RATE * (1 - 1e-6):
            nearest = np.rint(self.times * SAMPLE_RATE / HOP).astype(np.int64)
            inside = (nearest >= 0) & (nearest < rows)
            for column in range(k):
                known = inside & np.isfinite(self.values[:, column])
                counts = np.bincount(nearest[known], minlength=rows)
                sums = np.bincount(nearest[known], self.values[known, column], minlength=rows)
                filled = counts > 0
                grid[filled, column] = sums[filled] / counts[filled]
            return grid.astype(np.float32)
        after = np.clip(np.searchsorted(self.times, at), 1, max(len(self.times) - 1, 1))
        slack = 1e-9 + (step or HOP / SAMPLE_RATE) / 2
        near = (at >= self.times[0] - slack) & (at <= self.times[-1] + slack)
        if len(self.times) > 1:
            apart = self.times[after] - self.times[after - 1]
            exact = np.isclose(at[:, None], self.times[[after - 1, after]].T, atol=1e-9).any(1)
            outside = (at < self.times[0]) | (at > self.times[-1])
            near &= (apart <= 2 * step + 1e-9) | exact | outside
        for column in range(k):
            grid[near, column] = np.interp(at[near], self.times, self.values[:, column])
        return grid.astype(np.float32)


def read_series(path: Path) -> TimeSeries:
    """The numbers of a file; StrataError where it holds other values, or times do not increase."""
    suffix = path.suffix.casefold()
    with reading(path, "numbers over time", "write it again, or leave it out"):
        if suffix == ".npz":
            series = _read_npz(path)
        elif suffix in TABLES:
            (series,) = read_tables(path, None).values()
        elif suffix in PRAAT:
            series = _read_praat(path)
        else:
            series = _read_track(path)
    return _checked(series, path)


def is_series(path: Path) -> bool:
    """Whether a file is of one of the kinds that are read."""
    if path.suffix.casefold() in PLAIN:
        return True
    with path.open("rb") as file:
        return file.read(len(TRACK)) == TRACK


def needs_praat(path: Path) -> str:
    """How to get the package that a file needs, where it is not installed; else ""."""
    if path.suffix.casefold() in PRAAT and find_spec("parselmouth") is None:
        return f"{shown(path)} needs Praat: pip install 'strata[f0]', or praat-parselmouth"
    return ""


def _checked(series: TimeSeries, path: Path, of: str = "") -> TimeSeries:
    times, values, names = series.times, series.values, series.names
    where = f"{shown(path)}{of}"
    if values.ndim != 2 or len(times) != len(values) or len(names) != values.shape[1]:
        raise StrataError(
            f"{where}: {times.shape} times, {values.shape} values and {len(names)} names do not "
            "belong together: times (t,), values (t, k), names (k,)"
        )
    if not len(times) or not names:
        raise StrataError(f"{where}: it holds no values")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        wrong = int(np.argmax(~np.isfinite(times) | np.r_[False, np.diff(times) <= 0]))
        raise StrataError(
            f"{where}: time {wrong + 1} of {len(times)} ({times[wrong]:g}) does not come after the "
            "one before it: times are seconds from the start of the audio, each once, in order"
        )
    if np.isinf(values).any():
        raise StrataError(f"{where}: infinite values; NaN, or an empty cell, stands for no value")
    return series


def _read_npz(path: Path) -> TimeSeries:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        lacking = [name for name in ("times", "values") if name not in arrays]
        if lacking:
            raise StrataError(
                f"{shown(path)}: no array {' and '.join(lacking)} among {', '.join(arrays)}"
            )
        times, values = (np.asarray(arrays[n], np.float64) for n in ("times", "values"))
        values = values[:, None] if values.ndim == 1 else values
        count = values.shape[1] if values.ndim == 2 else 0
        names = arrays["names"] if "names" in arrays else map(str, range(count))
        return TimeSeries(times, values, tuple(str(name) for name in names))


def read_tables(path: Path, key: str | None) -> dict[str, TimeSeries]:
    """The series of a table: one, under "", or with a column `key` one for each of its names."""
    with reading(path, "a table of numbers over time", "write it again, or leave it out"):
        delimiter = TABLES.get(path.suffix.casefold(), "\t")
        reader = csv.reader(decode(path).splitlines(), delimiter=delimiter)
        head = [name.strip() for name in next(reader, [])]
        required = ["time", *([key] if key else [])]
        lacking = [name for name in required if name not in head]
        if lacking or len(head) <= len(required):
            folder = ". Else give a folder with a file for each utterance" if key else ""
            raise StrataError(
                f"{shown(path)}: its first line must name a column {' and '.join(required)} and "
                f"one or more of numbers; it has {', '.join(head) or 'nothing'}{folder}"
            )
        numbers = [i for i, name in enumerate(head) if name not in required]
        names = tuple(head[i] for i in numbers)
        found: dict[str, list[list[float]]] = {}
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(head):
                raise StrataError(
                    f"{shown(path)}, line {reader.line_num}: {len(row)} cells, the first line has "
                    f"{len(head)}"
                )
            cells = (row[i] for i in (head.index("time"), *numbers))
            values = [_number(cell, path, reader.line_num) for cell in cells]
            found.setdefault(row[head.index(key)].strip() if key else "", []).append(values)
    tables = {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}
    tables = tables or {"": np.zeros((0, 1 + len(names)))}
    return {
        name: _checked(TimeSeries(t[:, 0], t[:, 1:], names), path, f", {name}" if name else "")
        for name, t in tables.items()
    }


def _number(cell: str, path: Path, line: int) -> float:
    """A cell's number, NaN for an empty one."""
    try:
        return float(cell) if cell.strip() else float("nan")
    except ValueError:
        raise StrataError(f"{shown(path)}, line {line}: {cell[:40]!r} is not a number") from None


def _read_praat(path: Path) -> TimeSeries:
    import parselmouth

    found: Any = parselmouth.read(str(path))
    if isinstance(found, parselmouth.Pitch):
        frequency = found.selected_array["frequency"]
        return _one_column(found.xs(), np.where(frequency > 0, frequency, np.nan), "f0")
    if isinstance(found, parselmouth.Intensity):
        return _one_column(found.xs(), found.values[0], "intensity")
    if isinstance(found, parselmouth.Formant):
        numbers = range(1, FORMANTS + 1)
        rows = [[found.get_value_at_time(k, t) for k in numbers] for t in found.xs()]
        names = tuple(f"f{k}" for k in numbers)
        return TimeSeries(np.asarray(found.xs()), np.array(rows).reshape(-1, FORMANTS), names)
    if found.class_name == "PitchTier":
        call = parselmouth.praat.call
        points = range(1, call(found, "Get number of points") + 1)
        times = [call(found, "Get time from index", k) for k in points]
        values = [call(found, "Get value at index", k) for k in points]
        return _one_column(times, values, "f0")
    raise StrataError(f"{shown(path)}: holds a {found.class_name}, not one of {', '.join(PRAAT)}")


def _one_column(times: Iterable[float], values: Iterable[float], name: str) -> TimeSeries:
    column = np.array([*values], dtype=np.float64)
    return TimeSeries(np.array([*times], dtype=np.float64), column[:, None], (name,))


def _read_track(path: Path) -> TimeSeries:
    """A track of the Edinburgh Speech Tools; frames that are not valid have no value."""
    head, found, body = path.read_bytes().partition(b"EST_Header_End")
    if not head.startswith(TRACK) or not found:
        raise StrataError(
            f"{shown(path)}: neither {', '.join(PLAIN)} nor a track of the Edinburgh Speech Tools"
        )
    entries = [line.split(maxsplit=1) for line in head.decode("latin-1").splitlines()]
    fields = {entry[0]: entry[1].strip() for entry in entries if len(entry) == 2}
    frames, channels = (int(fields[name]) for name in ("NumFrames", "NumChannels"))
    names = tuple(fields.get(f"Channel_{k}", str(k)) for k in range(channels))
    body = body.partition(b"\n")[2]
    if fields.get("DataType") == "binary":
        order = ">" if fields.get("ByteOrder") in ("10", "BigEndian") else "<"
        numbers: NDArray[np.floating] = np.frombuffer(body, np.dtype(f"{order}f4"))
    else:
        numbers = np.array(re.sub(rb";[^\n]*", b"", body).split(), dtype=np.float64)
    if numbers.size != frames * (channels + 2):
        raise StrataError(
            f"{shown(path)}: {numbers.size} numbers where its header announces {frames} frames of "
            f"a time, a mark and {channels} channels: cut short, or of another kind"
        )
    table = numbers.reshape(frames, channels + 2).astype(np.float64)
    return TimeSeries(table[:, 0], np.where(table[:, 1:2] > 0, table[:, 2:], np.nan), names)


def chosen(series: TimeSeries, names: Sequence[str], path: object) -> TimeSeries:
    """Some of the columns, in the order in which they are asked for."""
    lacking = [name for name in names if name not in series.names]
    if lacking:
        raise StrataError(
            f"{shown(path)}: no column {', '.join(lacking)} among {', '.join(series.names)}"
        )
    at = [series.names.index(name) for name in names]
    return TimeSeries(series.times, series.values[:, at], tuple(names))
