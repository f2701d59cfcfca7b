"""An encoder with a linear map to characters that is no CTC model of transformers."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from common.config import FinetuneConfig, ModelConfig
from common.config.finetune import DROPOUTS
from common.encoder.architecture import Blueprint, encoder_of, is_codec, new_model
from common.encoder.clicks import click
from common.encoder.hooks import asks_for_padding, packs
from common.encoder.loading import pretrained, random
from common.records import SAMPLE_RATE, StrataError

log = logging.getLogger(__name__)

HEAD = "head.safetensors"  # beside the encoder's own files
OTHER_NAMES = {"layerdrop": "encoder_layerdrop", "hidden_dropout": "dropout"}  # Whisper's
MASKS = ("mask_time_prob", "mask_time_length", "mask_feature_prob", "mask_feature_length")
WEIGHTED = """

The map reads a weighted sum of all transformer layers: the softmax of `layer_weights` (layers,)
weighs the input of the first block and the output of each block."""
LAST_HIDDEN = "hidden = encoder(**inputs).last_hidden_state"
WEIGHTED_HIDDEN = """layers = encoder(**inputs, output_hidden_states=True).hidden_states
    weights = head["layer_weights"].softmax(0)
    hidden = torch.einsum("l,lbtd->btd", weights, torch.stack(layers))"""
README = """A speech recogniser: the encoder of a {architecture}, a linear map to characters, CTC.

transformers has no class for it, and no pipeline. `config.json` and `model.safetensors` are the
encoder in the Hub's format; where the architecture has a decoder, its weights are not here.
`head.safetensors` holds `weight` (characters, dimensions) and `bias` (characters,), in the order of
`vocab.json`; `<pad>` is CTC's blank.{weighted}

    import torch
    from safetensors.torch import load_file
    from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer
    {encoder}
    inputs = AutoFeatureExtractor.from_pretrained(FOLDER)(
        waveform, sampling_rate=16000, return_tensors="pt"
    )
    head = load_file(FOLDER + "/head.safetensors")
    {hidden}
    logits = hidden @ head["weight"].T + head["bias"]
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    text = tokenizer.batch_decode(logits.argmax(-1), skip_special_tokens=True)
"""


@dataclass(frozen=True)
class Survey:
    """What is known of an encoder for a linear head before its weights are read.

    `config`: with the recipe's dropouts and masks as far as it has them; `unused`: keys of the
    recipe that do not apply to it; `prefix` of the encoder's weights in the whole model; `dim` of
    its last hidden state.
    """

    config: Any
    unused: tuple[str, ...]
    prefix: str
    dim: int


def survey(recipe: FinetuneConfig, blueprint: Blueprint) -> Survey:
    """Build the encoder on the meta device; an error where a linear map cannot be put on it."""
    config, unused = _configured(recipe, blueprint.class_config)
    asked, kind = blueprint.checkpoint.asked, config.model_type
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = new_model(blueprint.kind, config)
    encoder = (model if blueprint.tower else encoder_of(model)).eval()
    if is_codec(model) or packs(encoder) or asks_for_padding(encoder):
        lengths = "needs the lengths of its inputs, which the map does not give it"
        reason = (
            "is a codec, whose frames are made for its quantizer" if is_codec(model) else lengths
        )
        raise StrataError(f"{_refused(asked, kind)}, and it {reason}")
    if not any(name.endswith("masked_spec_embed") for name, _ in encoder.named_parameters()):
        unused += [key for key in MASKS if key.endswith("_prob") and getattr(recipe, key)]
    try:
        inputs = blueprint.feature_extractor([click(SAMPLE_RATE, SAMPLE_RATE // 2)])
        with torch.inference_mode():
            hidden = encoder(**{key: x.to("meta") for key, x in inputs.items()}).last_hidden_state
        _, n_frames, dim = hidden.shape
    except Exception as error:
        # Whatever a foreign architecture trips over, the user needs to know which one it was.
        raise StrataError(f"{_refused(asked, kind)}, nor a last hidden state ({error})") from error
    expected = blueprint.description.layers[-1].geometry.n_frames(
        blueprint.feature_extractor.max_samples or SAMPLE_RATE
    )
    if n_frames != expected:
        raise StrataError(
            f"{_refused(asked, kind)}, and its last hidden state has {n_frames} frames where its "
            f"last layer has {expected}: times of characters would not be known"
        )
    prefix = next(f"{name}." if name else "" for name, m in model.named_modules() if m is encoder)
    return Survey(config, tuple(unused), prefix, dim)


def _refused(asked: str, kind: str) -> str:
    return (
        f"{asked}: cannot be fine-tuned for recognition. transformers has no CTC model for a {kind}"
    )


def _configured(recipe: FinetuneConfig, given: Any) -> tuple[Any, list[str]]:
    """A copy with the recipe's values of the keys that it has; keys of other values it lacks."""
    config = type(given).from_dict(given.to_dict())
    known = config.to_dict()
    values = {f"{part}_dropout": getattr(recipe, f"{part}_dropout") for part in DROPOUTS}
    del values["final_dropout"]  # the head's own
    values["layerdrop"] = recipe.layerdrop
    named = {key: key if key in known else OTHER_NAMES.get(key, key) for key in values}
    dropouts = {named[key]: value for key, value in values.items() if named[key] in known}
    masks = {key: getattr(recipe, key) for key in MASKS if key in known}
    if "apply_spec_augment" in known:
        masks["apply_spec_augment"] = True
    config.update(dropouts | masks)
    return config, [key for key, value in values.items() if value and named[key] not in known]


@final
class LinearHead(nn.Module):
    """The encoder's last hidden state, dropped out and mapped to `n_tokens` logits.

    `weighted`: a sum of its transformer layers instead, T0 with them, by learnt weights.
    Has the methods of transformers' CTC models that are used here.
    """

    base_model_prefix = "encoder"

    def __init__(
        self,
        encoder: Any,
        known: Survey,
        blueprint: Blueprint,
        n_tokens: int,
        dropout: float,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.lm_head = nn.Linear(known.dim, n_tokens)
        n_layers = sum(hook.part == "transformer" for hook in blueprint.layer_hooks)
        self.layer_weights = nn.Parameter(torch.zeros(n_layers)) if weighted else None
        self.config = known.config
        self._prefix = known.prefix
        self._geometry = blueprint.description.layers[-1].geometry
        self._convolutions = [
            hook.convolution for hook in blueprint.layer_hooks if hook.part == "cnn"
        ]
        self._fixed = blueprint.feature_extractor.max_samples is not None

    @property
    def base_model(self) -> Any:
        """The encoder."""
        return self.encoder

    def forward(
        self, inputs: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> CausalLMOutput:
        """Logits (B, T, V), T frames of all that the encoder was given."""
        masked = {} if attention_mask is None else {"attention_mask": attention_mask}
        if self.layer_weights is None:
            hidden = self.encoder(inputs, **masked).last_hidden_state
        else:
            layers = self.encoder(inputs, **masked, output_hidden_states=True).hidden_states
            hidden = torch.einsum("l,lbtd->btd", self.layer_weights.softmax(0), torch.stack(layers))
        return CausalLMOutput(logits=self.lm_head(self.dropout(hidden)))

    def drop_layers(self, depth: int) -> None:
        """Weigh T0 and the first `depth` blocks alone."""
        if self.layer_weights is not None:
            self.layer_weights = nn.Parameter(self.layer_weights.detach()[: depth + 1])

    def freeze_feature_encoder(self) -> None:
        """Never train the convolutions."""
        for name in self._convolutions:
            self.encoder.get_submodule(name).requires_grad_(False)

    def gradient_checkpointing_enable(self, options: Mapping[str, object]) -> None:
        """Compute the blocks' activations again in the backward pass."""
        self.encoder.gradient_checkpointing_enable(options)

    def _init_weights(self, module: nn.Module) -> None:
        self.encoder._init_weights(module)

    def save_pretrained(self, folder: Path, state_dict: Mapping[str, torch.Tensor]) -> None:
        """The encoder in the Hub's format, the head and how to read them."""
        folder.mkdir(parents=True)
        self.config.save_pretrained(folder)
        parts: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "lm_head": {}}
        for name, tensor in state_dict.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = tensor
            else:
                parts["lm_head"][part] = tensor  # the layers' weights
        encoder = {self._prefix + name: tensor for name, tensor in parts["encoder"].items()}
        save_file(encoder, folder / "model.safetensors", {"format": "pt"})
        save_file(parts["lm_head"], folder / HEAD, {"format": "pt"})
        (folder / "README.md").write_text(self._read_me(), encoding="utf-8")

    def _reader(self) -> str:
        """Code that reads the encoder alone, without asking for a decoder's weights."""
        if not self._prefix:
            return "encoder = AutoModel.from_pretrained(FOLDER).eval()"
        kind, renamed = type(self.encoder), {"^" + re.escape(self._prefix): ""}
        return (
            f"from {kind.__module__} import {kind.__name__}\n\n"
            f"    renamed = {renamed}\n"
            f"    encoder = {kind.__name__}.from_pretrained(FOLDER, key_mapping=renamed).eval()"
        )

    def _read_me(self) -> str:
        """How to read such a folder, frames of padding cropped."""
        geometry = self._geometry
        least = geometry.offset + geometry.receptive_field - geometry.overhang
        frames = f"(len(waveform) - {least}) // {geometry.hop} + 1"
        crop = f"[:, : {frames}]  # the rest is padding" if self._fixed else ""
        weighted = self.layer_weights is not None
        return README.format(
            architecture=self.config.model_type,
            encoder=self._reader(),
            weighted=WEIGHTED if weighted else "",
            hidden=(WEIGHTED_HIDDEN if weighted else LAST_HIDDEN) + crop,
        )


def load_linear(
    recipe: FinetuneConfig,
    n_tokens: int,
    model: ModelConfig,
    blueprint: Blueprint,
    fresh_head: bool,
) -> LinearHead:
    """The encoder's weights, and those of the head unless it is to be drawn."""
    known = survey(recipe, blueprint)
    configured = replace(blueprint, class_config=known.config)
    encoder = random(configured, model.init_seed) if model.random_init else pretrained(configured)
    head = {} if fresh_head else load_file(blueprint.checkpoint.file((HEAD,)))
    weights = head.pop("layer_weights", None)
    weighted = recipe.weighted_sum if fresh_head else weights is not None
    loaded = LinearHead(encoder, known, blueprint, n_tokens, recipe.final_dropout, weighted)
    if head:
        loaded.lm_head.load_state_dict(head)
    if loaded.layer_weights is not None and weights is not None:
        loaded.layer_weights.data.copy_(weights)
    return loaded


def log_unused(recipe: FinetuneConfig, keys: Sequence[str], blueprint: Blueprint) -> None:
    """Log the keys of a recipe that have no effect on this architecture."""
    given = ", ".join(f"finetune.{key}={getattr(recipe, key)}" for key in keys)
    log.warning(
        "a linear head reads %s of the %s, which is no CTC model of transformers%s",
        "a sum of the layers" if recipe.weighted_sum else "the last hidden state",
        blueprint.config.model_type,
        f". {given} do not apply to it" if keys else "",
    )
    fixed = blueprint.feature_extractor.max_samples
    if fixed is not None:
        log.warning(
            "its input is always %.0f s long: the padding of shorter utterances costs time and "
            "memory and is not counted in finetune.batch_seconds=%s",
            fixed / SAMPLE_RATE,
            recipe.batch_seconds,
        )
