"""The mel target against the paper's own code, run with librosa itself."""

import math
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.forward.consumers import target_layer
from analysis.targets.base import one_hot
from analysis.targets.mel import MEL_BINS, Mel, mel, mel_frames
from common.records import StrataError, Waveform

TOP_DB = 80


def published_mel(waveform: Waveform) -> NDArray[np.float64]:
    """Log mel filterbank (frames, 80) as Pasad et al.'s code computes it, in float64."""
    signal = waveform.astype(np.float64)
    signal = signal / np.abs(signal).max() * 0.999
    signal = scipy.signal.lfilter([1, -0.97], [1], signal)
    magnitude = librosa.feature.melspectrogram(
        y=signal,
        sr=16_000,
        n_fft=2048,
        hop_length=160,
        win_length=400,
        n_mels=80,
        fmin=50,
        power=1,
    )
    decibels = librosa.amplitude_to_db(magnitude, ref=1.0, amin=1e-5, top_db=TOP_DB)
    return (decibels / TOP_DB + 1).T


def speech_like(n: int, seed: int = 0) -> Waveform:
    """(n,) voiced and noisy stretches with pauses: 90 dB between the loudest and the softest."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 16_000
    pitch = 120 + 30 * np.sin(2 * np.pi * 2.5 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    voiced = sum(np.sin(k * phase) / k for k in range(1, 30))
    level = np.clip(np.sin(2 * np.pi * 1.7 * t), 0, None) ** 2
    noise = rng.normal(size=n) * np.clip(np.cos(2 * np.pi * 1.1 * t), 0, None) ** 3
    return (0.2 * level * voiced + 0.05 * noise + 1e-5 * rng.normal(size=n)).astype(np.float32)


@pytest.mark.parametrize("n", [2048, 15_999, 16_000, 16_160, 48_123])
def test_mel_is_the_published_mel(n: int) -> None:
    waveform = speech_like(n, seed=n)
    ours = mel(waveform)
    assert ours.shape == (mel_frames(n), MEL_BINS)
    np.testing.assert_allclose(ours.numpy(), published_mel(waveform), rtol=0, atol=1e-4)


def test_mel_is_the_published_mel_on_real_speech(shared_data: Path) -> None:
    paths = sorted((shared_data / "speechocean762" / "audio").glob("*/*.flac"))[:60:20]
    assert paths
    for path in paths:
        waveform, rate = soundfile.read(path, dtype="float32")
        assert rate == 16_000
        np.testing.assert_allclose(
            mel(waveform).numpy(), published_mel(waveform), rtol=0, atol=1e-4, err_msg=str(path)
        )


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 20_000))
def test_a_frame_every_10_ms_the_first_at_time_zero(n: int) -> None:
    assert len(mel(speech_like(n))) == mel_frames(n)


@pytest.mark.parametrize("exponent", [-14, -3, 5])
def test_loudness_does_not_matter(exponent: int) -> None:
    waveform = speech_like(16_000)
    # A power of two scales every float32 exactly: what remains is the peak's division.
    np.testing.assert_allclose(
        mel(waveform * np.float32(2.0**exponent)).numpy(), mel(waveform).numpy(), rtol=0, atol=1e-5
    )


def test_silence_and_a_constant_are_finite() -> None:
    for level in (0.0, 1e-30, 0.3, -1.0):
        frames = mel(np.full(8000, level, dtype=np.float32)).numpy()
        assert frames.shape == (51, MEL_BINS)
        assert np.isfinite(frames).all(), level
    silent = mel(np.zeros(8000, dtype=np.float32)).numpy()
    np.testing.assert_allclose(silent, -100 / TOP_DB + 1)  # 20 log10(1e-5) dB


def test_nothing_is_more_than_80_db_below_the_loudest() -> None:
    waveform = np.zeros(16_000, dtype=np.float32)
    waveform[:4000] = speech_like(4000)
    frames = mel(waveform).numpy()
    assert np.ptp(frames) == pytest.approx(1)
    assert (frames[60:] == frames.min()).all()


def test_mel_leaves_the_waveform_alone() -> None:
    waveform = speech_like(4000)
    before = waveform.copy()
    mel(waveform)
    np.testing.assert_array_equal(waveform, before)


def test_a_tone_lands_in_its_slaney_band() -> None:
    t = np.arange(16_000) / 16_000
    frames = mel(np.sin(2 * math.pi * 1000 * t).astype(np.float32)).numpy()
    centres = librosa.mel_frequencies(n_mels=82, fmin=50, fmax=8000)[1:-1]
    assert frames[50].argmax() == np.abs(centres - 1000).argmin()


def test_one_hot_rows() -> None:
    np.testing.assert_array_equal(one_hot(np.array([2, 0])), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def test_a_lead_centres_frames_later_and_the_filterbank_stays_what_it_is() -> None:
    """A click is loudest in the frame that is centred on it."""
    waveform = np.zeros(16_000, np.float32)
    waveform[200 + 160 * 40] = 0.9
    found = Mel(lead=200).frames(waveform, "")
    assert found.shape == Mel().frames(waveform, "").shape
    assert int(found.sum(1).argmax()) == 40
    speech = speech_like(8_000)
    np.testing.assert_array_equal(Mel(lead=0).frames(speech, ""), mel(speech))
    later = target_layer(Mel(lead=200)).geometry
    assert [later.centre(t) for t in (0, 1)] == [200, 360]
    assert later.n_frames(8_000) == len(Mel(lead=200).frames(speech, ""))
    assert (Mel().name, Mel(lead=200).name) == ("mel", "mel_200")
    with pytest.raises(StrataError, match=r"target\.lead=-1: use 0 to 1600"):
        Mel(lead=-1)
