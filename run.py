"""Strata's one entry point: `python run.py experiment=NAME model=NAME dataset=NAME …`."""

import logging
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from common.cache.cache import FULL, hashes_folder
from common.config import Config, compose_once, register, resolve
from common.file_hashes import hashes_kept
from common.place import place
from common.processes import joined
from common.records import StrataError
from common.steps import steps_of
from common.stopping import handle_signals

TASKS = {
    "analysis": "analysis.experiment",
    "cache": "analysis.inventory",
    "dashboard": "analysis.report.dashboard",
    "ctc": "finetune.ctc.experiment",
    "evaluate": "finetune.ctc.evaluate",
    "transcribe": "finetune.ctc.transcribe",
    "features": "analysis.extraction.features",
    "growth": "analysis.growth",
    "pretrain": "finetune.pretrain.experiment",
    "report": "analysis.report.build",
    "units": "analysis.extraction.units",
}

SHARED = ("analysis", "features", "growth", "units")  # tasks that several processes can share

SUBMITIT = "SUBMITIT_EXECUTOR"  # set in a job that launcher=slurm submitted

RENAMED = {("finetune", "authors"): "libri_10m_unfrozen"}  # options, by group and old name

log = logging.getLogger("strata")
register()
compose_once()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Any:
    """Validate everything, then dispatch by cfg.task. Every random draw names its own seed.

    Returns the run's own figure, for sweepers that look for the best one: the best layer's score
    (of each experiment where there are several), a recogniser's error rate on validation speech
    (`finetune.monitor`: test speech is not to be chosen by), the validation loss of a pretraining;
    of several steps the last one's.
    """
    handle_signals()
    if place().rank:
        follow()
    figure = None
    try:
        for (group, old), new in RENAMED.items():
            if HydraConfig.get().runtime.choices.get(group) == old:
                log.warning(
                    "%s=%s is now %s=%s; the old name will be removed", group, old, group, new
                )
        config = resolve(cfg)
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        if multirun:
            sweep = Path(HydraConfig.get().sweep.dir)
            config = replace(config, tracking=config.tracking.in_sweep(sweep))
        raw: Any = OmegaConf.to_container(cfg, resolve=True)
        check_shared(config, multirun)
        with joined(config.device) as processes:
            folder_of_first = processes.first(lambda: run_dir)
            shared = {"processes": processes} if processes.size > 1 else {}
            for task, step, folder, own_raw in steps_of(config, folder_of_first, raw):
                # Only now: torch takes seconds to import.
                with hashes_kept(hashes_folder(step)):
                    figure = import_module(TASKS[task]).run(step, folder, own_raw, **shared)
    except StrataError as error:
        log.error("%s", error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # the other jobs go on; at the end the launcher reports the first that failed
        sys.exit(1)
    except OSError as error:
        if error.errno not in FULL:
            raise
        log.error("%s: %s. Make room, and run again", error.filename or "a file", error.strerror)
        sys.exit(1)
    return figure


def check_shared(config: Config, multirun: bool) -> None:
    """Raise where several processes were started for what one does."""
    size = place().size
    if size == 1:
        return
    if multirun and SUBMITIT not in os.environ:
        raise StrataError(
            f"{size} processes were started for a sweep, and they share one run: leave out -m, or "
            "give every job its own, -m launcher=slurm hydra.launcher.tasks_per_node="
        )
    for task in (config.task, *config.steps.values()):
        if task not in (*SHARED, "steps"):
            hint = ": finetune.processes= starts those of a training" if task == "ctc" else ""
            raise StrataError(
                f"{size} processes were started, and the task {task} is done by one: start it with "
                f"python run.py{hint}"
            )


def follow() -> None:
    """Leave the folder of the run and the log to the first of several processes.

    This one logs errors alone.
    """
    rank = place().rank
    for handler in list(logging.root.handlers):
        if isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)
        handler.setFormatter(logging.Formatter(f"[process {rank}] %(message)s"))
    logging.root.setLevel(logging.ERROR)


def follower_overrides() -> list[str]:
    """Keep Hydra from making a folder and a log for any process but the first."""
    if place().rank == 0:
        return []
    nowhere = f"hydra.run.dir={gettempdir()}"
    return [nowhere, "hydra.output_subdir=null", "hydra/job_logging=stdout"]


if __name__ == "__main__":
    try:
        sys.argv += follower_overrides()
    except StrataError as error:  # before there is a log
        sys.exit(str(error))
    main()
