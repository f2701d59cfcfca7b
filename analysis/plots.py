"""The plots of a run: a panel for each experiment, with a curve over layers.

Or a heat map, of experiments that compare every layer of a model with every layer of another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from common.config.analysis import ASKS
from common.results.pair_table import pair_matrix
from common.results.results import WITHOUT_LAYERS, summarise

# Okabe & Ito's colours: distinguishable by colour-blind readers; markers and dashes carry them in
# grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HIGHEST = 1.005  # where a scale that is widened ends: no metric exceeds 1
MOST_TICKS = 16
LEAST = 0.1  # how much of a scale is shown at least
DASHES = ("-", "--", "-.", ":")
GREY = "0.45"
COLUMNS = ROWS = 3  # panels of a page
PANEL_WIDTHS = {1: 6.2, 2: 6.2, 3: 4.6}  # inches, by the number of columns
PANEL_HEIGHT = 3.1
HEAT_MAP = (7.4, 5.8)  # inches
DARK = 0.55  # of a heat map's colour scale: above it black is read, below it white
TITLE_PAD = 18  # points: between a panel's title and its frame are the names of its parts
HEADINGS = {
    "acoustic": "Acoustics",
    "layers": "Layers against layers",
    "phonetic": "Phones",
    "word": "Words",
    "meaning": "Meaning",
    "segmentation": "Segmentation",
    "speaker": "Speakers",
    "other": "Other",
}
CONTROL_DASHES = {
    "mel": "-",
    "comb": "-.",
    "random_weights": "--",
    "shuffled_labels": ":",
    "permuted_table": ":",
}


def plot_layers(
    frame: pd.DataFrame, folder: Path, title: str, asks: Mapping[str, str] | None = None
) -> list[Path]:
    """Write layers.png and layers.svg: mean curves with a band of one standard deviation.

    Where there are 95 % intervals over test speakers, each mean has its interval as a bar.

    Each experiment has a panel and a scale of its own: their levels differ by more than the
    differences between layers that one looks for. Panels are grouped by `asks`, which says for each
    experiment what it asks of a layer (one of `ASKS`); what does not fit on one page is in
    layers_2.png and so on.
    """
    every = summarise(frame[frame["primary"]])
    names = list(dict.fromkeys(every.loc[every["control"] == "", "experiment"]))
    pages = pages_of(groups_of(names, asks or {}), title)
    for page in pages:
        for name, (axes, group) in page.panels.items():
            plot_panel(axes, group, name, every[every["experiment"] == name])
    return save_pages(pages, folder / "layers")


@dataclass(frozen=True)
class Page:
    """A figure of at most three rows; `panels`: each experiment's axes and its group's number."""

    figure: Figure
    panels: Mapping[str, tuple[Axes, int]]


def groups_of(names: Iterable[str], asks: Mapping[str, str]) -> dict[str, list[str]]:
    """Experiments by what they ask, in the order of `ASKS`."""
    groups: dict[str, list[str]] = {question: [] for question in ASKS}
    for name in names:
        groups[asks.get(name, "other")].append(name)
    return {question: members for question, members in groups.items() if members}


def pages_of(
    groups: Mapping[str, Sequence[str]], title: str, size: tuple[float, float] | None = None
) -> list[Page]:
    """A panel for each name, with its group's heading above the group's first one.

    Where there is more than one row, small groups share a row, and a group is split over two pages
    only if it fills more than one. `size`: inches of a panel; by default such that a page is
    as wide as a screen.
    """
    count = sum(map(len, groups.values()))
    columns = min(count, 2 if count <= 4 else COLUMNS)
    width, height = size or (PANEL_WIDTHS[columns], PANEL_HEIGHT)
    pages = _pages(_rows(groups, columns))
    headed = len(groups) > 1
    made = []
    for number, rows in enumerate(pages, start=1):
        inches = (width * columns, 0.4 + (height + 0.2 * headed) * len(rows))
        # An explicit Figure, no pyplot: no display, no global state between jobs of a multirun.
        figure = Figure(figsize=inches, layout=ConstrainedLayoutEngine(h_pad=0.1))
        where = f" ({number} of {len(pages)})" if len(pages) > 1 else ""
        figure.suptitle(f"{title}{where}", x=0.01, ha="left", fontsize=12)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        panels = {}
        for line, row in zip(grid, rows, strict=True):
            for axes in line[len(row) :]:
                axes.set_axis_off()
            for axes, (question, name) in zip(line, row, strict=False):
                panels[name] = axes, list(groups).index(question)
                if headed and name == groups[question][0]:
                    _head(axes, HEADINGS[question])
        made.append(Page(figure, panels))
    return made


def _rows(groups: Mapping[str, Sequence[str]], columns: int) -> list[list[tuple[str, str]]]:
    """(group, name) row by row: a group shares the row of the one before it if it fits whole."""
    rows: list[list[tuple[str, str]]] = []
    for question, names in groups.items():
        left = [(question, name) for name in names]
        if rows and len(rows[-1]) + len(left) <= columns:
            rows[-1] += left
        else:
            rows += [left[k : k + columns] for k in range(0, len(left), columns)]
    return rows


def _pages(rows: Sequence[list[tuple[str, str]]]) -> list[list[list[tuple[str, str]]]]:
    """Cut rows into pages of at most three; a group that fits on one page is not on two."""
    together: list[list[list[tuple[str, str]]]] = []  # rows that one group goes through
    for row in rows:
        if together and together[-1][-1][-1][0] == row[0][0]:
            together[-1].append(row)
        else:
            together.append([row])
    pages: list[list[list[tuple[str, str]]]] = []
    for block in together:
        if pages and len(pages[-1]) + len(block) <= ROWS:
            pages[-1] += block
        else:
            pages += [block[k : k + ROWS] for k in range(0, len(block), ROWS)]
    return pages


def _head(axes: Axes, heading: str) -> None:
    """A group's heading, above the title of its first panel."""
    axes.annotate(
        heading,
        (0, 1),
        xytext=(0, 37),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=12,
        fontweight="bold",
        color="0.25",
    )


def save_pages(pages: Sequence[Page], stem: Path) -> list[Path]:
    """Write STEM.png, STEM_2.png, … and the same as SVG; their paths, page by page."""
    return [
        path
        for number, page in enumerate(pages, start=1)
        for path in save(page.figure, stem if number == 1 else Path(f"{stem}_{number}"))
    ]


def save(figure: Figure, stem: Path, dpi: int = 150) -> list[Path]:
    """Write STEM.png and STEM.svg, the same file for the same numbers; their paths."""
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    with mpl.rc_context({"svg.hashsalt": "strata"}):
        figure.savefig(paths[0], dpi=dpi)
        figure.set_layout_engine("none")  # what is laid out stays so: it takes as long as drawing
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def plot_panel(axes: Axes, k: int, name: str, summary: pd.DataFrame) -> None:
    """An experiment's curve, with a line for each part: the CNN is not joined to the blocks.

    Colour, marker and dash are the `k`th ones.
    """
    summary = summary.sort_values(["part", "layer_index"])
    curve = summary[summary["control"] == ""]
    positions = {layer: x for x, layer in enumerate(curve["layer"])}
    colour, marker, dash = (options[k % len(options)] for options in (COLOURS, MARKERS, DASHES))
    for _, part in curve.groupby("part"):
        x = [positions[layer] for layer in part["layer"]]
        axes.plot(x, part["mean"], dash, color=colour, marker=marker, markersize=5)
        plot_band(axes, x, part, colour, 0.22, 1.2)
    axes.set_title(name, loc="left", fontsize=11, pad=TITLE_PAD)
    axes.set_ylabel(str(curve["metric"].iloc[0]))
    lay_out_layers(axes, positions)
    plot_controls(axes, summary, positions)
    widen(axes, least_scale(curve))


def plot_band(
    axes: Axes, x: Sequence[int], rows: pd.DataFrame, colour: str, alpha: float, linewidth: float
) -> None:
    """One standard deviation around the mean, and the interval over test speakers as a bar."""
    mean, std = rows["mean"].to_numpy(), rows["std"].fillna(0).to_numpy()
    axes.fill_between(x, mean - std, mean + std, color=colour, alpha=alpha, linewidth=0)
    if rows["low"].notna().any():
        axes.vlines(x, rows["low"], rows["high"], color=colour, linewidth=linewidth)


def plot_controls(axes: Axes, summary: pd.DataFrame, positions: dict[str, int]) -> None:
    """Grey lines for the controls, with bands of one standard deviation.

    Layers with random weights or shuffled labels have a curve each; mel and comb, which are no
    layers, have a level over the whole panel. Mel's name says where it cannot be compared with the
    layers, which are weighted by another view (see `common.results.results.incomparable`).
    """
    lines = {}
    sides = set(summary.loc[summary["control"] == "", "weighted"])
    for (control, _), part in summary[summary["control"] != ""].groupby(["control", "part"]):
        everywhere = control in WITHOUT_LAYERS
        if not everywhere:
            # A layer whose score failed has no place.
            part = part[part["layer"].isin(positions)]
        x = axes.get_xlim() if everywhere else [positions[layer] for layer in part["layer"]]
        mean, std = (np.broadcast_to(part[c].fillna(0), len(x)) for c in ("mean", "std"))
        dash = CONTROL_DASHES[control]
        (line,) = axes.plot(x, mean, dash, color=GREY, linewidth=1.2, zorder=0.5)
        axes.fill_between(x, mean - std, mean + std, color=GREY, alpha=0.15, linewidth=0)
        otherwise = " (not comparable)" if set(part["weighted"]).isdisjoint(sides) else ""
        lines[control.replace("_", " ") + otherwise] = line
    if lines:
        # In a row below the layers, where it hides no curve.
        axes.legend(
            lines.values(),
            lines,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.08),
            ncols=len(lines),
            columnspacing=1.2,
            handlelength=1.8,
            fontsize=8,
            frameon=False,
        )


def least_scale(curve: pd.DataFrame) -> float:
    """How much of the scale to show at least: noise on a flat curve must not look like a finding.

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


def lay_out_layers(
    axes: Axes, positions: Mapping[str, int], fontsize: float = 9, linewidth: float = 0.8
) -> None:
    """Layers along the x axis, both parts named in `fontsize`, a grid of `linewidth`, no frame."""
    axes.set_xticks(list(positions.values()), list(positions))
    thin_ticks(axes)
    axes.grid(axis="y", color="0.9", linewidth=linewidth)
    axes.spines[["top", "right"]].set_visible(False)
    mark_parts(axes, positions, fontsize)


def thin_ticks(axes: Axes) -> None:
    """Show at most `MOST_TICKS` labels of the x axis, evenly spaced."""
    labels = axes.get_xticklabels()
    step = ceil(len(labels) / MOST_TICKS)
    for k, label in enumerate(labels):
        label.set_visible(k % step == 0)


def mark_parts(axes: Axes, positions: Mapping[str, int], fontsize: float) -> None:
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


def plot_pairs(
    frame: pd.DataFrame,
    names: Sequence[str],
    folder: Path,
    title: str,
    asks: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write inter.png and inter.svg: a panel for each experiment, its means as colours and numbers.

    Each panel has a scale of its own, from its lowest to its highest value or wider. Panels are
    grouped by `asks` and laid out on pages as in `plot_layers`.
    """
    pages = pages_of(groups_of(names, asks or {}), title, HEAT_MAP)
    for page in pages:
        for name, (axes, _) in page.panels.items():
            rows = frame[frame["experiment"] == name]
            plot_matrix(axes, name, str(rows["metric"].iloc[0]), str(rows["model"].iloc[0]), rows)
    return save_pages(pages, folder / "inter")


def plot_matrix(axes: Axes, name: str, metric: str, model: str, frame: pd.DataFrame) -> None:
    """Draw one model's layers against another's, the first layers at the bottom left."""
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
