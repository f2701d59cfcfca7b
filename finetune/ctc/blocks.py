"""Which transformer blocks a recipe removes, re-initialises, freezes and unfreezes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from common.config import FinetuneConfig, ModelConfig
from common.encoder.architecture import Blueprint, read_blueprint, set_depth
from common.records import StrataError
from finetune.ctc.linear_head import LinearHead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocks:
    """What is done with each block, named by its output (T11, …).

    `dropped` are removed, `reinit` start from random weights, `unfrozen` train from the first
    update on, `frozen` never train. `fresh`: modules of the encoder that are drawn anew, the
    blocks' and the final norm's; `final_norm`: the layer norm that is computed after the blocks, if
    there is one and it matters; `modules`: the modules of the blocks that stay, by layer.
    """

    dropped: tuple[str, ...]
    reinit: tuple[str, ...]
    unfrozen: tuple[str, ...]
    frozen: tuple[str, ...]
    fresh: tuple[str, ...]
    final_norm: str | None
    modules: Mapping[str, str]

    def describe(self) -> dict[str, list[str]]:
        """The blocks for the metadata, apart from what is re-initialised."""
        kinds = ("dropped", "unfrozen", "frozen")
        return {kind: list(getattr(self, kind)) for kind in kinds if getattr(self, kind)}


def plan_blocks(recipe: FinetuneConfig, model: ModelConfig, blueprint: Blueprint) -> Blocks:
    """What a recipe does with each block of a model, from its description: no weights are read."""
    modules = {
        t.name: t.module for t in blueprint.layer_hooks if t.part == "transformer" and t.index > 0
    }
    names, asked = list(modules), blueprint.checkpoint.asked
    if recipe.drop_top >= len(names):
        raise StrataError(
            f"finetune.drop_top={recipe.drop_top}: {asked} has {len(names)} transformer blocks, of "
            f"which one must stay; use 0 to {len(names) - 1}"
        )
    kept = names[: len(names) - recipe.drop_top]
    for key in ("reinit_top", "unfreeze_top"):
        if getattr(recipe, key) > len(kept):
            left = f", {recipe.drop_top} of them dropped" if recipe.drop_top else ""
            raise StrataError(
                f"finetune.{key}={getattr(recipe, key)}: {asked} has {len(names)} transformer "
                f"blocks{left}; use 0 to {len(kept)}"
            )
    for key in ("reinit_layers", "freeze_layers"):
        lacking = [name for name in getattr(recipe, key) or () if name not in kept]
        if lacking:
            raise StrataError(
                f"finetune.{key} has {', '.join(lacking)}: {asked} has T1 … {kept[-1]}"
            )
    if recipe.reinit_layers is None:
        reinit = _last(kept, recipe.reinit_top)
    else:
        reinit = tuple(name for name in kept if name in recipe.reinit_layers)
    unfrozen = _last(kept, recipe.unfreeze_top)
    frozen = tuple(name for name in kept if name in (recipe.freeze_layers or ()))
    both = [name for name in frozen if name in (*reinit, *unfrozen)]
    if both:
        raise StrataError(
            f"finetune.freeze_layers has {', '.join(both)}, which finetune.reinit_top, "
            "reinit_layers or unfreeze_top is to train: name each block in one of them"
        )
    anew = recipe.reinit_include_final_norm
    norm = _final_norm(model, anew) if anew or recipe.layer_decay < 1 else None
    return Blocks(
        dropped=tuple(names[len(kept) :]),
        reinit=reinit,
        unfrozen=unfrozen,
        frozen=frozen,
        fresh=(*(modules[name] for name in reinit), *([norm] if anew and norm else ())),
        final_norm=norm,
        modules={name: modules[name] for name in kept},
    )


def _last(names: Sequence[str], n: int) -> tuple[str, ...]:
    return tuple(names[len(names) - n :])


def _final_norm(model: ModelConfig, needed: bool) -> str | None:
    """Name of the layer norm that is computed after the blocks; None without, unless `needed`."""
    try:
        return read_blueprint(replace(model, final_norm=True)).layer_hooks[-1].module
    except StrataError as error:
        if not needed:
            return None
        raise StrataError(f"finetune.reinit_include_final_norm=true: {error}") from error


def shortened(blueprint: Blueprint, model: ModelConfig, blocks: Blocks) -> Blueprint:
    """The blueprint without the blocks that are dropped."""
    if not blocks.dropped:
        return blueprint
    short = read_blueprint(model, depth=len(blocks.modules))
    left = [hook.name for hook in short.layer_hooks if hook.part == "transformer"][1:]
    if left != [*blocks.modules]:
        raise StrataError(
            f"finetune.drop_top={len(blocks.dropped)}: Strata cannot take blocks from a "
            f"{blueprint.config.model_type}: it would have {len(left)}, not {len(blocks.modules)}"
        )
    return short


def drop(model: Any, blocks: Blocks) -> None:
    """Remove the blocks that are dropped from a loaded model and from its configuration."""
    if not blocks.dropped:
        return
    depth = len(blocks.modules)
    first = next(iter(blocks.modules.values()))
    layers = model.base_model.get_submodule(first.rpartition(".")[0])
    del layers[depth:]
    for config in (model.config, model.base_model.config):
        set_depth(config, depth)
    if isinstance(model, LinearHead):
        model.drop_layers(depth)
    log.info("dropped %s: %d blocks are left", ", ".join(blocks.dropped), depth)


def modules_of(model: Any, names: Iterable[str]) -> list[nn.Module]:
    """Modules of a model's encoder, by their names within it."""
    return [model.base_model.get_submodule(name) for name in names]


def rates_of(model: Any, blocks: Blocks, decay: float) -> dict[int, float]:
    """Factor of the rate of every parameter of the encoder, by its id.

    The last block, and the norm after it, have the whole rate, each block `decay` times that of
    the next one, and what lies below the first block `decay` times the first one's.
    """
    encoder, depth = model.base_model, len(blocks.modules)
    rates = {id(p): decay**depth for p in encoder.parameters()}
    for below, name in enumerate(reversed([*blocks.modules.values()])):
        rates |= {id(p): decay**below for p in encoder.get_submodule(name).parameters()}
    if blocks.final_norm is not None:
        rates |= {id(p): 1.0 for p in encoder.get_submodule(blocks.final_norm).parameters()}
    return rates
