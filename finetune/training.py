"""Lightning's trainer as every training here has it: device, precision, loggers, checkpoints."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy

from common.config import Config
from common.encoder.encoder import pick_device
from common.progress import Progress
from common.tracking import log_training, run_name, training_logger
from finetune.checkpoints import Checkpoints, WholeFiles
from finetune.curves import Curves
from finetune.processes import Place


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a training is and how often it is validated, in steps of the optimizer.

    A step is `accumulate` batches. `valid_from`: the first validation follows this step.
    """

    steps: int
    valid_every: int
    checkpoint_minutes: float
    gradient_clip: float
    accumulate: int = 1
    valid_from: int = 0


def trainer_of(
    config: Config,
    length: Length,
    folder: Path,
    raw: Mapping[str, Any],
    callbacks: Sequence[Callback],
    place: Place | None = None,
) -> pl.Trainer:
    """A trainer with the callbacks of its own training, and a checkpoint to resume from.

    `place`: which of several processes this is, if there are several.
    """
    device = pick_device(config.device)
    # Every point is written at once: a resumed training logs none from before its checkpoint.
    loggers: list[Logger] = [Curves(folder, name="curves", flush_logs_every_n_steps=1)]
    tracker = training_logger(config.tracking, run_name(config), raw, folder)
    first, terminal = place is None or place.rank == 0, sys.stderr.isatty()
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1 if place is None else place.world,
        strategy="auto" if place is None else _parallel(place),
        max_steps=length.steps,
        max_epochs=-1,
        gradient_clip_val=length.gradient_clip or None,
        accumulate_grad_batches=length.accumulate,
        val_check_interval=length.valid_every * length.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, length.valid_every),
        logger=loggers if tracker is None else [*loggers, tracker],
        plugins=[WholeFiles(), _numbers(config.precision, device.type)],
        callbacks=[
            *([Steps()] if first and not terminal else []),
            *callbacks,
            FirstValidation(length),
            # Last: checkpoints hold what the other callbacks know after this very step.
            Checkpoints(folder, length.checkpoint_minutes),
        ],
        enable_progress_bar=first and terminal,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _numbers(precision: str, device: str) -> Precision:
    """Precision of the computation; fp16 scales the loss, so that small gradients do not vanish."""
    if precision == "fp32":
        return Precision()
    kinds: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bf16": "bf16-mixed", "fp16": "16-mixed"}
    return MixedPrecision(kinds[precision], device)


def _parallel(place: Place) -> DDPStrategy:
    """Gradients averaged over processes, without waiting for layers that an update leaves out.

    Nor does a process wait in validation, where one may have more batches than another.
    """
    return DDPStrategy(
        cluster_environment=place, find_unused_parameters=True, broadcast_buffers=False
    )


class FirstValidation(Callback):
    """No validation before a certain step; then one at a fixed number of steps."""

    def __init__(self, length: Length) -> None:
        self.length = length

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Count the batches to the first one, unless the training resumes beyond it."""
        if trainer.global_step < self.length.valid_from:
            trainer.val_check_batch = self.length.valid_from * self.length.accumulate

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Validate from now on as often as asked."""
        trainer.val_check_batch = trainer.val_check_interval


class Steps(Callback):
    """A line in the log each minute, where there is no terminal for Lightning's bar."""

    def __init__(self) -> None:
        self._ended = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Begin at the step from which the training resumes."""
        done = trainer.global_step
        progress = Progress("training", trainer.max_steps, "steps", done, shown=False)
        self._progress = self._ended.enter_context(progress)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        *_: object,
    ) -> None:
        """Count what is done; a batch may be part of a step."""
        self._progress.update(trainer.global_step - self._progress.done)

    def teardown(self, *_: object, **__: object) -> None:
        """Stop logging."""
        self._ended.close()

    def on_exception(self, *_: object) -> None:
        """Stop logging after an error, where Lightning does not call `teardown`."""
        self._ended.close()


def finish_tracking(
    trainer: pl.Trainer,
    metadata: Mapping[str, object],
    rows: pd.DataFrame | None = None,
    reinit_top: int | None = None,
) -> None:
    """Log the results to the tracker, if there is one, and end its run: each job has its own."""
    trackers: list[Any] = trainer.loggers[1:]  # the first writes the folder's curves
    for tracker in trackers:
        log_training(tracker.experiment, metadata, rows, reinit_top)
        tracker.experiment.finish()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice that does not apply: a batch takes milliseconds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers")
        # fp16: updates that overflow are left out, the first ones until the loss's scale is found.
        warnings.filterwarnings("ignore", "Detected call of .lr_scheduler.step")
        warnings.filterwarnings("ignore", ".*IterableDataset.*__len__")
        warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", ".*broadcast_buffers. is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", ".*epoch_loop.val_loop.*deprecated")
        yield
