"""The training itself, in one process or in several that do the same."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from common.architecture import Blueprint
from common.config import Config
from common.records import StrataError
from finetune.batches import Batch, Clips, Heldout, Updates
from finetune.module import Recogniser
from finetune.processes import Place, together
from finetune.recogniser import fresh_modules, load
from finetune.reinit import Reinit, reinitialise
from finetune.text import Vocabulary
from finetune.training import LAST, Length, quiet, steps_done, trainer_of

log = logging.getLogger(__name__)

BEST = "checkpoints/best.ckpt"


@dataclass(frozen=True)
class Plan:
    """What a training begins with, in any of its processes.

    `references`: normalised text of the validation speech, by number.
    """

    config: Config
    blueprint: Blueprint
    reinit: Reinit
    vocabulary: Vocabulary
    fresh_head: bool
    references: tuple[str, ...]
    folder: Path
    raw: Mapping[str, Any]

    def build(self) -> tuple[Recogniser, dict[str, list[str]]]:
        """The model with its fresh blocks and head, and the names of what was drawn."""
        recipe, seed = self.config.finetune, self.config.seed
        model, head = load(
            recipe, self.vocabulary, self.config.model, self.blueprint, self.fresh_head
        )
        fresh = fresh_modules(model, self.reinit)
        tensors = reinitialise(model, fresh, seed)
        module = Recogniser(
            model, fresh, self.blueprint, self.vocabulary, recipe, self.references, seed
        )
        return module, {"tensors": tensors, "head": head}


def train(
    plan: Plan, module: Recogniser, clips: Clips, numbers: tuple[int, ...], held: Heldout
) -> tuple[pl.Trainer, int]:
    """Every update that is not done yet; the module has the best weights afterwards.

    `numbers` of the utterances among `clips` that are trained on.
    """
    recipe, folder = plan.config.finetune, plan.folder
    done = steps_done(folder)
    if done:
        log.info("going on from update %d of %s", done, folder / LAST)
    updates = Updates(clips, numbers, recipe, plan.config.seed, done, recipe.updates)
    if len(held) < recipe.processes:
        raise StrataError(
            f"finetune.processes={recipe.processes}: the validation speech makes {len(held)} "
            "batches, and every process takes one or more: use fewer processes, or more speech"
        )
    if done < recipe.updates:
        with together(recipe.processes, follow, plan, updates, held) as place:
            trainer = fit(plan, module, updates, held, place)
    else:
        trainer = _trainer(plan, None)
    best = torch.load(folder / BEST, weights_only=True, map_location="cpu")
    module.load_state_dict(best["state_dict"])
    return trainer, int(best["global_step"])


def follow(place: Place, ready: Connection, plan: Plan, updates: Updates, held: Heldout) -> None:
    """What a process beside the first one does: its part of the same, and nothing is written."""
    silent = replace(plan.config, tracking=replace(plan.config.tracking, backend="none"))
    plan = replace(plan, config=silent)
    module, _ = plan.build()
    ready.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first process gives the same ones
        fit(plan, module, updates, held, place)


def fit(
    plan: Plan, module: Recogniser, updates: Updates, held: Heldout, place: Place | None
) -> pl.Trainer:
    """Train one process's part of all updates, and validate its part of the utterances."""
    trainer = _trainer(plan, place)
    rank, world = (0, 1) if place is None else (place.rank, place.world)
    with quiet():
        trainer.fit(
            module.train(),  # from_pretrained gives it in eval mode: without masks
            DataLoader[Batch](replace(updates, rank=rank), batch_size=None),
            DataLoader[Batch](replace(held, batches=held.batches[rank::world]), batch_size=None),
            ckpt_path=plan.folder / LAST if updates.first else None,
            weights_only=True,
        )
    return trainer


def _trainer(plan: Plan, place: Place | None) -> pl.Trainer:
    recipe = plan.config.finetune
    length = Length(
        steps=recipe.updates,
        valid_every=min(recipe.valid_every, recipe.updates),
        checkpoint_minutes=recipe.checkpoint_minutes,
        gradient_clip=recipe.gradient_clip,
        accumulate=recipe.accumulate,
    )
    callbacks = callbacks_of(plan.config, plan.folder)
    return trainer_of(plan.config, length, plan.folder, plan.raw, callbacks, place)


def callbacks_of(config: Config, folder: Path) -> list[Callback]:
    """The best weights by the error rate watched, and an end where it does not fall any more."""
    recipe = config.finetune
    watched = f"valid/{recipe.monitor}"
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename=Path(BEST).stem,
        monitor=watched,
        mode="min",
        save_weights_only=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [best]
    if recipe.patience is not None:
        callbacks.append(EarlyStopping(watched, mode="min", patience=recipe.patience))
    return callbacks
