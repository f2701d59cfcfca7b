"""Rows, table and metadata of a run, in its folder."""

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.tables import csv_of, without_apostrophes
from common.timing import Stopwatch, peak_memory_bytes

Figure = float | list[float] | None  # what a sweeper maximises or minimises

RESULTS = "results.csv"
METADATA = "metadata.json"
CONTROLS = ("mel", "comb", "random_weights", "shuffled_labels", "permuted_table")
WITHOUT_LAYERS = ("mel", "comb")  # controls that are one level, not a curve over layers
# Measures whose level depends on how many columns a view has.
BY_WIDTH = ("pwcca", "pwcca_published", "mean_cca", "svcca", "cka")
LAYER = re.compile(r"(^|:)[CT]\d+$")  # a target that is a layer, of this model or of another
ROOT = Path(__file__).resolve().parents[2]
# Columns of Row that older results lack.
LATER_COLUMNS = {
    "primary": True,
    "control": "",
    "low": np.nan,
    "high": np.nan,
    "weighted": "",
    "pairs": pd.NA,
}
WHOLE = {"trial": "Int64", "pairs": "Int64"}  # whole numbers, or missing
# Former primary figures of experiments: what each is called now, and which figure replaced it.
# Both are in older results as well.
EARLIER_FIGURES = {
    "mutual_information": ("pnmi", "mutual_information_adjusted"),
    "boundary_f1": ("boundary_f1", "boundary_r_value"),
}
RENAMED = {"mutual_information_shuffled": "pnmi_shuffled"}
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
    "finetune",
    "recognition",
    "steps",
    "snapshots",
    "report",
    "features",
    "units",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One score: one model, dataset, experiment, metric, layer, sample and trial.

    `layer_index` counts C1 … as 1 …, T0 as 0, and `part` says which of the two. `trial` is None
    for metrics that have no trials. `n` units of `dim` columns entered. `primary`: the
    experiment's primary figure, not a secondary one. `control`: "" for the experiment itself, else
    one of `CONTROLS`. `low` and `high`: a 95 % interval, or None.
    `weighted`: which view's columns weigh a CCA's directions, "layer" or "target"; "" where a
    metric does not weigh, and in older runs. `pairs`: the number of pairs behind a rank
    correlation; None for other metrics, and in older runs.
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
    primary: bool = True
    control: str = ""
    low: float | None = None
    high: float | None = None
    weighted: str = ""
    pairs: int | None = None


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per row, columns as in `Row`."""
    frame = pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Row)])
    return frame.astype(WHOLE | {"low": "float64", "high": "float64"})


def read_results(folder: Path) -> pd.DataFrame:
    """The rows of a finished run; columns that an older run lacks have their defaults."""
    words = dict.fromkeys(("control", "layer", "part", "weighted"), "str")
    frame = without_apostrophes(pd.read_csv(folder / RESULTS, dtype=WHOLE | words))
    for column, default in LATER_COLUMNS.items():
        if column not in frame:
            frame[column] = default
    frame = frame.astype(WHOLE)
    frame = frame.fillna(dict.fromkeys(words, ""))[[f.name for f in fields(Row)]]
    return _with_figures_of_today(frame)


def _with_figures_of_today(frame: pd.DataFrame) -> pd.DataFrame:
    """Older rows under today's names of figures, today's primary figure of an experiment marked.

    An experiment without the figure of today keeps its own one.
    """
    frame = frame.assign(metric=frame["metric"].replace(RENAMED))
    for earlier, (name, current) in EARLIER_FIGURES.items():
        older = frame.loc[(frame["metric"] == earlier) & frame["primary"], "experiment"].unique()
        rows = frame["experiment"].isin(older)
        known = frame.loc[rows & (frame["metric"] == current), "experiment"].unique()
        changed = frame["experiment"].isin(known)
        frame.loc[changed & (frame["metric"] == current), "primary"] = True
        frame.loc[changed & (frame["metric"] == earlier), "primary"] = False
        frame.loc[rows & (frame["metric"] == earlier), "metric"] = name
    return frame


def write_results(folder: Path, frame: pd.DataFrame, metadata: Mapping[str, object]) -> list[Path]:
    """results.csv and metadata.json, whole or not at all."""
    paths = [folder / RESULTS, folder / METADATA]
    text = json.dumps(metadata, indent=1, default=_plain)
    for path, content in zip(paths, (csv_of(frame), text), strict=True):
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    return paths


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def primary_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the experiments' primary figures, controls and secondary figures left out."""
    return frame[frame["primary"] & (frame["control"] == "")]


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over samples and trials of every layer, experiment and control.

    Each target of a layer has a line of its own, where it has several (see `pairwise`). One score
    alone has no deviation (NaN); `low` and `high` are means of intervals, NaN if none; `weighted`
    names both sides where trials or samples differ.
    """
    series = ["model", "experiment", "metric", "primary", "control"]
    grouped = frame.groupby([*series, "part", "layer_index", "layer", "target"], sort=False)
    summary = grouped["value"].agg(["mean", "std", "count"])
    sides = grouped["weighted"].agg(lambda values: " ".join(sorted(set(values))))
    return summary.join([grouped[["low", "high"]].mean(), sides]).reset_index()


def incomparable(frame: pd.DataFrame) -> dict[str, str]:
    """Experiments whose layers, or mel, are weighed on different sides, and which are which."""
    reasons = {}
    rows = frame[frame["primary"] & (frame["weighted"] != "")]
    for name, scores in rows.groupby("experiment", sort=False):
        who = scores["layer"].groupby(scores["weighted"], sort=False).unique()
        if len(who) > 1:
            sides = (f"{_span(layers)} by the {side}'s columns" for side, layers in who.items())
            reasons[str(name)] = f"weighed {', '.join(sides)}: not comparable"
    return reasons


def reason_lines(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason: the experiments that have it, then the reason."""
    names = {
        why: [n for n, experiments in reasons.items() if experiments == why]
        for why in reasons.values()
    }
    return [f"{', '.join(experiments)}: {why}" for why, experiments in names.items()]


def unlike_widths(frame: pd.DataFrame) -> dict[str, str]:
    """Experiments scored by a measure whose level depends on the width of a view, where it differs.

    Between models, or between a model and mel; layers of one model are comparable
    (benchmarks/width.py).
    """
    reasons = {}
    rows = frame[frame["primary"] & frame["metric"].isin(BY_WIDTH)]
    rows = rows[(rows["part"] == "transformer") | (rows["control"] == "mel")]
    for name, scores in rows.groupby("experiment", sort=False):
        who = scores["model"].where(scores["control"] != "mel", "mel")
        widths = scores["dim"].groupby(who, sort=False).max()
        if widths.nunique() > 1:
            columns = ", ".join(f"{key} {width}" for key, width in widths.items())
            reasons[str(name)] = (
                f"views of different width ({columns} columns), on which the level of "
                f"{scores['metric'].iloc[0]} depends"
            )
    return reasons


def directions(frame: pd.DataFrame) -> dict[str, str]:
    """Experiments of layers against layers, and which of the two weighs: PWCCA is asymmetric."""
    reasons = {}
    between = frame["target"].map(lambda target: bool(LAYER.search(str(target))))
    rows = frame[frame["primary"] & between & (frame["weighted"] != "")]
    for name, scores in rows.groupby("experiment", sort=False):
        sides = {"layer": "the layer's", "target": f"{scores['target'].iloc[0]}'s"}
        used = " or ".join(sides[side] for side in dict.fromkeys(scores["weighted"]))
        reasons[str(name)] = f"weighed by {used} columns; the other way round gives other scores"
    return reasons


def _span(layers: Sequence[str]) -> str:
    """Names of layers; of many the first and the last."""
    return ", ".join(layers) if len(layers) < 4 else f"{layers[0]} … {layers[-1]}"


def pairwise(frame: pd.DataFrame) -> list[str]:
    """Experiments that compare a layer with several targets: they make a matrix, not a curve.

    Several of one run: another model may have been compared with something else.
    """
    run = ["config_key", "model", "revision", "dataset", "partition"]
    uncontrolled = frame[frame["control"] == ""]
    targets = uncontrolled.groupby([*run, "experiment", "layer"], sort=False)["target"]
    several = targets.nunique() > 1
    return list(dict.fromkeys(several[several].index.get_level_values("experiment")))


def besides_reference(frame: pd.DataFrame) -> pd.DataFrame:
    """Lines of rows or of a summary without a layer that its experiment compares with itself.

    Such a score is 1 by construction, whatever the layer holds: T0 of cca_intra is no best layer.
    """
    return frame[frame["layer"] != frame["target"]]


def rankable(summary: pd.DataFrame) -> pd.DataFrame:
    """Lines of a summary that can be held against each other, so that one may be called best.

    Not a layer that is its own target (`besides_reference`). Of a curve whose layers are weighed on
    different sides, only the layers on the side of most of them; on a tie on that of the deepest.
    """
    others = besides_reference(summary)
    if others["weighted"].nunique() <= 1:
        return others
    keys = ("dataset", "partition", "series", "model", "experiment", "metric")
    kept = [
        curve[curve["weighted"].isin(["", _side_of_most(curve)])]
        for _, curve in others.groupby([key for key in keys if key in others], sort=False)
    ]
    return others[others.index.isin(pd.concat(kept).index)] if kept else others


def _side_of_most(lines: pd.DataFrame) -> str:
    """The side on which most layers of a curve are weighed; of the model's own, if any are."""
    scored = lines[lines["control"] == ""]
    scored = (scored if len(scored) else lines).sort_values(["part", "layer_index"])
    counts = scored["weighted"].value_counts()
    most = counts[counts == counts.max()].index
    return str(scored.loc[scored["weighted"].isin(most), "weighted"].iloc[-1])


def best_of(summary: pd.DataFrame) -> pd.DataFrame:
    """For every experiment the row of its best layer, among those that are `rankable`.

    None where nothing else was scored.
    """
    others = rankable(summary)
    return others.loc[others.groupby("experiment", sort=False)["mean"].idxmax()]


def best_scores(frame: pd.DataFrame) -> Figure:
    """The best layer's mean score, in a list where several experiments have one; None without."""
    scores = best_of(summarise(primary_scores(frame)))["mean"].tolist() if len(frame) else []
    return scores[0] if len(scores) == 1 else scores or None


def config_key(raw: Mapping[str, Any], also: Sequence[str] = ()) -> str:
    """Hash of the configuration without what cannot change a number; `also` keys of a task can."""
    kept = {key: value for key, value in raw.items() if key not in NOT_IN_KEY or key in also}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe_process(watch: Stopwatch, processes: int = 1) -> dict[str, object]:
    """What a run took, and what ran it, for the metadata; of several processes the first one."""
    return {
        "processes": processes,
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": versions(),
        "git_commit": git_commit(),
    }


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
