"""The other view: mel filterbank frames and one-hot labels."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from common.architecture import Layer
from common.frames import FrameGeometry
from common.records import SAMPLE_RATE, Waveform

MEL_BINS = 80
N_FFT = 2048
WINDOW = 400
HOP = 160
VERSION = 1  # bumped when a target's values would change
# The filterbank in a layer's place. Its frames are centred: the first one's window begins before
# the waveform, and the last one's ends after it.
MEL = Layer(
    "mel",
    "mel",
    0,
    MEL_BINS,
    FrameGeometry(receptive_field=WINDOW, hop=HOP, offset=-WINDOW // 2, overhang=WINDOW // 2),
)


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    """Slaney mel filters (N_FFT / 2 + 1, MEL_BINS) from 50 Hz to the Nyquist frequency."""
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


def mel(waveform: Waveform) -> torch.Tensor:
    """Log mel filterbank (frames, 80) of a waveform (n,), one frame every 10 ms.

    As in the code of Pasad et al. 2021 (section 3.3), with librosa's conventions: peak scaled to
    0.999, pre-emphasis 0.97, magnitude spectrum of a centred 400-sample Hann window in 2048
    points, 20 log10 with floors of 1e-5 and of 80 dB below the utterance's maximum, / 80 + 1.
    """
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


def one_hot(labels: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """One-hot rows (n, n_labels) of label numbers (n,)."""
    return np.eye(n_labels)[labels]
