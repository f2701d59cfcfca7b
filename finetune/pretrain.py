"""The task `pretrain`: prepare speech, learn from it, write a model that the analyses can read."""

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger
from torch.utils.data import DataLoader

from common.architecture import Blueprint, draw
from common.config import Config, PretrainConfig
from common.encoder import pick_device
from common.records import Corpus, StrataError
from common.results import git_commit, versions
from common.seeding import generator
from common.timing import Stopwatch, peak_memory_bytes
from common.tracking import training_logger
from finetune.acoustics import check_geometry
from finetune.crops import Batch, Crops
from finetune.curves import plot_curves, print_curves
from finetune.export import export
from finetune.objectives import Contrastive, MaskedUnits, Objective, build, objective_of
from finetune.speech import Speech, prepare
from finetune.units import acoustic_units, learnt_units, teacher_layer

log = logging.getLogger(__name__)

VALID_BATCHES = 8


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:
    """Train from random weights and export; run again in the same folder to go on after a kill."""
    watch = Stopwatch()
    recipe = config.pretrain
    blueprint = draw(config.model)
    geometry = blueprint.description.layers[-1].geometry
    objective_of(blueprint)
    check_geometry(geometry)
    if recipe.teacher is not None:
        teacher_layer(recipe, geometry)
    with watch.stage("preparing"):
        corpora = read_corpora(config, recipe)
        speech = prepare(
            corpora,
            {name: recipe.weights.get(name, 1.0) for name in corpora},
            geometry,
            folder / "speech",
        )
        module = build(blueprint, recipe, config.model.init_seed)
        if isinstance(module, MaskedUnits):
            speech = speech.with_units(units_of(config, speech, folder / "speech"))
    with watch.stage("training"):
        steps = train(config, module, speech, blueprint, folder, raw)
    model = export(module.model, blueprint.checkpoint, folder / "model", half=True)
    metadata = {
        "data": {name: corpus.describe() for name, corpus in corpora.items()},
        "seconds": {stage: round(seconds, 1) for stage, seconds in watch.seconds.items()},
        "audio_seconds_per_second": round(
            steps * recipe.batch_seconds / watch.seconds["training"], 1
        ),
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": versions(),
        "git_commit": git_commit(),
        "config": raw,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=1, default=str))
    shutil.rmtree(folder / "speech")
    print_curves(folder, config.model.name)
    for path in (model, folder / "metadata.json", *plot_curves(folder, config.model.name)):
        print(path)


def read_corpora(config: Config, recipe: PretrainConfig) -> dict[str, Corpus]:
    """Every dataset of the mix, without the speakers that are to be left out."""
    corpora = {}
    unknown = set(recipe.without_speakers)
    for name, dataset in {"main": config.dataset, **recipe.mix}.items():
        corpus: Corpus = dataset.read()
        kept = corpus.without_speakers(recipe.without_speakers)
        unknown -= {u.speaker for u in corpus.utterances}
        left_out = len(corpus.utterances) - len(kept.utterances)
        log.info(
            "%s: %s (%s), %d utterances, %.1f min; %d utterances of left-out speakers",
            name,
            corpus.name,
            corpus.partition,
            len(kept.utterances),
            60 * kept.hours,
            left_out,
        )
        corpora[name] = kept
    if unknown:
        raise StrataError(
            f"pretrain.without_speakers names {', '.join(sorted(unknown))}, whom no dataset has: "
            "they may be spelt otherwise there (0036, not 36)"
        )
    return corpora


def units_of(config: Config, speech: Speech, folder: Path) -> NDArray[np.int32]:
    """Units of every frame; kept beside the speech, so that a resumed run has the same ones."""
    recipe = config.pretrain
    kept = folder / "units.npy"
    if kept.is_file() and len(units := np.load(kept)) == len(speech.units):
        return units
    if recipe.teacher is None:
        units = acoustic_units(speech, recipe.units, config.seed)
    else:
        units = learnt_units(speech, config)
    np.save(kept, units)
    return units


def train(
    config: Config,
    module: Objective,
    speech: Speech,
    blueprint: Blueprint,
    folder: Path,
    raw: Mapping[str, Any],
) -> int:
    """Every step that is not done yet, with checkpoints, snapshots and curves; how many it were."""
    recipe = config.pretrain
    last = folder / "checkpoints" / "last.ckpt"
    done = int(torch.load(last, weights_only=True)["global_step"]) if last.is_file() else 0
    if done:
        log.info("going on from step %d of %s", done, last)
    learn, hold_out = divide(speech, recipe, config.seed)
    negatives = blueprint.config.num_negatives if isinstance(module, Contrastive) else 1
    crops = Crops(learn, recipe, blueprint.front, negatives, config.seed, done, recipe.steps)
    held = replace(crops, speech=hold_out, seed=config.seed + 1, first=0, last=VALID_BATCHES)
    trainer = trainer_of(config, recipe, blueprint, folder, raw)
    with quiet():
        trainer.fit(
            module,
            DataLoader[Batch](crops, batch_size=None),
            DataLoader[Batch](held, batch_size=None),
            ckpt_path=last if done else None,
            weights_only=True,
        )
    return recipe.steps - done


def divide(speech: Speech, recipe: PretrainConfig, seed: int) -> tuple[Speech, Speech]:
    """The utterances to learn from, and those kept for the validation curves: one at least."""
    n = len(speech.lengths)
    if n < 2:
        raise StrataError(f"{n} utterance: training needs two, one is kept for validation")
    order = generator(seed, "validation").permutation(n)
    held = np.zeros(n, dtype=bool)
    held[order[: max(1, round(recipe.valid_share * n))]] = True
    return speech.only(~held), speech.only(held)


def trainer_of(
    config: Config,
    recipe: PretrainConfig,
    blueprint: Blueprint,
    folder: Path,
    raw: Mapping[str, Any],
) -> pl.Trainer:
    """Lightning's trainer, with the run's device, precision, loggers and checkpoints."""
    device = pick_device(config.device)
    loggers: list[Logger] = [CSVLogger(folder, name="curves")]
    tracker = training_logger(config.tracking, config.name, raw, folder)
    checkpoints = ModelCheckpoint(
        folder / "checkpoints",
        filename="{step}",
        save_last=True,
        train_time_interval=timedelta(minutes=recipe.checkpoint_minutes),
    )
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_steps=recipe.steps,
        max_epochs=-1,
        gradient_clip_val=recipe.gradient_clip,
        val_check_interval=recipe.valid_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, recipe.valid_every),
        logger=loggers if tracker is None else [*loggers, tracker],
        callbacks=[checkpoints, Snapshots(recipe, blueprint, folder)],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=folder,
    )


class Snapshots(Callback):
    """The model as it is after given parts of the training, for `experiment=growth`."""

    def __init__(self, recipe: PretrainConfig, blueprint: Blueprint, folder: Path) -> None:
        self.steps = {max(1, round(part * recipe.steps)) for part in recipe.snapshots}
        self.blueprint = blueprint
        self.folder = folder / "snapshots"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Save where the step asks for it."""
        step = trainer.global_step
        if step in self.steps:
            self.folder.mkdir(exist_ok=True)
            export(pl_module.model, self.blueprint.checkpoint, self.folder / f"step_{step:06d}")


@contextmanager
def quiet() -> Iterator[None]:
    """Without advice that does not apply: a batch takes milliseconds and is known by number."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers")
        warnings.filterwarnings("ignore", ".*IterableDataset.*__len__")
        warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        yield
