"""The curves of a training: read, printed and drawn."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

COLOURS = {"train": "#56B4E9", "valid": "#D55E00"}  # Okabe & Ito
SMOOTHED = 10  # logged points of a training curve that are averaged for the eye


def read_curves(folder: Path) -> pd.DataFrame:
    """Figures (columns) by step (index), of all sittings of a training; the last sitting wins."""
    sittings = sorted(
        (folder / "curves").glob("version_*/metrics.csv"), key=lambda p: p.stat().st_mtime
    )
    points = pd.concat([pd.read_csv(path) for path in sittings])
    return points.drop(columns="epoch", errors="ignore").groupby("step").last().sort_index()


def figures_of(curves: pd.DataFrame) -> list[str]:
    """Names of the figures, without the stage before them."""
    return list(dict.fromkeys(name.split("/")[1] for name in curves if "/" in name))


def print_curves(folder: Path, title: str) -> None:
    """Validation figures at about ten steps."""
    curves = read_curves(folder)
    figures = [f"valid/{name}" for name in figures_of(curves)]
    points = curves[[name for name in figures if name in curves]].dropna(how="all")
    chosen = points.iloc[np.unique(np.linspace(0, len(points) - 1, 10).round().astype(int))]
    table = Table(title=f"{title}: validation")
    table.add_column("step", justify="right")
    for name in points:
        table.add_column(name.split("/")[1], justify="right", no_wrap=True)
    for step, values in chosen.iterrows():
        table.add_row(f"{int(step) + 1}", *(f"{value:.3f}" for value in values))
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)


def plot_curves(folder: Path, title: str) -> list[Path]:
    """Write curves.png and curves.svg: a panel for each figure, training and validation."""
    curves = read_curves(folder)
    figures = figures_of(curves)
    figure = Figure(figsize=(3.6 * len(figures), 3.2), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    for axes, name in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        for stage, colour in COLOURS.items():
            if f"{stage}/{name}" not in curves:
                continue
            curve = curves[f"{stage}/{name}"].dropna()
            if stage == "train":
                curve = curve.rolling(SMOOTHED, min_periods=1).mean()
            axes.plot(curve.index + 1, curve, color=colour, label=stage)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    paths = [folder / "curves.png", folder / "curves.svg"]
    with mpl.rc_context({"svg.hashsalt": "strata"}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
