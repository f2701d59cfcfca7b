"""The task `ctc`: fine-tune for recognition, keep the best weights, score and export them."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from common.cache.cache import cache_root
from common.config import Config
from common.encoder.architecture import Blueprint, read_blueprint
from common.encoder.checkpoint import revision_of
from common.encoder.encoder import Encoder, autocast, batch_limits, pick_device
from common.progress import progress
from common.records import StrataError
from common.results import results
from common.tables import csv_of
from common.timing import Stopwatch
from common.writing import try_writing, write_text
from finetune.ctc.adapters import merged
from finetune.ctc.batches import Clips, Heldout
from finetune.ctc.blocks import plan_blocks, shortened
from finetune.ctc.data import TranscribedSpeech, frames_needed, log_unknown, read_parts
from finetune.ctc.decode import BeamSearch, beam_search
from finetune.ctc.fitting import Plan, train
from finetune.ctc.module import Recogniser
from finetune.ctc.parts import choose_parts
from finetune.ctc.recogniser import check_recipe, head_places
from finetune.ctc.recordings import delete_unused, record
from finetune.ctc.report import Tested, print_scores, score_rows
from finetune.ctc.scoring import score
from finetune.ctc.text import Vocabulary, read_tokenizer
from finetune.curves import plot_curves, print_curves
from finetune.export import export
from finetune.processes import check_processes
from finetune.resume import check_settings
from finetune.training import finish_tracking

log = logging.getLogger(__name__)

HYPOTHESES = "hypotheses.csv"


@dataclass(frozen=True)
class Prepared:
    """A part's speech, ready for batches; `numbers` of the utterances that can be used."""

    part: TranscribedSpeech
    clips: Clips
    numbers: tuple[int, ...]
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class TrainingData:
    """Speech to train, validate and test on, and the vocabulary of its text.

    `tokenizer` is the checkpoint's own, or None; `unknown` counts characters that cannot be
    written, by part.
    """

    parts: Mapping[str, Prepared]
    vocabulary: Vocabulary
    tokenizer: Any
    search: BeamSearch | None
    unknown: Mapping[str, Mapping[str, int]]

    def describe(self) -> dict[str, object]:
        """What was used and what was not, for the metadata."""
        return {
            "data": {
                name: prepared.part.describe() | {"unreadable": dict(prepared.dropped)}
                for name, prepared in self.parts.items()
            },
            "targets": self.vocabulary.targets,
            "characters": list(self.vocabulary.tokens),
            "unknown_characters": self.unknown,
        }


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> float:
    """Fine-tune and score; run again in the same folder to resume after a kill.

    Returns the best error rate in validation (`finetune.monitor`, or the only one).
    """
    watch = Stopwatch()
    whole = read_blueprint(config.model)
    check_processes(config)
    check_settings(folder, raw, "finetune")
    unused = check_recipe(config.finetune, whole)
    blocks = plan_blocks(config.finetune, config.model, whole)
    blueprint = shortened(whole, config.model, blocks)
    with watch.stage("preparing"):
        shared = shared_speech(config)
        speech = read_speech(config, blueprint, folder, shared)
        plan = Plan(
            config,
            whole,
            blocks,
            speech.vocabulary,
            speech.tokenizer is None,
            tuple(speech.parts["valid"].part.texts),
            folder,
            raw,
        )
        plan = choose_parts(plan, speech.parts["train"].clips, speech.parts["train"].numbers)
        module, drawn = plan.build()
    with watch.stage("training"):
        training = speech.parts["train"]
        held = heldout(config, module, speech.parts["valid"], blueprint)
        trainer, best_update, best = train(plan, module, training.clips, training.numbers, held)
    with watch.stage("testing"):
        tested = test(config, module, speech.parts, blueprint, speech.search)
        write_text(folder / HYPOTHESES, csv_of(tested.hypotheses))
    exported = export_recogniser(module, speech, blueprint, folder)
    revision = revision_of(config.model, blueprint.checkpoint)
    key = results.config_key(raw, also=("finetune",))
    corpus = speech.parts["test"].part.corpus
    rows = results.to_frame(score_rows(config, tested, corpus, revision, key))
    metadata = {
        "reinit": {"layers": list(blocks.reinit), **drawn},
        "blocks": blocks.describe(),
        "does_not_apply": [f"finetune.{key}" for key in unused],
        **speech.describe(),
        "accumulate": plan.config.finetune.accumulate,
        "best_update": best_update,
        "best_validation": {plan.watched: best},
        "test": tested.describe(),
        **results.describe_process(watch),
        "config": raw,
    }
    paths = results.write_results(folder, rows, metadata)
    shutil.rmtree(folder / "speech")
    if shared is not None:
        delete_unused(shared)
    title = f"{config.model.name}, {len(blocks.reinit)} blocks re-initialised"
    show(folder, title, tested, [*paths, folder / HYPOTHESES, exported])
    finish_tracking(trainer, metadata, rows, len(blocks.reinit))
    return best


def shared_speech(config: Config) -> Path | None:
    """Where jobs that train at the same time share copies of their speech, if they may."""
    folder = cache_root(config) / "speech"
    if config.cache == "off":
        return None
    try:
        try_writing(folder)
    except OSError:
        return None
    return folder


def read_speech(
    config: Config, blueprint: Blueprint, folder: Path, shared: Path | None
) -> TrainingData:
    """List the three parts, settle the characters, then read all audio once."""
    recipe = config.finetune
    tokenizer = None
    if recipe.characters == "checkpoint":
        tokenizer = read_tokenizer(blueprint.checkpoint)
    description = blueprint.description
    parts = read_parts(config, description.layers[-1].geometry, description.max_samples)
    if tokenizer is None:
        texts = parts["train"].texts
        vocabulary = Vocabulary.of_text(texts, recipe.targets, recipe.pieces)
    else:
        vocabulary = Vocabulary.of_tokenizer(tokenizer, head_places(blueprint))
    if vocabulary.targets != recipe.targets:
        raise StrataError(
            f"finetune.targets={recipe.targets}: {blueprint.checkpoint.asked} writes "
            f"{vocabulary.targets}; use finetune.targets={vocabulary.targets}, or "
            "finetune.characters=text for a new head"
        )
    search = beam_search(recipe.lm, vocabulary)
    unknown = log_unknown(parts, vocabulary)
    prepared = {
        name: prepare(part, vocabulary, blueprint, folder / "speech", config.on_error, shared)
        for name, part in parts.items()
    }
    return TrainingData(prepared, vocabulary, tokenizer, search, unknown)


def export_recogniser(
    module: Recogniser, speech: TrainingData, blueprint: Blueprint, folder: Path
) -> Path:
    """The folder that transformers reads, with its tokenizer."""
    with TemporaryDirectory() as scratch:
        tokenizer = speech.tokenizer or speech.vocabulary.tokenizer(Path(scratch))
        model = merged(module.model, module.recipe.adapters)
        return export(model, blueprint.checkpoint, folder / "model", tokenizer=tokenizer)


def show(folder: Path, title: str, tested: Tested, paths: Sequence[Path]) -> None:
    """Print the curves' and the test's tables and where the files are."""
    print_curves(folder, title)
    print_scores(tested, title)
    for path in (*paths, *plot_curves(folder, title)):
        print(path)


def prepare(
    part: TranscribedSpeech,
    vocabulary: Vocabulary,
    blueprint: Blueprint,
    folder: Path,
    on_error: str = "raise",
    shared: Path | None = None,
) -> Prepared:
    """Read a part's audio once; what is shorter than listed is left out.

    So is what cannot be read where `on_error` is "skip". `shared`: see `record`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, fingerprint = folder / part.name, part.corpus.fingerprint
    recordings = record(part.utterances, fingerprint, path, on_error, shared)
    geometry = blueprint.description.layers[-1].geometry
    # In validation and test a short utterance costs errors, if it has a frame at all.
    encoded = tuple(tuple(vocabulary.encode(text)) for text in part.texts)
    frames = [geometry.n_frames(n) for n in recordings.lengths]
    longest = geometry.n_frames(blueprint.feature_extractor.max_samples or max(recordings.lengths))
    train = part.name == "train"
    needed = [frames_needed(symbols) if train else 1 for symbols in encoded]
    numbers = [
        k for k, (n, least) in enumerate(zip(frames, needed, strict=True)) if least <= n <= longest
    ]
    lost = len(frames) - len(numbers)
    if lost:
        log.warning("%s: %d utterances left out: unreadable or of a wrong length", part.name, lost)
    if not numbers:
        raise StrataError(f"finetune.{part.name}: none of {len(frames)} utterances can be read")
    dropped = {"unreadable or of a wrong length": lost} if lost else {}
    return Prepared(
        part, Clips(recordings, encoded, blueprint.feature_extractor), tuple(numbers), dropped
    )


def heldout(
    config: Config, module: Recogniser, prepared: Prepared, blueprint: Blueprint
) -> Heldout:
    """Batches in which every utterance has the frames that it has alone."""
    device = pick_device(config.device)
    encoder = Encoder(
        module.model.base_model.to(device),
        blueprint,
        "fine-tuned",
        device,
        config.precision,
        *batch_limits(config.model, device),
    )
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
    search: BeamSearch | None,
) -> Tested:
    """Hypotheses of the test set, greedy and with the n-gram if there is one."""
    device = pick_device(config.device)
    module.to(device).eval()
    test_part = prepared["test"]
    found = probabilities(config, module, test_part, blueprint)
    texts = {k: module.vocabulary.decode(p.argmax(1).tolist()) for k, p in found.items()}
    spoken = [test_part.part.utterances[k] for k in test_part.numbers]
    identity = ([u.id for u in spoken], [u.speaker for u in spoken], [u.text for u in spoken])
    figures = module.vocabulary.figures
    table = score(*identity, [texts[k] for k in test_part.numbers], figures)
    if search is None:
        return Tested(table, None, {})
    valid = prepared["valid"]
    tuning = probabilities(config, module, valid, blueprint)
    decoder, chosen = search.tune(
        [tuning[k].numpy() for k in valid.numbers],
        [valid.part.utterances[k].text for k in valid.numbers],
    )
    numbers = progress(test_part.numbers, "decoding with the n-gram", "utterances")
    with_lm = score(*identity, [decoder(found[k].numpy()) for k in numbers], figures)
    return Tested(table, with_lm, chosen)


@torch.inference_mode()
def probabilities(
    config: Config, module: Recogniser, prepared: Prepared, blueprint: Blueprint
) -> dict[int, torch.Tensor]:
    """Log probabilities (T, V) of every utterance, by its number, unpadded where it matters."""
    device = pick_device(config.device)
    module.eval()
    found = {}
    batches = heldout(config, module, prepared, blueprint)
    for batch in progress(batches, "recognising", "batches"):
        with autocast(device, config.precision):
            scores, frames = module.log_probabilities(batch.to(device))
        for k, number in enumerate(batch.numbers.tolist()):
            found[number] = scores[k, : frames[k]].cpu()
    return found
