"""The layers of a model as Strata gives them, and what transformers makes of the same folder."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from models import noise

from common.encoder.encoder import Encoder, Layer
from common.records import SAMPLE_RATE, Waveform


def layers_of(
    encoder: Encoder, waveforms: Sequence[Waveform], only: Collection[str] | None = None
) -> dict[str, list[torch.Tensor]]:
    """Valid frames by layer, one (T, D) tensor for each waveform."""
    frames: dict[str, list[torch.Tensor]] = {}

    def keep(layer: Layer, hidden: torch.Tensor, n_frames: tuple[int, ...]) -> None:
        frames[layer.name] = [h[:n].clone() for h, n in zip(hidden, n_frames, strict=True)]

    encoder.run(waveforms, keep, only)
    return frames


def alone(encoder: Encoder, waveform: Waveform) -> dict[str, torch.Tensor]:
    """Frames (T, D) by layer of a single waveform."""
    return {name: frames for name, (frames,) in layers_of(encoder, [waveform]).items()}


def reference(folder: Path) -> tuple[Any, Any]:
    """What transformers makes of a folder: its model and feature extractor."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    return model.get_encoder() if model.config.is_encoder_decoder else model, extractor


def inputs_of(extractor: Any, waveform: Waveform) -> Any:
    """What a feature extractor makes of a waveform, without a mask."""
    return extractor(
        waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=False
    )


def heard_shift(encoder: Encoder, layer: Layer) -> float:
    """How many samples late a layer reacts to a change of 5 ms, on average over where that is."""
    waveform = noise(24_000)
    shifts = []

    def heard(w: Waveform) -> torch.Tensor:
        return layers_of(encoder, [w], {layer.name})[layer.name][0].double()

    hidden = heard(waveform)
    for middle in range(4000, 20_000, 336):  # at every phase of a hop of 20 ms
        turned = waveform.copy()
        turned[middle - 40 : middle + 40] *= -1  # so that no norm over the whole audio changes
        change = ((heard(turned) - hidden) ** 2).sum(1).numpy()
        change[change < 0.1 * change.max()] = 0
        centres = np.array([layer.geometry.centre(k) for k in range(len(change))])
        shifts.append(change @ centres / change.sum() - middle)
    return float(np.mean(shifts))
