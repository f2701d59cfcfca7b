"""The task `growth`: the layer curves of a model at every snapshot of its pretraining."""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from rich.table import Table

from analysis import experiment
from analysis.plots import (
    TITLE_PAD,
    groups_of,
    lay_out_layers,
    least_scale,
    pages_of,
    plot_controls,
    save_pages,
    widen,
)
from common.config import Config
from common.processes import ALONE, Processes
from common.records import StrataError
from common.results import results
from common.results.score_table import console_for
from common.tables import csv_of

log = logging.getLogger(__name__)

TABLE = "growth.csv"  # the rows of every step's results.csv, and the step
SNAPSHOT = re.compile(r"step_(\d+)")


def run(config: Config, folder: Path, raw: Mapping[str, Any], processes: Processes = ALONE) -> None:
    """Analyse random weights (step 0) and every snapshot; write all rows and one picture."""
    snapshots = find_snapshots(Path(str(config.snapshots)))
    steps = {0: replace(config.model, random_init=True)} | {
        step: replace(config.model, checkpoint=str(path.resolve()), random_init=False)
        for step, path in snapshots.items()
    }
    frames = []
    for step, model in steps.items():
        log.info("%s after %d steps", config.model.name, step)
        snapshot_folder = folder / f"step_{step:06d}"
        if processes.leads:
            snapshot_folder.mkdir(exist_ok=True)
        controls = config.controls and step == max(steps)  # step 0 has random weights already
        snapshot_config = replace(config, model=model, controls=controls)
        experiment.run(snapshot_config, snapshot_folder, raw, processes)
        if processes.leads:
            frames.append(results.read_results(snapshot_folder).assign(step=step))
    if not processes.leads:
        return
    rows = pd.concat(frames)
    (folder / TABLE).write_text(csv_of(rows), encoding="utf-8")
    print_growth(rows, config.model.name)
    asks = {name: analysis.asks for name, analysis in config.experiments.items()}
    for path in (folder / TABLE, *plot_growth(rows, folder, config.model.name, asks)):
        print(path)


def find_snapshots(folder: Path) -> dict[int, Path]:
    """Folders named step_000120, … by their step, in order."""
    found = {
        int(match[1]): path
        for path in sorted(folder.glob("step_*"))
        if (match := SNAPSHOT.fullmatch(path.name))
    }
    if not found:
        held = ", ".join(sorted(p.name for p in folder.glob("*"))[:5]) or "nothing"
        raise StrataError(
            f"snapshots={folder}: no folder step_… there (it holds: {held}); give the folder "
            "`snapshots` of a run of experiment=pretrain"
        )
    return dict(sorted(found.items()))


def print_growth(rows: pd.DataFrame, title: str) -> None:
    """Steps down, experiments across: each one's best layer (see `common.results.best_of`)."""
    table = Table(title=f"{title}: best layer by training step")
    table.add_column("step", justify="right")
    names = list(dict.fromkeys(rows["experiment"]))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for step, figures in results.primary_scores(rows).groupby("step"):
        best = {
            row.experiment: row for row in results.best_of(results.summarise(figures)).itertuples()
        }
        cells = (f"{best[n].mean:.3f} ({best[n].layer})" if n in best else "" for n in names)
        table.add_row(str(step), *cells)
    console_for(24 + 20 * len(names)).print(table)


def plot_growth(
    rows: pd.DataFrame, folder: Path, title: str, asks: Mapping[str, str]
) -> list[Path]:
    """Write growth.png and growth.svg: a panel for each experiment, a curve for each snapshot.

    Laid out on pages by what the experiments ask, as in `analysis.plots.plot_layers`.
    """
    groups = groups_of(dict.fromkeys(rows["experiment"]), asks)
    pages = pages_of(groups, f"{title}: layer curves as it learns")
    for page in pages:
        for name, (axes, _) in page.panels.items():
            plot_panel(axes, name, rows[rows["experiment"] == name])
        handles, labels = axes.get_legend_handles_labels()
        page.figure.legend(handles, labels, title="step", loc="outside right center", frameon=False)
    return save_pages(pages, folder / "growth")


def plot_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """An experiment's curves, from dark (first) to bright (last); controls in grey."""
    held = results.summarise(rows[rows["control"].isin(["", "mel"]) & rows["primary"]])
    rows = results.primary_scores(rows)
    steps = sorted(rows["step"].unique())
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, max(1, len(steps) - 1)))
    positions: dict[str, int] = {}
    for k, step in enumerate(steps):
        curve = results.summarise(rows[rows["step"] == step]).sort_values(["part", "layer_index"])
        positions = {layer: x for x, layer in enumerate(curve["layer"])}
        colour = "0.6" if step == 0 else colours[k - 1]
        for number, (_, part) in enumerate(curve.groupby("part")):
            x = [positions[layer] for layer in part["layer"]]
            label = None if number else str(step) if step else "0 (random)"
            axes.plot(x, part["mean"], color=colour, marker="o", markersize=4, label=label)
            low, high = part["mean"] - part["std"].fillna(0), part["mean"] + part["std"].fillna(0)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(name, loc="left", fontsize=11, pad=TITLE_PAD)
    axes.set_ylabel(str(rows["metric"].iloc[0]))
    lay_out_layers(axes, positions)
    plot_controls(axes, held, positions)
    widen(
        axes,
        max(least_scale(results.summarise(step_rows)) for _, step_rows in rows.groupby("step")),
    )
