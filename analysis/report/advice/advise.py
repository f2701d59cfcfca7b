"""Advice in words from any set of runs: best layers, turns, blocks to re-initialise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.report.advice.curve import Curve, curves_of
from analysis.report.advice.layers import TOPICS, best_layers
from analysis.report.advice.reinit import Suggestion, suggest, tried
from analysis.report.advice.turns import turns
from analysis.report.advice.wording import Advice, listed, sentences
from common.config.analysis import BY_SPEAKER
from common.results.results import WITHOUT_LAYERS, unlike_widths

__all__ = ["Advice", "advise"]

RANDOM = "random:"  # how the revision of random weights begins
APART = (*BY_SPEAKER, "partition")  # splits with other speakers in training and in test
# Columns of the tidy frame that a plain results.csv lacks.
OPTIONAL: Mapping[str, object] = {
    "run": "",
    "reinit_top": pd.NA,
    "subset": "",
    "train_dataset": "",
    "weighted": "",
    "pairs": pd.NA,
}


def advise(frame: pd.DataFrame) -> list[Advice]:
    """What the scores of a tidy frame (columns of `Row`, and `OPTIONAL`) say, model by model.

    For every model and dataset: where acoustic, phonetic and word content and meaning are highest
    and which layers cannot be told apart from there, where content turns back (only where that is
    beyond the noise), and how many top blocks to re-initialise; then how that did, where the frame
    holds fine-tunings with several `reinit_top`. Differences are paired over folds of speakers
    (`analysis.advice.paired`); scores whose folds do not keep speakers apart give no advice, and
    that is said. Secondary figures and scores that are missing are not looked at; nor
    are models of random weights, which are something to hold others against.
    """
    if frame.empty:
        return []
    whole = frame.assign(**{k: v for k, v in OPTIONAL.items() if k not in frame})
    words = ("control", "part", "subset", "train_dataset", "weighted")
    whole = whole.fillna(dict.fromkeys(words, ""))
    untrained = whole["revision"].astype(str).str.startswith(RANDOM) & (whole["control"] == "")
    analysed = whole[(whole["experiment"] != "ctc") & ~untrained]
    names = _names(analysed)
    widths = unlike_widths(analysed[analysed["control"] == ""])
    said: list[Advice] = []
    suggestions = []
    for (model, revision, dataset), every in _by_model(analysed).items():
        name = names[model, revision]
        curves = [curve for curve in every if curve.split in APART]
        said += without_advice(name, dataset, [c for c in every if c not in curves])
        for topic, experiments in TOPICS.items():
            own = [c for one in experiments for c in curves if c.experiment == one]
            if own:
                best = best_layers(topic, name, dataset, own)
                wide = [
                    f"{c.experiment}: {widths[c.experiment]}."
                    for c in own
                    if c.experiment in widths
                ]
                said.append(replace(best, caveat=" ".join(filter(None, [best.caveat, *wide]))))
        said += turns(name, dataset, curves)
        advice = suggest(name, dataset, revision, curves)
        if isinstance(advice, Suggestion):
            suggestions.append((model, advice))
            said.append(advice.advice)
        elif advice:
            said.append(advice)
    return [*said, *tried(whole, suggestions)]


def without_advice(model: str, dataset: str, curves: Sequence[Curve]) -> list[Advice]:
    """That these curves give none, if there are any: their folds do not keep speakers apart."""
    if not curves:
        return []
    cut = dict.fromkeys(f"{c.experiment} (split={c.split})" for c in curves)
    return [
        Advice(
            topic="no advice",
            model=model,
            claim=f"No advice on {model} on {dataset} from {listed(list(cut))}: the same speakers "
            "are, or may be, in training and in test, so nothing says what holds for others.",
            numbers=sentences([f"{c.experiment}: {c.split} folds" for c in curves]),
            caveat="protocol=held_out keeps speakers apart where there are as many as folds.",
        )
    ]


def _by_model(frame: pd.DataFrame) -> dict[tuple[str, str, str], list[Curve]]:
    """Curves by model, revision and dataset, as they come."""
    found: dict[tuple[str, str, str], list[Curve]] = {}
    for study, curve in curves_of(frame):
        where = f"{study['dataset']} ({study['partition']})"
        found.setdefault((study["model"], study["revision"], where), []).append(curve)
    return found


def _names(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Each model's name; with the run's, or else the revision, where its weights differ."""
    own = frame[frame["control"].isin(["", *WITHOUT_LAYERS, "shuffled_labels", "permuted_table"])]
    names = {}
    for model, rows in own.groupby("model", sort=False):
        revisions = rows.groupby("revision", sort=False)["run"].unique()
        for revision, runs in revisions.items():
            which = str(runs[0]) if len(runs) == 1 and runs[0] else str(revision)
            alone = len(revisions) == 1
            names[str(model), str(revision)] = str(model) if alone else f"{model} [{which}]"
    return names
