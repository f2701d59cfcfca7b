"""The curves of a training: written, read, printed and drawn."""

import csv
import io
import logging
from pathlib import Path
from typing import Any, final

import matplotlib as mpl
import numpy as np
import pandas as pd
from lightning_fabric.loggers.logger import rank_zero_experiment
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from rich.console import Console
from rich.table import Table

from common.reading import reading
from common.records import StrataError
from common.writing import write_text

log = logging.getLogger(__name__)

COLOURS = {"train": "#56B4E9", "valid": "#D55E00"}  # Okabe & Ito
SMOOTHED = 10  # logged points of a training curve that are averaged for the eye


@final
class WholeCurves(ExperimentWriter):
    """Points of one run of a training, in a file that is whole at any time.

    Lightning's own adds to its file in place, and writes it anew, in place, where a figure is new.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.points: list[dict[str, float]] = []

    def save(self) -> None:
        """Write all points of the run."""
        if not self.metrics:
            return
        self.points += self.metrics
        self.metrics = []
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted(set().union(*self.points)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.points)
        write_text(Path(self.metrics_file_path), text.getvalue())


@final
class Curves(CSVLogger):
    """Lightning's logger of curves with files that are whole; settings are in metadata.json."""

    @property
    @rank_zero_experiment
    def experiment(self) -> WholeCurves:
        """The writer of this run's points."""
        if self._experiment is None:
            self._experiment = WholeCurves(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]

    def log_hyperparams(self, params: Any = None) -> None:
        """Write no settings: metadata.json holds them."""


def read_curves(folder: Path) -> pd.DataFrame:
    """Figures (columns) by step (index), of a training and its resumptions; the last one wins.

    A damaged file is left out, and logged: the training itself is whole without it.
    """
    parts = sorted(
        (folder / "curves").glob("version_*/metrics.csv"), key=lambda p: p.stat().st_mtime
    )
    read = []
    for path in parts:
        try:
            with reading(path, "a table of curves"):
                read.append(pd.read_csv(path).astype("float64").astype({"step": "int64"}))
        except StrataError as error:
            log.warning("the curves lack a part: %s", error)
    if not read:
        return pd.DataFrame(index=pd.Index([], name="step"))
    points = pd.concat(read)
    return points.drop(columns="epoch", errors="ignore").groupby("step").last().sort_index()


def figures_of(curves: pd.DataFrame) -> list[str]:
    """Names of the figures, without the stage before them."""
    return list(dict.fromkeys(name.split("/")[1] for name in curves if "/" in name))


def print_curves(folder: Path, title: str) -> None:
    """Validation figures at about ten steps."""
    curves = read_curves(folder)
    if curves.empty:
        return
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
    if curves.empty:
        return []
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
