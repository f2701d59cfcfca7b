"""One picture of a run: a curve over layers for every experiment."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.results import summarise

# Okabe & Ito's colours: told apart by colour-blind readers; markers and dashes carry them in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")


def plot_layers(frame: pd.DataFrame, folder: Path, title: str) -> list[Path]:
    """Write layers.png and layers.svg: mean curves with a band of one standard deviation."""
    summary = summarise(frame)
    layers = summary.sort_values(["part", "layer_index"])["layer"]
    positions = {layer: x for x, layer in enumerate(dict.fromkeys(layers))}
    # An explicit Figure, no pyplot: no display, no global state between the jobs of a multirun.
    figure = Figure(figsize=(1.8 + 0.42 * max(12, len(positions)), 4.6), layout="constrained")
    axes = figure.add_subplot()
    for k, (name, curve) in enumerate(summary.groupby("experiment", sort=False)):
        _draw_curve(axes, k, str(name), curve, positions)
    _mark_parts(axes, positions)
    axes.set_xticks(list(positions.values()), list(positions))
    axes.set_xlabel("layer")
    axes.set_ylabel(" / ".join(dict.fromkeys(summary["metric"])))
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    paths = [folder / "layers.png", folder / "layers.svg"]
    with mpl.rc_context({"svg.hashsalt": "strata"}):  # the same numbers give the same file
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _draw_curve(
    axes: Axes, k: int, name: str, curve: pd.DataFrame, positions: dict[str, int]
) -> None:
    """A line for each part, so that the CNN is not joined to the transformer."""
    colour, marker, dash = (options[k % len(options)] for options in (COLOURS, MARKERS, DASHES))
    for first, (_, part) in enumerate(curve.groupby("part")):
        part = part.sort_values("layer_index")
        x = np.array([positions[layer] for layer in part["layer"]])
        mean, std = part["mean"].to_numpy(), part["std"].fillna(0).to_numpy()
        label = name if first == 0 else None
        axes.plot(x, mean, dash, color=colour, marker=marker, markersize=5, label=label)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def _mark_parts(axes: Axes, positions: dict[str, int]) -> None:
    """Shade the CNN's layers and name both parts."""
    cnn = [x for layer, x in positions.items() if layer.startswith("C")]
    transformer = [x for layer, x in positions.items() if layer.startswith("T")]
    if cnn:
        axes.axvspan(min(cnn) - 0.5, max(cnn) + 0.5, color="0.95", zorder=-1)
    for name, part in (("CNN", cnn), ("transformer", transformer)):
        if part and len(positions) > 1:
            axes.annotate(
                name,
                (float(np.mean(part)), 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=9,
                color="0.35",
            )
    axes.set_xlim(-0.6, len(positions) - 0.4)
