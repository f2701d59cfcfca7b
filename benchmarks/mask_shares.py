"""How much of a batch fairseq's and Hugging Face's masks hide, by the published recipes.

    python benchmarks/mask_shares.py

Batches as a training has them (`finetune.ctc.batches.plan_epoch`) of utterances of 1 to 16 s, of
similar lengths, in a model of 768 channels: of 200 s, fairseq's `max_tokens` of 3.2 million
samples, and of a whole update's 1,600 s. Masks of 10 frames and of 64 channels.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from finetune.ctc.batches import plan_epoch
from finetune.ctc.masks import FEWEST_SPANS, equal_masks

CHANNELS, SECOND, UTTERANCES = 768, 50, 5000  # frames of a second


def shares(
    lengths: list[int], frames: float, channels: float, rng: np.random.Generator
) -> dict[str, float]:
    """Shares of the valid frames and of the channels that one batch masks, either way."""
    b, t, n = len(lengths), max(lengths), sum(lengths)
    valid = torch.from_numpy(np.arange(t) < np.array(lengths)[:, None]).long()
    return {
        "frames hf": _compute_mask_indices((b, t), frames, 10, valid, FEWEST_SPANS).sum() / n,
        "frames fairseq": equal_masks(lengths, t, frames, 10, FEWEST_SPANS, rng).sum() / n,
        "channels hf": _compute_mask_indices((b, CHANNELS), channels, 64).mean(),
        "channels fairseq": equal_masks([CHANNELS] * b, CHANNELS, channels, 64, 0, rng).mean(),
    }


def main() -> None:
    """Print the mean share for each of the recipes' masks."""
    rng = np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002  transformers' masks
    lengths = rng.integers(SECOND, 16 * SECOND, UTTERANCES)
    for seconds in (200, 1600):
        batches = plan_epoch(lengths, range(UTTERANCES), seconds * SECOND, 0, 0)
        together = [[int(lengths[k]) for k in batch] for batch in batches]
        for frames, channels in ((0.65, 0.25), (0.65, 0.5), (0.75, 0.25)):
            found = [shares(batch, frames, channels, rng) for batch in together]
            means = {key: np.mean([one[key] for one in found]) for key in found[0]}
            text = ", ".join(f"{key} {value:.2f}" for key, value in means.items())
            print(f"{seconds} s, mask_time_prob={frames} mask_feature_prob={channels}: {text}")


if __name__ == "__main__":
    main()
