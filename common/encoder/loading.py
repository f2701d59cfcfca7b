"""Weights into a blueprint: from a checkpoint's files, or drawn from a seed."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from common.encoder.architecture import Blueprint, encoder_of, new_model
from common.encoder.convolutions import keep_exact
from common.records import StrataError

# Used in training alone, or after the last block: no layer depends on them.
NO_LAYER_NEEDS = ("masked_spec_embed", "adapter.", "intermediate_ffn.")
# Of layer norms in checkpoints from before PyTorch had them.
OLD_NORMS = {r"^(.*norm[^.]*)\.gamma$": r"\1.weight", r"^(.*norm[^.]*)\.beta$": r"\1.bias"}
# Number formats of weights, by their names in safetensors; counters and buffers may have others.
REAL = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
WEIGHTS = ("weight", "bias", "weight_g", "weight_v", "original0", "original1")
LIST_ITEM = re.compile(r"(.*layers\.\d+)\.")

logger = logging.getLogger(__name__)


def pretrained(blueprint: Blueprint) -> Any:
    """The encoder with its checkpoint's weights in float32, every one of them loaded."""
    model = load_checkpoint(blueprint.kind, blueprint.class_config, blueprint)
    return model if blueprint.tower else encoder_of(model)


def load_checkpoint(
    kind: Any, config: Any, blueprint: Blueprint, fresh_head: bool = True, **keys: Any
) -> Any:
    """A model of one of transformers' classes `kind`, its encoder whole, in float32.

    Weights outside the encoder may be missing where `fresh_head`. Of a model with other inputs than
    audio, nothing but its audio tower's weights is read. `keys` go to `from_pretrained`.
    """
    asked, folder = blueprint.checkpoint.asked, blueprint.checkpoint.folder
    names = None
    if blueprint.tower:  # how its weights are called in the checkpoint of the whole model
        names = re.compile(rf"(?:model\.|thinker\.)*{re.escape(blueprint.tower)}\.(.+)")
    files = blueprint.checkpoint.weights(names)
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            _check_numbers(asked, files, names)
            if names:
                keys["state_dict"] = dict(_read(files, names))
            model, info = kind.from_pretrained(
                None if names else folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                key_mapping=OLD_NORMS,
                **keys,
            )
    except StrataError:
        raise
    except Exception as error:
        # Damaged files raise safetensors', pickle's, zipfile's or torch's own classes.
        sizes = ", ".join(f"{file.name} ({file.stat().st_size} bytes)" for file in files)
        raise StrataError(
            f"{asked}: the weights in {folder} cannot be read: {sizes} "
            f"({type(error).__name__}: {error}). A file may be cut short, be a Git LFS pointer, or "
            f"belong to another config.json: delete it and get it again."
        ) from error
    _check_loaded(asked, model, info, fresh_head, bool(names))
    keep_exact(model)
    return model


def _read(files: Sequence[Path], names: re.Pattern[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tower's weights in the files, under the names that they have in the tower."""
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as held:
                for name in held.keys():  # noqa: SIM118
                    if match := names.fullmatch(name):
                        yield match[1], held.get_tensor(name)
        elif file.suffix == ".bin":
            state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
            for name, tensor in state.items():
                if match := names.fullmatch(name):
                    yield match[1], tensor


def _check_numbers(asked: str, files: Sequence[Path], names: re.Pattern[str] | None) -> None:
    """Refuse quantized weights: they mean nothing without the scales of their quantizer.

    `names`: those that will be read; None for all.
    """
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as held:
                kinds = {name: held.get_slice(name).get_dtype() for name in held.keys()}  # noqa: SIM118
            whole = [name for name, kind in kinds.items() if kind not in REAL]
        elif file.suffix == ".bin":
            state = torch.load(file, weights_only=True, map_location="meta")
            whole = [
                name
                for name, tensor in state.items()
                if isinstance(tensor, torch.Tensor) and tensor.dtype not in REAL.values()
            ]
        else:
            continue
        whole = [n for n in whole if n.endswith(WEIGHTS) and (names is None or names.fullmatch(n))]
        if whole:
            raise StrataError(
                f"{asked}: {len(whole)} weights of {file.name} are quantized, in numbers of eight "
                f"bits or so ({_some(whole)}), which are not the model's. Get the checkpoint in "
                "float32, float16 or bfloat16."
            )


def random(blueprint: Blueprint, seed: int) -> Any:
    """The encoder as its architecture initialises it; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = new_model(blueprint.kind, blueprint.class_config)
    keep_exact(model)
    return model if blueprint.tower else encoder_of(model)


def _check_loaded(
    asked: str, model: Any, info: dict[str, Any], fresh_head: bool, is_tower: bool
) -> None:
    """Refuse lacking weights, which would stay random, and those of unknown layers."""
    encoder = model if is_tower else encoder_of(model)
    if isinstance(encoder, PreTrainedModel) and not is_tower:
        encoder = encoder.base_model
    prefix = "" if is_tower else f"{model.base_model_prefix}."
    names = {id(module): f"{name}." if name else "" for name, module in model.named_modules()}
    inside = names[id(encoder)]
    needed = inside if fresh_head else ""
    absent = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    loaded = [name.removeprefix(inside) for name in absent if name.startswith(needed)]
    lacking = sorted(name for name in loaded if not name.startswith(NO_LAYER_NEEDS))
    if lacking:
        head = "" if fresh_head else ", or has no head for its own characters"
        raise StrataError(
            f"{asked}: the checkpoint lacks {len(lacking)} weights of the "
            f"{'encoder' if fresh_head else 'recogniser'} ({_some(lacking)}), which would stay "
            f"random: it is incomplete{head}, or its config.json belongs to other weights. Get "
            f"both again. For an untrained model on purpose: model.random_init=true."
        )
    modules = {name.removeprefix(prefix) for name, _ in model.named_modules()}
    parts = tuple(f"{inside}{name}.".removeprefix(prefix) for name, _ in encoder.named_children())
    idle = sorted(
        n for key in info["unexpected_keys"] if (n := key.removeprefix(prefix)).startswith(parts)
    )
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
