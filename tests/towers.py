"""Small random models that do more than hear, and codecs, in folders of the Hub's format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from models import CONVOLVED, FAMILY, WHISPER

TOWER = {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 64,
    "head_dim": 8,
    "vocab_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MEL = {"num_mel_bins": 80, "max_source_positions": 100}  # two seconds instead of thirty
SEQ2SEQ = {key: value for key, value in WHISPER.items() if key != "max_source_positions"}


@dataclass(frozen=True)
class Kind:
    """How to build one, and what is known of it.

    `tower`: the audio tower of the whole model; "" where that is what AutoModel makes.
    `positions`: the table that it adds to T0. `layers`: how many C and T layers it has.
    """

    model: Callable[[], Any]
    extractor: Callable[[], Any]
    layers: tuple[int, int]
    tower: str = ""
    positions: str = ""


def _whisper_like(seconds: int = 2) -> Any:
    return hf.WhisperFeatureExtractor(chunk_length=seconds)


def _seamless() -> Any:
    small = {
        f"{part}_{key}": value
        for part in ("encoder", "decoder", "t2u_encoder", "t2u_decoder")
        for key, value in (("layers", 1), ("ffn_dim", 32), ("attention_heads", 4))
    }
    eights = (
        *("unit_embed_dim", "lang_embed_dim", "spkr_embed_dim", "char_vocab_size"),
        *("variance_predictor_embed_dim", "variance_predictor_hidden_dim"),
        *("unit_hifi_gan_vocab_size", "t2u_vocab_size", "vocab_size"),
    )
    small |= dict.fromkeys(eights, 8)
    return hf.SeamlessM4Tv2Model(
        hf.SeamlessM4Tv2Config(
            hidden_size=32,
            speech_encoder_layers=3,
            speech_encoder_attention_heads=4,
            speech_encoder_intermediate_size=64,
            upsample_initial_channel=32,
            **small,
        )
    )


def _omni() -> Any:
    rotary = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    sight = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}
    return hf.Qwen2_5OmniThinkerForConditionalGeneration(
        hf.Qwen2_5OmniThinkerConfig(
            audio_config=TOWER | {"num_mel_bins": 80, "output_dim": 32},
            text_config=TEXT | {"rope_parameters": rotary},
            vision_config=sight | {"out_hidden_size": 32},
        )
    )


def _codec() -> Any:
    return hf.EncodecFeatureExtractor(feature_size=1, sampling_rate=24_000)


KINDS = {
    "parakeet": Kind(
        lambda: hf.ParakeetForCTC(
            hf.ParakeetCTCConfig(
                vocab_size=8, encoder_config=CONVOLVED | {"subsampling_conv_channels": 64}
            )
        ),
        hf.ParakeetFeatureExtractor,
        (0, 4),
        tower="encoder",
    ),
    "lasr": Kind(
        lambda: hf.LasrForCTC(
            hf.LasrCTCConfig(
                vocab_size=8, encoder_config=CONVOLVED | {"subsampling_conv_channels": 16}
            )
        ),
        lambda: hf.LasrFeatureExtractor(feature_size=128),
        (0, 4),
        tower="encoder",
    ),
    "sew_d": Kind(
        lambda: hf.SEWDModel(
            hf.SEWDConfig(
                **{k: v for k, v in FAMILY.items() if k[:5] != "conv_" and k != "layerdrop"},
                conv_dim=(8,) * 4,
                conv_kernel=(10, 3, 3, 2),
                conv_stride=(5, 4, 4, 2),
                max_position_embeddings=64,
                position_buckets=16,
            )
        ),
        lambda: hf.Wav2Vec2FeatureExtractor(return_attention_mask=False),
        (4, 4),
    ),
    "speecht5": Kind(
        lambda: hf.SpeechT5ForSpeechToText(
            hf.SpeechT5Config(
                hidden_size=32,
                encoder_layers=3,
                encoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_layers=1,
                decoder_attention_heads=4,
                decoder_ffn_dim=64,
                vocab_size=8,
                conv_dim=FAMILY["conv_dim"],
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
            )
        ),
        hf.SpeechT5FeatureExtractor,
        (7, 4),
        tower="speecht5.encoder",
    ),
    "speech_to_text": Kind(
        lambda: hf.Speech2TextForConditionalGeneration(
            hf.Speech2TextConfig(
                **{**SEQ2SEQ, "bos_token_id": 0, "pad_token_id": 1}, conv_channels=24
            )
        ),
        hf.Speech2TextFeatureExtractor,
        (2, 4),
        tower="model.encoder",
        positions="embed_positions.weights",
    ),
    "ast": Kind(
        lambda: hf.ASTForAudioClassification(
            hf.ASTConfig(**CONVOLVED, max_length=204, num_mel_bins=64)
        ),
        lambda: hf.ASTFeatureExtractor(max_length=204, num_mel_bins=64),
        (1, 4),
        tower="audio_spectrogram_transformer",
        positions="embeddings.position_embeddings",
    ),
    "seamless_m4t_v2": Kind(
        _seamless,
        lambda: hf.SeamlessM4TFeatureExtractor(padding_value=1),
        (0, 4),
        tower="speech_encoder",
    ),
    "qwen2_audio": Kind(
        lambda: hf.Qwen2AudioForConditionalGeneration(
            hf.Qwen2AudioConfig(
                audio_config=TOWER | MEL | {"model_type": "qwen2_audio_encoder"},
                text_config=TEXT | {"model_type": "qwen2"},
                audio_token_index=9,
            )
        ),
        _whisper_like,
        (2, 4),
        tower="model.audio_tower",
        positions="embed_positions.weight",
    ),
    "qwen2_5_omni": Kind(
        _omni,
        lambda: _whisper_like(8),
        (0, 4),
        tower="model.audio_tower",
        positions="positional_embedding.positional_embedding",
    ),
    "voxtral": Kind(
        lambda: hf.VoxtralForConditionalGeneration(
            hf.VoxtralConfig(
                audio_config=CONVOLVED | MEL | {"intermediate_size": 128},
                text_config=TEXT | {"model_type": "llama"},
                audio_token_id=9,
            )
        ),
        _whisper_like,
        (2, 4),
        tower="model.audio_tower",
        positions="embed_positions.weight",
    ),
    "audio_flamingo_3": Kind(
        lambda: hf.AudioFlamingo3ForConditionalGeneration(
            hf.AudioFlamingo3Config(
                audio_config=CONVOLVED | MEL,
                text_config=TEXT | {"model_type": "qwen2"},
                audio_token_id=9,
            )
        ),
        _whisper_like,
        (2, 4),
        tower="model.audio_tower",
        positions="embed_positions.weight",
    ),
    "glm_asr": Kind(
        lambda: hf.GlmAsrForConditionalGeneration(
            hf.GlmAsrConfig(
                audio_config=CONVOLVED
                | {"num_mel_bins": 80, "num_key_value_heads": 4, "head_dim": 8}
                | {"intermediate_size": 128, "max_position_embeddings": 100},
                text_config=TEXT | {"model_type": "llama"},
                audio_token_id=9,
            )
        ),
        _whisper_like,
        (2, 4),
        tower="model.audio_tower",
    ),
    "mimi": Kind(
        lambda: hf.MimiModel(
            hf.MimiConfig(
                **CONVOLVED,
                num_key_value_heads=4,
                head_dim=8,
                num_filters=4,
                codebook_dim=8,
                codebook_size=16,
                vector_quantization_hidden_dimension=8,
                upsample_groups=32,
            )
        ),
        _codec,
        (6, 4),
        tower="encoder",
    ),
    "encodec": Kind(
        lambda: hf.EncodecModel(
            hf.EncodecConfig(num_filters=4, hidden_size=16, codebook_size=16, codebook_dim=16)
        ),
        _codec,
        (6, 0),
        tower="encoder",
    ),
    "dac": Kind(
        lambda: hf.DacModel(
            hf.DacConfig(
                encoder_hidden_size=4,
                decoder_hidden_size=32,
                hidden_size=64,
                codebook_size=16,
                codebook_dim=4,
                n_codebooks=2,
                downsampling_ratios=[2, 4, 5, 8],
                upsampling_ratios=[8, 5, 4, 2],
            )
        ),
        lambda: hf.DacFeatureExtractor(sampling_rate=16_000, hop_length=320),
        (6, 0),
        tower="encoder",
    ),
}


def build(name: str, folder: Path, **keys: Any) -> Any:
    """Save a whole model and its feature extractor as on the Hub; returns its audio tower."""
    kind = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.model().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # So that no norm is the identity and no bias is zero.
                    parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder, **keys)
    kind.extractor().save_pretrained(folder)
    return model.get_submodule(kind.tower)
