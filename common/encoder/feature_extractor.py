"""From waveforms to a model's input: the checkpoint's own feature extractor, and its frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from common.encoder.checkpoint import Checkpoint
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, StrataError, Waveform


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """How a feature extractor turns waveforms into the model's input.

    `geometry` is that of the frames it yields (single samples, if it only normalises);
    `max_samples` is the fixed length to which it pads everything, if it does.
    """

    extractor: Any
    geometry: FrameGeometry
    max_samples: int | None = None

    def __call__(self, waveforms: Sequence[Waveform]) -> dict[str, torch.Tensor]:
        """Model inputs of a batch, on the CPU; with a mask only where lengths differ."""
        masked = self.max_samples is None and len({len(w) for w in waveforms}) > 1
        inputs = self.extractor(
            list(waveforms),
            sampling_rate=SAMPLE_RATE,
            padding="longest" if self.max_samples is None else "max_length",
            # w2v-BERT's would else append a mel frame of padding to an odd number of them.
            pad_to_multiple_of=None,
            return_attention_mask=masked,
            return_tensors="pt",
        )
        return {key: x for key, x in inputs.items() if masked or key != "attention_mask"}


def read_feature_extractor(checkpoint: Checkpoint) -> FeatureExtractor:
    """The feature extractor of a checkpoint. Whether it normalises differs: its file decides."""
    try:
        extractor = AutoFeatureExtractor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError, TypeError … for what a file may hold.
        raise StrataError(
            f"{checkpoint.asked}: its preprocessor_config.json describes no feature extractor "
            f"({type(error).__name__}: {error}). Take the file of the model it was trained from."
        ) from error
    geometry, max_samples = _frames_of(extractor, checkpoint)
    if extractor.sampling_rate != SAMPLE_RATE:
        raise StrataError(
            f"{checkpoint.asked}: the model hears {extractor.sampling_rate} Hz, all audio here is "
            f"{SAMPLE_RATE} Hz. Use a model trained on 16 kHz speech."
        )
    return FeatureExtractor(extractor, geometry, max_samples)


def _frames_of(extractor: Any, checkpoint: Checkpoint) -> tuple[FrameGeometry, int | None]:
    """Geometry of an extractor's frames and the fixed length of its input in samples, if any."""
    match extractor:
        case Wav2Vec2FeatureExtractor():
            return FrameGeometry(), None
        case SeamlessM4TFeatureExtractor():
            mel = FrameGeometry(receptive_field=len(extractor.window), hop=160)
            return mel.then(extractor.stride, extractor.stride), None
        case WhisperFeatureExtractor():
            half = extractor.n_fft // 2
            # A frame counts where its centre lies in the audio: hence one sample less at the end.
            mel = FrameGeometry(2 * half, extractor.hop_length, offset=-half, overhang=half - 1)
            return mel, extractor.n_samples
        case _:
            raise StrataError(
                f"{checkpoint.asked}: its feature extractor is a {type(extractor).__name__}. "
                f"Strata knows the frames of Wav2Vec2's, SeamlessM4T's and Whisper's: use a model "
                f"with one of these, or add a case to common/encoder/feature_extractor.py."
            )
