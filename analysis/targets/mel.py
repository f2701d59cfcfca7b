"""Mel filterbank frames."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.targets.base import HOP, FrameTarget
from common.records import SAMPLE_RATE, StrataError, Waveform

if TYPE_CHECKING:  # targets are constructed with the configuration, before torch is imported
    import torch

MEL_BINS = 80
N_FFT = 2048
WINDOW = 400
MOST_LEAD = 1600  # samples, 100 ms
VERSION = 1  # bumped when a target's values would change


@dataclass(frozen=True, kw_only=True)
class Mel(FrameTarget):
    """The log mel filterbank of each frame: see `mel`.

    `lead`: samples by which frames are centred later. As published, a layer's frame is compared
    with the mel frame of the same number, which is centred 12.5 ms earlier in wav2vec 2.0 and
    models like it: 200 aligns the centres.
    """

    version: ClassVar[int] = VERSION
    columns: ClassVar[int] = MEL_BINS

    lead: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.lead <= MOST_LEAD:
            raise StrataError(f"target.lead={self.lead}: use 0 to {MOST_LEAD} samples")

    @property
    def name(self) -> str:
        """Its short name, also as a control in a layer's place."""
        return f"mel_{self.lead}" if self.lead else "mel"

    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":  # noqa: ARG002
        """Rows (1 + n // 160, 80) of a waveform (n,); past its end they see silence."""
        return mel(np.pad(waveform, (0, self.lead))[self.lead :])


@lru_cache(maxsize=1)
def _filters() -> "torch.Tensor":
    """Slaney mel filters (N_FFT / 2 + 1, MEL_BINS) from 50 Hz to the Nyquist frequency."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=MEL_BINS,
        min_frequency=50.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).float()


def mel(waveform: Waveform) -> "torch.Tensor":
    """Log mel filterbank (frames, 80) of a waveform (n,), one frame every 10 ms.

    As in the code of Pasad et al. 2021 (section 3.3), with librosa's conventions: peak scaled to
    0.999, pre-emphasis 0.97, magnitude spectrum of a centred 400-sample Hann window in 2048
    points, 20 log10 with floors of 1e-5 and of 80 dB below the utterance's maximum, / 80 + 1.
    """
    import torch

    signal = torch.from_numpy(np.ascontiguousarray(waveform))
    peak = signal.abs().max()
    if peak > 0:
        signal = signal / peak * 0.999
    emphasised = torch.cat([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    spectrum = torch.stft(
        emphasised,
        n_fft=N_FFT,
        hop_length=HOP,
        win_length=WINDOW,
        window=torch.hann_window(WINDOW),
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).abs()
    decibels = 20 * torch.log10(torch.clamp(spectrum.T @ _filters(), min=1e-5))
    floored = torch.maximum(decibels, decibels.max() - 80)
    return floored / 80 + 1


def mel_frames(n_samples: int) -> int:
    """Number of mel frames of a waveform of n_samples."""
    return 1 + n_samples // HOP
