"""Random crops of equal length, with the targets of each: a batch is a function of its
number, so that a run that was killed resumes with the batches it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from common.arrays import Mask
from common.config import PretrainConfig
from common.encoder.feature_extractor import FeatureExtractor
from common.records import SAMPLE_RATE
from common.seeding import generator
from finetune.pretrain.speech import PretrainingSpeech

STEP = SAMPLE_RATE // 2  # crops are a whole number of these long


@dataclass(frozen=True)
class Batch:
    """Crops (B, n) as the model's input, and T frames of each.

    mask (B, T) bool; negatives (M, K) as `draw_negatives`; units (B, T) int64; acoustics
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

    A batch draws an utterance and cuts `crop_seconds` from it (from a shorter one all its whole
    half seconds). Crops of that very length, from utterances that are long enough, fill it up to
    `batch_seconds`: no crop is padded, which would change the frames of models with a group norm.
    Half seconds, because every new length costs the libraries below new kernels and buffers, which
    they keep.

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


def span_mask(
    lengths: Sequence[int], probability: float, span: int, rng: np.random.Generator
) -> Mask:
    """Mask (B, T) of random spans, T = the longest length; nothing is masked beyond a length.

    As in wav2vec 2.0 (Baevski et al. 2020, section 4.2) and fairseq: `probability` times the
    number of frames, divided by `span`, gives the number of spans, rounded up or down at random;
    their starts are drawn without replacement and they may overlap. An utterance with at least
    `span` + 1 frames has one span or more and is never masked whole.
    """
    mask = np.zeros((len(lengths), max(lengths)), dtype=bool)
    for row, length in zip(mask, lengths, strict=True):
        starts = length - span  # of a span that leaves a frame to see
        if starts < 1:
            continue
        count = int(probability * length / span + rng.random())
        chosen = rng.choice(starts + 1, size=min(max(count, 1), starts), replace=False)
        for start in chosen:
            row[start : start + span] = True
        if row[:length].all():
            row[rng.integers(length)] = False
    return mask


def draw_negatives(mask: Mask, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distractors (M, count) of the M masked frames: positions among the masked frames, row-major.

    Drawn uniformly from the other masked frames of the same utterance (Baevski et al. 2020,
    section 3.2), with replacement. An utterance with one masked frame alone has no distractor.
    """
    sizes = mask.sum(1)
    if (sizes == 1).any():
        raise ValueError("an utterance with a single masked frame has no negatives")
    negatives = np.empty((int(sizes.sum()), count), dtype=np.int64)
    first = 0
    for size in sizes:
        true = np.arange(size)[:, None]
        drawn = rng.integers(0, max(size - 1, 1), size=(size, count))
        negatives[first : first + size] = first + drawn + (drawn >= true)
        first += size
    return negatives
