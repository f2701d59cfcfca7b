"""Batches of whole utterances by total audio: a batch is a function of its number, so that a run
that was killed resumes with the batches it would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from common.config import FinetuneConfig
from common.encoder.feature_extractor import FeatureExtractor
from common.records import SAMPLE_RATE, Waveform
from common.seeding import generator
from finetune.ctc.augment import Augment
from finetune.ctc.recordings import Recordings

Change = Callable[[Waveform, int], Waveform]
POOL = 16  # batches' worth of audio that is sorted by length together


@dataclass(frozen=True)
class Batch:
    """B utterances: waveforms (B, n) as the model's input, and their characters (B, c).

    mask (B, n), 1 where there is audio, or None where all lengths are the same; samples (B,),
    sizes (B,) of the characters, weights (B,): what an utterance's loss counts, 1 over the
    characters of the whole update; numbers (B,) of the utterances in `recordings`, the
    file of their speech; that is None where the speech was changed.
    """

    waveforms: torch.Tensor
    mask: torch.Tensor | None
    samples: torch.Tensor
    characters: torch.Tensor
    sizes: torch.Tensor
    weights: torch.Tensor
    numbers: torch.Tensor
    recordings: str | None

    def to(self, device: torch.device, *_: object, **__: object) -> Self:
        """The batch on a device: what Lightning calls.

        Lengths and numbers stay on the CPU, where reading them does not wait for a GPU.
        """
        waits = device.type != "cuda"
        return self._with(lambda x: x.to(device, non_blocking=not waits), ("samples", "numbers"))

    def pin_memory(self) -> Self:
        """The batch in pinned memory: what a loader calls."""
        return self._with(torch.Tensor.pin_memory, ())

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor], but: tuple[str, ...]) -> Self:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {
            name: change(value)
            for name, value in values.items()
            if isinstance(value, torch.Tensor) and name not in but
        }
        return replace(self, **changed)


@dataclass(frozen=True, eq=False)
class Clips:
    """Utterances as a model takes them: its feature extractor's waveforms, text as numbers."""

    recordings: Recordings
    characters: tuple[tuple[int, ...], ...]
    feature_extractor: FeatureExtractor

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples (u,) of every utterance.

        That some models pad all to one length (Whisper, to 30 s) does not count: an update has
        as much speech as with other models.
        """
        return np.array(self.recordings.lengths, dtype=np.int64)

    def batch(
        self, numbers: Sequence[int], weights: Sequence[float], change: Change | None = None
    ) -> Batch:
        """Some utterances, changed by their numbers, padded to the longest."""
        waveforms = self.recordings.read(numbers)
        if change is not None:
            waveforms = [change(w, k) for w, k in zip(waveforms, numbers, strict=True)]
        inputs = self.feature_extractor(waveforms)
        texts = [self.characters[k] for k in numbers]
        characters = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
        for row, symbols in zip(characters, texts, strict=True):
            row[: len(symbols)] = torch.tensor(symbols)
        waveform_batch = next(x for key, x in inputs.items() if key != "attention_mask")
        mask = inputs.get("attention_mask")
        if mask is not None and mask.shape == waveform_batch.shape:
            mask = mask.bool()  # of every sample: the integers would be as large as the speech
        return Batch(
            waveforms=waveform_batch,
            mask=mask,
            samples=torch.tensor([len(w) for w in waveforms]),
            characters=characters,
            sizes=torch.tensor([len(symbols) for symbols in texts]),
            weights=torch.tensor(weights),
            numbers=torch.tensor(numbers),
            recordings=self.recordings.path.name if change is None else None,
        )


def plan_epoch(
    lengths: NDArray[np.int64], numbers: Sequence[int], batch_samples: int, seed: int, epoch: int
) -> list[list[int]]:
    """Every utterance once: batches of similar lengths, up to `batch_samples` with the padding.

    Utterances are shuffled, those of a pool sorted by length and cut into batches, and the
    batches shuffled: an epoch differs from the next in what is together and in its order.
    """
    rng = generator(seed, "epoch", epoch)
    order = np.asarray(numbers)[rng.permutation(len(numbers))]
    pool = np.cumsum(lengths[order]) // (POOL * batch_samples)
    batches = []
    for k in np.unique(pool):
        members = order[pool == k]
        batches += _cut(
            members[np.argsort(lengths[members], kind="stable")], lengths, batch_samples
        )
    return [batches[k] for k in rng.permutation(len(batches))]


def _cut(ordered: NDArray[np.int64], lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Batches of utterances from the shortest to the longest: count times longest fits in."""
    batches: list[list[int]] = [[]]
    for number in map(int, ordered):
        if batches[-1] and (len(batches[-1]) + 1) * lengths[number] > room:
            batches.append([])
        batches[-1].append(number)
    return batches


@dataclass(frozen=True, eq=False)
class Updates(IterableDataset[Batch]):
    """Batches of updates number `first` to `last`, each in `accumulate` parts a process.

    Its length counts from update 0, since Lightning's progress counts what went before. `rank`: the
    process whose parts these are. `augment` changes the speech. An update's parts together weigh
    every one of its characters alike, however they are cut.
    """

    clips: Clips
    numbers: tuple[int, ...]
    recipe: FinetuneConfig
    seed: int
    first: int
    last: int
    rank: int = 0
    augment: Augment | None = None

    def __len__(self) -> int:
        return self.last * self.recipe.accumulate

    def __iter__(self) -> Iterator[Batch]:
        for update, epoch in self._updates():
            yield from self.parts(update, epoch)[self.rank :: self.recipe.processes]

    def _updates(self) -> Iterator[tuple[list[int], int]]:
        """Utterances of every update from `first` on, and its epoch."""
        room = round(self.recipe.batch_seconds * SAMPLE_RATE)
        number = epoch = 0
        while number < self.last:
            lengths = self.clips.lengths
            if self.augment is not None:
                lengths = np.ceil(lengths / self.augment.speeds(epoch)).astype(np.int64)
            for update in plan_epoch(lengths, self.numbers, room, self.seed, epoch):
                if self.first <= number < self.last:
                    yield update, epoch
                number += 1
            epoch += 1

    def parts(self, update: Sequence[int], epoch: int = 0) -> list[Batch]:
        """An update's batches, of all processes.

        Lightning takes the mean of their gradients, over processes as well: hence the factor.
        """
        count = self.recipe.accumulate * self.recipe.processes
        total = sum(len(self.clips.characters[k]) for k in update)
        augment = self.augment
        change = None if augment is None else partial(augment.change, epoch=epoch)
        batches = []
        for part in np.array_split(np.asarray(update), count):
            # Fewer utterances than parts: an empty part takes one that does not count.
            numbers = [int(k) for k in part] or [update[0]]
            weight = count / total if len(part) else 0.0
            batches.append(self.clips.batch(numbers, [weight] * len(numbers), change))
        return batches


@dataclass(frozen=True, eq=False)
class Heldout(IterableDataset[Batch]):
    """Every utterance once, in given batches: those that do not change its frames."""

    clips: Clips
    batches: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for numbers in self.batches:
            yield self.clips.batch(numbers, [1.0] * len(numbers))
