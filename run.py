"""Strata's one entry point: `python run.py experiment=NAME model=NAME dataset=NAME …`."""

import logging
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from common.cache.cache import FULL, hashes_folder
from common.config import compose_once, register, resolve
from common.file_hashes import hashes_kept
from common.records import StrataError
from common.steps import steps_of
from common.stopping import listen

TASKS = {
    "analysis": "analysis.experiment",
    "cache": "analysis.inventory",
    "dashboard": "analysis.report.dashboard",
    "ctc": "finetune.ctc.experiment",
    "evaluate": "finetune.ctc.evaluate",
    "transcribe": "finetune.ctc.transcribe",
    "features": "analysis.features",
    "growth": "analysis.growth",
    "pretrain": "finetune.pretrain.experiment",
    "report": "analysis.report.build",
    "units": "analysis.units",
}

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
    listen()
    figure = None
    try:
        for (group, old), new in RENAMED.items():
            if HydraConfig.get().runtime.choices.get(group) == old:
                log.warning("%s=%s is %s=%s now; the old name will go", group, old, group, new)
        config = resolve(cfg)
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sweep = Path(HydraConfig.get().sweep.dir)
            config = replace(config, tracking=config.tracking.in_sweep(sweep))
        raw: Any = OmegaConf.to_container(cfg, resolve=True)
        for task, step, folder, own_raw in steps_of(config, run_dir, raw):
            # Only now: torch takes seconds to import.
            with hashes_kept(hashes_folder(step)):
                figure = import_module(TASKS[task]).run(step, folder, own_raw)
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


if __name__ == "__main__":
    main()
