"""What layers a speech encoder has: measured on its structure, before any weights are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from common.config import ModelConfig
from common.encoder.checkpoint import Checkpoint, locate
from common.encoder.feature_extractor import FeatureExtractor, read_feature_extractor
from common.encoder.frames import FrameGeometry
from common.encoder.hooks import LayerHook, Part, find_hooks, hooked, norm_hooks
from common.records import SAMPLE_RATE, StrataError

Shapes = Mapping[str, torch.Size]

# How configurations call the number of the encoder's blocks: Moonshine, Whisper, all others.
DEPTH = ("encoder_num_hidden_layers", "encoder_layers", "num_hidden_layers")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's name (C1, T0, …), its place, its dimensions and the samples its frames see."""

    name: str
    part: Part
    index: int
    dim: int
    geometry: FrameGeometry


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is known of a model before its weights are read.

    `hears_spectrum`: its input is the frames of a mel spectrum, not samples. `n_parameters` counts
    the encoder alone, without heads or decoder. Audio must have at least `min_samples` and at most
    `max_samples` (None: any number) samples.
    """

    architecture: str
    layers: tuple[Layer, ...]
    n_parameters: int
    min_samples: int
    max_samples: int | None
    hears_spectrum: bool


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model without weights: its description and all that loading and tapping it needs."""

    checkpoint: Checkpoint
    config: Any = field(repr=False)
    feature_extractor: FeatureExtractor
    layer_hooks: tuple[LayerHook, ...]
    description: ModelDescription


def describe(config: ModelConfig) -> ModelDescription:
    """Layers and size of a model, from its two small JSON files."""
    return draw(config).description


def draw(config: ModelConfig, depth: int | None = None) -> Blueprint:
    """Build a model on the meta device, send a second through it and see what comes out where.

    `depth`: with so many of its blocks, the first ones, instead of all.
    """
    checkpoint = locate(config)
    model_config = _read_config(checkpoint)
    if depth is not None:
        set_depth(model_config, depth)
    feature_extractor = read_feature_extractor(checkpoint)
    try:
        # Constructors draw numbers even for the meta device.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = AutoModel.from_config(model_config, dtype=torch.float32)
        encoder = encoder_of(model).eval()
        if encoder.main_input_name not in ("input_values", "input_features"):
            raise StrataError(f"its input is {encoder.main_input_name}")
        layer_hooks = find_hooks(encoder)
        shapes, order = _trace(encoder, layer_hooks, feature_extractor)
    except Exception as error:
        # Whatever a foreign architecture trips over, the user needs to know which one it was.
        raise StrataError(
            f"{checkpoint.asked}: `{model_config.model_type}` is no speech encoder whose layers "
            f"Strata can find ({error}). It takes models of the wav2vec 2.0 family, w2v-BERT and "
            f"Whisper."
        ) from error
    layers = _measure(encoder, layer_hooks, shapes, feature_extractor, checkpoint)
    if config.final_norm:
        layer_hooks = (
            *layer_hooks[:-1],
            _after_final_norm(encoder, layer_hooks[-1], order, checkpoint),
        )
    description = ModelDescription(
        architecture=model_config.model_type,
        layers=layers,
        n_parameters=sum(p.numel() for p in encoder.parameters()),
        min_samples=max(layer.geometry.min_samples for layer in layers),
        max_samples=feature_extractor.max_samples,
        hears_spectrum=feature_extractor.geometry != FrameGeometry(),
    )
    return Blueprint(checkpoint, model_config, feature_extractor, layer_hooks, description)


def set_depth(config: Any, depth: int) -> None:
    """Let a model's configuration say that its encoder has so many blocks."""
    known = config.to_dict()
    config.update({next(key for key in DEPTH if key in known): depth})


def encoder_of(model: Any) -> Any:
    """The part that hears: the whole model, or the encoder of an encoder-decoder."""
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _read_config(checkpoint: Checkpoint) -> Any:
    """The model's configuration. Code that came with a checkpoint is never run."""
    try:
        return AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError or its validators' own classes here.
        raise StrataError(
            f"{checkpoint.asked}: its config.json describes no model that the installed "
            f"transformers knows ({type(error).__name__}: {error}). Strata never runs code that "
            f"comes with a checkpoint: upgrade transformers or use another checkpoint."
        ) from error


def _trace(
    encoder: nn.Module, layer_hooks: Sequence[LayerHook], feature_extractor: FeatureExtractor
) -> tuple[dict[str, torch.Size], list[str]]:
    """Shape of each layer for a second of audio, and the modules in the order they were called."""
    inputs = feature_extractor([np.zeros(SAMPLE_RATE, np.float32)])
    shapes: dict[str, torch.Size] = {}
    order: list[str] = []

    def note(hook: LayerHook, hidden: torch.Tensor) -> None:
        shapes[hook.name] = hidden.shape

    def call(hook: LayerHook, _: torch.Tensor) -> None:
        order.append(hook.module)

    with (
        torch.inference_mode(),
        hooked(encoder, [*norm_hooks(encoder, layer_hooks[-1]), layer_hooks[-1]], call),
        hooked(encoder, layer_hooks, note),
    ):
        encoder(**{key: x.to("meta") for key, x in inputs.items()})
    return shapes, order


def _measure(
    encoder: nn.Module,
    layer_hooks: Sequence[LayerHook],
    shapes: Shapes,
    feature_extractor: FeatureExtractor,
    checkpoint: Checkpoint,
) -> tuple[Layer, ...]:
    """Layers with the geometry that the convolutions on the way to them make."""
    geometry = feature_extractor.geometry
    layers = []
    for hook in layer_hooks:
        _, n_frames, dim = shapes[hook.name]
        if hook.part == "cnn":
            geometry = _convolved(geometry, encoder.get_submodule(hook.convolution))
        elif hook.index == 0:
            geometry = _pooled(geometry, n_frames)
        layers.append(Layer(hook.name, hook.part, hook.index, dim, geometry))
        expected = geometry.n_frames(feature_extractor.max_samples or SAMPLE_RATE)
        if n_frames != expected:
            raise StrataError(
                f"{checkpoint.asked}: layer {hook.name} has {n_frames} frames a second where its "
                f"convolutions should give {expected}. Strata cannot align such a model."
            )
    return tuple(layers)


def _convolved(geometry: FrameGeometry, module: nn.Module) -> FrameGeometry:
    """Geometry after a layer that holds one convolution."""
    convolution = next(m for m in module.modules() if isinstance(m, nn.Conv1d))
    (kernel,), (stride,) = convolution.kernel_size, convolution.stride
    (padding,) = (p for p in convolution.padding if isinstance(p, int))
    return geometry.then(kernel, stride, padding)


def _pooled(geometry: FrameGeometry, n_frames: int) -> FrameGeometry:
    """Geometry after the pooling by a whole number with which some models (SEW) enter blocks."""
    ratio = geometry.n_frames(SAMPLE_RATE) // max(n_frames, 1)
    return geometry.then(ratio, ratio) if ratio > 1 else geometry


def _after_final_norm(
    encoder: nn.Module, last: LayerHook, order: Sequence[str], checkpoint: Checkpoint
) -> LayerHook:
    """The last layer's hook, moved behind the layer norm that is computed after the blocks."""
    after = order[order.index(last.module) + 1 :]
    for hook in norm_hooks(encoder, last):
        if hook.module in after:
            return replace(last, module=hook.module)
    raise StrataError(
        f"{checkpoint.asked}: model.final_norm=true, but this model has no layer norm after its "
        f"last block ({last.name}): its blocks end with their own. Use model.final_norm=false."
    )
