"""Which frames a model must guess, and the wrong answers beside the right one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


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
        raise ValueError("an utterance with a single masked frame has nothing to be told from")
    negatives = np.empty((int(sizes.sum()), count), dtype=np.int64)
    first = 0
    for size in sizes:
        own = np.arange(size)[:, None]
        drawn = rng.integers(0, max(size - 1, 1), size=(size, count))
        negatives[first : first + size] = first + drawn + (drawn >= own)
        first += size
    return negatives
