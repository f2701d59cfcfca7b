"""Checkpoints that a training resumes from after a kill: the last one, the one before, the best."""

import json
import logging
import os
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch.utils.data import DataLoader

from common.records import StrataError
from common.stopping import restore_handlers, stop, stop_requested
from common.writing import replacing, write_text

log = logging.getLogger(__name__)

T = TypeVar("T")

LAST = "checkpoints/last.ckpt"
PREVIOUS = "checkpoints/previous.ckpt"
BEST = "checkpoints/best.ckpt"
FINISHED = "checkpoints/finished.json"


@final
class Checkpoints(Checkpoint):
    """A checkpoint every few minutes, after whole updates; the one before it is kept beside it.

    One is never written between the parts of an update, whose sum is not kept, nor between an
    update and the validation that follows it, which a resumed training would skip. `minutes`
    lie between two; the end of the training has one in any case, and so has one that a signal asks
    to stop (`common.stopping`).
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self.saved = time.monotonic()

    def on_train_start(self, *_: object) -> None:
        """Start counting the minutes; Lightning would end at a signal without a checkpoint."""
        self.saved = time.monotonic()
        restore_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Save if it is time, the update is made and no validation follows."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        whole = done % trainer.accumulate_grad_batches == 0
        if whole and done % int(trainer.val_check_interval):
            self._save_in_time(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Save if it is time."""
        self._save_in_time(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Save the end, so that a kill afterwards costs no training.

        Not the end by patience: one that is resumed from there would go on.
        """
        if trainer.global_step >= trainer.max_steps:
            self._save(trainer)

    def _save_in_time(self, trainer: pl.Trainer) -> None:
        stopping = stop_requested()
        due = stopping or time.monotonic() - self.saved >= self.seconds
        # One process decides for all: saving waits for every one of them.
        if trainer.strategy.broadcast(due) and not trainer.should_stop:
            self._save(trainer)
            if stopping:
                stop()

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and (self.folder / LAST).is_file():
            _link(self.folder / LAST, self.folder / PREVIOUS)
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        self.saved = time.monotonic()


@final
class BestWeights(Callback):
    """The weights with the lowest value of a validation figure so far.

    The value is saved in the checkpoints. (Lightning's own callback loses it where the run's folder
    has been moved, and then counts the next weights as better.)
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self.value = inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are better."""
        value = float(trainer.callback_metrics[self.monitor])
        if not value < self.value:
            return
        self.value = value
        if trainer.is_global_zero:
            (self.folder / BEST).parent.mkdir(parents=True, exist_ok=True)
            held = {
                "state_dict": pl_module.state_dict(),
                "global_step": trainer.global_step,
                "value": value,
            }
            with replacing(self.folder / BEST) as partial, partial.open("wb") as file:
                torch.save(held, file)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, for a resumed training."""
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value of the training that is resumed."""
        self.value = float(state_dict["value"])


def _link(source: Path, target: Path) -> None:
    """A second name for a file: its first one can then be given to another."""
    partial = target.with_name(f".part.{target.name}")
    partial.unlink(missing_ok=True)
    os.link(source, partial)
    partial.replace(target)


@final
class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoints, written beside and renamed.

    Its own are written to the folder for temporary files first, and from another disk copied into
    place, where a kill leaves a part of one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint beside its place, and rename it."""
        del storage_options
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


@final
class Numbered(DataLoader[T], Generic[T]):
    """A loader of whole batches, each known by its number, that begins where a checkpoint ended.

    Its length is that of the whole training, since Lightning's progress counts what went before.
    It has no state beside the dataset's `first`, but tells Lightning that it can resume.
    `ahead`: another process assembles the next two batches, for a GPU in memory that it reads by
    itself.
    """

    def __init__(self, batches: Any, ahead: bool = False) -> None:
        pinned = ahead and torch.cuda.is_available()
        super().__init__(batches, batch_size=None, num_workers=int(ahead), pin_memory=pinned)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the number of the update, which the checkpoint holds, is enough."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def read_checkpoint(path: Path) -> Mapping[str, Any] | None:
    """A checkpoint, or None where it is missing or damaged, which is logged."""
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        int(checkpoint["global_step"])
    except Exception as error:
        # Damaged files raise pickle's, zipfile's or torch's own classes.
        log.warning(
            "%s (%d bytes) is damaged and is not used: %s",
            path,
            path.stat().st_size,
            str(error).splitlines()[0] if str(error) else repr(error),
        )
        return None
    return dict(checkpoint)


def resume_from(folder: Path) -> tuple[Path | None, int]:
    """The checkpoint from which a training in `folder` resumes, and its step; None and 0 without.

    A last one that is damaged gives way to the one before it.
    """
    for name in (LAST, PREVIOUS):
        checkpoint = read_checkpoint(folder / name)
        if checkpoint is not None:
            return folder / name, int(checkpoint["global_step"])
    return None, 0


def steps_done(folder: Path) -> int:
    """Steps of a training that is finished, or from which it would resume; 0 without one."""
    return finished_steps(folder) or resume_from(folder)[1]


def finished_steps(folder: Path) -> int | None:
    """Steps of a finished training, of which the best weights alone are left; else None."""
    try:
        return int(json.loads((folder / FINISHED).read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finish(folder: Path, steps: int) -> None:
    """Keep of a finished training's checkpoints the best weights, which the same command reads."""
    write_text(folder / FINISHED, json.dumps({"steps": steps}))
    freed = 0
    for name in (LAST, PREVIOUS):
        if (folder / name).is_file():
            freed += (folder / name).stat().st_size
            (folder / name).unlink()
    if freed:
        log.info(
            "the training is finished: %s stays, %.0f MB of other checkpoints are deleted",
            folder / BEST,
            freed / 1e6,
        )


def best_of_training(folder: Path) -> Mapping[str, Any]:
    """The best weights of a training, their update and their `value` of the monitored figure."""
    checkpoint = read_checkpoint(folder / BEST)
    if checkpoint is None:
        raise StrataError(
            f"{folder / BEST}: the best weights are missing or damaged. Give the same command "
            "again: it trains anew"
        )
    return checkpoint
