"""The task `ctc`: fine-tune for recognition, keep the best weights, score and export them."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from common import results
from common.architecture import Blueprint, draw
from common.checkpoint import revision_of
from common.config import Config
from common.encoder import Encoder, pick_device
from common.records import StrataError
from common.timing import Stopwatch, peak_memory_bytes
from finetune.batches import Batch, Clips, Heldout, Updates
from finetune.curves import plot_curves, print_curves
from finetune.data import Part, frames_needed, read_parts, tell_unknown
from finetune.decode import beam_search
from finetune.export import export
from finetune.module import Recogniser
from finetune.recogniser import check_recipe, configured, fresh_modules, load
from finetune.recordings import record
from finetune.reinit import plan_reinit, reinitialise
from finetune.report import Tested, print_scores, score_rows
from finetune.scoring import score
from finetune.text import Vocabulary, read_tokenizer
from finetune.training import LAST, Length, quiet, steps_done, trainer_of

log = logging.getLogger(__name__)

BEST = "checkpoints/best.ckpt"
HYPOTHESES = "hypotheses.csv"


@dataclass(frozen=True)
class Prepared:
    """A part's speech, ready for batches; `numbers` of the utterances that can be used."""

    part: Part
    clips: Clips
    numbers: tuple[int, ...]
    dropped: Mapping[str, int]


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:
    """Fine-tune and score; run again in the same folder to go on after a kill."""
    watch = Stopwatch()
    recipe = config.finetune
    blueprint = draw(config.model)
    check_recipe(recipe, blueprint)
    reinit = plan_reinit(recipe, config.model, blueprint)
    own = read_tokenizer(blueprint.checkpoint) if recipe.characters == "checkpoint" else None
    geometry = blueprint.description.layers[-1].geometry
    with watch.stage("preparing"):
        parts = read_parts(config, geometry)
        texts = parts["train"].texts
        vocabulary = Vocabulary.of_tokenizer(own) if own else Vocabulary.of_text(texts)
        search = beam_search(recipe.lm, vocabulary)
        unknown = tell_unknown(parts, vocabulary)
        prepared = {
            name: prepare(part, vocabulary, blueprint, folder / "speech")
            for name, part in parts.items()
        }
        model, drawn = load(
            configured(recipe, blueprint, vocabulary),
            config.model, blueprint, fresh_head=own is None, seed=config.seed,
        )  # fmt: skip
        fresh = fresh_modules(model, reinit)
        touched = reinitialise(model, fresh, config.seed)
        references = parts["valid"].texts
        module = Recogniser(model, fresh, blueprint, vocabulary, recipe, references, config.seed)
    with watch.stage("training"):
        trainer, updates = train(config, module, prepared, blueprint, folder, raw)
    with watch.stage("testing"):
        tested = test(config, module, prepared, blueprint, search)
        tested.hypotheses.to_csv(folder / HYPOTHESES, index=False)
    with TemporaryDirectory() as scratch:
        tokenizer = own or vocabulary.tokenizer(Path(scratch))
        exported = export(module.model, blueprint.checkpoint, folder / "model", tokenizer=tokenizer)
    revision = revision_of(config.model, blueprint.checkpoint)
    key = results.config_key(raw, own=("finetune",))
    rows = results.to_frame(score_rows(config, tested, parts["test"].corpus, revision, key))
    metadata = {
        "reinit": {"layers": list(reinit.layers), "tensors": touched, "head": drawn},
        "data": {
            name: one.part.describe() | {"unreadable": dict(one.dropped)}
            for name, one in prepared.items()
        },
        "characters": list(vocabulary.tokens),
        "unknown_characters": unknown,
        "test": tested.describe(),
        "best_update": updates,
        "seconds": {stage: round(seconds, 1) for stage, seconds in watch.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": results.versions(),
        "git_commit": results.git_commit(),
        "config": raw,
    }
    paths = results.write_results(folder, rows, metadata)
    shutil.rmtree(folder / "speech")
    title = f"{config.model.name}, {len(reinit.layers)} blocks re-initialised"
    print_curves(folder, title)
    print_scores(tested, title)
    for path in (*paths, folder / HYPOTHESES, *plot_curves(folder, title), exported):
        print(path)
    track(trainer, rows)


def prepare(part: Part, vocabulary: Vocabulary, blueprint: Blueprint, folder: Path) -> Prepared:
    """Read a part's audio once; what cannot be read, or is shorter than listed, is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    recordings = record(part.utterances, part.corpus.fingerprint, folder / part.name)
    geometry = blueprint.description.layers[-1].geometry
    least = {
        "train": [frames_needed(text) for text in part.texts],
    }.get(part.name, [1] * len(part.utterances))
    frames = [geometry.n_frames(n) for n in recordings.lengths]
    numbers = [k for k, n in enumerate(frames) if n >= max(1, least[k])]
    lost = len(frames) - len(numbers)
    if lost:
        log.warning("%s: %d utterances left out: unreadable or too short", part.name, lost)
    if not numbers:
        raise StrataError(f"finetune.{part.name}: none of {len(frames)} utterances can be read")
    characters = tuple(tuple(vocabulary.encode(text)) for text in part.texts)
    dropped = {"unreadable or too short": lost} if lost else {}
    return Prepared(part, Clips(recordings, characters, blueprint.front), tuple(numbers), dropped)


def train(
    config: Config,
    module: Recogniser,
    prepared: Mapping[str, Prepared],
    blueprint: Blueprint,
    folder: Path,
    raw: Mapping[str, Any],
) -> tuple[pl.Trainer, int]:
    """Every update that is not done yet; the module has the best weights afterwards."""
    recipe = config.finetune
    done = steps_done(folder)
    if done:
        log.info("going on from update %d of %s", done, folder / LAST)
    length = Length(
        steps=recipe.updates,
        valid_every=min(recipe.valid_every, recipe.updates),
        checkpoint_minutes=recipe.checkpoint_minutes,
        gradient_clip=recipe.gradient_clip,
        accumulate=recipe.accumulate,
        processes=recipe.processes,
    )
    trainer = trainer_of(config, length, folder, raw, callbacks_of(config, folder))
    own = prepared["train"]
    updates = Updates(own.clips, own.numbers, recipe, config.seed, done, recipe.updates)
    if done < recipe.updates:
        with quiet():
            trainer.fit(
                module,
                DataLoader[Batch](updates, batch_size=None),
                DataLoader[Batch](heldout(config, module, prepared["valid"], blueprint),
                                  batch_size=None),
                ckpt_path=folder / LAST if done else None,
                weights_only=True,
            )  # fmt: skip
    best = torch.load(folder / BEST, weights_only=True, map_location="cpu")
    module.load_state_dict(best["state_dict"])
    return trainer, int(best["global_step"])


def callbacks_of(config: Config, folder: Path) -> list[Callback]:
    """The best weights by word error rate, and an end where it does not fall any more."""
    recipe = config.finetune
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename=Path(BEST).stem,
        monitor="valid/wer",
        mode="min",
        save_weights_only=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [best]
    if recipe.patience is not None:
        callbacks.append(EarlyStopping("valid/wer", mode="min", patience=recipe.patience))
    return callbacks


def heldout(
    config: Config, module: Recogniser, prepared: Prepared, blueprint: Blueprint
) -> Heldout:
    """Batches in which every utterance has the frames that it has alone."""
    device = pick_device(config.device)
    encoder = Encoder(
        module.model.base_model.to(device), blueprint, "fine-tuned", device, config.precision,
        config.model.batch_size,
    )  # fmt: skip
    lengths = [prepared.clips.recordings.lengths[k] for k in prepared.numbers]
    batches = encoder.batches(lengths)
    return Heldout(
        prepared.clips, tuple(tuple(prepared.numbers[k] for k in batch) for batch in batches)
    )


def test(
    config: Config,
    module: Recogniser,
    prepared: Mapping[str, Prepared],
    blueprint: Blueprint,
    search: Any,
) -> Tested:
    """Hypotheses of the test set, greedy and with the n-gram if there is one."""
    device = pick_device(config.device)
    module.to(device).eval()
    own = prepared["test"]
    found = probabilities(config, module, own, blueprint)
    texts = {k: module.vocabulary.decode(p.argmax(1).tolist()) for k, p in found.items()}
    spoken = [own.part.utterances[k] for k in own.numbers]
    identity = ([u.id for u in spoken], [u.speaker for u in spoken], [u.text for u in spoken])
    table = score(*identity, [texts[k] for k in own.numbers])
    if search is None:
        return Tested(table, None, {})
    valid = prepared["valid"]
    tuning = probabilities(config, module, valid, blueprint)
    decoder, chosen = search.tune(
        [tuning[k].numpy() for k in valid.numbers],
        [valid.part.utterances[k].text for k in valid.numbers],
    )
    with_lm = score(*identity, [decoder(found[k].numpy()) for k in own.numbers])
    return Tested(table, with_lm, chosen)


@torch.inference_mode()
def probabilities(
    config: Config, module: Recogniser, prepared: Prepared, blueprint: Blueprint
) -> dict[int, torch.Tensor]:
    """Log probabilities (T, V) of every utterance, by its number, unpadded where it matters."""
    device = pick_device(config.device)
    module.eval()
    found = {}
    for batch in heldout(config, module, prepared, blueprint):
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            scores, frames = module.log_probabilities(batch.to(device))
        for k, number in enumerate(batch.numbers.tolist()):
            found[number] = scores[k, : frames[k]].cpu()
    return found


def track(trainer: pl.Trainer, rows: pd.DataFrame) -> None:
    """The test's figures, to wherever the curves went besides the folder."""
    figures = {f"test/{row.metric}": float(row.value) for row in rows.itertuples()}
    for logger in trainer.loggers[1:]:
        logger.log_metrics(figures)
        logger.finalize("success")
