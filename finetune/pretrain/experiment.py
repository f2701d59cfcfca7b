"""The task `pretrain`: prepare speech, learn from it, write a model that the analyses can read."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from common.config import Config, PretrainConfig
from common.encoder.architecture import Blueprint, read_blueprint
from common.records import Corpus, StrataError
from common.results.results import describe_process
from common.seeding import generator
from common.stopping import deferred_signals
from common.timing import Stopwatch
from common.windows import in_windows, longest_input
from common.writing import replacing, write_text
from finetune.checkpoints import Numbered, resume_from
from finetune.curves import plot_curves, print_curves
from finetune.export import export
from finetune.pretrain.acoustics import check_geometry
from finetune.pretrain.crops import Batch, Crops
from finetune.pretrain.objectives import Contrastive, MaskedUnits, Objective, build, objective_of
from finetune.pretrain.speech import PretrainingSpeech, prepare
from finetune.pretrain.units import acoustic_units, learnt_units, teacher_layer
from finetune.resume import check_settings
from finetune.training import Length, finish_tracking, quiet, trainer_of

log = logging.getLogger(__name__)

VALID_BATCHES = 8


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> float | None:
    """Train from random weights and export; run again in the same folder to resume after a kill.

    Returns the last loss in validation, if this run came to one.
    """
    watch = Stopwatch()
    recipe = config.pretrain
    blueprint = read_blueprint(config.model)
    geometry = blueprint.description.layers[-1].geometry
    objective_of(blueprint)
    check_geometry(geometry)
    check_settings(folder, raw, "pretrain")
    if recipe.teacher is not None:
        teacher_layer(recipe, geometry)
    with watch.stage("preparing"):
        corpora = read_corpora(config, recipe)
        speech = prepare(
            corpora,
            {name: recipe.weights.get(name, 1.0) for name in corpora},
            geometry,
            folder / "speech",
            config.on_error,
        )
        module = build(blueprint, recipe, config.model.init_seed)
        if isinstance(module, MaskedUnits):
            speech = speech.with_units(units_of(config, speech, folder / "speech"))
    with watch.stage("training"):
        trainer, steps = train(config, module, speech, blueprint, folder, raw)
    model = export(module.model, blueprint.checkpoint, folder / "model", half=True)
    metadata = {
        "data": {name: corpus.describe() for name, corpus in corpora.items()},
        "audio_seconds_per_second": round(
            steps * recipe.batch_seconds / watch.seconds["training"], 1
        ),
        **describe_process(watch),
        "config": raw,
    }
    write_text(folder / "metadata.json", json.dumps(metadata, indent=1, default=str))
    shutil.rmtree(folder / "speech")
    print_curves(folder, config.model.name)
    for path in (model, folder / "metadata.json", *plot_curves(folder, config.model.name)):
        print(path)
    finish_tracking(trainer, metadata)
    loss = trainer.callback_metrics.get("valid/loss")
    return None if loss is None else float(loss)


def read_corpora(config: Config, recipe: PretrainConfig) -> dict[str, Corpus]:
    """Every dataset of the mix, without the speakers that are to be left out."""
    corpora = {}
    unknown = set(recipe.without_speakers)
    for name, dataset in {"main": config.dataset, **recipe.mix}.items():
        listed: Corpus = dataset.read(config.on_error)
        longest = longest_input(config.model.max_seconds, [])
        corpus = in_windows(listed, longest, overlap=False)
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


def units_of(config: Config, speech: PretrainingSpeech, folder: Path) -> NDArray[np.int32]:
    """Units of every frame; kept beside the speech, so that a resumed run has the same ones."""
    recipe = config.pretrain
    kept = folder / "units.npz"
    asked = [recipe.units, recipe.teacher, recipe.teacher_layer, config.seed]
    identity = json.dumps([speech.identity, *asked])
    try:
        with kept.open("rb") as file, np.load(file) as held:
            if str(held["identity"]) == identity:
                return np.asarray(held["units"])
    except FileNotFoundError:
        pass
    except Exception as error:
        # Damaged files raise zipfile's, zlib's or numpy's own classes.
        log.warning("%s is damaged and is made again: %s", kept, error)
    if recipe.teacher is None:
        units = acoustic_units(speech, recipe.units, config.seed)
    else:
        units = learnt_units(speech, config)
    with replacing(kept) as partial, partial.open("wb") as out:
        np.savez(out, identity=np.array(identity), units=units)
    return units


def train(
    config: Config,
    module: Objective,
    speech: PretrainingSpeech,
    blueprint: Blueprint,
    folder: Path,
    raw: Mapping[str, Any],
) -> tuple[pl.Trainer, int]:
    """Every step that is not done yet, with checkpoints, snapshots and curves; their number."""
    recipe = config.pretrain
    checkpoint, done = resume_from(folder)
    if done:
        log.info("going on from step %d of %s", done, checkpoint)
    learn, hold_out = divide(speech, recipe, config.seed)
    negatives = blueprint.config.num_negatives if isinstance(module, Contrastive) else 1
    crops = Crops(
        learn, recipe, blueprint.feature_extractor, negatives, config.seed, done, recipe.steps
    )
    held = replace(crops, speech=hold_out, seed=config.seed + 1, first=0, last=VALID_BATCHES)
    length = Length(
        steps=recipe.steps,
        valid_every=recipe.valid_every,
        checkpoint_minutes=recipe.checkpoint_minutes,
        gradient_clip=recipe.gradient_clip,
    )
    snapshots = Snapshots(recipe, blueprint, folder)
    trainer = trainer_of(config, length, folder, raw, [snapshots])
    with quiet(), deferred_signals():
        trainer.fit(
            module,
            Numbered[Batch](crops),
            Numbered[Batch](held),
            ckpt_path=checkpoint,
            weights_only=True,
        )
    return trainer, recipe.steps - done


def divide(
    speech: PretrainingSpeech, recipe: PretrainConfig, seed: int
) -> tuple[PretrainingSpeech, PretrainingSpeech]:
    """The utterances to learn from, and those kept for the validation curves: one at least."""
    n = len(speech.lengths)
    if n < 2:
        raise StrataError(f"{n} utterance: training needs two, one is kept for validation")
    order = generator(seed, "validation").permutation(n)
    held = np.zeros(n, dtype=bool)
    held[order[: max(1, round(recipe.valid_share * n))]] = True
    return speech.only(~held), speech.only(held)


class Snapshots(Callback):
    """The model as it is after given parts of the training, for `experiment=growth`."""

    def __init__(self, recipe: PretrainConfig, blueprint: Blueprint, folder: Path) -> None:
        self.steps = {max(1, round(part * recipe.steps)) for part in recipe.snapshots}
        self.blueprint = blueprint
        self.folder = folder / "snapshots"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Save after the given steps."""
        step = trainer.global_step
        if step in self.steps:
            self.folder.mkdir(exist_ok=True)
            export(pl_module.model, self.blueprint.checkpoint, self.folder / f"step_{step:06d}")
