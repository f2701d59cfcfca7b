"""A run of several tasks, one after another: each reads the model that one before it exported, and
may compare it with the model that was there before.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import Config

log = logging.getLogger(__name__)

Step = tuple[str, Config, Path, Mapping[str, Any]]

EXPORTED = "model"  # folder in which a task leaves the model that it made
NOTHING_BEFORE = "it compares with the model before, and no step before this one has changed it"


def steps_of(config: Config, folder: Path, raw: Mapping[str, Any]) -> Iterator[Step]:
    """Task, configuration and folder of every step; a run of one task is one step.

    The next step is asked for when the one before it has run.
    """
    if config.task != "steps":
        yield config.task, config, folder, raw
        return
    for name, task in config.steps.items():
        place, following = folder / name, _without_comparisons(replace(config, task=task))
        if task == "analysis" and not following.experiments:
            log.warning("step %s: nothing to score before a step has changed the model", name)
            continue
        place.mkdir(parents=True, exist_ok=True)
        log.info("step %s: %s with %s", name, task, config.model.checkpoint)
        yield task, following, place, raw
        if (place / EXPORTED).is_dir():
            config, raw = _with_model(config, raw, place / EXPORTED, name)


def _without_comparisons(config: Config) -> Config:
    """A step without a second model leaves out, with the reason, what would compare with it."""
    if config.other is not None:
        return config
    experiments = {
        n: analysis
        for n, analysis in config.experiments.items()
        if not analysis.target.needs_second_model
    }
    left_out = {name: NOTHING_BEFORE for name in config.experiments if name not in experiments}
    return replace(config, experiments=experiments, left_out=config.left_out | left_out)


def _with_model(
    config: Config, raw: Mapping[str, Any], model: Path, step: str
) -> tuple[Config, Mapping[str, Any]]:
    """The configuration of what follows a step that exported a model.

    The model before is then the second one, unless the run names another.
    """
    keys = {
        "name": f"{config.model.name}_{step}",
        "checkpoint": str(model.resolve()),
        "revision": "main",
        "random_init": False,
    }
    following = replace(config.model, **keys)  # type: ignore[arg-type]
    raw = {**raw, "model": {**raw["model"], **keys}, "other": raw["other"] or raw["model"]}
    return replace(config, model=following, other=config.other or config.model), raw
