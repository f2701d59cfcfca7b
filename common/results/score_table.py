"""The tables that a run ends with: layers down, experiments across, controls below."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.results.results import (
    CONTROLS,
    WITHOUT_LAYERS,
    besides_reference,
    best_of,
    directions,
    incomparable,
    rankable,
    reason_lines,
    summarise,
    unlike_widths,
)

PIPE_WIDTH = 120  # characters of a line where there is no terminal
FRAME = 3  # of a column: a space on either side and a line


def print_table(
    frame: pd.DataFrame,
    title: str,
    left_out: Mapping[str, str] | None = None,
    without_intervals: Mapping[str, str] | None = None,
) -> None:
    """Layers down, experiments across, primary figures only; then a row for each control.

    Experiments that do not fit beside the others come in a table below (`print_columns`).

    The best layer of each experiment is marked (`common.results.best_of`: not T0 of cca_intra,
    which is compared with itself). `left_out` names experiments and why there are no figures of
    theirs, `without_intervals` those whose figures have no interval and why. Without any figure
    there is no table, and a line says so.
    """
    if frame["primary"].any():
        _print_figures(frame, title)
    else:
        _print_line(Console(), f"{title}: there are no scores")
    for line in reason_lines(without_intervals or {}):
        _print_line(Console(), f"no 95 % interval: {line}")
    for name, why in (left_out or {}).items():
        _print_line(Console(), f"left out {name}: {why}")


def _print_figures(frame: pd.DataFrame, title: str) -> None:
    summary = summarise(frame[frame["primary"]])
    layers = summary[summary["control"] == ""]
    experiments = list(dict.fromkeys(summary["experiment"]))
    starred = {(row.experiment, row.layer) for row in best_of(layers).itertuples()}
    cells = {
        (row.experiment, row.layer): _cell(
            row.mean, row.std, (row.experiment, row.layer) in starred
        )
        for row in layers.itertuples()
    }
    ordered = list(dict.fromkeys(layers.sort_values(["part", "layer_index"])["layer"]))
    controls = _control_rows(summary, experiments)
    columns = {
        name: [
            *(cells.get((name, layer), "") for layer in ordered),
            *(control[name] for control in controls.values()),
        ]
        for name in experiments
    }
    console = console_for_tables()
    print_columns(console, title, [*ordered, *controls], columns, len(ordered))
    others = besides_reference(layers)
    alike = ", apart from one against itself" if len(others) < len(layers) else ""
    unlike = ", among those weighed like most" if len(rankable(layers)) < len(others) else ""
    star = f"* best layer{alike}{unlike}"
    console.print(f"mean ± standard deviation over samples and trials; {star}", soft_wrap=True)
    bounds = [
        f"{row.experiment} {row.layer} {interval_cell(row)}"
        for row in best_of(layers).itertuples()
        if not np.isnan(row.low)
    ]
    if bounds:
        why = "95 % interval of the best layer over test speakers"
        _print_line(console, f"{why}: {', '.join(bounds)}")
    for reasons in (incomparable(frame), directions(frame), unlike_widths(frame)):
        for line in reason_lines(reasons):
            _print_line(console, line)


def _print_line(console: Console, text: str) -> None:
    """Print a line as it is, however long."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def console_for_tables() -> Console:
    """The terminal; for a pipe, which has no width, COLUMNS or `PIPE_WIDTH`."""
    console = Console()
    if console.is_terminal:
        return console
    columns = os.environ.get("COLUMNS", "")
    return Console(width=int(columns) if columns.isdecimal() else PIPE_WIDTH)


def print_columns(
    console: Console,
    title: str,
    names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    section: int,
) -> None:
    """Print layers (`names`) down and `columns` across, in several tables where the width needs it.

    No column is cut or left out: what does not fit beside the others comes in a table below, with
    the layers' names again. A line is drawn under the first `section` rows.
    """
    first = max(cell_len(name) for name in ("layer", *names)) + FRAME + 1
    widths = {
        column: max(cell_len(text) for text in (column, *cells)) + FRAME
        for column, cells in columns.items()
    }
    parts = _parts(widths, console.width - first)
    console.width = max(console.width, first + max(widths.values()))  # for one that fits nowhere
    for k, part in enumerate(parts):
        table = Table(title=escape(title) if k == 0 else None)
        table.add_column("layer", no_wrap=True)
        for column in part:
            table.add_column(column, justify="right", no_wrap=True)
        for row, name in enumerate(names):
            if row == section:
                table.add_section()
            table.add_row(name, *(columns[column][row] for column in part))
        console.print(table)


def _parts(widths: Mapping[str, int], room: int) -> list[list[str]]:
    """Columns that stand side by side in each table: the fewest tables, of about equal width."""
    count = len(_filled(widths, room, len(widths)))
    each = next(n for n in range(1, len(widths) + 1) if len(_filled(widths, room, n)) <= count)
    return _filled(widths, room, each)


def _filled(widths: Mapping[str, int], room: int, most: int) -> list[list[str]]:
    """Fill tables from left to right, with one to `most` columns each, as far as `room` allows."""
    parts: list[list[str]] = []
    left = 0
    for column, width in widths.items():
        if not parts or width > left or len(parts[-1]) == most:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= width
    return parts


def console_for(width: int) -> Console:
    """The terminal; a pipe has no width: do not let lines be cut there."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def interval_cell(row: Any) -> str:
    """[low, high] of a line of a summary."""
    return f"[{row.low:.3f}, {row.high:.3f}]"


def _control_rows(summary: pd.DataFrame, experiments: Sequence[str]) -> dict[str, dict[str, str]]:
    """A row for each control: its best layer in every experiment, which is named.

    Of the layers that the model's own best one is chosen from.
    """
    rows = {}
    layered = rankable(summary[~summary["control"].isin(WITHOUT_LAYERS)])
    for control in CONTROLS:
        candidates = summary if control in WITHOUT_LAYERS else layered
        lines = candidates[candidates["control"] == control]
        if len(lines):
            best = {row.experiment: row for row in best_of(lines).itertuples()}
            cells = {name: _control_cell(best.get(name)) for name in experiments}
            rows[control.replace("_", " ")] = cells
    return rows


def _control_cell(best: Any) -> str:
    if best is None:
        return ""
    layer = "" if best.layer == best.control else f"{best.layer}: "
    return f"{layer}{_cell(best.mean, best.std, False)}"


def _cell(mean: float, std: float, best: bool) -> str:
    deviation = "" if np.isnan(std) else f" ± {std:.3f}"
    return f"{mean:.3f}{deviation}{'*' if best else ' '}"
