"""A pretrained encoder with a head for characters: known from its description, then loaded."""

import logging
from copy import copy
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CTC_MAPPING, AutoModelForCTC

from common.config import FinetuneConfig, ModelConfig
from common.config.finetune import DROPOUTS
from common.encoder.architecture import Blueprint
from common.encoder.convolutions import keep_exact
from common.encoder.loading import load_checkpoint, random
from common.records import StrataError
from finetune.ctc.adapters import check_adapters
from finetune.ctc.linear_head import HEAD, load_linear, log_unused, survey
from finetune.ctc.text import Vocabulary

log = logging.getLogger(__name__)


def check_recipe(recipe: FinetuneConfig, blueprint: Blueprint) -> tuple[str, ...]:
    """Refuse, before any weights are read, what this model cannot do.

    Returns keys of the recipe that do not apply to it, which the log names.
    """
    config, asked = blueprint.config, blueprint.checkpoint.asked
    check_adapters(recipe.adapters, blueprint)
    if recipe.weighted_sum or not has_ctc_model(config):
        unused = survey(recipe, blueprint).unused
        log_unused(recipe, unused, blueprint)
        if recipe.characters == "checkpoint":
            _check_head(blueprint)
    else:
        unused = ()
    if not has_ctc_model(config):
        return unused
    _check_encoder(blueprint)
    if recipe.mask_feature_prob and recipe.mask_feature_length >= config.hidden_size:
        raise StrataError(
            f"finetune.mask_feature_length={recipe.mask_feature_length}: {asked} has "
            f"{config.hidden_size} channels; use fewer, or finetune.mask_feature_prob=0"
        )
    return unused


def _check_encoder(blueprint: Blueprint) -> None:
    """Refuse CTC models in which transformers does not say what the encoder is: Parakeet, LASR."""
    config = copy(blueprint.config)
    config.vocab_size = 2  # w2v-BERT's says none
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCTC.from_config(config)
    if model.base_model is model:
        raise StrataError(
            f"{blueprint.checkpoint.asked}: cannot be fine-tuned for recognition. In transformers' "
            f"{type(model).__name__} the encoder is not separate from the head; "
            "experiment=evaluate and experiment=transcribe take the model as it is"
        )


def has_ctc_model(config: Any) -> bool:
    """Whether transformers has a CTC model of this architecture."""
    return type(config) in MODEL_FOR_CTC_MAPPING


def has_linear_head(blueprint: Blueprint) -> bool:
    """Whether the checkpoint is an encoder with a linear head beside it."""
    return (blueprint.checkpoint.folder / HEAD).is_file()


def _check_head(blueprint: Blueprint) -> None:
    try:
        blueprint.checkpoint.file((HEAD,))
    except StrataError as error:
        raise StrataError(
            f"finetune.characters=checkpoint: {error}Use finetune.characters=text"
        ) from error


def configured(recipe: FinetuneConfig, blueprint: Blueprint, vocabulary: Vocabulary) -> Any:
    """The model's configuration with the recipe's masks and dropout, and the head's size."""
    config = type(blueprint.config).from_dict(blueprint.config.to_dict())
    special = {"<s>": "bos_token_id", "</s>": "eos_token_id"}
    numbers = {key: n for n, t in enumerate(vocabulary.tokens) if (key := special.get(t))}
    config.update(
        {
            "architectures": None,
            "vocab_size": len(vocabulary.tokens),
            "pad_token_id": vocabulary.blank,
            **numbers,
            "ctc_zero_infinity": True,
            "ctc_loss_reduction": "mean",
            "apply_spec_augment": True,
            "mask_time_prob": recipe.mask_time_prob,
            "mask_time_length": recipe.mask_time_length,
            "mask_feature_prob": recipe.mask_feature_prob,
            "mask_feature_length": recipe.mask_feature_length,
            "layerdrop": recipe.layerdrop,
            **{f"{part}_dropout": getattr(recipe, f"{part}_dropout") for part in DROPOUTS},
        }
    )
    return config


def head_places(blueprint: Blueprint) -> int | None:
    """How many characters the checkpoint's own CTC head has a place for."""
    ctc_model = has_ctc_model(blueprint.config) and not has_linear_head(blueprint)
    return int(blueprint.config.vocab_size) if ctc_model else None


def load(
    recipe: FinetuneConfig,
    vocabulary: Vocabulary,
    model: ModelConfig,
    blueprint: Blueprint,
    fresh_head: bool,
) -> tuple[Any, list[str]]:
    """The model, and the names of a fresh head's tensors, which are 0.

    Transformers would draw them; but with some draws a small encoder's head takes hundreds of
    updates, not twenty, to learn the blank, which comes before the letters.
    """
    loaded: Any
    kept = not fresh_head and has_linear_head(blueprint)
    if kept or recipe.weighted_sum or not has_ctc_model(blueprint.config):
        n_tokens = len(vocabulary.tokens)
        loaded = load_linear(recipe, n_tokens, model, blueprint, fresh_head)
    elif model.random_init:
        loaded = _random(configured(recipe, blueprint, vocabulary), model, blueprint)
    else:
        loaded = load_checkpoint(
            AutoModelForCTC,
            configured(recipe, blueprint, vocabulary),
            blueprint,
            fresh_head,
            ignore_mismatched_sizes=fresh_head,
        )
    if not fresh_head:
        return loaded, []
    fresh = {id(p): nn.init.zeros_(p) for head in heads(loaded) for p in head.parameters()}
    names = [name for name, p in loaded.named_parameters() if id(p) in fresh]
    log.info("a new map to characters, from 0: %s", ", ".join(names))
    return loaded, names


def _random(config: Any, model: ModelConfig, blueprint: Blueprint) -> Any:
    """The encoder as it is drawn for an analysis of it: the head takes none of its numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(model.init_seed)
        loaded = AutoModelForCTC.from_config(config, dtype=torch.float32)
    keep_exact(loaded)
    drawn = random(blueprint, model.init_seed).state_dict()
    # A vector for masked frames is there if the configuration masks any: one may lack it.
    initial = loaded.base_model.state_dict()
    loaded.base_model.load_state_dict({name: drawn.get(name, initial[name]) for name in initial})
    return loaded


def heads(model: Any) -> list[nn.Module]:
    """The head beside the encoder: the linear map to characters."""
    return [m for name, m in model.named_children() if name != model.base_model_prefix]
