"""How the figures of a run were made: what has to be the same for two runs to be compared.

A protocol maps keys, written as on the command line, to values. Which model, which layers and
where files lie are no part of it; for a training neither are the seed and what is re-initialised.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.report.run_folders import Run
from common.config.analysis import LIMITS, drawn_by
from common.config.building import current_target
from common.records import StrataError
from common.results.results import pairwise

Protocol = Mapping[str, str]

MATRIX = "every pair of layers"  # how figures of `target.pairs=all` are called

# Of `finetune`: what is varied in a sweep, names the data (compared by what was read), or costs
# time and memory only.
NOT_IN_RECIPE = (
    *("reinit_top", "reinit_layers", "train", "valid", "test", "subset"),
    *("checkpoint_minutes", "compile", "gradient_checkpointing", "processes", "accumulate"),
    "keep_features",
)
# Settings of an analysis that only say which layers are scored or how vectors are kept.
NOT_IN_ANALYSIS = ("parts", "stored", "sampling", "split", "target", "metric")


@dataclass(frozen=True)
class Figures:
    """One run's scores of one experiment on one dataset; `group` names what they stand beside."""

    run: Run
    group: tuple[str, ...]
    protocol: Protocol


def figures_of(run: Run, rows: Any, model: str) -> list[Figures]:
    """The protocols of one experiment's rows on one partition: a training has two.

    Layers against several layers of another model (`target.pairs=all`, other frames than `same`
    takes) make a matrix, which has its own group beside the curve of the same name.
    A training has that of the test, which all models share, and that of its recipe.
    """
    first = rows.iloc[0]
    group = tuple(str(first[key]) for key in ("experiment", "dataset", "partition"))
    if first["experiment"] != "ctc":
        name, *where = group
        if pairwise(rows):  # a heat map stands beside a curve, and is not compared with it
            group = (f"{name} ({MATRIX})", *where)
        return [Figures(run, group, analysis_protocol(run, rows))]
    recipe = (*group, model, train_subset(run), train_dataset(run))
    return [Figures(run, group, test_protocol(run)), Figures(run, recipe, recipe_protocol(run))]


def analysis_protocol(run: Run, rows: Any) -> dict[str, str]:
    """Protocol of an experiment, from its rows and from the run's configuration."""
    name = str(rows["experiment"].iloc[0])
    main = rows[rows["primary"]]
    settings = {key: rows[key].unique() for key in ("unit", "split", "seed")}
    settings["metric"] = (main if len(main) else rows)["metric"].unique()
    protocol = {key: ", ".join(sorted(map(str, values))) for key, values in settings.items()}
    experiments = run.config.get("experiments")
    analysis = experiments.get(name) if isinstance(experiments, dict) else None
    if isinstance(analysis, dict):
        protocol |= _configured(name, analysis, run.config)
    protocol |= _stages(name, run.metadata) | _fingerprints(run.metadata)
    return protocol


def _configured(
    name: str, analysis: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, str]:
    """An experiment's settings from the configuration; the run's keys override the analysis's."""
    run_sampling = config.get("sampling") or {}
    analysis_sampling = analysis.get("sampling") or {}
    keys = ("samples", "folds", "trials")
    settings: dict[str, Any] = {f"sampling.{key}": run_sampling.get(key) for key in keys}
    unit = str(analysis.get("unit"))
    limits = {*drawn_by(unit), *drawn_by(unit, by_label=False)}
    for key in LIMITS:
        configured, over = analysis_sampling.get(key), run_sampling.get(key)
        reduced = (run_sampling.get("reduced") or {}).get(key)
        if configured is None:  # the run's own limits reach some analyses that have none
            reduced, over = None, over if key in limits else None
        settings[f"sampling.{key}"] = next(
            (v for v in (over, reduced) if v is not None), configured
        )
    plain = {k: v for k, v in analysis.items() if k not in NOT_IN_ANALYSIS}
    settings |= {f"experiments.{name}.{key}": value for key, value in plain.items()}
    given = {k: v for k, v in (config.get("target") or {}).items() if v is not None}
    target = {**(analysis.get("target") or {}), **given}
    for key, value in target.items():
        if key != "obtain":
            settings[f"target.{key}"] = Path(value).name if key == "path" and value else value
    if "_target_" in target:
        settings["target._target_"] = current_target(str(target["_target_"]))
    metric = _metric(analysis.get("metric") or {}, config.get("metric") or {})
    settings |= {f"metric.{key}": value for key, value in metric.items() if key != "_target_"}
    settings["precision"] = config.get("precision")
    if str(analysis.get("metric")).find("mutual_information") >= 0:
        settings["clusterer"] = config.get("clusterer")
    return {key: plain_text(value) for key, value in settings.items()}


def _metric(metric: Mapping[str, Any], over: Mapping[str, Any]) -> Mapping[str, Any]:
    """`metric=X` of the command line for members of its family (the module it comes from)."""
    family = str(metric.get("_target_")).rpartition(".")[0]
    return over if str(over.get("_target_")).rpartition(".")[0] == family else metric


def _stages(name: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the stages that an experiment's numbers went through."""
    studies = metadata.get("studies")
    for study in studies if isinstance(studies, list) else ():
        if name in study.get("experiments", ()) and study.get("versions"):
            return {f"version of {k}": str(v) for k, v in study["versions"].items()}
    return {}


def _fingerprints(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What the speech was: a dataset of the same name may be another folder, or a part of it."""
    corpus = metadata.get("dataset")
    if not isinstance(corpus, dict) or "fingerprint" not in corpus:
        return {}
    corpora = [corpus, *corpus.get("other_partitions", ())]
    return {f"speech of {one['partition']}": _speech(one) for one in corpora}


def _speech(corpus: Mapping[str, Any]) -> str:
    fingerprint = str(corpus.get("fingerprint"))[:7]
    return f"{corpus.get('hours', 0):.2f} h, {corpus.get('utterances')} utterances ({fingerprint})"


def test_protocol(run: Run) -> dict[str, str]:
    """What a recogniser was tested on."""
    part = _part(run, "test")
    corpus = part.get("corpus")
    settings = {"test utterances": part.get("utterances"), "test minutes": part.get("minutes")}
    if isinstance(part.get("speakers"), list):
        settings["test speakers"] = " ".join(sorted(part["speakers"]))
    if isinstance(corpus, dict):
        settings["test corpus"] = _speech(corpus)
    return {key: plain_text(value) for key, value in settings.items()}


test_protocol.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def recipe_protocol(run: Run) -> dict[str, str]:
    """How a recogniser was trained, and on which speech."""
    recipe = run.config.get("finetune")
    kept = recipe.items() if isinstance(recipe, dict) else ()
    settings = {f"finetune.{key}": value for key, value in kept if key not in NOT_IN_RECIPE}
    part = _part(run, "train")
    settings |= {
        "training utterances": part.get("utterances"),
        "training minutes": part.get("minutes"),
    }
    settings["precision"] = run.config.get("precision")
    return {key: plain_text(value) for key, value in settings.items()}


def train_subset(run: Run) -> str:
    """Amount of training speech, as it was asked for: "10m", or "all"."""
    recipe = run.config.get("finetune")
    if not isinstance(recipe, dict):
        return "all"
    return str(recipe.get("subset") or (recipe.get("train") or {}).get("subset") or "all")


def train_dataset(run: Run) -> str:
    """Name of the dataset that was trained on; "" where the run does not say."""
    corpus = _part(run, "train").get("corpus")
    return str(corpus.get("name", "")) if isinstance(corpus, dict) else ""


def _part(run: Run, name: str) -> Mapping[str, Any]:
    data = run.metadata.get("data")
    part = data.get(name) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}


def plain_text(value: object) -> str:
    """A value of a configuration, in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def differences(figures: Iterable[Figures]) -> dict[str, list[Figures]]:
    """Keys whose values differ within one group, with the first run of each value."""
    first: dict[str, dict[str, Figures]] = {}
    for one in figures:
        for key, value in one.protocol.items():
            first.setdefault(key, {}).setdefault(value, one)
    return {key: list(values.values()) for key, values in first.items() if len(values) > 1}


def refuse(group: tuple[str, ...], key: str, two: list[Figures]) -> StrataError:
    """The error that names two runs, what differs between them, and what to do."""
    one, other = two[:2]
    experiment, dataset, partition, *model = group
    of = f" of {model[0]}" if model else ""
    values = (_short(figures.protocol[key]) for figures in (one, other))
    return StrataError(
        f"{experiment}{of} on {dataset} ({partition}) cannot be compared between two runs: {key} "
        f"is {next(values)} in {one.run.name} and {next(values)} in {other.run.name}. Leave one "
        "of them out (report.runs=[…], or report.models, .datasets, .experiments, .metrics), run "
        "one again like the other, or put them side by side under names that say so: "
        "report.mix=true"
    )


def _short(value: str) -> str:
    return value if len(value) <= 90 else f"{value[:89]}…"
