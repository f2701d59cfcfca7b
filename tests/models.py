"""Small random models of every architecture, in folders of the Hub's format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

from common.config import ModelConfig
from common.records import Waveform

SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    # Enough to show: in train mode about half of the blocks would be skipped.
    "layerdrop": 0.5,
}
FAMILY = SIZE | {
    "conv_dim": (8, 8, 12, 12, 16, 16, 16),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
}
LARGE = FAMILY | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "max_source_positions": 100,  # two seconds instead of thirty
}

CONVOLVED = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
MOONSHINE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "encoder_num_hidden_layers": 3,
    "decoder_num_hidden_layers": 1,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


@dataclass(frozen=True)
class Architecture:
    """How to build one, and what is known of it: `safe` to pad, `final_norm` after its blocks."""

    config: Callable[[], Any]
    extractor: Callable[[], Any]
    safe: bool
    final_norm: bool = False


def raw(normalise: bool, mask: bool) -> Callable[[], Any]:
    return lambda: hf.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=mask)


ARCHITECTURES = {
    "wav2vec2_base": Architecture(lambda: hf.Wav2Vec2Config(**FAMILY), raw(True, False), False),
    "wav2vec2_lv60": Architecture(lambda: hf.Wav2Vec2Config(**LARGE), raw(True, True), True, True),
    "xls_r": Architecture(
        lambda: hf.Wav2Vec2Config(**LARGE, feat_proj_dropout=0.1), raw(True, True), True, True
    ),
    "hubert_base": Architecture(lambda: hf.HubertConfig(**FAMILY), raw(True, False), False),
    "hubert_large": Architecture(lambda: hf.HubertConfig(**LARGE), raw(True, True), True, True),
    "wavlm_base": Architecture(lambda: hf.WavLMConfig(**FAMILY), raw(False, False), False),
    "wavlm_large": Architecture(lambda: hf.WavLMConfig(**LARGE), raw(True, True), True, True),
    "data2vec": Architecture(
        lambda: hf.Data2VecAudioConfig(**{**FAMILY, "num_conv_pos_embeddings": 5}),
        raw(True, True),
        False,
    ),
    "unispeech_sat": Architecture(
        lambda: hf.UniSpeechSatConfig(**FAMILY), raw(False, False), False
    ),
    "wav2vec2_bert": Architecture(
        lambda: hf.Wav2Vec2BertConfig(**SIZE, feature_projection_input_dim=160),
        lambda: hf.SeamlessM4TFeatureExtractor(padding_value=1),
        True,
    ),
    "whisper": Architecture(
        lambda: hf.WhisperConfig(**WHISPER),
        lambda: hf.WhisperFeatureExtractor(chunk_length=2),
        True,
        True,
    ),
    # Not among conf/model, but found by structure all the same.
    "voxtral": Architecture(
        lambda: hf.VoxtralEncoderConfig(**CONVOLVED, num_mel_bins=80, max_source_positions=100),
        lambda: hf.WhisperFeatureExtractor(chunk_length=2),
        True,
        True,
    ),
    "moonshine": Architecture(
        lambda: hf.MoonshineConfig(**MOONSHINE), raw(False, False), False, True
    ),
    "wav2vec2_conformer": Architecture(
        lambda: hf.Wav2Vec2ConformerConfig(**FAMILY), raw(True, False), False, True
    ),
    "sew": Architecture(
        lambda: hf.SEWConfig(
            **{k: v for k, v in FAMILY.items() if not k.startswith("conv_")},
            conv_dim=(8,) * 4,
            conv_kernel=(10, 3, 3, 2),
            conv_stride=(5, 4, 4, 2),
        ),
        raw(True, False),
        False,
    ),
}


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a model with weights drawn from `seed`, and its feature extractor."""
    architecture = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = hf.AutoModel.from_config(architecture.config())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # So that no norm is the identity and no bias is zero.
                    parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    architecture.extractor().save_pretrained(folder)
    return folder


def save_description(name: str, folder: Path) -> Path:
    """Save all of a model but its weights."""
    architecture = ARCHITECTURES[name]
    architecture.config().save_pretrained(folder)
    architecture.extractor().save_pretrained(folder)
    return folder


def configured(folder: Path, **keys: Any) -> ModelConfig:
    """The model's configuration, as `conf/model/hf.yaml` would give it."""
    return ModelConfig(name="small", checkpoint=str(folder), **keys)


def noise(n_samples: int, seed: int = 0) -> Waveform:
    """(n,) float32 noise at the level of speech."""
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


def save_all(root: Path) -> dict[str, Path]:
    """A folder below `root` for each of `ARCHITECTURES`."""
    return {name: save(name, root / name) for name in ARCHITECTURES}


@contextmanager
def one_thread() -> Iterator[None]:
    """Several threads on models this small spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
