"""Where a model's layers come out of its modules, found by structure and read by hooks."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from common.records import StrataError

# mel: the filterbank in a layer's place; baseline: a metric's own control, without a layer
Part = Literal["cnn", "transformer", "mel", "baseline"]
Side = Literal["input", "output"]
Read = Callable[[torch.Tensor], torch.Tensor]

MASK = "input_features_mask"  # of Audio Flamingo 3
PATCHES = "embeddings.patch_embeddings.projection"  # of the Audio Spectrogram Transformer


def as_it_is(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states (B, T, D) unchanged: blocks give them so."""
    return hidden


def transposed(hidden: torch.Tensor) -> torch.Tensor:
    """(B, D, T) -> (B, T, D)."""
    return hidden.transpose(1, 2)


def activated(hidden: torch.Tensor) -> torch.Tensor:
    """(B, D, T) -> (B, T, D) after the GELU that follows the last of Whisper's convolutions."""
    return nn.functional.gelu(hidden).transpose(1, 2)


def gated(hidden: torch.Tensor) -> torch.Tensor:
    """(B, 2 D, T) -> (B, T, D) after the gated linear unit behind Speech2Text's convolutions."""
    return nn.functional.glu(hidden, dim=1).transpose(1, 2)


def packed(hidden: torch.Tensor) -> torch.Tensor:
    """(T, D) of an encoder without a batch dimension (Qwen2.5-Omni's) -> (1, T, D)."""
    return hidden[None]


def over_frequency(hidden: torch.Tensor) -> torch.Tensor:
    """(B, D, F, T) of patches of a spectrogram -> (B, T, D), their mean over frequency."""
    return hidden.mean(2).transpose(1, 2)


def patches(n_times: int, hidden: torch.Tensor) -> torch.Tensor:
    """(B, N + F * T, D) of the same patches behind N tokens of no patch -> (B, T, D)."""
    n_batch, n_tokens, dim = hidden.shape
    n_frequencies = n_tokens // n_times
    kept = hidden[:, n_tokens - n_frequencies * n_times :]
    return kept.reshape(n_batch, n_frequencies, n_times, dim).mean(1)


@dataclass(frozen=True, slots=True)
class LayerHook:
    """A layer's module, the side on which it comes out, and how that is read as (B, T, D).

    `convolution`: the module that holds a convolutional layer's own convolution; none where others
    stand between it and the last layer's.
    """

    name: str
    part: Part
    index: int
    module: str
    side: Side
    read: Read
    convolution: str = ""


class LayersComputed(Exception):  # noqa: N818
    """Raised in a hook to end a forward pass: all that is needed of it is computed."""


@contextmanager
def hooked(
    encoder: nn.Module,
    layer_hooks: Sequence[LayerHook],
    emit: Callable[[LayerHook, torch.Tensor], None],
) -> Iterator[None]:
    """While open, each hook's layer (B, T, D) goes to `emit` as soon as it is computed."""

    def before(hook: LayerHook, _: nn.Module, args: Any, kwargs: Any) -> None:
        emit(hook, hook.read(args[0] if args else kwargs["hidden_states"]))

    def after(hook: LayerHook, _: nn.Module, __: Any, output: Any) -> None:
        emit(hook, hook.read(output[0] if isinstance(output, tuple) else output))

    with ExitStack() as hooks:
        for hook in layer_hooks:
            module = encoder.get_submodule(hook.module)
            if hook.side == "input":
                handle = module.register_forward_pre_hook(partial(before, hook), with_kwargs=True)
            else:
                handle = module.register_forward_hook(partial(after, hook))
            hooks.callback(handle.remove)
        yield


def run_encoder(encoder: nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
    """Send a batch through an encoder, which may take no mask or no batch (`packs`)."""
    features, *_ = inputs.values()
    keys = inspect.signature(encoder.forward).parameters
    more: dict[str, Any] = {key: x for key, x in list(inputs.items())[1:] if key in keys}
    if "kwargs" in keys:
        more |= {"output_hidden_states": False, "output_attentions": False}
    if asks_for_padding(encoder):
        more[MASK] = inputs["attention_mask"]
    if packs(encoder):
        (features,) = features
        more["feature_lens"] = torch.tensor([features.shape[-1]], device=features.device)
    encoder(features, **more)


def entering(
    encoder: nn.Module, entrance: LayerHook, inputs: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """T0 (B, T, D) of a batch; the blocks are not run."""
    found: list[torch.Tensor] = []

    def stop(_: LayerHook, hidden: torch.Tensor) -> None:
        found.append(hidden.float().clone())
        raise LayersComputed

    with suppress(LayersComputed), torch.no_grad(), hooked(encoder, [entrance], stop):
        run_encoder(encoder, inputs)
    return found[0]


def packs(encoder: nn.Module) -> bool:
    """Whether an encoder takes utterances end to end, with their lengths, and not as a batch."""
    return "feature_lens" in inspect.signature(encoder.forward).parameters


def find_hooks(encoder: nn.Module, codec: bool = False) -> tuple[LayerHook, ...]:
    """Hooks of all layers in the order of computation: C1, …, T0, T1, …; `codec`: see `_stages`."""
    blocks = _blocks(encoder)
    if not blocks and not codec:
        raise StrataError(f"a {type(encoder).__name__} has no list `layers` of transformer blocks")
    found = _stages(encoder) if codec else _convolutions(encoder, blocks)
    convolutions = [
        LayerHook(f"C{i}", "cnn", i, module, side, read, convolution)
        for i, (convolution, module, side, read) in enumerate(found, start=1)
    ]
    if not blocks:
        return tuple(convolutions)
    read = _reading(encoder)
    entrance = LayerHook("T0", "transformer", 0, f"{blocks}.0", "input", read)
    depth = len(list(encoder.get_submodule(blocks).children()))
    rest = [
        LayerHook(f"T{i}", "transformer", i, f"{blocks}.{i - 1}", "output", read)
        for i in range(1, depth + 1)
    ]
    return (*convolutions, entrance, *rest)


def asks_for_padding(encoder: nn.Module) -> bool:
    """Whether an encoder is to be told which frames of a fixed length are padding."""
    return MASK in inspect.signature(encoder.forward).parameters


def _reading(encoder: nn.Module) -> Read:
    """How the blocks' hidden states are read as (B, T, D)."""
    if packs(encoder):
        return packed
    names = {name for name, _ in encoder.named_modules()}
    if PATCHES in names:
        _, n_times = encoder.get_submodule("embeddings").get_shape(encoder.config)  # type: ignore[operator]
        return partial(patches, n_times)
    return as_it_is


def norm_hooks(encoder: nn.Module, last: LayerHook) -> list[LayerHook]:
    """Layer norms beside the blocks; one after them makes the last layer's final form."""
    owner = _owner(last.module.rpartition(".")[0])
    return [
        LayerHook(last.name, last.part, last.index, owner + name, "output", last.read)
        for name, module in encoder.get_submodule(owner.rstrip(".")).named_children()
        if isinstance(module, nn.LayerNorm)
    ]


def _blocks(encoder: nn.Module) -> str:
    """Name of the list of transformer blocks; "" where there is none.

    Of several lists of layers of one kind the encoder's own, else the one with most parameters.
    """
    lists = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList)
        and name.rpartition(".")[2] in ("layer", "layers")
        and len({type(item) for item in module}) == 1
        and any(isinstance(part, nn.Linear) for part in module.modules())
    }
    for name in ("layers", "encoder.layers"):
        if name in lists:
            return name
    return max(lists, key=lists.__getitem__, default="")


def codec_front(codec: nn.Module) -> str:
    """Name of a codec's part that convolves: its first, if blocks follow; "", all, if not."""
    return next(name for name, _ in codec.named_children()) if _blocks(codec) else ""


def codec_parts(front: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of what that part does, one after the other: its own, and items of lists."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in front.named_children():
        items = child.named_children() if isinstance(child, nn.ModuleList) else [("", child)]
        parts += [(f"{name}.{item}".rstrip("."), module) for item, module in items]
    return parts


def _stages(codec: nn.Module) -> list[tuple[str, str, Side, Read]]:
    """A codec's convolutional layers: its first and last convolution, and each change of rate.

    Between them are residual units, which are not layers here.
    """
    owner = codec_front(codec)
    strides = {
        f"{owner}.{name}".lstrip("."): [
            c.stride[0] for c in module.modules() if isinstance(c, nn.Conv1d)
        ]
        for name, module in codec_parts(codec.get_submodule(owner))
    }
    convolved = [name for name in strides if strides[name]]
    return [
        ("", name, "output", transposed)
        for name in convolved
        if max(strides[name]) > 1 or name in (convolved[0], convolved[-1])
    ]


def _convolutions(encoder: nn.Module, blocks: str) -> list[tuple[str, str, Side, Read]]:
    """Convolutional layers before the blocks, as (own module, hooked one, side, how to read it).

    They are a list of modules with activation, or bare ones. What follows a bare one in the
    encoder's own code differs (Whisper's GELU; Moonshine's tanh and group norm): its layer is what
    the next one takes in. After the last one it is a GELU in both. In two dimensions, patches of a
    spectrogram are one (AST); other such convolutions, before Parakeet's blocks, are no layers.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and name.endswith("conv_layers"):
            read = gated if all(isinstance(item, nn.Conv1d) for item in module) else transposed
            items = (f"{name}.{i}" for i in range(len(module)))
            return [(item, item, "output", read) for item in items]
        if name == PATCHES:
            return [(name, name, "output", over_frequency)]
    if packs(encoder):
        return []  # which work on pieces of the audio
    owner = _owner(blocks)
    bare = [
        owner + name
        for name, module in encoder.get_submodule(owner.rstrip(".")).named_children()
        if isinstance(module, nn.Conv1d)
    ]
    taken: list[tuple[str, str, Side, Read]] = [
        (this, after, "input", transposed) for this, after in pairwise(bare)
    ]
    return [*taken, (bare[-1], bare[-1], "output", activated)] if bare else []


def _owner(module: str) -> str:
    """Prefix of a module's siblings: "encoder.layers" -> "encoder.", "layers" -> ""."""
    return module[: module.rfind(".") + 1]
