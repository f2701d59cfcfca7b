"""The training itself, in one process or in several."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from common.config import Config, FinetuneConfig
from common.encoder.architecture import Blueprint
from common.encoder.encoder import pick_device
from common.records import StrataError
from common.stopping import deferred_signals, ignore_signals
from finetune.checkpoints import (
    BEST,
    FINISHED,
    BestWeights,
    Numbered,
    best_of_training,
    finish,
    finished_steps,
    read_checkpoint,
    resume_from,
)
from finetune.ctc.adapters import adapt
from finetune.ctc.augment import Augment
from finetune.ctc.batches import Batch, Clips, Heldout, Updates
from finetune.ctc.blocks import Blocks, drop, modules_of, rates_of, shortened
from finetune.ctc.data import frames_needed
from finetune.ctc.module import Recogniser
from finetune.ctc.recogniser import load
from finetune.ctc.reinit import reinitialise
from finetune.ctc.text import Vocabulary
from finetune.processes import Place, together
from finetune.training import Length, quiet, trainer_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a training starts from, in each of its processes.

    `whole`: the model with the blocks that are dropped. `references`: normalised text of the
    validation speech, by number.
    """

    config: Config
    whole: Blueprint
    blocks: Blocks
    vocabulary: Vocabulary
    fresh_head: bool
    references: tuple[str, ...]
    folder: Path
    raw: Mapping[str, Any]

    @property
    def blueprint(self) -> Blueprint:
        """The model that is trained, without the dropped blocks."""
        return shortened(self.whole, self.config.model, self.blocks)

    @property
    def watched(self) -> str:
        """The error rate that chooses the best weights: the only one, or the recipe's."""
        figures, monitor = self.vocabulary.figures, self.config.finetune.monitor
        return monitor if monitor in figures else figures[0]

    def build(self) -> tuple[Recogniser, dict[str, list[str]]]:
        """The model with its fresh blocks and head, and the names of what was drawn."""
        recipe, seed, blocks = self.config.finetune, self.config.seed, self.blocks
        model, head = load(recipe, self.vocabulary, self.config.model, self.whole, self.fresh_head)
        drop(model, blocks)
        fresh = modules_of(model, blocks.fresh)
        tensors = reinitialise(model, fresh, seed)
        unfrozen = modules_of(model, (blocks.modules[name] for name in blocks.unfrozen))
        early = [*unfrozen, *(fresh if recipe.freeze_exclude_reinit else ())]
        adapters = adapt(model, blocks.modules.values(), fresh, recipe.adapters, seed)
        for frozen in modules_of(model, (blocks.modules[name] for name in blocks.frozen)):
            frozen.requires_grad_(False)
        module = Recogniser(
            model,
            early,
            self.blueprint,
            self.vocabulary,
            recipe,
            self.references,
            seed,
            rates_of(model, blocks, recipe.layer_decay),
            self.config.precision,
        )
        return module, {"tensors": tensors, "head": head, "adapters": adapters}


def train(
    plan: Plan, module: Recogniser, clips: Clips, numbers: tuple[int, ...], held: Heldout
) -> tuple[pl.Trainer, int, float]:
    """Every update that is not done yet; the module has the best weights afterwards.

    Returns the update that they are from and their error rate in validation (`plan.watched`).
    `numbers` of the utterances among `clips` that are trained on.
    """
    recipe, folder = plan.config.finetune, plan.folder
    checkpoint, done = resume_from(folder)
    finished = finished_steps(folder)
    done = finished or done
    if done >= recipe.first_validation and read_checkpoint(folder / BEST) is None:
        log.warning(
            "%s is missing or damaged, and which weights were the best is not known without: "
            "training anew instead of going on from update %d",
            folder / BEST,
            done,
        )
        checkpoint, done, finished = None, 0, None
        (folder / FINISHED).unlink(missing_ok=True)
    if finished:
        log.info("the training is finished, with %d updates: its best weights are used", finished)
    elif done:
        log.info("going on from update %d of %s", done, checkpoint)
    seed = plan.config.seed
    augment = augment_of(plan, clips) if recipe.augment.changes else None
    updates = Updates(clips, numbers, recipe, seed, done, recipe.updates, augment=augment)
    if len(held) < recipe.processes:
        raise StrataError(
            f"finetune.processes={recipe.processes}: the validation speech makes {len(held)} "
            "batches, and every process takes one or more: use fewer processes, or more speech"
        )
    if done < recipe.updates and not finished:
        with (
            explained_memory(recipe),
            together(recipe.processes, follow, plan, updates, held, checkpoint) as place,
        ):
            trainer = fit(plan, module, updates, held, checkpoint, place)
    else:
        trainer = _trainer(plan, None)
    finish(folder, finished or trainer.global_step or done)
    if module.features is not None:
        module.features.close()
    best = best_of_training(folder)
    module.load_state_dict(best["state_dict"])
    return trainer, int(best["global_step"]), float(best["value"])


def augment_of(plan: Plan, clips: Clips) -> Augment:
    """What changes the training speech, which keeps the frames that masks and symbols need."""
    recipe = plan.config.finetune
    masked = recipe.mask_time_length + 1 if recipe.mask_time_prob else 1
    return Augment.of(
        recipe.augment,
        plan.config.seed,
        clips.lengths,
        [max(masked, frames_needed(symbols)) for symbols in clips.characters],
        plan.whole.description.layers[-1].geometry,
        plan.whole.feature_extractor.max_samples,
    )


def follow(
    place: Place,
    ready: Connection,
    plan: Plan,
    updates: Updates,
    held: Heldout,
    checkpoint: Path | None,
) -> None:
    """Train in a process other than the first: its part of each update, without writing files."""
    silent = replace(plan.config, tracking=replace(plan.config.tracking, backend="none"))
    plan = replace(plan, config=silent)
    module, _ = plan.build()
    ready.send(None)
    ignore_signals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first process gives the same ones
        fit(plan, module, updates, held, checkpoint, place)


def fit(
    plan: Plan,
    module: Recogniser,
    updates: Updates,
    held: Heldout,
    checkpoint: Path | None,
    place: Place | None,
) -> pl.Trainer:
    """Train one process's part of all updates, and validate its part of the utterances.

    `checkpoint`: the one to resume from.
    """
    trainer = _trainer(plan, place)
    rank, world = (0, 1) if place is None else (place.rank, place.world)
    device = pick_device(plan.config.device)
    with quiet(), deferred_signals():
        trainer.fit(
            module.train(),  # from_pretrained gives it in eval mode: without masks
            Numbered[Batch](replace(updates, rank=rank), ahead=device.type == "cuda"),
            Numbered[Batch](replace(held, batches=held.batches[rank::world])),
            ckpt_path=checkpoint,
            weights_only=True,
        )
    return trainer


@contextmanager
def explained_memory(recipe: FinetuneConfig) -> Iterator[None]:
    """Say which keys help where a device's memory is full."""
    try:
        yield
    except RuntimeError as error:
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        seconds = recipe.batch_seconds / (recipe.accumulate * recipe.processes)
        raise StrataError(
            f"memory is full: up to {seconds:.0f} s of audio are processed at once. Use "
            f"finetune.device_seconds={max(seconds / 2, recipe.max_seconds):.0f} (an update has as "
            "much as before, in more parts) or, on a GPU, finetune.device_seconds=auto; "
            "precision=bf16 and finetune.gradient_checkpointing=true take less, too. The parts' "
            "random numbers are others: begin in another folder"
        ) from error


def _trainer(plan: Plan, place: Place | None) -> pl.Trainer:
    recipe = plan.config.finetune
    length = Length(
        steps=recipe.updates,
        valid_every=min(recipe.valid_every, recipe.updates),
        checkpoint_minutes=recipe.checkpoint_minutes,
        gradient_clip=recipe.gradient_clip,
        accumulate=recipe.accumulate,
        valid_from=recipe.first_validation,
    )
    callbacks = callbacks_of(plan.config, plan.folder, plan.watched)
    return trainer_of(plan.config, length, plan.folder, plan.raw, callbacks, place)


def callbacks_of(config: Config, folder: Path, figure: str) -> list[Callback]:
    """Keep the best weights by the error rate watched; stop where it no longer falls."""
    recipe = config.finetune
    watched = f"valid/{figure}"
    callbacks: list[Callback] = [BestWeights(folder, watched)]
    if recipe.patience is not None:
        callbacks.append(EarlyStopping(watched, mode="min", patience=recipe.patience))
    return callbacks
