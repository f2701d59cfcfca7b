"""Convolutions that CPUs compute wrongly in bfloat16, kept in float32."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

# Of a group. With 4 to 15 oneDNN's kernel for CPUs with AMX returns numbers that have nothing to do
# with the convolution (torch 2.13: as far from it as it is long); with 16 and more it is right.
CHANNELS = 16


def keep_exact(model: nn.Module) -> None:
    """Leave a model's convolutions in narrow groups out of autocast on CPUs.

    These are the positional convolutions of small models of the wav2vec 2.0 family. The rest of a
    model, and any model whose groups are wide, computes in bfloat16 as it did.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d) and 1 < module.groups > module.in_channels / CHANNELS:
            module.forward = partial(_exactly, module.forward)  # type: ignore[method-assign]


def _exactly(forward: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    """(B, C, T) -> (B, D, T) in float32."""
    if hidden.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(hidden)
    with torch.autocast("cpu", enabled=False):
        return forward(hidden.float())
