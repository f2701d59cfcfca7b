"""What the page is given: plain data, no markup. The page's script makes text and charts of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from analysis.plots import COLOURS, HEADINGS, MARKERS, groups_of
from analysis.report.advice.advise import summary
from analysis.report.advice.wording import Advice
from analysis.report.gather import Gathered
from analysis.report.run_folders import Run
from analysis.report.tables import Matrix, curves_of, errors_of, matrices_of, series_of, split_frame
from common.results.results import git_commit

CONFIG_BYTES = 1_000_000  # of all runs' configurations together; beyond it they stay in the runs
# Of a run's configuration: machine, folders, and what the task did not use.
NOT_SHOWN = ("paths", "tracking", "pretrain", "report", "steps", "snapshots", "clear", "cache")
CURVE = (
    *("series", "model", "dataset", "partition", "experiment", "metric", "primary", "control"),
    *("layer", "part", "layer_index", "target", "depth", "mean", "std", "count", "low", "high"),
    "rankable",
)
POINT = (
    *("model", "dataset", "partition", "experiment", "metric", "primary", "train_dataset"),
    *("subset", "reinit_top", "seed", "value", "low", "high", "n", "run"),
)
MEAN = (
    *("model", "dataset", "partition", "experiment", "metric", "primary", "train_dataset"),
    *("subset", "reinit_top", "mean", "seeds", "low", "high"),
)


def page_content(gathered: Gathered, advice: Sequence[Advice]) -> dict[str, Any]:
    """All data of the page."""
    scores, pairs, errors = split_frame(gathered.frame)
    curves = curves_of(scores)
    means = errors_of(errors)
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git_commit(),
        "rows": len(gathered.frame),
        "advice": [describe_advice(one) for one in advice],
        "summaries": summaries(advice),
        "series": styles(series_of(gathered.frame, curves)),
        "curves": table(curves, CURVE),
        "groups": groups(curves, gathered.asks),
        "matrices": [describe_matrix(one) for one in matrices_of(pairs)],
        "points": table(errors, POINT),
        "means": table(means, MEAN),
        "runs": describe_runs(gathered),
        "left_out": [asdict(one) for one in gathered.left_out],
        "duplicates": dict(gathered.duplicates),
        "notes": list(gathered.notes),
    }


def groups(curves: pd.DataFrame, asks: Mapping[str, str]) -> list[dict[str, object]]:
    """Experiments under the heading of what they ask, as in `analysis.plots.plot_layers`."""
    names = [] if curves.empty else list(dict.fromkeys(curves["experiment"]))
    return [
        {"heading": HEADINGS[question], "experiments": members}
        for question, members in groups_of(names, asks).items()
    ]


def describe_advice(advice: Advice) -> dict[str, object]:
    """A piece of advice with the means of its small curves to seven figures."""
    figures = [
        asdict(one) | {"means": [plain(mean) for mean in one.means]} for one in advice.figures
    ]
    return asdict(advice) | {"figures": figures}


def summaries(advice: Sequence[Advice]) -> list[dict[str, str]]:
    """What the measures of each model and dataset agree on; none where they do not."""
    found = []
    for model, dataset in dict.fromkeys((one.model, one.dataset) for one in advice):
        text = summary(one for one in advice if (one.model, one.dataset) == (model, dataset))
        if text:
            found.append({"model": model, "dataset": dataset, "text": text})
    return found


def styles(series: Sequence[str]) -> list[dict[str, object]]:
    """Colour, marker and dash of each series, as numbers: the page has its own for light and dark.

    Every seventh series has the same colour again, with another marker and dash.
    """
    return [
        {
            "name": name,
            "colour": k % len(COLOURS),
            "marker": (k + k // len(COLOURS)) % len(MARKERS),
            "dash": (k + k // len(COLOURS)) % 4,
        }
        for k, name in enumerate(series)
    ]


def table(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, object]:
    """Columns and rows; numbers to seven figures, nothing for what is missing."""
    if frame.empty:
        return {"columns": list(columns), "rows": []}
    rows = frame[list(columns)].astype(object).to_numpy().tolist()
    return {"columns": list(columns), "rows": [[plain(value) for value in row] for row in rows]}


def plain(value: object) -> object:
    """A value as JSON has it; NaN, NA and infinities are null."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def describe_matrix(matrix: Matrix) -> dict[str, object]:
    """A matrix as lists."""
    values = matrix.values
    names = ("model", "other", "dataset", "partition", "experiment", "metric")
    return {name: getattr(matrix, name) for name in names} | {
        "layers": [str(layer) for layer in values.index],
        "others": [str(target).rpartition(":")[2] for target in values.columns],
        "values": [[plain(value) for value in row] for row in values.to_numpy().tolist()],
    }


def describe_runs(gathered: Gathered) -> list[dict[str, object]]:
    """Each run: what it is, the command that repeats it, and what it dropped."""
    shown = {run.name: configuration(run) for run in gathered.runs}
    small = sum(len(str(config)) for config in shown.values()) < CONFIG_BYTES
    return [
        describe_run(run, gathered.frame) | {"config": shown[run.name] if small else None}
        for run in gathered.runs
    ]


def describe_run(run: Run, frame: pd.DataFrame) -> dict[str, object]:
    """One run: its models, datasets, settings and origin."""
    rows = frame[frame["run"] == run.name]
    return {
        "name": run.name,
        "models": sorted(set(rows["model"])),
        "datasets": sorted(set(rows["dataset"])),
        "experiments": list(dict.fromkeys(rows["experiment"])),
        "metrics": list(dict.fromkeys(rows["metric"])),
        "rows": len(rows),
        "written": datetime.fromtimestamp(run.written, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "overrides": list(run.overrides),
        "commit": ", ".join(sorted(set(map(str, rows["git_commit"])))),
        "revision": ", ".join(sorted(set(map(str, rows["revision"])))),
        "config_key": ", ".join(sorted(set(map(str, rows["config_key"])))),
        "versions": run.metadata.get("versions"),
        "dropped": dropped(run.metadata),
    }


def configuration(run: Run) -> dict[str, object]:
    """A run's configuration without what does not affect its numbers."""
    without = NOT_SHOWN if run.config.get("task") == "ctc" else (*NOT_SHOWN, "finetune")
    return {key: value for key, value in run.config.items() if key not in without}


def dropped(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Every count that the metadata has under a key `dropped`, by where it was; zeros left away."""
    found: dict[str, int] = {}
    _collect(metadata, "", found)
    return dict(sorted(found.items()))


def _collect(node: object, place: str, found: dict[str, int]) -> None:
    items: list[tuple[str, object]] = []
    if isinstance(node, dict):
        items = [(str(key), value) for key, value in node.items() if key != "config"]
    elif isinstance(node, list):
        items = [(place, value) for value in node]
    for key, value in items:
        if key == "dropped" and isinstance(value, dict):
            for reason, count in value.items():
                if count and isinstance(count, int):
                    name = f"{place}: {reason}" if place else str(reason)
                    found[name] = max(found.get(name, 0), count)
        else:
            _collect(value, key, found)
