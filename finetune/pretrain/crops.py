"""Random crops of equal length, and what is to be guessed of each: a batch is a function of its
number, so that a run that was killed goes on with the batches it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch.utils.data import IterableDataset

from common.config import PretrainConfig
from common.encoder.feature_extractor import FeatureExtractor
from common.records import SAMPLE_RATE
from common.seeding import generator
from finetune.pretrain.masking import draw_negatives, span_mask
from finetune.pretrain.speech import PretrainingSpeech

STEP = SAMPLE_RATE // 2  # crops are a whole number of these long


@dataclass(frozen=True)
class Batch:
    """Crops (B, n) as the model hears them, and T frames of each.

    mask (B, T) bool; negatives (M, K) as `masking.draw_negatives`; units (B, T) int64; acoustics
    (B, T, 39) float32.
    """

    waveforms: torch.Tensor
    mask: torch.Tensor
    negatives: torch.Tensor
    units: torch.Tensor
    acoustics: torch.Tensor

    def to(self, device: torch.device, *_: object, **__: object) -> Self:
        """The batch on a device: what Lightning calls."""
        return type(self)(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Crops(IterableDataset[Batch]):
    """Batches number `first` to `last` of a stream of crops.

    A batch draws an utterance, cuts `crop_seconds` from it (of a shorter one as many half seconds
    as it has), and as many crops of that very length from utterances at least as long as fill
    `batch_seconds`: no crop is padded, which models with a group norm would hear. Half seconds,
    because every new length costs the libraries below new kernels and buffers, which they keep.

    Its length counts from batch 0, since Lightning's progress counts what went before.
    """

    speech: PretrainingSpeech
    recipe: PretrainConfig
    feature_extractor: FeatureExtractor
    negatives: int
    seed: int
    first: int
    last: int

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.first, self.last):
            yield self.batch(number)

    def __len__(self) -> int:
        return self.last

    def batch(self, number: int) -> Batch:
        """One batch: the same for the same number, whatever came before it."""
        rng = generator(self.seed, "batch", number)
        speech, recipe = self.speech, self.recipe
        lead = speech.draw(1, 0, rng)[0]
        n = min(round(recipe.crop_seconds * SAMPLE_RATE), int(speech.lengths[lead]) // STEP * STEP)
        n_frames = speech.geometry.n_frames(n)
        others = max(1, round(recipe.batch_seconds * SAMPLE_RATE / n) - 1)
        chosen = [lead, *speech.draw(others, n, rng)]
        starts = [self._start(u, n, rng) for u in chosen]
        crops = [speech.crop(u, s, n) for u, s in zip(chosen, starts, strict=True)]
        mask = span_mask([n_frames] * len(chosen), recipe.mask_prob, recipe.mask_length, rng)
        rows = np.concatenate(
            [
                speech.first_frame(u, s) + np.arange(n_frames)
                for u, s in zip(chosen, starts, strict=True)
            ]
        )
        shape = (len(chosen), n_frames)
        return Batch(
            waveforms=self.feature_extractor(crops)["input_values"],
            mask=torch.from_numpy(mask),
            negatives=torch.from_numpy(draw_negatives(mask, self.negatives, rng)),
            units=torch.from_numpy(speech.units[rows].astype(np.int64)).view(shape),
            acoustics=torch.from_numpy(speech.normalised(rows)).view(*shape, -1),
        )

    def _start(self, utterance: int, n: int, rng: np.random.Generator) -> int:
        """First sample of a crop, a whole number of frames into the utterance."""
        hop = self.speech.geometry.whole_hop
        return hop * int(rng.integers((int(self.speech.lengths[utterance]) - n) // hop + 1))
