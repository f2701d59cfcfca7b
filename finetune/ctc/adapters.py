"""Adapters: a few new weights that train instead of the encoder's (LoRA, MMS)."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel

from common.config.finetune import AdaptersConfig
from common.encoder.architecture import Blueprint, encoder_of, new_model
from common.records import SAMPLE_RATE, StrataError

log = logging.getLogger(__name__)

# transformers' bottlenecks of MMS: a block's module, and the configuration's key of its size.
BOTTLENECK, BOTTLENECK_SIZE = "adapter_layer", "adapter_attn_dim"


def check_adapters(adapters: AdaptersConfig, blueprint: Blueprint) -> None:
    """Refuse, before any weights are read, adapters that do not fit this architecture."""
    asked, kind = blueprint.checkpoint.asked, blueprint.config.model_type
    if (
        adapters.method == "mms"
        and _bottleneck_of(blueprint.class_config, adapters.rank, blueprint.kind) is None
    ):
        raise StrataError(
            f"finetune.adapters.method=mms: transformers has no such adapters for {asked}, a "
            f"{kind}: wav2vec 2.0, HuBERT and UniSpeech have them where each block begins with its "
            "layer norm, as in the large models. Use finetune.adapters.method=lora"
        )
    if adapters.method == "lora":
        _check_lora(adapters, blueprint)


def _check_lora(adapters: AdaptersConfig, blueprint: Blueprint) -> None:
    """Send a gradient through the encoder on the meta device: it must reach each of LoRA's maps."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = new_model(blueprint.kind, blueprint.class_config)
        encoder = (model if blueprint.tower else encoder_of(model)).eval()
        linear = {n.split(".")[-1] for n, m in encoder.named_modules() if isinstance(m, nn.Linear)}
        lacking = [name for name in adapters.targets if name not in linear]
        if lacking or not adapters.targets:
            raise StrataError(
                f"finetune.adapters.targets={adapters.targets}: the linear maps of "
                f"{blueprint.checkpoint.asked} are called {', '.join(sorted(linear))}"
            )
        _add_lora(encoder, adapters)
        inputs = blueprint.feature_extractor([np.zeros(SAMPLE_RATE, np.float32)])
        hidden = encoder(**{key: x.to("meta") for key, x in inputs.items()}).last_hidden_state
        if hidden.requires_grad:
            hidden.sum().backward()
    unreached = {
        name.split(".lora_")[0].split(".")[-1]
        for name, p in encoder.named_parameters()
        if p.requires_grad and p.grad is None
    }
    if unreached:
        raise StrataError(
            f"finetune.adapters.targets={adapters.targets}: {blueprint.checkpoint.asked} never "
            f"calls its {', '.join(sorted(unreached))} but takes their weights out of them, which "
            "passes by what LoRA puts beside them (WavLM does so in attention). Others are "
            f"{', '.join(sorted(linear - unreached))}"
        )


def adapt(
    model: Any,
    blocks: Iterable[str],
    fresh: Sequence[nn.Module],
    adapters: AdaptersConfig,
    seed: int,
) -> list[str]:
    """Train adapters instead of the encoder's weights; names of their tensors.

    `blocks`: names of the blocks' modules. Modules that are `fresh` are trained as a whole
    all the same. Initial adapters depend on the seed alone: LoRA's change nothing, MMS's little.
    """
    if adapters.method == "none":
        return []
    encoder = model.base_model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if adapters.method == "lora":
            _add_lora(encoder, adapters)
        else:
            _add_bottlenecks(model, blocks, adapters.rank)
    new = {id(p) for p in encoder.parameters() if p.requires_grad}
    names = [name for name, p in model.named_parameters() if id(p) in new]
    for module in fresh:
        module.requires_grad_(True)
    count = sum(p.numel() for p in encoder.parameters() if id(p) in new)
    log.info("%s: %d weights train instead of the encoder's", adapters.method, count)
    return names


def _add_lora(encoder: Any, adapters: AdaptersConfig) -> None:
    """LoRA's maps beside linear ones, all else frozen: by PEFT."""
    from peft import LoraConfig, inject_adapter_in_model

    how = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,
        lora_dropout=adapters.dropout,
        target_modules=adapters.targets,
    )
    inject_adapter_in_model(how, encoder)


def _add_bottlenecks(model: Any, blocks: Iterable[str], size: int) -> None:
    """MMS's bottlenecks after the blocks, all else frozen; those of an MMS checkpoint are kept."""
    encoder = model.base_model
    encoder.requires_grad_(False)
    for name in blocks:
        block = encoder.get_submodule(name)
        if getattr(block, BOTTLENECK) is None:
            bottleneck = _bottleneck_of(model.config, size)
            setattr(block, BOTTLENECK, bottleneck.apply(model._init_weights))
            for config in (model.config, encoder.config):
                config.update({BOTTLENECK_SIZE: size})
        getattr(block, BOTTLENECK).requires_grad_(True)


def _bottleneck_of(config: Any, size: int, kind: Any = AutoModel) -> Any:
    """A bottleneck as the architecture has it, or None where it has none."""
    resized = type(config).from_dict(config.to_dict())
    resized.update({BOTTLENECK_SIZE: size})
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = new_model(kind, resized)
    found = (m for name, m in model.named_modules() if name.endswith(f".{BOTTLENECK}"))
    first = next(found, None)
    return None if first is None else type(first)(resized)


def merged(model: Any, adapters: AdaptersConfig) -> Any:
    """The model as it is exported.

    LoRA's maps are merged into the weights that they adapt, so that the model is one of the usual
    kind. MMS's bottlenecks stay where they are; the configuration has their size.
    """
    if adapters.method == "lora":
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, module in list(model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                owner, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(owner), attribute, module.get_base_layer())
    return model
