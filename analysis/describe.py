"""The rows and the metadata that a run writes."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from analysis.measure import Measured
from analysis.sampling.speech import RunSpeech, partitions_of
from analysis.studies.study import Scored, metric_of
from common.config import Config
from common.encoder.architecture import ModelDescription
from common.metric import Score
from common.results.results import Row, git_commit

log = logging.getLogger(__name__)


def to_rows(config: Config, speech: RunSpeech, measured: Measured, run_key: str) -> list[Row]:
    """A row per score. Its partition is "fit>score" where another one was fitted on."""
    commit = git_commit()
    rows = []
    for one in measured.scored:
        analysis = config.experiments[one.experiment]
        metric = metric_of(analysis)
        names = partitions_of(analysis, config.dataset.partition)
        fitted, scored = (speech.partitions[name].partition for name in names)
        rows += [
            Row(
                model=config.model.name,
                dataset=speech.corpus.name,
                partition=scored if fitted == scored else f"{fitted}>{scored}",
                experiment=one.experiment,
                unit=analysis.unit,
                target=one.target or analysis.target.name,
                metric=score.metric or metric.name,
                primary=not score.metric,
                split=one.split,
                layer=one.layer.name,
                layer_index=one.layer.index,
                part=one.layer.part,
                sample=one.sample,
                trial=trial if metric.held_out else None,
                value=score.value,
                low=score.low,
                high=score.high,
                weighted=score.weighted,
                pairs=score.pairs,
                control=one.control,
                n=one.n,
                dim=one.layer.dim,
                seed=config.seed,
                revision=measured.revision,
                config_key=run_key,
                git_commit=commit,
            )
            for trial, score in by_trial(one.scores)
        ]
    return rows


def by_trial(scores: Sequence[Score]) -> Iterator[tuple[int, Score]]:
    """Each score with its trial: the k-th of the scores of one figure is trial k's."""
    seen: Counter[str] = Counter()
    for score in scores:
        yield seen[score.metric], score
        seen[score.metric] += 1


def describe_model(
    config: Config, description: ModelDescription, revision: str
) -> dict[str, object]:
    """The model, for the metadata."""
    return asdict(config.model) | {
        "revision": revision,
        "architecture": description.architecture,
        "parameters": description.n_parameters,
        "blocks": max((x.index for x in description.layers if x.part == "transformer"), default=0),
    }


def describe_measured(
    config: Config, measured: Measured, untrained: Measured | None
) -> dict[str, object]:
    """Samples, forward pass, choices and failures, of the model and of its controls."""
    return {
        "studies": measured.studies,
        "forward_pass": measured.describe_pass(),
        "scoring": summarise_scoring(config, measured.scored),
        "controls": describe_controls(config, measured, untrained),
        "left_out": measured.left_out,
        "no_intervals": measured.without_intervals,
        "not_scored": measured.failures,
        "not_complete": measured.unread,
    }


def describe_controls(
    config: Config, measured: Measured, untrained: Measured | None
) -> dict[str, object]:
    """The controls, and which of them an experiment lacks and why."""
    if not config.controls:
        return {}
    without = {name: dict(why) for name, why in measured.without_controls.items()}
    if config.model.random_init:
        for name in {one.experiment for one in measured.scored}:
            why = "the model itself has random weights"
            without.setdefault(name, {})["random_weights"] = why
    failures = measured.control_failures | (untrained.failures if untrained else {})
    for name, reasons in without.items():
        for control, why in reasons.items():
            log.info("%s has no control %s: %s", name, control.replace("_", " "), why)
    for name, why in failures.items():
        log.warning("a control of %s was not scored: %s", name, why)
    random = {}
    if untrained is not None:
        random = {"revision": untrained.revision, "forward_pass": untrained.describe_pass()}
    return {"random_weights": random, "without": without, "not_scored": failures}


def describe_speech(speech: RunSpeech) -> dict[str, object]:
    """The dataset's own partition, and any other that was listed."""
    first, *others = (corpus.describe() for corpus in speech.partitions.values())
    return first | ({"other_partitions": others} if others else {})


def summarise_scoring(config: Config, scored: Sequence[Scored]) -> dict[str, object]:
    """The summary of choices (ridges, clusters, …) by each experiment's metric."""
    summaries: dict[str, object] = {}
    for name, analysis in config.experiments.items():
        scored_here = (one for one in scored if one.experiment == name and not one.control)
        scores = [score for one in scored_here for score in one.scores]
        summaries[name] = metric_of(analysis).summary(scores, name)
    return summaries
