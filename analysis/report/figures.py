"""Figures for a paper, as wide as a column: curves, heat maps, matrices, error rates."""

import re
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.plots import (
    COLOURS,
    CONTROL_DASHES,
    DASHES,
    GREY,
    MARKERS,
    colour_limits,
    groups_of,
    lay_out_layers,
    least_scale,
    plot_band,
    save,
    thin_ticks,
    widen,
)
from analysis.report.content import styles
from analysis.report.tables import (
    PLACE,
    Matrix,
    curves_of,
    errors_of,
    matrices_of,
    series_of,
    split_frame,
)
from common.results.results import WITHOUT_LAYERS

LONGEST = 46  # characters of a name that a column has room for
DPI = 300
BAR = 0.8  # points: width of a 95 % interval
COLUMN = 3.35  # inches: the width of a column in a two-column paper
LOOK: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "text.parse_math": False,  # a $ in a name is a $
}
Style = Mapping[str, Any]


def plot_report(frame: pd.DataFrame, folder: Path, asks: Mapping[str, str]) -> list[Path]:
    """A PNG and an SVG for each experiment, model, pair of models and error rate; their paths.

    Experiments come in the order of what they ask (`analysis.plots.plot_layers`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores, pairs, errors = split_frame(frame)
    curves = curves_of(scores)
    styled = {str(one["name"]): one for one in styles(series_of(frame, curves))}
    if len(curves):
        order = [
            n
            for members in groups_of(curves["experiment"].unique(), asks).values()
            for n in members
        ]
        curves = curves.sort_values("experiment", key=lambda n: n.map(order.index), kind="stable")
    figures: list[tuple[str, Figure]] = []
    with mpl.rc_context(LOOK):
        figures += [] if curves.empty else curve_figures(curves, styled)
        figures += [] if curves.empty else heat_figures(curves)
        figures += [(f"layers_{m.model}_{m.other}", matrix_figure(m)) for m in matrices_of(pairs)]
        figures += error_figures(errors, styled)
        return [path for name, made in named(figures) for path in save(made, folder / name, DPI)]


def named(figures: Sequence[tuple[str, Figure]]) -> list[tuple[str, Figure]]:
    """Names that every file system takes, each once."""
    taken: set[str] = set()
    result = []
    for name, figure in figures:
        safe = stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "figure"
        k = 1
        while safe.lower() in taken:
            k += 1
            safe = f"{stem}_{k}"
        taken.add(safe.lower())
        result.append((safe, figure))
    return result


def curve_figures(curves: pd.DataFrame, styled: Mapping[str, Style]) -> list[tuple[str, Figure]]:
    """A figure for each experiment's primary figure on each dataset."""
    shown = curves[curves["primary"]]
    several = shown.groupby("experiment")["dataset"].nunique()
    made = []
    for (dataset, partition, experiment, metric), panel in shown.groupby(PLACE, sort=False):
        scores = panel[panel["control"] == ""]
        if scores.empty:
            continue
        figure = Figure(figsize=(COLUMN, 2.35), layout="constrained")
        axes = figure.subplots()
        plot_curves(axes, panel, styled)
        axes.set_title(f"{experiment}, {dataset} ({partition})", loc="left", pad=12)
        axes.set_ylabel(metric)
        add_legend(figure, axes)
        where = f"_{dataset}_{partition}" if several[experiment] > 1 else ""
        made.append((f"{experiment}{where}", figure))
    return made


def plot_curves(axes: Axes, panel: pd.DataFrame, styled: Mapping[str, Style]) -> None:
    """The curve of each series with its band, and the controls."""
    scores = panel[panel["control"] == ""].sort_values(["part", "layer_index"])
    positions = {layer: x for x, layer in enumerate(dict.fromkeys(scores["layer"]))}
    for series, rows in scores.groupby("series", sort=False):
        style = styled[str(series)]
        colour = COLOURS[style["colour"]]
        for number, (_, part) in enumerate(rows.groupby("part")):
            x = [positions[layer] for layer in part["layer"]]
            plot_band(axes, x, part, colour, 0.2, BAR)
            axes.plot(
                x,
                part["mean"],
                DASHES[style["dash"]],
                color=colour,
                marker=MARKERS[style["marker"]],
                label=None if number else str(series),
            )
    lay_out_layers(axes, positions, fontsize=7, linewidth=0.6)
    plot_control_curves(axes, panel[panel["control"] != ""], positions, styled)
    widen(axes, least_scale(panel[panel["control"] == ""]))


def plot_control_curves(
    axes: Axes,
    controls: pd.DataFrame,
    positions: Mapping[str, int],
    styled: Mapping[str, Style],
) -> None:
    """A line and band for each control of each series; mel and comb are levels over it all.

    Grey; where several series have a control each, such as random weights of different models, in
    the series' colour, pale, with its marker and its name.
    """
    layered = controls[~controls["control"].isin(WITHOUT_LAYERS)]
    several = layered["series"].nunique() > 1
    named_already: set[str] = set()
    for (control, series, _), rows in controls.groupby(["control", "series", "part"], sort=False):
        known = rows[rows["layer"].isin(positions) | (control in WITHOUT_LAYERS)]
        if known.empty:
            continue
        name = str(control).replace("_", " ")
        if control in WITHOUT_LAYERS:
            mean, std = known["mean"].iloc[0], known["std"].fillna(0).iloc[0]
            axes.axhspan(mean - std, mean + std, color=GREY, alpha=0.15, linewidth=0, zorder=0.4)
            dash = CONTROL_DASHES[str(control)]
            line = axes.axhline(mean, linestyle=dash, color=GREY, linewidth=0.9, zorder=0.5)
        else:
            look: dict[str, Any] = {"color": GREY}
            if several:
                style = styled[str(series)]
                name = f"{name} ({series})"
                look = {"color": COLOURS[style["colour"]], "alpha": 0.55, "markersize": 2.5}
                look |= {"marker": MARKERS[style["marker"]], "markerfacecolor": "white"}
            x = [positions[layer] for layer in known["layer"]]
            plot_band(axes, x, known, look["color"], 0.08 if several else 0.15, BAR)
            dash = CONTROL_DASHES[str(control)]
            (line,) = axes.plot(x, known["mean"], dash, linewidth=0.9, zorder=0.5, **look)
        if name not in named_already:
            line.set_label(name)
        named_already.add(name)


def add_legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the panel, in all the columns that fit."""
    handles, whole = axes.get_legend_handles_labels()
    labels = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in whole]
    longest = max(map(len, labels), default=1)
    columns = max(1, min(len(labels), 52 // (longest + 6)))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False)
    extra = 0.14 * ceil(len(labels) / columns)
    figure.set_size_inches(COLUMN, figure.get_figheight() + extra)


def heat_figures(curves: pd.DataFrame) -> list[tuple[str, Figure]]:
    """Layers against experiments, for each series that has several experiments.

    A layer against itself has no colour: it would be every other layer's measure; nor has one that
    is weighed by another view than most.
    """
    scores = curves[(curves["control"] == "") & curves["primary"] & (curves["part"] != "")]
    scores = scores[scores["rankable"]]
    made = []
    for (series, dataset, partition), rows in scores.groupby(["series", "dataset", "partition"]):
        table = rows.sort_values(["part", "layer_index"]).pivot_table(
            index="layer", columns=["experiment", "metric"], values="mean", sort=False
        )
        if table.shape[1] > 1:
            figure = heat_figure(table, f"{series}, {dataset} ({partition})")
            made.append((f"heat_{series}_{dataset}_{partition}", figure))
    return made


def heat_figure(table: pd.DataFrame, title: str) -> Figure:
    """Each experiment from its lowest layer (0) to its highest (1, marked)."""
    low, high = table.min(), table.max()
    share = ((table - low) / (high - low).where(high > low)).fillna(1.0).where(table.notna())
    layers, experiments = share.shape
    figure = Figure(figsize=(COLUMN, 1.25 + 0.135 * layers), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, "cividis", origin="lower", aspect="auto", vmin=0, vmax=1)
    best = np.nanargmax(share.to_numpy(), axis=0)
    axes.plot(range(experiments), best, "o", color="0.15", markersize=2.5)
    names = [str(name) for name, _ in table.columns]
    axes.set_xticks(range(experiments), names, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(layers), list(table.index))
    axes.set_title(title, loc="left")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="lowest to highest", ticks=[0, 1], aspect=30)
    return figure


def matrix_figure(matrix: Matrix) -> Figure:
    """Layers of one model, from the bottom, against layers of another, from the left."""
    values = matrix.values.to_numpy()
    rows, columns = values.shape
    figure = Figure(figsize=(COLUMN, min(COLUMN, 0.9 + 0.19 * rows)), layout="constrained")
    axes = figure.subplots()
    bottom, top = colour_limits(values)
    image = axes.imshow(values, "cividis", origin="lower", aspect="auto", vmin=bottom, vmax=top)
    others = [str(target).rpartition(":")[2] for target in matrix.values.columns]
    axes.set_xticks(range(columns), others)
    axes.set_yticks(range(rows), list(matrix.values.index))
    thin_ticks(axes)
    axes.set_xlabel(matrix.other)
    axes.set_ylabel(matrix.model)
    axes.set_title(f"{matrix.experiment}, {matrix.dataset} ({matrix.partition})", loc="left")
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=matrix.metric, aspect=30)
    return figure


def error_figures(errors: pd.DataFrame, styled: Mapping[str, Style]) -> list[tuple[str, Figure]]:
    """A figure for each rate, test set and amount of training speech."""
    means = errors_of(errors)
    made = []
    keys = [*PLACE, "train_dataset", "subset"]
    for key, rows in means.groupby(keys, sort=False):
        figure = Figure(figsize=(COLUMN, 2.2), layout="constrained")
        axes = figure.subplots()
        here = (errors[keys] == pd.Series(dict(zip(keys, key, strict=True)))).all(axis=1)
        plot_errors(axes, rows, errors[here], styled)
        dataset, partition, _, metric, trained, subset = key
        axes.set_title(f"{subset} of {trained}, tested on {dataset} ({partition})", loc="left")
        axes.set_ylabel(f"{metric.replace('_lm', ' with n-gram').upper()} (lower is better)")
        add_legend(figure, axes)
        made.append((f"{metric}_{trained}_{subset}_{dataset}_{partition}", figure))
    return made


def plot_errors(
    axes: Axes, means: pd.DataFrame, points: pd.DataFrame, styled: Mapping[str, Style]
) -> None:
    """Seeds as open marks, their mean as a line, Student's interval as bars."""
    for model, rows in means.groupby("model", sort=False):
        style = styled[str(model)]
        colour, marker = COLOURS[style["colour"]], MARKERS[style["marker"]]
        rows = rows.sort_values("reinit_top")
        x = rows["reinit_top"].astype(int)
        dash = DASHES[style["dash"]]
        axes.plot(x, rows["mean"], dash, color=colour, marker=marker, label=str(model))
        axes.vlines(x, rows["low"], rows["high"], color=colour, linewidth=0.9)
        seeds = points[(points["model"] == model) & points["reinit_top"].notna()]
        axes.plot(
            seeds["reinit_top"].astype(int),
            seeds["value"],
            linestyle="none",
            marker=marker,
            markersize=2.8,
            markerfacecolor="none",
            markeredgewidth=0.6,
            color=colour,
        )
    axes.set_xlabel("re-initialised blocks (from the top)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
