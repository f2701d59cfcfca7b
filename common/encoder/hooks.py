"""Where a model's layers come out of its modules, found by structure and read by hooks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from common.records import StrataError

# mel: the filterbank in a layer's place; baseline: what a metric is held against without a layer
Part = Literal["cnn", "transformer", "mel", "baseline"]
Side = Literal["input", "output"]
Read = Callable[[torch.Tensor], torch.Tensor]


def as_it_is(hidden: torch.Tensor) -> torch.Tensor:
    """(B, T, D) as blocks have it."""
    return hidden


def transposed(hidden: torch.Tensor) -> torch.Tensor:
    """(B, D, T) -> (B, T, D)."""
    return hidden.transpose(1, 2)


def activated(hidden: torch.Tensor) -> torch.Tensor:
    """(B, D, T) -> (B, T, D) after the GELU that follows the last of Whisper's convolutions."""
    return nn.functional.gelu(hidden).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class LayerHook:
    """A layer's module, the side on which it comes out, and how that is read as (B, T, D).

    `convolution`: the module that holds a convolutional layer's own convolution.
    """

    name: str
    part: Part
    index: int
    module: str
    side: Side
    read: Read
    convolution: str = ""


@contextmanager
def hooked(
    encoder: nn.Module,
    layer_hooks: Sequence[LayerHook],
    hand_on: Callable[[LayerHook, torch.Tensor], None],
) -> Iterator[None]:
    """While open, each hook's layer (B, T, D) goes to `hand_on` as soon as it is computed."""

    def before(hook: LayerHook, _: nn.Module, args: Any, kwargs: Any) -> None:
        hand_on(hook, hook.read(args[0] if args else kwargs["hidden_states"]))

    def after(hook: LayerHook, _: nn.Module, __: Any, output: Any) -> None:
        hand_on(hook, hook.read(output[0] if isinstance(output, tuple) else output))

    with ExitStack() as hooks:
        for hook in layer_hooks:
            module = encoder.get_submodule(hook.module)
            if hook.side == "input":
                handle = module.register_forward_pre_hook(partial(before, hook), with_kwargs=True)
            else:
                handle = module.register_forward_hook(partial(after, hook))
            hooks.callback(handle.remove)
        yield


def find_hooks(encoder: nn.Module) -> tuple[LayerHook, ...]:
    """Taps of all layers in the order of computation: C1, …, T0, T1, …"""
    blocks = _blocks(encoder)
    convolutions = [
        LayerHook(f"C{i}", "cnn", i, module, side, read, convolution)
        for i, (convolution, module, side, read) in enumerate(
            _convolutions(encoder, blocks), start=1
        )
    ]
    entrance = LayerHook("T0", "transformer", 0, f"{blocks}.0", "input", as_it_is)
    depth = len(list(encoder.get_submodule(blocks).children()))
    rest = [
        LayerHook(f"T{i}", "transformer", i, f"{blocks}.{i - 1}", "output", as_it_is)
        for i in range(1, depth + 1)
    ]
    return (*convolutions, entrance, *rest)


def norm_hooks(encoder: nn.Module, last: LayerHook) -> list[LayerHook]:
    """Layer norms beside the blocks: what becomes of the last layer, if they come after it."""
    owner = _owner(last.module.rpartition(".")[0])
    return [
        LayerHook(last.name, last.part, last.index, owner + name, "output", as_it_is)
        for name, module in encoder.get_submodule(owner.rstrip(".")).named_children()
        if isinstance(module, nn.LayerNorm)
    ]


def _blocks(encoder: nn.Module) -> str:
    """Name of the list of transformer blocks."""
    names = {name for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)}
    for name in ("layers", "encoder.layers"):
        if name in names:
            return name
    raise StrataError(f"a {type(encoder).__name__} has no list `layers` of transformer blocks")


def _convolutions(encoder: nn.Module, blocks: str) -> list[tuple[str, str, Side, Read]]:
    """Convolutional layers before the blocks, as (own module, hooked one, side, how to read it).

    They are a list of modules with activation, or bare ones. What follows a bare one in the
    encoder's own code differs (Whisper's GELU; Moonshine's tanh and group norm): its layer is what
    the next one takes in. After the last one it is a GELU in both.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and name.endswith("conv_layers"):
            items = (f"{name}.{i}" for i in range(len(module)))
            return [(item, item, "output", transposed) for item in items]
    owner = _owner(blocks)
    bare = [
        owner + name
        for name, module in encoder.get_submodule(owner.rstrip(".")).named_children()
        if isinstance(module, nn.Conv1d)
    ]
    taken: list[tuple[str, str, Side, Read]] = [
        (own, after, "input", transposed) for own, after in pairwise(bare)
    ]
    return [*taken, (bare[-1], bare[-1], "output", activated)] if bare else []


def _owner(module: str) -> str:
    """Prefix of a module's siblings: "encoder.layers" -> "encoder.", "layers" -> ""."""
    return module[: module.rfind(".") + 1]
