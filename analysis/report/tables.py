"""What a report shows, as tables: curves, matrices, word error rates, the best layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # loads a submodule when it is first used

from common.config.analysis import LAYER_NAME
from common.results.pair_table import pair_matrix
from common.results.results import rankable, summarise

PLACE = ["dataset", "partition", "experiment", "metric"]  # what a panel shows
TRAINING = [*PLACE, "primary", "model", "train_dataset", "subset"]  # a curve over N
CTC = "ctc"


@dataclass(frozen=True)
class Matrix:
    """Layers of a model against layers of another: means (layers, others)."""

    model: str
    other: str
    dataset: str
    partition: str
    experiment: str
    metric: str
    values: pd.DataFrame


def split_frame(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows that make curves over layers, those that make matrices, and those of trainings."""
    errors = frame[frame["experiment"] == CTC]
    scores = frame[frame["experiment"] != CTC]
    scores = scores.assign(other=[_other(target) for target in scores["target"]])
    uncontrolled = scores[scores["control"] == ""]
    keys = [*PLACE, "model", "other", "run"]  # another run may have scored the same pair's curve
    targets = uncontrolled.groupby([*keys, "layer"], sort=False)["target"].nunique()
    several = {key[:-1] for key, count in targets.items() if count > 1}
    in_matrix = pd.Series(
        [key in several for key in scores[keys].itertuples(index=False, name=None)],
        index=scores.index,
        dtype=bool,
    )
    return scores[~in_matrix], scores[in_matrix], errors


def _other(target: object) -> str:
    """The second model of a target like "wav2vec2_base:T3"; "" for one that is no model's layer."""
    other, _, layer = str(target).rpartition(":")
    return other if LAYER_NAME.fullmatch(layer) else ""


def curves_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean, deviation and interval of every layer, with its panel and its series.

    `series` is the model, with the model that it is compared with where there is one. `rankable`:
    whether the line may be called the best of its curve (`common.results.rankable`).
    """
    parts = [_curves(rows, *key) for key, rows in _groups(scores, ["dataset", "partition"])]
    if not parts:
        return pd.DataFrame()
    curves = pd.concat(parts, ignore_index=True)
    curves["other"] = [_other(target) for target in curves["target"]]
    pairs = zip(curves["model"], curves["other"], strict=True)
    curves["series"] = [f"{model} with {other}" if other else model for model, other in pairs]
    return curves.assign(rankable=curves.index.isin(rankable(curves).index))


def _curves(rows: pd.DataFrame, dataset: str, partition: str) -> pd.DataFrame:
    summary = summarise(rows)
    depth = rows.groupby(["model", "part", "layer_index"])["depth"].first()
    keys = zip(summary["model"], summary["part"], summary["layer_index"], strict=True)
    summary["depth"] = [depth[key] for key in keys]
    return summary.assign(dataset=dataset, partition=partition)


def _groups(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:  # type: ignore[type-arg]
    return iter(frame.groupby(list(keys), sort=False))


def matrices_of(pairs: pd.DataFrame) -> list[Matrix]:
    """A matrix for each pair of models, dataset, experiment and metric; primary figures alone."""
    uncontrolled = pairs[pairs["control"] == ""]
    matrices = []
    for key, rows in _groups(uncontrolled, [*PLACE, "model", "other"]):
        dataset, partition, experiment, metric, model, other = key
        values = pair_matrix(rows.assign(primary=True))
        matrices.append(Matrix(model, other, dataset, partition, experiment, metric, values))
    return matrices


def errors_of(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean rate over seeds for each model, amount of speech and number of fresh blocks.

    `low` and `high`: Student's 95 % interval of the mean over seeds; NaN with one seed alone.
    """
    known = errors[errors["reinit_top"].notna()]
    if known.empty:
        return pd.DataFrame(columns=[*TRAINING, "reinit_top", "mean", "seeds", "low", "high"])
    grouped = known.groupby([*TRAINING, "reinit_top"], sort=False)["value"]
    means = grouped.agg(["mean", "std", "count"]).reset_index()
    seeds = means["count"].to_numpy()
    quantile = scipy.special.stdtrit(np.maximum(seeds - 1, 1), 0.975)
    half = np.where(seeds > 1, quantile * means["std"] / np.sqrt(seeds), np.nan)
    means = means.rename(columns={"count": "seeds"})
    return means.assign(low=(means["mean"] - half).clip(lower=0), high=means["mean"] + half)


def best_layers(curves: pd.DataFrame) -> pd.DataFrame:
    """The best layer of every curve that is an experiment's primary figure.

    Among those that can be held against each other (`common.results.rankable`).
    """
    if curves.empty:
        return curves
    ranked = curves[curves["rankable"]]
    ranked = ranked[(ranked["control"] == "") & ranked["primary"] & ranked["mean"].notna()]
    return ranked.loc[ranked.groupby([*PLACE, "series"], sort=False)["mean"].idxmax()]


def series_of(frame: pd.DataFrame, curves: pd.DataFrame) -> list[str]:
    """Names of all series, in the order of their colours."""
    named = list(curves["series"]) if len(curves) else []
    return list(dict.fromkeys([*sorted(frame["model"].unique(), key=natural), *named]))


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts "step 400" before "step 1250"."""
    words = name.replace("(", " ").replace(")", " ").split()
    return [(0, int(w), "") if w.isdecimal() else (1, 0, w) for w in words]
