"""What a run tells of itself beside its rows: model, corpus, process, choices of the metrics."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from analysis.measure import Measured
from analysis.speech import Speech
from analysis.studies.study import Scored, metric_of
from common.config import Config
from common.encoder.architecture import ModelDescription

log = logging.getLogger(__name__)


def describe_model(
    config: Config, description: ModelDescription, revision: str
) -> dict[str, object]:
    """Which model it was, for the metadata."""
    return asdict(config.model) | {
        "revision": revision,
        "architecture": description.architecture,
        "parameters": description.n_parameters,
        "blocks": max(layer.index for layer in description.layers if layer.part == "transformer"),
    }


def describe_measured(
    config: Config, measured: Measured, untrained: Measured | None
) -> dict[str, object]:
    """What was drawn, heard, chosen and not scored, of the model and of its controls."""
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
    """What the scores are held against, and which controls cannot be had and why."""
    if not config.controls:
        return {}
    without = {name: dict(why) for name, why in measured.without_controls.items()}
    if config.model.random_init:
        for name in {one.experiment for one in measured.scored}:
            own = "the model itself has random weights"
            without.setdefault(name, {})["random_weights"] = own
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


def describe_speech(speech: Speech) -> dict[str, object]:
    """The dataset's own partition, and any other that was listed."""
    own, *others = (corpus.describe() for corpus in speech.partitions.values())
    return own | ({"other_partitions": others} if others else {})


def summarise_scoring(config: Config, scored: Sequence[Scored]) -> dict[str, object]:
    """What each experiment's metric has to say of its choices."""
    summaries: dict[str, object] = {}
    for name, analysis in config.experiments.items():
        own = (one for one in scored if one.experiment == name and not one.control)
        scores = [score for one in own for score in one.scores]
        summaries[name] = metric_of(analysis).summary(scores, name)
    return summaries
