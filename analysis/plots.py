"""One picture of a run: a panel for each experiment, a curve over layers in it."""

from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.results.results import WITHOUT_LAYERS, summarise

# Okabe & Ito's colours: told apart by colour-blind readers; markers and dashes carry them in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HIGHEST = 1.005  # where a scale that is widened ends: no metric exceeds 1
LEAST = 0.1  # how much of a scale is shown at least
DASHES = ("-", "--", "-.", ":")
GREY = "0.45"
CONTROL_DASHES = {
    "mel": "-",
    "comb": "-.",
    "random_weights": "--",
    "shuffled_labels": ":",
    "permuted_table": ":",
}


def plot_layers(frame: pd.DataFrame, folder: Path, title: str) -> list[Path]:
    """Write layers.png and layers.svg: mean curves with a band of one standard deviation.

    Where there are 95 % intervals over test speakers, each mean has its interval as a bar.

    Each experiment has a panel and a scale of its own: their levels differ by more than the
    differences between layers that one looks for.
    """
    every = summarise(frame[frame["primary"]])
    names = list(dict.fromkeys(every.loc[every["control"] == "", "experiment"]))
    figure, panels = panels_for(len(names), title)
    for k, (axes, name) in enumerate(zip(panels, names, strict=True)):
        draw_panel(axes, k, name, every[every["experiment"] == name])
    return save(figure, folder / "layers")


def panels_for(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, two beside each other."""
    columns = min(2, count)
    rows = ceil(count / columns)
    # An explicit Figure, no pyplot: no display, no global state between the jobs of a multirun.
    figure = Figure(figsize=(6.2 * columns, 0.4 + 3.1 * rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def save(figure: Figure, stem: Path, dpi: int = 150) -> list[Path]:
    """Write STEM.png and STEM.svg, the same file for the same numbers; their paths."""
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    with mpl.rc_context({"svg.hashsalt": "strata"}):
        figure.savefig(paths[0], dpi=dpi)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def draw_panel(axes: Axes, k: int, name: str, summary: pd.DataFrame) -> None:
    """An experiment's curve, with a line for each part: the CNN is not joined to the blocks."""
    summary = summary.sort_values(["part", "layer_index"])
    curve = summary[summary["control"] == ""]
    positions = {layer: x for x, layer in enumerate(curve["layer"])}
    colour, marker, dash = (options[k % len(options)] for options in (COLOURS, MARKERS, DASHES))
    for _, part in curve.groupby("part"):
        x = np.array([positions[layer] for layer in part["layer"]])
        mean, std = part["mean"].to_numpy(), part["std"].fillna(0).to_numpy()
        axes.plot(x, mean, dash, color=colour, marker=marker, markersize=5)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.22, linewidth=0)
        if part["low"].notna().any():
            axes.vlines(x, part["low"], part["high"], color=colour, linewidth=1.2)
    axes.set_title(name, loc="left", fontsize=11)
    axes.set_ylabel(str(curve["metric"].iloc[0]))
    axes.set_xticks(list(positions.values()), list(positions))
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    mark_parts(axes, positions)
    draw_controls(axes, summary, positions)
    widen(axes, least_scale(curve))


def draw_controls(axes: Axes, summary: pd.DataFrame, positions: dict[str, int]) -> None:
    """Grey lines for what the scores are held against, with bands of one standard deviation.

    Layers with random weights or shuffled labels have a curve each; mel and comb, which are no
    layers, have a level over the whole panel. Mel's name says where it cannot be held against the
    layers, which are weighed by another view (see `common.results.incomparable`).
    """
    lines = {}
    sides = set(summary.loc[summary["control"] == "", "weighted"])
    for (control, _), part in summary[summary["control"] != ""].groupby(["control", "part"]):
        everywhere = control in WITHOUT_LAYERS
        x = axes.get_xlim() if everywhere else [positions[layer] for layer in part["layer"]]
        mean, std = (np.broadcast_to(part[c].fillna(0), len(x)) for c in ("mean", "std"))
        dash = CONTROL_DASHES[control]
        (line,) = axes.plot(x, mean, dash, color=GREY, linewidth=1.2, zorder=0.5)
        axes.fill_between(x, mean - std, mean + std, color=GREY, alpha=0.15, linewidth=0)
        otherwise = " (not comparable)" if set(part["weighted"]).isdisjoint(sides) else ""
        lines[control.replace("_", " ") + otherwise] = line
    if lines:
        axes.legend(lines.values(), lines, fontsize=8, frameon=False)


def least_scale(curve: pd.DataFrame) -> float:
    """How much of the scale to show at least, lest noise on a flat curve look like a finding.

    A tenth; for scores well below that, such as average precisions of rare pairs, as much as the
    highest, or ten times its deviation where they are small because they are noise around 0.
    Scores without a deviation, of one sample, are not known to be more than noise.
    """
    noise = curve["std"].max()
    return LEAST if np.isnan(noise) else min(LEAST, max(curve["mean"].abs().max(), 10 * noise))


def widen(axes: Axes, least: float) -> None:
    """Show at least that much of the scale."""
    bottom, top = axes.get_ylim()
    missing = least - (top - bottom)
    if missing > 0:
        top = min(top + missing / 2, max(top, HIGHEST))
        axes.set_ylim(top - least, top)


def mark_parts(axes: Axes, positions: dict[str, int], fontsize: float = 9) -> None:
    """Shade the CNN's layers and name both parts."""
    cnn = [x for layer, x in positions.items() if layer.startswith("C")]
    transformer = [x for layer, x in positions.items() if layer.startswith("T")]
    if cnn:
        axes.axvspan(min(cnn) - 0.5, max(cnn) + 0.5, color="0.95", zorder=-1)
    for name, part in (("CNN", cnn), ("transformer", transformer)):
        if part:
            axes.annotate(
                name,
                (float(np.mean(part)), 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=fontsize,
                color="0.35",
            )
    axes.set_xlim(-0.6, len(positions) - 0.4)
