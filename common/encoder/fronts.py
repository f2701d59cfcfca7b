"""Frames of the part before a model's blocks where that is no list of convolutions: by clicks."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.encoder.clicks import measured
from common.encoder.frames import FrameGeometry
from common.encoder.hooks import LayerHook, codec_front, codec_parts, entering
from common.records import Waveform

FRAMES = 200  # of a spectrum, 2 s
STEPS = 2_000  # of a codec's layer, more than the next one's frames see
# A codec runs in float64, without rounding: a click is seen wherever it changes anything.
ANYTHING = 1e-12


def weighted_front(encoder: nn.Module, entrance: LayerHook) -> nn.Module:
    """A copy of a model without weights that has some before its blocks, on the CPU.

    They are above zero, so that nothing cancels.
    """
    blocks = entrance.module.rpartition(".")[0] + "."
    front = deepcopy(encoder)
    generator = torch.Generator().manual_seed(0)
    for name, module in front.named_modules():
        if f"{name}.".startswith(blocks):
            continue
        module.to_empty(device="cpu", recurse=False)
        for parameter in module.parameters(recurse=False):
            size = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.data.uniform_(0.5 / size, 1.5 / size, generator=generator)
        for buffer in module.buffers(recurse=False):
            buffer.zero_()
    return front


def front_geometry(
    encoder: nn.Module, entrance: LayerHook, spectrum: Callable[[Waveform], dict[str, torch.Tensor]]
) -> FrameGeometry:
    """Geometry of T0, which comes out at `entrance`, over the frames of a model's spectrum.

    `spectrum` makes the model's input of clicks (n,): frames that are loud in all frequencies.
    """
    front = weighted_front(encoder, entrance)

    def frames_of(clicks: Waveform) -> NDArray[np.float32]:
        return entering(front, entrance, spectrum(clicks))[0].numpy()

    return measured(frames_of, FRAMES)


def codec_geometries(
    encoder: nn.Module, layer_hooks: Sequence[LayerHook], config: Any
) -> dict[str, tuple[FrameGeometry, int]]:
    """Geometry, in samples at the codec's own rate, and dimensions of its convolutional layers.

    What stands between the layers differs, and so does how it pads: it is run. Which samples a
    frame sees does not depend on the number of channels: one is enough, with weights above zero, so
    that nothing cancels. What a recurrent layer remembers has no bound, like what attention adds:
    it is given nothing to remember.
    """
    hooks = {hook.module: hook for hook in layer_hooks if hook.part == "cnn"}
    owner = codec_front(encoder)
    with torch.random.fork_rng(devices=[]):
        # Anew on the CPU: it computes its padding from tensors, which the meta device has not.
        part = type(encoder.get_submodule(owner))(config).eval()
    names = [name for name, _ in codec_parts(part)]
    dims = {name: _dimensions(module) for name, module in codec_parts(part)}
    _narrow(part)
    modules = dict(codec_parts(part))
    geometry, found, between = FrameGeometry(), {}, []
    for name in names:
        between.append(modules[name])
        if hook := hooks.get(f"{owner}.{name}".lstrip(".")):
            geometry = geometry.followed_by(measured(partial(_run, between), STEPS, ANYTHING))
            found[hook.name] = geometry, dims[name]
            between = []
    return found


def _run(modules: Sequence[nn.Module], waveform: Waveform) -> NDArray[np.float64]:
    """(n,) -> (T, 1) through modules with one channel, one after the other."""
    hidden = torch.from_numpy(waveform).double()[None, None]
    with torch.no_grad():
        for module in modules:
            hidden = module(hidden)
    return hidden[0].T.numpy()


def _dimensions(module: nn.Module) -> int:
    """Channels that come out of a module's last convolution; 0 without any."""
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv1d)]
    return convolutions[-1].out_channels if convolutions else 0


def _narrow(module: nn.Module) -> None:
    """Give each convolution one channel, and leave out all else that has weights."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv1d):
            narrow = nn.Conv1d(
                1,
                1,
                child.kernel_size,  # type: ignore[arg-type]
                child.stride,  # type: ignore[arg-type]
                child.padding,  # type: ignore[arg-type]
                child.dilation,  # type: ignore[arg-type]
                bias=False,
                dtype=torch.float64,
            )
            narrow.weight.data.fill_(1 / narrow.weight.numel())
            module.register_module(name, narrow)
        elif isinstance(child, nn.LSTM):
            module.register_module(name, _Forgetful())
        elif not list(child.children()) and list(child.parameters()):
            module.register_module(name, nn.Identity())
        else:
            _narrow(child)


@final
class _Forgetful(nn.Module):
    """In the place of an LSTM: zeros, and no state."""

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden), None
