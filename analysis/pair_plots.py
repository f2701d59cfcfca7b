"""Heat maps of experiments that compare every layer of a model with every layer of another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.plots import groups_of, pages_of, save_pages
from common.results.pair_table import pair_matrix

DARK = 0.55  # of the colour scale: above it black is read, below it white
PANEL = (7.4, 5.8)  # inches
LEAST = 0.1  # width of a colour scale, lest noise look like a finding


def plot_pairs(
    frame: pd.DataFrame,
    names: Sequence[str],
    folder: Path,
    title: str,
    asks: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write inter.png and inter.svg: a panel for each experiment, its means as colours and numbers.

    Each panel has a scale of its own, from its lowest to its highest value or wider. Panels are
    grouped by `asks` and laid out on pages as in `analysis.plots.plot_layers`.
    """
    pages = pages_of(groups_of(names, asks or {}), title, PANEL)
    for page in pages:
        for name, (axes, _) in page.panels.items():
            own = frame[frame["experiment"] == name]
            draw_matrix(axes, name, str(own["metric"].iloc[0]), str(own["model"].iloc[0]), own)
    return save_pages(pages, folder / "inter")


def draw_matrix(axes: Axes, name: str, metric: str, model: str, frame: pd.DataFrame) -> None:
    """The first layer at the bottom left, as in a plot of one model's layers against another's."""
    matrix = pair_matrix(frame)
    values = matrix.to_numpy()
    bottom, top = colour_limits(values)
    image = axes.imshow(values, "cividis", origin="lower", aspect="auto", vmin=bottom, vmax=top)
    for (row, column), value in np.ndenumerate(values):
        light = (value - bottom) / (top - bottom) > DARK
        colour = "black" if light else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    others = [target.rpartition(":") for target in matrix.columns]
    axes.set_xticks(range(len(others)), [layer for _, _, layer in others])
    axes.set_yticks(range(len(matrix)), list(matrix.index))
    axes.set_xlabel(", ".join(dict.fromkeys(other for other, _, _ in others)))
    axes.set_ylabel(model)
    axes.set_title(name, loc="left", fontsize=11)
    axes.figure.colorbar(image, ax=axes, label=metric)


def colour_limits(values: NDArray[np.floating]) -> tuple[float, float]:
    """The lowest and highest value, moved apart to a width of `LEAST`; no metric exceeds 1."""
    bottom, top = float(values.min()), float(values.max())
    missing = max(LEAST - (top - bottom), 0.0)
    top = min(top + missing / 2, max(top, 1.0))
    return min(bottom, top - LEAST), top
