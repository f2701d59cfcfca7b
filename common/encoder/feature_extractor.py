"""From waveforms to a model's input: the checkpoint's own feature extractor, and its frames."""

import inspect
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import soxr
import torch
import transformers
from numpy.typing import NDArray

from common.encoder.checkpoint import Checkpoint
from common.encoder.clicks import Frames, centred, click, measured
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, StrataError, Waveform

MASKS = ("attention_mask", "padding_mask")


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """How a feature extractor turns waveforms into the model's input.

    `rate`: sampling rate of the model, to which audio is resampled. `geometry` is that
    of the frames it yields: single samples, or those of a spectrum (B, T, F) with time as its axis
    `time`, 2 for (B, F, T). `max_samples` is the fixed length to which it pads everything, if it
    does; `cut`: its models take any length of what it would pad so; `needs_mask`: they ask which
    frames of that length are the audio's. `min_samples` are enough to make numbers of: one frame
    alone has no variance to divide by.
    """

    extractor: Any
    geometry: FrameGeometry
    rate: int = SAMPLE_RATE
    time: int | None = None
    max_samples: int | None = None
    min_samples: int = 1
    cut: bool = False
    needs_mask: bool = False

    @property
    def spectrum(self) -> bool:
        """Whether it yields frames, not samples."""
        return self.time is not None

    def loud(self, clicks: Waveform) -> dict[str, torch.Tensor]:
        """An input whose frames (n,) are loud in all frequencies, or silent."""
        (like,) = self([click(SAMPLE_RATE, 0)]).values()
        axes = range(like.ndim)
        line = torch.from_numpy(clicks).reshape([-1 if a == self.time else 1 for a in axes])
        shape = [-1 if a == self.time else like.shape[a] for a in axes]
        return {"input_features": line.expand(shape).contiguous()}

    def __call__(self, waveforms: Sequence[Waveform]) -> dict[str, torch.Tensor]:
        """Model inputs of a batch, on the CPU; with a mask only where lengths differ."""
        fixed = self.max_samples is not None
        differ = len({len(w) for w in waveforms}) > 1
        resampled = [_resampled(waveform, self.rate) for waveform in waveforms]
        padding: str | int = "max_length" if fixed else "longest"
        if self.cut:  # as much behind the audio as its last frame sees
            padding = max(map(len, resampled)) // self.extractor.hop_length + 4
            padding *= self.extractor.hop_length
        masked = self.needs_mask or (not fixed and (differ or self.spectrum))
        inputs = _extract(self.extractor, resampled, padding, masked)
        if self.spectrum and not fixed:
            inputs = _without_padding(inputs)
        masked = self.needs_mask or (differ and not fixed)
        return {key: x for key, x in inputs.items() if masked or key not in MASKS}


def read_feature_extractor(
    checkpoint: Checkpoint, normalise: bool | None = None
) -> FeatureExtractor:
    """The feature extractor of a checkpoint.

    Whether it normalises is as its file says, unless `normalise` is given.
    """
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except ImportError as error:
        raise StrataError(
            f"{checkpoint.asked}: transformers reads its audio by a library that is not installed "
            f"({' '.join(str(error).split())[:300]}). Strata does not bring torchaudio, which "
            f"beside a torch for CPUs breaks the import of transformers: install it where the two "
            f"fit together."
        ) from error
    except Exception as error:
        # transformers raises OSError, ValueError, KeyError, TypeError … for what a file may hold.
        raise StrataError(
            f"{checkpoint.asked}: its preprocessor_config.json describes no feature extractor "
            f"({type(error).__name__}: {error}). Take the file of the model it was trained from."
        ) from error
    if extractor.sampling_rate < SAMPLE_RATE:
        raise StrataError(
            f"{checkpoint.asked}: the model takes {extractor.sampling_rate} Hz, all audio here is "
            f"{SAMPLE_RATE} Hz. Use a model trained on speech of 16 kHz or more."
        )
    try:
        found = replace(
            _with_frames(type(extractor).__name__, extractor.to_json_string()), extractor=extractor
        )
    except Exception as error:
        # Whatever a foreign extractor trips over, the user needs to know which one it was.
        raise StrataError(
            f"{checkpoint.asked}: its feature extractor is a {type(extractor).__name__}, whose "
            f"frames Strata cannot lay beside the audio ({error}). Use a model that takes one "
            f"waveform or its spectrum."
        ) from error
    if normalise is not None:
        if found.spectrum or "do_normalize" not in extractor.to_dict():
            raise StrataError(
                f"{checkpoint.asked}: model.normalise={str(normalise).lower()}, but its "
                f"{type(extractor).__name__} normalises no waveform. Use model.normalise=null."
            )
        extractor.do_normalize = normalise
    return found


@lru_cache(maxsize=16)
def _with_frames(kind: str, settings: str) -> FeatureExtractor:
    """An extractor with its frames, as clicks find them, and its fixed length if it has one."""
    extractor = getattr(transformers, kind).from_dict(json.loads(settings))
    rate = int(extractor.sampling_rate)

    def features(n: int, padding: str = "longest") -> torch.Tensor:
        inputs = _extract(extractor, [click(n, n // 4)], padding, masked=True)
        return _features(inputs)[0]

    second, longer = features(rate), features(rate + rate // 2)
    if second.numel() == rate:
        return FeatureExtractor(extractor, FrameGeometry().at_rate(rate), rate)
    # Whisper's have frames last; who pads all to one number of them (AST's), first.
    last = second.shape[-1] != longer.shape[-1]

    def frames_of(waveform: Waveform) -> NDArray[np.float32]:
        inputs = _extract(extractor, [waveform], "longest", masked=True)
        (found,) = _features(_without_padding(inputs))
        return np.asarray(found.T if last else found)

    geometry = measured(frames_of, rate)
    most = None
    if _defaults(extractor).get("padding") == "max_length":
        geometry, most = centred(geometry), features(rate, "max_length").shape[-1 if last else 0]
    elif second.shape == longer.shape:
        most = len(second)
    geometry = geometry.at_rate(rate)
    # One sample more, and there would be a frame more.
    longest = most and int(geometry.min_samples + most * geometry.hop) - 1
    shortest = 1
    if most is None:
        lengths = (ceil(geometry.min_samples + k * geometry.hop) for k in range(3))
        shortest = next(n for n in lengths if _finite(frames_of, n * rate // SAMPLE_RATE))
    return FeatureExtractor(extractor, geometry, rate, 2 if last else 1, longest, shortest)


def _finite(frames_of: Frames, n: int) -> bool:
    """Whether the frames of n samples of noise are numbers."""
    noise = np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(np.isfinite(frames_of(noise)).all())


def _extract(
    extractor: Any, waveforms: Sequence[Waveform], padding: str | int, masked: bool
) -> dict[str, torch.Tensor]:
    """An extractor's features of waveforms, called with the keys that it knows.

    `padding`: as transformers names it, or the length to pad to.
    """
    keys = {
        "sampling_rate": extractor.sampling_rate,
        "padding": padding if isinstance(padding, str) else "max_length",
        "max_length": None if isinstance(padding, str) else padding,
        # w2v-BERT's would else append a mel frame of padding to an odd number of them.
        "pad_to_multiple_of": None,
        "return_attention_mask": masked,
        "return_tensors": "pt",
    }
    known = _defaults(extractor)
    if "return_attention_mask" not in known and len({len(w) for w in waveforms}) == 1:
        keys["padding"] = False  # the codecs' would else fill up the last of their frames
    return dict(extractor(list(waveforms), **{k: v for k, v in keys.items() if k in known}))


def _defaults(extractor: Any) -> dict[str, Any]:
    """The keys that an extractor takes, with what they are by default."""
    parameters = inspect.signature(type(extractor).__call__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _features(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(x for key, x in inputs.items() if key not in MASKS)


def _without_padding(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Features cut to the frames of the longest audio, where the extractor gives a mask (B, T)."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return inputs
    _, width = mask.shape
    kept = int(mask.sum(1).max())
    return {
        key: x.narrow(next(axis for axis in (1, 2) if x.shape[axis] == width), 0, kept)
        for key, x in inputs.items()
    }


def _resampled(waveform: Waveform, rate: int) -> Waveform:
    """(n,) at 16 kHz -> (floor(n * rate / 16000),) at `rate`."""
    if rate == SAMPLE_RATE:
        return waveform
    n = len(waveform) * rate // SAMPLE_RATE
    resampled = soxr.resample(waveform, SAMPLE_RATE, rate)[:n]
    return np.pad(resampled, (0, n - len(resampled))).astype(np.float32, copy=False)
