"""Random weights for some transformer blocks of a trained model (Pasad et al. 2021, section 5)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from common.config import FinetuneConfig, ModelConfig
from common.encoder.architecture import Blueprint, draw
from common.records import StrataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reinit:
    """What is to be drawn anew: layers (T11, …) and their modules' names within the encoder."""

    layers: tuple[str, ...]
    modules: tuple[str, ...]


def plan_reinit(recipe: FinetuneConfig, model: ModelConfig, blueprint: Blueprint) -> Reinit:
    """Blocks that a recipe means, known from the model's description: no weights are read."""
    blocks = {
        t.name: t.module for t in blueprint.layer_hooks if t.part == "transformer" and t.index > 0
    }
    depth = len(blocks)
    if recipe.reinit_top > depth:
        raise StrataError(
            f"finetune.reinit_top={recipe.reinit_top}: {blueprint.checkpoint.asked} has {depth} "
            f"transformer blocks; use 0 to {depth}"
        )
    layers = list(blocks)[depth - recipe.reinit_top :]
    if recipe.reinit_layers is not None:
        lacking = [name for name in recipe.reinit_layers if name not in blocks]
        if lacking:
            raise StrataError(
                f"finetune.reinit_layers has {', '.join(lacking)}: {blueprint.checkpoint.asked} "
                f"has T1 … T{depth}"
            )
        layers = [name for name in blocks if name in recipe.reinit_layers]
    modules = [blocks[name] for name in layers]
    if recipe.reinit_include_final_norm:
        modules.append(_final_norm(model))
    return Reinit(tuple(layers), tuple(modules))


def _final_norm(model: ModelConfig) -> str:
    """Name of the layer norm that is computed after the blocks."""
    try:
        return draw(replace(model, final_norm=True)).layer_hooks[-1].module
    except StrataError as error:
        raise StrataError(f"finetune.reinit_include_final_norm=true: {error}") from error


def reinitialise(model: Any, modules: Sequence[nn.Module], seed: int) -> list[str]:
    """Draw the weights of some modules of a model as its architecture does; names of the tensors.

    Linear maps from N(0, initializer_range) with bias 0, layer norms 1 and 0, WavLM's relative
    positions as they begin. Nothing else changes, and the global random state stays as it was.
    """
    tensors = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}
    # from_pretrained marks what it loaded, and transformers' init functions pass marked tensors by.
    marked: list[Any] = [*tensors.values(), *(m for own in modules for m in own.modules())]
    for one in marked:
        one._is_hf_initialized = False
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in modules:
            module.apply(model._init_weights)
    named = (*model.named_parameters(), *model.named_buffers())
    names = [name for name, tensor in named if id(tensor) in tensors]
    log.info("re-initialised %d tensors: %s", len(names), ", ".join(names) or "none")
    return names
