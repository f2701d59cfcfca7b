"""The task `report`: gather runs, write the page, the figures and the table, and show them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from analysis.report.advice.advise import advise, lines_of
from analysis.report.advice.wording import Advice
from analysis.report.content import page_content
from analysis.report.figures import plot_report
from analysis.report.gather import Gathered, gather
from analysis.report.page import LIMIT, render, require_library
from analysis.report.tables import best_layers, curves_of, errors_of, split_frame
from common.config import Config
from common.results.score_table import console_for, interval_cell
from common.tables import csv_of

log = logging.getLogger(__name__)

PAGE = "report.html"
TIDY = "results_tidy.csv"


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:  # noqa: ARG001
    """Write report.html, results_tidy.csv and the figures; print the best layers and the paths."""
    require_library()
    gathered = gather(config.report)
    advice = advise(gathered.frame)
    title = title_of(gathered)
    page = folder / PAGE
    page.write_text(render(title, page_content(gathered, advice)), encoding="utf-8")
    size = page.stat().st_size
    if size > LIMIT:
        log.warning(
            "%s has %.1f MB: slow to open; report.models, .datasets, .experiments or .metrics "
            "make it smaller",
            page,
            size / 1e6,
        )
    (folder / TIDY).write_text(csv_of(gathered.frame), encoding="utf-8")
    figures = plot_report(gathered.frame, folder / "figures", gathered.asks)
    print_report(gathered, title, advice)
    for path in (page, folder / TIDY, *figures):
        print(path)


def title_of(gathered: Gathered) -> str:
    """Numbers of runs, models and experiments."""
    frame = gathered.frame
    counts = (
        (len(gathered.runs), "run"),
        (frame["model"].nunique(), "model"),
        (frame["experiment"].nunique(), "experiment"),
    )
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def print_report(gathered: Gathered, title: str, advice: Sequence[Advice]) -> None:
    """The best layer of every curve, the error rates, the advice, and how much was left out."""
    scores, _, errors = split_frame(gathered.frame)
    best = best_layers(curves_of(scores))
    console = console_for(150)
    if len(best):
        console.print(_best_table(best, title))
    means = errors_of(errors)
    if len(means):
        console.print(_error_table(means))
    left_out = (f"left out {one.what} of {one.run}: {one.why}" for one in gathered.left_out)
    notes = (f"note: {line}" for line in gathered.notes)
    for line in (*lines_of(advice), *left_out, *notes):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _best_table(best: pd.DataFrame, title: str) -> Table:
    """A line for each curve."""
    table = Table(title=f"{title}: best layers")
    for column in ("experiment", "dataset", "model", "metric", "layer"):
        table.add_column(column, overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    ordered = best.sort_values(["experiment", "dataset", "mean"], ascending=[True, True, False])
    for row in ordered.itertuples():
        deviation = "" if pd.isna(row.std) else f" ± {row.std:.3f}"
        place = f"{row.dataset} ({row.partition})"
        names = (row.experiment, place, row.series, row.metric, row.layer)
        table.add_row(*map(_text, names), f"{row.mean:.3f}{deviation}")
    return table


def _error_table(means: pd.DataFrame) -> Table:
    """A line for each point of a curve over re-initialised layers."""
    table = Table(title="error rates by number of re-initialised layers (lower is better)")
    for column in ("model", "trained on", "metric", "layers", "seeds"):
        table.add_column(column, overflow="fold")
    table.add_column("rate", justify="right", no_wrap=True)
    for row in means[means["primary"]].sort_values(["model", "subset", "reinit_top"]).itertuples():
        interval = "" if pd.isna(row.low) else f" {interval_cell(row)}"
        trained = f"{row.train_dataset} {row.subset}"
        names = (row.model, trained, row.metric, row.reinit_top, row.seeds)
        table.add_row(*map(_text, names), f"{row.mean:.3f}{interval}")
    return table


def _text(value: object) -> str:
    """A name with its brackets escaped, which rich takes for markup."""
    return str(value).replace("[", r"\[")
