"""Random weights for some transformer blocks of a trained model (Pasad et al. 2021, section 5)."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


def reinitialise(model: Any, modules: Sequence[nn.Module], seed: int) -> list[str]:
    """Draw the weights of some modules of a model as its architecture does; names of the tensors.

    Linear maps from N(0, initializer_range) with bias 0, layer norms 1 and 0, WavLM's relative
    positions as they begin. Nothing else changes, and the global random state stays as it was.
    """
    tensors = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}
    # from_pretrained marks what it loaded, and transformers' init functions pass marked tensors by.
    marked: list[Any] = [*tensors.values(), *(m for module in modules for m in module.modules())]
    for one in marked:
        one._is_hf_initialized = False
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in modules:
            module.apply(model._init_weights)
    named = (*model.named_parameters(), *model.named_buffers())
    names = [name for name, tensor in named if id(tensor) in tensors]
    drawn = {id(module) for module in modules}
    where = ", ".join(name for name, module in model.named_modules() if id(module) in drawn)
    if names:
        log.info("re-initialised: %s; metadata.json lists the %d tensors", where, len(names))
    return names
