"""One tidy frame out of any set of runs: labelled, filtered, without duplicates, comparable."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.report.protocol import (
    Figures,
    differences,
    figures_of,
    plain_text,
    refuse,
    train_dataset,
    train_subset,
)
from analysis.report.run_folders import LeftOut, Run, read_runs
from common.config.analysis import ASKS
from common.config.report import ReportConfig
from common.reading import reading
from common.records import StrataError
from common.results.results import METADATA, reason_lines, unlike_widths

log = logging.getLogger(__name__)

# What makes two rows of one model and one protocol the same score.
SAME = [
    *("model", "revision", "dataset", "partition", "experiment", "metric", "control", "layer"),
    *("part", "target", "split", "seed", "sample", "trial", "subset", "train_dataset", "reinit"),
]
LONGEST = 60  # characters that say what is different about a run
LAST_LAYERS = ("all", "transformer", "last4")  # selections that hold a model's last block


@dataclass(frozen=True)
class Gathered:
    """The rows of all runs, with the columns of `Row` and some more, and what was not taken.

    The column `run` has the folder; `reinit_top` the blocks that a training re-initialised, NA
    elsewhere; `subset` and `train_dataset` its speech, "" elsewhere; `depth` the index of a layer
    by the number of its model's blocks, 0 to 1, NaN for what is no block. `model` names revisions
    apart.
    `duplicates`: rows of each run that a newer run has too. `notes`: what a reader should know.
    `asks`: what each experiment asks of a layer (one of `ASKS`), as far as the runs say so.
    """

    frame: pd.DataFrame
    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]
    duplicates: Mapping[str, int]
    notes: tuple[str, ...]
    asks: Mapping[str, str]


def gather(config: ReportConfig) -> Gathered:
    """Read, label, filter, drop duplicates, and refuse what cannot be compared."""
    runs, left_out = usable_runs(*read_runs(config.patterns))
    for one in left_out:
        log.warning("left out %s of %s: %s", one.what, one.run, one.why)
    names = labels_of(runs)
    frame = pd.concat([tidy(run, names) for run in runs], ignore_index=True)
    frame["depth"] = depths(runs, frame)
    plain = {label: name for (name, _), label in names.items()}
    frame = filtered(frame, config, frame["model"].map(plain))
    runs = sorted(runs, key=lambda run: run.written, reverse=True)
    frame, duplicates = without_duplicates(frame, runs, by_config=True)
    frame, notes = comparable(frame, runs, config.mix)
    frame, again = without_duplicates(frame, runs, by_config=False)
    duplicates = dict(Counter(duplicates) + Counter(again))
    for name, count in duplicates.items():
        log.warning("%s: %d rows left out, a newer run has the same", name, count)
    used = set(frame["run"])
    shown = tuple(run for run in runs if run.name in used)
    frame = frame.drop(columns=["reinit", "protocol"]).reset_index(drop=True)
    notes += reason_lines(unlike_widths(frame))
    return Gathered(frame, shown, tuple(left_out), duplicates, tuple(notes), asks_of(shown))


def asks_of(runs: Sequence[Run]) -> dict[str, str]:
    """What each experiment asks of a layer, of the newest run that says so."""
    found: dict[str, str] = {}
    for run in runs:
        experiments = run.config.get("experiments")
        for name, analysis in (experiments if isinstance(experiments, dict) else {}).items():
            if isinstance(analysis, dict) and analysis.get("asks") in ASKS:
                found.setdefault(str(name), analysis["asks"])
    return found


def usable_runs(
    runs: Sequence[Run], left_out: Sequence[LeftOut]
) -> tuple[list[Run], list[LeftOut]]:
    """The runs whose metadata can be used, and all that are left out, with the reason.

    Metadata that were damaged, or changed by hand, may hold anything in any place.
    """
    kept, without = [], list(left_out)
    for run in runs:
        try:
            with reading(METADATA, "a run's metadata", "run it again"):
                frame = tidy(run, labels_of([run]))
                depths([run], frame)
                comparable(frame, [run], mix=True)
        except StrataError as error:
            without.append(LeftOut(run.name, "the whole run", str(error)))
        else:
            kept.append(run)
    if not kept:
        raise StrataError(f"no run can be reported: {without[-1].run}: {without[-1].why}")
    return kept, without


def labels_of(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """A name for every (model, revision): the model's own unless it has several revisions."""
    tags: dict[str, dict[str, str]] = {}
    for run in runs:
        first = run.frame[run.frame["control"] != "random_weights"]
        for name, revision in (
            first[["model", "revision"]].drop_duplicates().itertuples(index=False)
        ):
            tags.setdefault(str(name), {}).setdefault(str(revision), tag_of(run, str(revision)))
    names = {}
    for name, revisions in tags.items():
        counts = Counter(revisions.values())
        for revision, tag in revisions.items():
            which = tag if counts[tag] == 1 else f"{tag} {short_revision(revision)}"
            names[name, revision] = name if len(revisions) == 1 else f"{name} ({which})"
    return names


def tag_of(run: Run, revision: str) -> str:
    """Random weights, the folder of a checkpoint on disk, or a short revision."""
    model = run.metadata.get("model") or run.config.get("model")
    model = model if isinstance(model, dict) else {}
    if revision.startswith("random:") or model.get("random_init"):
        return "random weights"
    checkpoint = Path(str(model.get("checkpoint", "")))
    if re.fullmatch(r"step_\d+", checkpoint.name):
        return f"step {int(checkpoint.name[5:])}"
    if checkpoint.name == "model" and checkpoint.is_absolute():
        return checkpoint.parent.name
    return short_revision(revision)


def short_revision(revision: str) -> str:
    """The first seven characters after "sha256:"."""
    return revision.removeprefix("sha256:").removeprefix("random:")[:7]


def tidy(run: Run, names: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """A run's rows with the columns of `Gathered`; controls have the name of their model."""
    frame = run.frame.copy()
    trained_weights = frame[frame["control"] != "random_weights"]
    first = dict(
        trained_weights[["model", "revision"]].drop_duplicates("model").itertuples(index=False)
    )
    pairs = zip(frame["model"], frame["revision"], frame["control"], strict=True)
    frame["model"] = [
        names.get((m, first.get(m, r) if c == "random_weights" else r), m) for m, r, c in pairs
    ]
    trained = frame["experiment"] == "ctc"
    layers = reinitialised(run)
    frame["run"] = run.name
    frame["reinit_top"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    if layers is not None:
        frame.loc[trained, "reinit_top"] = len(layers)
    frame["reinit"] = np.where(trained, " ".join(layers or ()), "")
    frame["subset"] = np.where(trained, train_subset(run), "")
    frame["train_dataset"] = np.where(trained, train_dataset(run), "")
    frame["protocol"] = ""
    return frame


def reinitialised(run: Run) -> list[str] | None:
    """Blocks that a training re-initialised; None where the run does not record them."""
    drawn_anew = run.metadata.get("reinit")
    layers = drawn_anew.get("layers") if isinstance(drawn_anew, dict) else None
    return [str(layer) for layer in layers] if isinstance(layers, list) else None


def depths(runs: Sequence[Run], frame: pd.DataFrame) -> pd.Series:
    """Relative depth of every row; NaN where the number of blocks is not known."""
    blocks = blocks_of(runs, frame)
    count = pd.Series([blocks.get(name, np.nan) for name in frame["model"]], index=frame.index)
    in_blocks = frame["part"] == "transformer"
    return (frame["layer_index"] / count).where(in_blocks & (count > 0))


def blocks_of(runs: Sequence[Run], frame: pd.DataFrame) -> dict[str, int]:
    """Number of blocks by model: as runs say, else the last block of runs that scored it."""
    blocks_of: dict[str, int] = {}
    for run in runs:
        scored = frame[(frame["run"] == run.name) & (frame["part"] == "transformer")]
        model = run.metadata.get("model")
        blocks = model.get("blocks") if isinstance(model, dict) else None
        layers = run.config.get("layers") or {}
        whole = layers.get("select") in LAST_LAYERS and not (
            layers.get("index") is not None or layers.get("indices")
        )
        for name, rows in scored.groupby("model"):
            last = int(rows["layer_index"].max())
            if blocks or whole:
                blocks_of[str(name)] = max(blocks_of.get(str(name), 0), int(blocks or last))
    return blocks_of


def filtered(frame: pd.DataFrame, config: ReportConfig, plain: pd.Series) -> pd.DataFrame:
    """The rows that pass the filters; a name that no run has is an error."""
    whole = frame
    for column, chosen_names in config.filters.items():
        names = set(whole[column]) | (set(plain.dropna()) if column == "model" else set())
        absent = [name for name in chosen_names if name not in names]
        if absent:
            present = ", ".join(sorted(map(str, names)))
            raise StrataError(f"report.{column}s has {', '.join(absent)}: the runs have {present}")
        chosen = frame[column].isin(chosen_names)
        if column == "model":
            chosen |= plain.loc[frame.index].isin(chosen_names)
        frame = frame[chosen]
    if frame.empty:
        raise StrataError(
            f"no row is left by report.{', report.'.join(f'{c}s' for c in config.filters)} "
            "together: leave one of them away"
        )
    return frame


def without_duplicates(
    frame: pd.DataFrame, runs: Sequence[Run], by_config: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Every score once, from the newest run that has it, and how many rows of others are dropped.

    Two scores are the same if their runs had the same configuration, or the same protocol.
    """
    age = {run.name: k for k, run in enumerate(runs)}
    ordered = frame.assign(age=frame["run"].map(age)).sort_values("age", kind="stable")
    again = ordered.duplicated([*SAME, "config_key" if by_config else "protocol"])
    # Rows of one run are never each other's duplicates.
    repeated = ordered[again].groupby("run", sort=False).size()
    kept = ordered[~again].drop(columns="age").sort_index()
    return kept, {str(name): int(count) for name, count in repeated.items()}


def comparable(
    frame: pd.DataFrame, runs: Sequence[Run], mix: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The frame with each row's protocol; runs that differ are refused, or named apart if `mix`."""
    by_name = {run.name: run for run in runs}
    parts = ["run", "experiment", "dataset", "partition", "model"]
    frame = frame.copy()
    groups: dict[tuple[str, ...], list[tuple[Figures, Any]]] = {}
    for (name, *_, model), rows in frame.groupby(parts, sort=False):
        for figures in figures_of(by_name[name], rows, model):
            groups.setdefault(figures.group, []).append((figures, rows.index))
    apart: dict[tuple[str, ...], list[str]] = {}
    differing_values: dict[str, dict[str, set[str]]] = {}  # run -> what is different about it
    for group, members in groups.items():
        differing = differences(figures for figures, _ in members)
        if differing and not mix:
            key = next(iter(differing))
            raise refuse(group, key, differing[key])
        apart[group] = list(differing)
        for figures, index in members:
            frame.loc[index, "protocol"] += plain_text(dict(sorted(figures.protocol.items())))
            for key in differing:
                value = figures.protocol.get(key)
                if value is not None and key != "metric":  # metrics have panels of their own
                    differing_values.setdefault(figures.run.name, {}).setdefault(key, set()).add(
                        value
                    )
    suffixes = {name: f" [{difference(changed)}]" for name, changed in differing_values.items()}
    frame["model"] = [
        f"{model}{suffixes.get(name, '')}"
        for model, name in zip(frame["model"], frame["run"], strict=True)
    ]
    notes = [
        f"{' '.join(group[:1])} on {group[1]} ({group[2]}): runs differ in {', '.join(keys)}"
        for group, keys in apart.items()
        if keys
    ]
    return frame, notes


def difference(differing_values: Mapping[str, set[str]]) -> str:
    """What is different about a run, in short; a text that is cut ends in a hash of the whole."""
    values = {key: "/".join(sorted(texts)) for key, texts in differing_values.items()}
    words = ", ".join(
        value if key.startswith("speech of") else f"{key.rpartition('.')[2]} {value}"
        for key, value in values.items()
    )
    if len(words) <= LONGEST:
        return words
    return f"{words[:LONGEST]}… {hashlib.sha256(words.encode()).hexdigest()[:4]}"
