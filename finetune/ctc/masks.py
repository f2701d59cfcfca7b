"""Masks of frames and channels in training as fairseq draws them, in the place of transformers'."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch

from common.arrays import Mask
from common.config import FinetuneConfig

FEWEST_SPANS = 2  # of frames, in an utterance; of channels there may be none


def equal_masks(
    lengths: Sequence[int], width: int, share: float, span: int, least: int, rng: Any
) -> Mask:
    """Mask (B, width) of random spans, with the same number of places in every row.

    Nothing is masked beyond a row's length. `share` of the length, divided by `span` and rounded
    up or down at random, gives the number of spans, `least` or more; their starts are drawn
    without replacement, and they may overlap. Then every row keeps as many places as the row with
    fewest has, drawn without replacement. This is fairseq's `compute_mask_indices`
    (fairseq/data/data_utils.py) for rows of unequal lengths.
    """
    rows = []
    for length in lengths:
        count = max(least, int(share * length / span + rng.random()))
        starts = rng.choice(max(length - span, count + 1), count, replace=False)
        places = np.unique(starts[:, None] + np.arange(span))
        rows.append(places[places < length])
    fewest = min(map(len, rows))
    mask = np.zeros((len(lengths), width), dtype=bool)
    for row, places in zip(mask, rows, strict=True):
        row[places if len(places) == fewest else rng.choice(places, fewest, replace=False)] = True
    return mask


@final
class FairseqMasks:
    """Replaces the method by which a model of transformers masks its hidden states.

    `draw` draws the masks of the next forward pass in training.
    """

    def __init__(self, encoder: Any, recipe: FinetuneConfig) -> None:
        self.encoder = encoder
        self.recipe = recipe
        self.frames: Sequence[int] = ()
        self.rng: Any = None
        encoder._mask_hidden_states = self.mask

    def draw(self, frames: Sequence[int], rng: np.random.Generator) -> None:
        """`frames` of every utterance of the next batch, and the generator of its masks."""
        self.frames, self.rng = frames, rng

    @torch.compiler.disable
    def mask(
        self,
        hidden_states: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,  # noqa: ARG002  as transformers calls it
        attention_mask: torch.Tensor | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """(B, T, D) with frames replaced by the model's vector for them, and channels by 0."""
        if not self.encoder.training:
            return hidden_states
        recipe, (b, t, d) = self.recipe, hidden_states.shape
        if recipe.mask_time_prob:
            settings = (recipe.mask_time_prob, recipe.mask_time_length, FEWEST_SPANS, self.rng)
            time = torch.from_numpy(equal_masks(self.frames, t, *settings)).to(hidden_states.device)
            vector = self.encoder.masked_spec_embed.to(hidden_states.dtype)
            hidden_states = torch.where(time[:, :, None], vector, hidden_states)
        if recipe.mask_feature_prob:
            settings = (recipe.mask_feature_prob, recipe.mask_feature_length, 0, self.rng)
            channels = torch.from_numpy(equal_masks([d] * b, d, *settings)).to(hidden_states.device)
            hidden_states = hidden_states.masked_fill(channels[:, None], 0.0)
        return hidden_states


def masks_of(encoder: Any, recipe: FinetuneConfig) -> FairseqMasks | None:
    """Fairseq's masks where a recipe asks for them and the encoder masks anything at all."""
    if recipe.masks == "hf" or not (recipe.mask_time_prob or recipe.mask_feature_prob):
        return None
    masks = getattr(type(encoder), "_mask_hidden_states", None) is not None
    return FairseqMasks(encoder, recipe) if masks else None
