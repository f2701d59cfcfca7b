"""The table of an experiment that compares every layer with every layer of another model."""

import numpy as np
import pandas as pd

from common.results.results import directions, primary_scores, rankable, summarise
from common.results.score_table import console_for_tables, interval_cell, print_columns


def pair_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """Means (layers, targets) of one experiment, in the order of its rows' layers and targets."""
    summary = summarise(primary_scores(frame)).sort_values(["part", "layer_index"], kind="stable")
    matrix = summary.pivot_table(index="layer", columns="target", values="mean", sort=False)
    return matrix[list(dict.fromkeys(summary["target"]))]


def print_pairs(frame: pd.DataFrame, name: str, title: str, no_interval: str = "") -> None:
    """Layers down, the other model's layers across; the best of each row is marked.

    `no_interval`: why the scores have no interval, or "".
    """
    rows = frame[frame["experiment"] == name]
    matrix = pair_matrix(rows)
    prefixes = {target.rpartition(":")[0] for target in matrix.columns}
    summary = summarise(primary_scores(rows))
    alike = rankable(summary.assign(series=summary["layer"]))  # each layer's own line of the table
    best = alike.loc[alike.groupby("layer")["mean"].idxmax()]
    starred = set(zip(best["layer"], best["target"], strict=True))
    columns = {
        str(target).rpartition(":")[2]: [
            f"{x:.3f}{'*' if (layer, target) in starred else ' '}" for layer, x in values.items()
        ]
        for target, values in matrix.items()
    }
    console = console_for_tables()
    layers = [str(layer) for layer in matrix.index]
    whole = f"{name}: {title}, against {', '.join(prefixes)}"
    print_columns(console, whole, layers, columns, len(layers))
    unlike = ", among those weighed like most" if len(alike) < len(summary) else ""
    notes = [f"mean over samples and trials; * the layer most alike{unlike}"]
    highest = alike.nlargest(1, "mean").iloc[0]
    if not np.isnan(highest["low"]):
        notes.append(
            f"95 % interval over test speakers, of {highest['layer']} with "
            f"{highest['target']}: {interval_cell(highest)}"
        )
    elif no_interval:
        notes.append(f"no 95 % interval: {no_interval}")
    for control, part in rows[rows["control"] != ""].groupby("control", sort=False):
        top = summarise(part[part["primary"]]).nlargest(1, "mean").iloc[0]
        notes.append(
            f"{str(control).replace('_', ' ')}: at most {top['mean']:.3f}, {top['layer']} with "
            f"{top['target']}"
        )
    notes += directions(rows).values()
    for line in notes:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
