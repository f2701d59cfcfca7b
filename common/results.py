"""Rows, table and metadata of a run, in its folder."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

RESULTS = "results.csv"
METADATA = "metadata.json"
ROOT = Path(__file__).resolve().parents[1]
# What does not change a number, or what a row says already.
NOT_IN_KEY = (
    "name",
    "layers",
    "device",
    "cache",
    "clear",
    "tracking",
    "paths",
    "pretrain",
    "snapshots",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One score: one model, dataset, experiment, metric, layer, sample and trial.

    `layer_index` counts C1 … as 1 …, T0 as 0, and `part` says which of the two. `trial` is None
    for metrics that have no trials. `n` units of `dim` columns entered.
    """

    model: str
    dataset: str
    partition: str
    experiment: str
    unit: str
    target: str
    metric: str
    split: str
    layer: str
    layer_index: int
    part: str
    sample: int
    trial: int | None
    value: float
    n: int
    dim: int
    seed: int
    revision: str
    config_key: str
    git_commit: str


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per row, columns as in `Row`."""
    frame = pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Row)])
    return frame.astype({"trial": "Int64"})


def read_results(folder: Path) -> pd.DataFrame:
    """The rows of a finished run."""
    return pd.read_csv(folder / RESULTS, dtype={"trial": "Int64"})


def write_results(folder: Path, frame: pd.DataFrame, metadata: Mapping[str, object]) -> list[Path]:
    """results.csv and metadata.json, whole or not at all."""
    paths = [folder / RESULTS, folder / METADATA]
    text = json.dumps(metadata, indent=1, default=_plain)
    for path, content in zip(paths, (frame.to_csv(index=False), text), strict=True):
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    return paths


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over samples and trials of every layer and experiment.

    One score alone has no deviation (NaN).
    """
    keys = ["model", "experiment", "metric", "part", "layer_index", "layer"]
    grouped = frame.groupby(keys, sort=False)["value"]
    return grouped.agg(["mean", "std", "count"]).reset_index()


def print_table(frame: pd.DataFrame, title: str) -> None:
    """Layers down, experiments across; the best layer of each experiment is marked."""
    summary = summarise(frame)
    experiments = list(dict.fromkeys(summary["experiment"]))
    best = summary.loc[summary.groupby("experiment")["mean"].idxmax(), ["experiment", "layer"]]
    starred = set(best.itertuples(index=False, name=None))
    cells = {
        (row.experiment, row.layer): _cell(
            row.mean, row.std, (row.experiment, row.layer) in starred
        )
        for row in summary.itertuples()
    }
    table = Table(title=title)
    table.add_column("layer")
    for name in experiments:
        table.add_column(name, justify="right", no_wrap=True)
    ordered = summary.sort_values(["part", "layer_index"])["layer"]
    for layer in dict.fromkeys(ordered):
        table.add_row(layer, *(cells.get((name, layer), "") for name in experiments))
    # A pipe has no width: do not let lines be cut there.
    console = Console()
    if not console.is_terminal:
        console = Console(width=24 + 20 * len(experiments))
    console.print(table)
    console.print("mean ± standard deviation over samples and trials; * best layer", soft_wrap=True)


def _cell(mean: float, std: float, best: bool) -> str:
    deviation = "" if np.isnan(std) else f" ± {std:.3f}"
    return f"{mean:.3f}{deviation}{'*' if best else ' '}"


def config_key(raw: Mapping[str, Any]) -> str:
    """Hash of the configuration, without what cannot change a number."""
    kept = {key: value for key, value in raw.items() if key not in NOT_IN_KEY}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def git_commit() -> str:
    """Commit of this checkout, with a + where files differ from it; "unknown" outside git."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    packages = ("numpy", "scipy", "torch", "transformers", "hydra-core")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
