"""Fine-tuning here beside Hugging Face's own Trainer: same model, batches, machine, one run.

    python benchmarks/finetune.py [updates] [batch seconds] [minutes of speech]

Both train wav2vec2_tiny from the same weights on the same batches of generated speech, with masks
and dropout, AdamW, one batch an update; the rounds alternate and the best of each side counts.
By default the speech is a minute long and used ten times (a low-resource recipe uses its speech
hundreds of times). Prints updates and seconds of audio per second of processor time of
each, and their ratio.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.config import FinetuneConfig, ModelConfig
from common.datasets.synthetic import Synthetic
from common.encoder.architecture import Blueprint, read_blueprint
from common.records import SAMPLE_RATE
from finetune.ctc.batches import Batch, Clips, Updates
from finetune.ctc.module import Recogniser
from finetune.ctc.recogniser import load
from finetune.ctc.recordings import record
from finetune.ctc.text import Vocabulary, normalise
from finetune.training import quiet

ROUNDS = 2
DEFAULTS = (40, 16, 1)
MODEL = ModelConfig(name="tiny", checkpoint="assets/wav2vec2_tiny", random_init=True)


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    updates, seconds, minutes = [*given, *DEFAULTS[len(given) :]]
    recipe = FinetuneConfig(
        freeze_updates=0,
        updates=updates,
        learning_rate=1e-4,
        batch_seconds=seconds,
        max_seconds=min(30, seconds),
        mask_time_prob=0.3,
        mask_feature_prob=0.2,
        mask_feature_length=16,
        layerdrop=0.0,
        valid_every=updates,
    )
    blueprint = read_blueprint(MODEL)
    with TemporaryDirectory() as folder:
        batches, vocabulary = prepare(recipe, blueprint, Path(folder), minutes)
        audio = sum(int(b.samples.sum()) for b in batches) / SAMPLE_RATE
        times: dict[str, list[float]] = {"strata": [], "transformers": []}
        for _ in range(ROUNDS):
            module = recogniser(recipe, blueprint, vocabulary)
            times["strata"].append(lightning(module, batches, Path(folder)))
            module = recogniser(recipe, blueprint, vocabulary)
            times["transformers"].append(hugging_face(module, recipe, batches, Path(folder)))
    for name, taken in times.items():
        best = min(taken)
        print(f"{name:12} {updates / best:6.2f} updates/s {audio / best:7.1f} s of audio/s")
    print(f"ratio        {min(times['transformers']) / min(times['strata']):6.2f}")


def prepare(
    recipe: FinetuneConfig, blueprint: Blueprint, folder: Path, minutes: int
) -> tuple[list[Batch], Vocabulary]:
    """One batch for each update, ready in memory, so that training alone is timed."""
    corpus = Synthetic(minutes=minutes, speakers=5, seed=0, write_to=None).read()
    texts = [normalise(u.text) for u in corpus.utterances]
    vocabulary = Vocabulary.of_text(texts)
    recordings = record(corpus.utterances, corpus.fingerprint, folder / "speech")
    spelt = tuple(tuple(vocabulary.encode(text)) for text in texts)
    clips = Clips(recordings, spelt, blueprint.feature_extractor)
    return list(Updates(clips, tuple(range(len(texts))), recipe, 0, 0, recipe.updates)), vocabulary


def recogniser(recipe: FinetuneConfig, blueprint: Blueprint, vocabulary: Vocabulary) -> Recogniser:
    model, _ = load(recipe, vocabulary, MODEL, blueprint, True)
    return Recogniser(model, [], blueprint, vocabulary, recipe, [], 0)


def lightning(module: Recogniser, batches: Sequence[Batch], folder: Path) -> float:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=len(batches),
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    loader = DataLoader[Batch](batches, batch_size=None)  # type: ignore[arg-type]
    start = process_time()
    with quiet():
        trainer.fit(module, loader)
    return process_time() - start


class Labelled(Dataset[dict[str, Any]]):
    """The same batches as Hugging Face's models take them."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Any]:
        batch = self.batches[number]
        labels = batch.characters.clone()
        for row, size in zip(labels, batch.sizes.tolist(), strict=True):
            row[size:] = -100
        given = {"input_values": batch.waveforms, "attention_mask": batch.mask, "labels": labels}
        return {key: value for key, value in given.items() if value is not None}


def hugging_face(
    module: Recogniser, recipe: FinetuneConfig, batches: Sequence[Batch], folder: Path
) -> float:
    arguments = TrainingArguments(
        str(folder / "transformers"),
        max_steps=len(batches),
        per_device_train_batch_size=1,
        learning_rate=recipe.learning_rate,
        adam_beta2=0.98,
        max_grad_norm=0.0,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=50,
    )
    trainer = Trainer(
        module.model, arguments, train_dataset=Labelled(batches), data_collator=lambda x: x[0]
    )
    start = process_time()
    trainer.train()
    return process_time() - start


if __name__ == "__main__":
    main()
