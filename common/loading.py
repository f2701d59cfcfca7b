"""Weights into a blueprint: from a checkpoint's files, or drawn from a seed."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from common.architecture import Blueprint, encoder_of
from common.records import StrataError

# Used in training alone, or after the last block: no layer depends on them.
NO_LAYER_NEEDS = ("masked_spec_embed", "adapter.", "intermediate_ffn.")
LIST_ITEM = re.compile(r"(.*layers\.\d+)\.")

logger = logging.getLogger(__name__)


def pretrained(blueprint: Blueprint) -> Any:
    """The encoder with its checkpoint's weights in float32, every one of them loaded."""
    asked = blueprint.checkpoint.asked
    files = blueprint.checkpoint.weights()
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            model, info = AutoModel.from_pretrained(
                blueprint.checkpoint.folder,
                config=blueprint.config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        # Damaged files raise safetensors', pickle's, zipfile's or torch's own classes.
        sizes = ", ".join(f"{file.name} ({file.stat().st_size} bytes)" for file in files)
        raise StrataError(
            f"{asked}: the weights in {blueprint.checkpoint.folder} cannot be read: {sizes} "
            f"({type(error).__name__}: {error}). A file may be cut short, be a Git LFS pointer, or "
            f"belong to another config.json: delete it and get it again."
        ) from error
    encoder = encoder_of(model)
    _check_loaded(asked, model, encoder, info)
    return encoder


def random(blueprint: Blueprint, seed: int) -> Any:
    """The encoder as its architecture initialises it; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return encoder_of(AutoModel.from_config(blueprint.config, dtype=torch.float32))


def _check_loaded(asked: str, model: Any, encoder: Any, info: dict[str, Any]) -> None:
    """Refuse lacking weights, which would stay random, and those of layers unheard of."""
    prefix = next(f"{name}." if name else "" for name, m in model.named_modules() if m is encoder)
    parts = tuple(f"{prefix}{name}." for name, _ in encoder.named_children())
    inside = [n.removeprefix(prefix) for n in info["missing_keys"] if n.startswith(prefix)]
    lacking = sorted(n for n in inside if not n.startswith(NO_LAYER_NEEDS))
    if lacking:
        raise StrataError(
            f"{asked}: the checkpoint lacks {len(lacking)} weights of the encoder "
            f"({_some(lacking)}), which would stay random: it is incomplete, or its config.json "
            f"belongs to other weights. Get both again. For an untrained model on purpose: "
            f"model.random_init=true."
        )
    spare = [n.removeprefix(f"{model.base_model_prefix}.") for n in info["unexpected_keys"]]
    idle = sorted(n for n in spare if n.startswith(parts))
    modules = {name for name, _ in model.named_modules()}
    if any(match[1] not in modules for match in map(LIST_ITEM.match, idle) if match):
        raise StrataError(
            f"{asked}: the checkpoint holds {len(idle)} weights of layers that its config.json "
            f"does not have ({_some(idle)}): it belongs to other weights. Get both again."
        )
    if idle:
        logger.warning("%s: %d weights have no use: %s", asked, len(idle), _some(idle))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bar and no report of missing heads: what matters is checked by Strata."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
