"""Mel-frequency cepstra, one row for each frame of a speech encoder."""

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, StrataError, Waveform

WINDOW = 400  # samples: 25 ms
HOP = 160
N_FFT = 512
MEL_BINS = 40
CEPSTRA = 13
DIM = 3 * CEPSTRA  # with first and second differences
DELTA_WINDOW = 9
VERSION = 1  # bumped when a row would change


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    bank = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=MEL_BINS,
        min_frequency=20.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(bank).float()


def mfcc(waveform: Waveform) -> NDArray[np.float32]:
    """Cepstra with differences (T, 39) of a waveform (n,), a row every 10 ms, windows unpadded.

    The features of HuBERT's first round (Hsu et al. 2021, section IV-B): 13 cepstra of a 25 ms
    Hann window and their first and second derivatives. n must reach one window.
    """
    signal = torch.from_numpy(np.ascontiguousarray(waveform))
    emphasised = torch.cat([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    frames = emphasised.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames, N_FFT).abs() ** 2  # (T, 257)
    energies = torch.log(power @ _filters() + 1e-10).numpy()
    cepstra = scipy.fft.dct(energies, norm="ortho", axis=1)[:, :CEPSTRA]
    n, _ = cepstra.shape
    padded = np.pad(cepstra, ((max(0, DELTA_WINDOW - n), 0), (0, 0)), mode="edge")
    deltas = [
        scipy.signal.savgol_filter(padded, DELTA_WINDOW, order, deriv=order, axis=0)[-n:]
        for order in (1, 2)
    ]
    return np.concatenate([cepstra, *deltas], axis=1).astype(np.float32)


def frame_mfcc(waveform: Waveform, geometry: FrameGeometry) -> NDArray[np.float32]:
    """Cepstra (T, 39) under the T frames of an encoder that sees 25 ms every 20 ms or so.

    Row k is the 10 ms row whose window has the frame's centre nearest to its own.
    """
    n_frames = geometry.n_frames(len(waveform))
    rows = mfcc(waveform)
    nearest = [(geometry.centre(k) - WINDOW // 2 + HOP // 2) // HOP for k in range(n_frames)]
    return rows[np.clip(nearest, 0, len(rows) - 1)]


def check_geometry(geometry: FrameGeometry) -> None:
    """Refuse encoders whose frames are not those of the waveform, unpadded."""
    if geometry.offset != 0 or geometry.overhang != 0 or geometry.receptive_field < WINDOW:
        raise StrataError(
            f"the model's frames see {geometry.receptive_field} samples with padding "
            f"{-geometry.offset}: pretraining takes unpadded convolutions that see {WINDOW} "
            "samples (25 ms) or more, as wav2vec 2.0's and HuBERT's"
        )
