"""What absolute positions add to the input of the first block, measured on the model itself."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from common.encoder.hooks import LayerHook, entering

# Of the embeddings' size. Rounding stays below 1e-5; what depends on the audio differs by 1e-1 up.
SAME = 1e-3

Inputs = Mapping[str, torch.Tensor]


def added_positions(
    encoder: nn.Module, entrance: LayerHook, first: Inputs, second: Inputs, rows: int
) -> torch.Tensor | None:
    """Embeddings (T, D) that a model adds to T0 at `entrance` for any audio; None without any.

    A table has `rows` at least: of a model that takes any length, those for the shortest audio here
    (Qwen2.5-Omni begins its table anew every two seconds).

    Whisper, Qwen2-Audio's and Voxtral's encoders, and others made like them, add a table of
    sinusoids or of learnt vectors, one row for each position, to the output of their convolutions.
    What a table of weights before the blocks adds is the difference that its absence makes to T0,
    and it is one of positions if that is the same for two inputs of one length (`first`, `second`:
    the model's inputs of different audio): a projection's depends on the audio. Found by what
    the model computes: the rotary or relative positions of Moonshine, w2v-BERT or the conformers,
    which enter in attention, and the convolutional ones of the wav2vec 2.0 family, which depend
    on the audio, are not added tables.
    """
    whole = [entering(encoder, entrance, inputs) for inputs in (first, second)]
    *_, dim = whole[0].shape
    total = None
    for table in _tables(encoder, entrance, rows, dim):
        kept = table.clone()
        table.zero_()
        without = [entering(encoder, entrance, inputs) for inputs in (first, second)]
        table.copy_(kept)
        one, other = (a[0] - b[0] for a, b in zip(whole, without, strict=True))
        if one.norm() > 0 and (one - other).norm() <= SAME * one.norm():
            total = one if total is None else total + one
    return total


def _tables(encoder: nn.Module, entrance: LayerHook, rows: int, dim: int) -> Iterator[torch.Tensor]:
    """Weights and buffers (P, dim) outside the blocks that have at least `rows` rows."""
    blocks = entrance.module.rpartition(".")[0] + "."
    for name, tensor in (*encoder.named_parameters(), *encoder.named_buffers()):
        if name.startswith(blocks) or not tensor.is_floating_point():
            continue
        shape = tensor.squeeze(0).shape if tensor.ndim == 3 else tensor.shape
        if len(shape) == 2 and shape[0] >= rows and shape[1] == dim:
            yield tensor.data
