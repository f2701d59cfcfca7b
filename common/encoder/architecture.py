"""What layers a speech encoder has: measured on its structure, before any weights are read."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    SpeechT5Config,
    SpeechT5ForSpeechToText,
)

from common.config import ModelConfig
from common.encoder.checkpoint import CONFIG, PREPROCESSOR, Checkpoint, locate
from common.encoder.clicks import click
from common.encoder.feature_extractor import FeatureExtractor, read_feature_extractor
from common.encoder.frames import FrameGeometry
from common.encoder.fronts import codec_geometries, front_geometry, weighted_front
from common.encoder.hooks import (
    LayerHook,
    Part,
    asks_for_padding,
    entering,
    find_hooks,
    hooked,
    norm_hooks,
    packs,
    run_encoder,
)
from common.records import SAMPLE_RATE, StrataError

Shapes = Mapping[str, torch.Size]
AUDIO = ("audio", ("audio",))  # transformers' modalities of a model that takes audio alone

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

    `takes_spectrum`: its input is the frames of a mel spectrum, not samples. `n_parameters` counts
    the encoder alone, without heads or decoder. Audio must have at least `min_samples` and at most
    `max_samples` (None: any number) samples.
    """

    architecture: str
    layers: tuple[Layer, ...]
    n_parameters: int
    min_samples: int
    max_samples: int | None
    takes_spectrum: bool


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model without weights: its description and all that loading it and reading its layers need.

    `config` describes the whole model. `kind`, one of transformers' classes, and `class_config`
    make what is loaded: the whole model, or its audio tower alone where that is the part `tower` of
    it.
    """

    checkpoint: Checkpoint
    config: Any = field(repr=False)
    kind: Any = field(repr=False)
    class_config: Any = field(repr=False)
    tower: str
    feature_extractor: FeatureExtractor
    layer_hooks: tuple[LayerHook, ...]
    description: ModelDescription


def describe(config: ModelConfig) -> ModelDescription:
    """Layers and size of a model, from its two small JSON files."""
    return read_blueprint(config).description


def read_blueprint(config: ModelConfig, depth: int | None = None) -> Blueprint:
    """Build a model on the meta device and trace a second of audio through it.

    `depth`: with the first `depth` of its blocks instead of all. A run asks several times,
    and the model is traced once; `config` and `class_config` are the caller's to change.
    """
    checkpoint = locate(config)
    files = (checkpoint.folder / name for name in (*CONFIG, *PREPROCESSOR))
    contents = tuple(path.read_bytes() for path in files if path.is_file())
    traced = _traced(checkpoint, contents, config.normalise, config.final_norm, depth)
    model_config, class_config = deepcopy((traced.config, traced.class_config))
    return replace(traced, config=model_config, class_config=class_config)


@lru_cache(maxsize=4)
def _traced(
    checkpoint: Checkpoint,
    contents: tuple[bytes, ...],  # noqa: ARG001  # files that change are read again
    normalise: bool | None,
    final_norm: bool,
    depth: int | None,
) -> Blueprint:
    model_config = _read_config(checkpoint)
    if depth is not None:
        set_depth(model_config, depth)
    feature_extractor = read_feature_extractor(checkpoint, normalise)
    try:
        kind, class_config = _class_of(model_config)
        # Constructors draw numbers even for the meta device.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = new_model(kind, class_config)
        tower, encoder = _tower(model)
        if tower:
            kind, class_config = type(encoder), encoder.config
        encoder.eval()
        if packs(encoder):
            feature_extractor = replace(feature_extractor, max_samples=None, cut=True)
        if asks_for_padding(encoder):
            feature_extractor = replace(feature_extractor, needs_mask=True)
        layer_hooks = find_hooks(encoder, is_codec(model))
        if is_codec(model):
            layers = _of_codec(encoder, class_config, layer_hooks, feature_extractor)
        else:
            shapes = _trace(encoder, layer_hooks, feature_extractor)
            layers = _measure(encoder, layer_hooks, shapes, feature_extractor)
    except Exception as error:
        # Whatever a foreign architecture trips over, the user needs to know which one it was.
        raise StrataError(
            f"{checkpoint.asked}: `{model_config.model_type}` is no speech encoder whose layers "
            f"Strata can find ({error}). docs/models.md says which it takes, and why not others."
        ) from error
    if final_norm:
        layer_hooks = (
            *layer_hooks[:-1],
            _after_final_norm(encoder, layer_hooks[-1], feature_extractor, checkpoint),
        )
    description = ModelDescription(
        architecture=model_config.model_type,
        layers=layers,
        n_parameters=sum(p.numel() for p in encoder.parameters()),
        min_samples=max(
            feature_extractor.min_samples, *(layer.geometry.min_samples for layer in layers)
        ),
        max_samples=feature_extractor.max_samples,
        takes_spectrum=feature_extractor.spectrum,
    )
    return Blueprint(
        checkpoint,
        model_config,
        kind,
        class_config,
        tower,
        feature_extractor,
        layer_hooks,
        description,
    )


def new_model(kind: Any, config: Any) -> Any:
    """A model of one of transformers' classes with the weights that it begins with, in float32."""
    if kind is AutoModel:
        return AutoModel.from_config(config, dtype=torch.float32)
    return kind(config)


def set_depth(config: Any, depth: int) -> None:
    """Set the number of the encoder's blocks in a model's configuration."""
    known = config.to_dict()
    key = next((key for key in DEPTH if key in known), None)
    if key is None:
        raise StrataError(f"the configuration of a {config.model_type} has none of {DEPTH}")
    config.update({key: depth})


def encoder_of(model: Any) -> Any:
    """The audio encoder: the whole model, or the encoder of an encoder-decoder or of a codec."""
    if is_codec(model):
        return model.encoder
    return model.get_encoder() if model.config.is_encoder_decoder else model


def is_codec(model: Any) -> bool:
    """Whether a model is there to turn audio into codes and back: EnCodec, Mimi, DAC."""
    return {"encoder", "quantizer", "decoder"} <= {name for name, _ in model.named_children()}


def _class_of(config: Any) -> tuple[Any, Any]:
    """The class for a model in transformers, and the configuration from which that is made."""
    if isinstance(config, SpeechT5Config):  # whose bare model has no part that takes audio
        return SpeechT5ForSpeechToText, config
    if type(config) in AutoModel._model_mapping:
        return AutoModel, config
    # Qwen2.5-Omni is several models, of which the thinker encodes audio.
    parts = [getattr(config, name) for name in config.sub_configs]
    return AutoModel, next((c for c in parts if type(c) in AutoModel._model_mapping), config)


def _tower(model: Any) -> tuple[str, Any]:
    """The audio tower, and its name where it is a part of a larger model."""
    encoder = encoder_of(model)
    if is_codec(model) or encoder.main_input_name in ("input_values", "input_features"):
        return "", encoder
    for name, module in model.named_modules():
        encodes_audio = isinstance(module, PreTrainedModel) and module.input_modalities in AUDIO
        if name and encodes_audio:
            return name, module
    raise StrataError(f"its input is {encoder.main_input_name}")


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
) -> Shapes:
    """Shape of each layer for a second of audio. Blocks are not run: they keep what enters them."""
    inputs = feature_extractor([click(SAMPLE_RATE, SAMPLE_RATE // 2)])
    shapes: dict[str, torch.Size] = {}

    def note(hook: LayerHook, hidden: torch.Tensor) -> None:
        shapes[hook.name] = hidden.shape

    *convolutions, entrance = (h for h in layer_hooks if h.part == "cnn" or h.index == 0)
    if packs(encoder) or asks_for_padding(encoder):  # which reads lengths: none on the meta device
        encoder = weighted_front(encoder, entrance)
    else:
        inputs = {key: x.to("meta") for key, x in inputs.items()}
    with hooked(encoder, convolutions, note):
        entered = entering(encoder, entrance, inputs).shape
    return {hook.name: shapes.get(hook.name, entered) for hook in layer_hooks}


def _order(
    encoder: nn.Module,
    norms: Sequence[LayerHook],
    last: LayerHook,
    feature_extractor: FeatureExtractor,
) -> list[str]:
    """The last block and the layer norms beside the blocks, in the order of their calls."""
    inputs = feature_extractor([click(SAMPLE_RATE, SAMPLE_RATE // 2)])
    order: list[str] = []

    def call(hook: LayerHook, _: torch.Tensor) -> None:
        order.append(hook.module)

    with torch.inference_mode(), hooked(encoder, [*norms, last], call):
        run_encoder(encoder, {key: x.to("meta") for key, x in inputs.items()})
    return order


def _measure(
    encoder: nn.Module,
    layer_hooks: Sequence[LayerHook],
    shapes: Shapes,
    feature_extractor: FeatureExtractor,
) -> tuple[Layer, ...]:
    """Layers with the geometry that the convolutions on the way to them make."""
    geometry = feature_extractor.geometry
    n_samples = feature_extractor.max_samples or SAMPLE_RATE
    layers: list[Layer] = []
    for hook in layer_hooks:
        if len(shapes[hook.name]) != 3:
            raise StrataError(
                f"layer {hook.name} of a second of audio is {tuple(shapes[hook.name])}, not "
                "utterances, frames and numbers: an encoder that takes audio in pieces and lays "
                "their frames end to end has none at regular times"
            )
        _, n_frames, dim = shapes[hook.name]
        if hook.part == "cnn":
            geometry = _convolved(geometry, encoder.get_submodule(hook.convolution))
        elif hook.index == 0 and n_frames != geometry.n_frames(n_samples):
            if layers:
                geometry = _pooled(geometry, n_frames)
            else:
                front = front_geometry(encoder, hook, feature_extractor.loud)
                geometry = geometry.followed_by(front)
        layers.append(Layer(hook.name, hook.part, hook.index, dim, geometry))
        expected = geometry.n_frames(n_samples)
        if n_frames != expected:
            raise StrataError(
                f"layer {hook.name} has {n_frames} frames for {n_samples} samples where its "
                f"convolutions should give {expected}: it cannot be aligned"
            )
    return tuple(layers)


def _of_codec(
    encoder: nn.Module,
    config: Any,
    layer_hooks: Sequence[LayerHook],
    feature_extractor: FeatureExtractor,
) -> tuple[Layer, ...]:
    """Layers of a codec; its blocks, where it has them, keep the frames of its last convolution."""
    if isinstance(encoder, PreTrainedModel):
        config = encoder.config
    found = codec_geometries(encoder, layer_hooks, config)
    layers: list[Layer] = []
    for hook in layer_hooks:
        if hook.part == "cnn":
            geometry, dim = found[hook.name]
            geometry = geometry.at_rate(feature_extractor.rate)
        layers.append(Layer(hook.name, hook.part, hook.index, dim, geometry))
    return tuple(layers)


def _convolved(geometry: FrameGeometry, module: nn.Module) -> FrameGeometry:
    """Geometry after a layer that holds one convolution, whose last dimension is time."""
    convolution = next(m for m in module.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d)))
    *_, kernel = convolution.kernel_size
    *_, stride = convolution.stride
    *_, padding = (p for p in convolution.padding if isinstance(p, int))
    return geometry.then(kernel, stride, padding)


def _pooled(geometry: FrameGeometry, n_frames: int) -> FrameGeometry:
    """Geometry after the pooling by a whole number with which some models (SEW) enter blocks."""
    ratio = geometry.n_frames(SAMPLE_RATE) // max(n_frames, 1)
    return geometry.then(ratio, ratio) if ratio > 1 else geometry


def _after_final_norm(
    encoder: nn.Module,
    last: LayerHook,
    feature_extractor: FeatureExtractor,
    checkpoint: Checkpoint,
) -> LayerHook:
    """The last layer's hook, moved behind the layer norm that is computed after the blocks."""
    norms = norm_hooks(encoder, last)
    order = _order(encoder, norms, last, feature_extractor) if norms else []
    for hook in norms:
        if hook.module in order[order.index(last.module) + 1 :]:
            return replace(last, module=hook.module)
    raise StrataError(
        f"{checkpoint.asked}: model.final_norm=true, but this model has no layer norm after its "
        f"last block ({last.name}): its blocks end with their own. Use model.final_norm=false."
    )
