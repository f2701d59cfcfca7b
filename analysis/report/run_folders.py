"""Folders of runs: where they are, what each holds, and why one cannot be read."""

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from common.records import StrataError
from common.results.results import LATER_COLUMNS, METADATA, RESULTS, Row, read_results

T = TypeVar("T", dict[str, Any], list[Any])

CONFIG = Path(".hydra", "config.yaml")
OVERRIDES = Path(".hydra", "overrides.yaml")
LOG = "run.log"
WITH_ROWS = ("analysis", "ctc")  # tasks that leave a results.csv in their own folder
COLUMNS = tuple(f.name for f in fields(Row))
# Columns of names and of whole numbers that no row is without.
NAMES = ("model", "dataset", "partition", "experiment", "unit", "target", "metric", "split")
NUMBERS = ("layer_index", "sample", "n", "dim", "seed")
FLOATS = ("value", "low", "high")
TYPES = dict.fromkeys(NAMES, "str") | dict.fromkeys(NUMBERS, "int64")
TYPES |= dict.fromkeys(FLOATS, "float64") | {"primary": "bool"}
FAILURE = re.compile(r"\[ERROR\] - (.*)")


@dataclass(frozen=True)
class Run:
    """A run that has results. `name`: its folder, relative to what all runs have in common."""

    name: str
    folder: Path
    frame: pd.DataFrame = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    written: float
    overrides: tuple[str, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration."""
        config = self.metadata.get("config")
        return config if isinstance(config, dict) else {}


@dataclass(frozen=True)
class LeftOut:
    """What a report does not show: a run, or an experiment of a run, and the reason."""

    run: str
    what: str
    why: str


def find_folders(patterns: Sequence[str]) -> list[Path]:
    """Every folder of a run below what the patterns name, in order."""
    found: dict[Path, None] = {}
    seen: set[Path] = set()
    for pattern in patterns:
        named = str(Path(pattern).expanduser())
        # A folder's name may look like a pattern to glob (`[seed 1]`); pathlib takes no absolute
        # pattern.
        matches = glob.glob(named, recursive=True)  # noqa: PTH207
        for match in [named] if Path(named).exists() else sorted(matches):
            path = Path(match)
            top = path if path.is_dir() else path.parent if path.name == RESULTS else None
            if top is not None:
                found |= dict.fromkeys(_below(top.resolve(), seen))
    return list(found)


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Folders of runs in a folder and below it that were not met before."""
    for place, inner, files in os.walk(folder):
        path = Path(place)
        if path in seen:
            inner.clear()
            continue
        seen.add(path)
        if RESULTS in files or METADATA in files or ".hydra" in inner or _is_step(path):
            yield path
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _is_step(folder: Path) -> bool:
    """A folder that a run of several steps, or of several snapshots, made for one of them."""
    parent = _yaml(folder.parent / CONFIG, dict)
    if parent.get("task") == "steps":
        return folder.name in parent.get("steps", {})
    return parent.get("task") == "growth" and folder.name.startswith("step_")


def read_runs(patterns: Sequence[str]) -> tuple[list[Run], list[LeftOut]]:
    """Every run that can be read, and the others with the reason; none at all is an error."""
    folders = find_folders(patterns)
    root = os.path.commonpath(folders) if len(folders) > 1 else ""
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for folder in folders:
        name = os.path.relpath(folder, root) if root else folder.name
        name = folder.name if name == "." else name
        try:
            run = read_run(folder, name)
        except StrataError as error:
            left_out.append(LeftOut(name, "the whole run", str(error)))
            continue
        if run is not None:
            runs.append(run)
            left_out += left_out_of(run)
    if not runs:
        raise StrataError(_nothing(patterns, folders, left_out))
    return runs, left_out


def _nothing(patterns: Sequence[str], folders: Sequence[Path], left_out: Sequence[LeftOut]) -> str:
    where = ", ".join(patterns)
    first = "run an analysis first (python run.py, or experiment=paper model=…)"
    if not folders:
        return (
            f"report.runs={where}: no run there (searched from {Path.cwd()} for folders with "
            f"{RESULTS} or .hydra); {first}, or name the folder that holds your runs"
        )
    reasons = "; ".join(f"{one.run}: {one.why}" for one in left_out[:5])
    more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
    what = f": {reasons}{more}" if reasons else ", and none of a task that gives scores"
    return f"report.runs={where}: {len(folders)} folders of runs, none to report{what}; {first}"


def read_run(folder: Path, name: str) -> Run | None:
    """A run's rows and its metadata; None for a task that gives no scores."""
    path = folder / RESULTS
    if not path.exists():
        require_no_results(folder)
        return None
    frame = _read_rows(path)
    metadata = _read_metadata(folder / METADATA)
    overrides = _yaml(folder / OVERRIDES, list) or _yaml(folder.parent / OVERRIDES, list)
    return Run(name, folder, frame, metadata, path.stat().st_mtime, tuple(map(str, overrides)))


def require_no_results(folder: Path) -> None:
    """Raise, and say why, unless a folder is of a task without results of its own."""
    config = _yaml(folder / CONFIG, dict)
    if (folder / CONFIG).exists() and not config:
        raise StrataError(f"half-written: its {CONFIG} cannot be read")
    if not config and (folder / METADATA).exists():
        config = dict(_read_metadata(folder / METADATA).get("config", {}))
    task = config.get("task")
    steps = {} if config else _yaml(folder.parent / CONFIG, dict).get("steps", {})
    step = steps.get(folder.name)
    if task in WITH_ROWS or step in WITH_ROWS or (not config and step is None):
        log = folder / LOG if (folder / LOG).exists() else folder.parent / LOG
        failed = FAILURE.findall(_text(log))
        why = f"it failed: {failed[-1]}" if failed else "it was killed, or is still running"
        raise StrataError(f"half-written: it has no {RESULTS} ({why})")


def _read_rows(path: Path) -> pd.DataFrame:
    """The rows, if this version knows all of their columns and they all those it needs."""
    try:
        columns = list(pd.read_csv(path, nrows=0).columns)
        missing = [c for c in COLUMNS if c not in columns and c not in LATER_COLUMNS]
        unknown = [c for c in columns if c not in COLUMNS]
        if missing:
            raise StrataError(
                f"{RESULTS} lacks the columns {', '.join(missing)}: an older version of Strata "
                "wrote it, or another program; run it again"
            )
        if unknown:
            raise StrataError(
                f"{RESULTS} has columns that this version does not know ({', '.join(unknown)}): "
                "a newer version of Strata wrote it; make the report with that one"
            )
        frame = read_results(path.parent).astype(TYPES)
        _require_whole(frame)
    except StrataError:
        raise
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise StrataError(f"{RESULTS} cannot be read: {_first_line(error)}") from None
    if frame.empty:
        raise StrataError(f"{RESULTS} has no rows: nothing was scored")
    return frame


def _require_whole(frame: pd.DataFrame) -> None:
    """Raise where a cell that every row has is empty."""
    for column in (*NAMES, *NUMBERS):
        empty = frame[column].isna() | (frame[column].astype(str) == "nan")
        if empty.any():
            raise StrataError(
                f"{RESULTS} has no {column} in {int(empty.sum())} of {len(frame)} rows, the first "
                f"in line {int(empty.argmax()) + 2}: damaged; run it again"
            )


def _read_metadata(path: Path) -> Mapping[str, Any]:
    """metadata.json, which says what a run may be compared with."""
    try:
        text = path.read_text(encoding="utf-8")
        metadata = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        raise StrataError(
            f"half-written: no {METADATA} beside its {RESULTS}, so what it may be compared with "
            "is not known; run it again"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StrataError(f"{METADATA} cannot be read: {_first_line(error)}") from None
    if not isinstance(metadata, dict):
        raise StrataError(f"{METADATA} holds no mapping")
    return metadata


def _finite(text: str) -> float | None:
    """A number; None where it is not finite, which JSON cannot hold."""
    value = float(text)
    return value if isfinite(value) else None


def left_out_of(run: Run) -> list[LeftOut]:
    """Experiments of a run without rows, or with speech missing, and the reasons."""
    reasons: dict[str, str] = {}
    for key in ("left_out", "not_scored"):
        stated = run.metadata.get(key)
        reasons |= {str(k): str(v) for k, v in stated.items()} if isinstance(stated, dict) else {}
    scored = set(run.frame["experiment"])
    configured = run.config.get("experiments")
    for name in configured if isinstance(configured, dict) else ():
        if name not in scored and scored != {"ctc"}:  # a training scores none of them
            reasons.setdefault(str(name), "the run has no row of it and does not say why")
    unread = run.metadata.get("not_complete")
    return [LeftOut(run.name, what, why) for what, why in reasons.items() if what not in scored] + [
        LeftOut(run.name, f"{len(ids)} utterances of {name}", "NOT COMPLETE: could not be read")
        for name, ids in (unread.items() if isinstance(unread, dict) else ())
    ]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _yaml(path: Path, kind: type[T]) -> T:
    """A file's mapping or list; an empty one where it is damaged or holds something else."""
    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError:
        return kind()
    return content if isinstance(content, kind) else kind()
