import librosa
import numpy as np
import pytest
from geometries import WAV2VEC2
from models import noise

from common.encoder.frames import FrameGeometry
from common.records import StrataError
from finetune.pretrain.acoustics import check_geometry, frame_mfcc, mfcc


def test_cepstra_are_librosas_but_for_the_shape_of_the_filters() -> None:
    """Same windows and transform; the oracle computes them another way, with the same filters."""
    from finetune.pretrain.acoustics import _filters

    waveform = noise(8000)
    emphasised = np.append(waveform[0], waveform[1:] - 0.97 * waveform[:-1])
    n = (8000 - 400) // 160 + 1
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([emphasised[160 * k : 160 * k + 400] * window for k in range(n)])
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    energies = np.log(power @ _filters().numpy() + 1e-10)
    expected = librosa.feature.mfcc(S=energies.T, n_mfcc=13, dct_type=2, norm="ortho").T
    rows = mfcc(waveform)
    assert rows.shape == (n, 39)
    assert rows[:, :13] == pytest.approx(expected, abs=2e-3)
    deltas = librosa.feature.delta(expected.T, width=9, mode="interp").T
    assert rows[:, 13:26] == pytest.approx(deltas, abs=2e-3)


def test_a_frame_has_the_cepstra_of_its_own_25_ms() -> None:
    waveform = noise(16_000)
    rows = frame_mfcc(waveform, WAV2VEC2)
    assert rows.shape == (WAV2VEC2.n_frames(16_000), 39)
    assert (rows == mfcc(waveform)[::2][: len(rows)]).all()
    moved = waveform.copy()
    moved[:3200] = 0  # frames from 10 on do not see these samples; differences see 40 ms around
    assert rows[15:, :13] == pytest.approx(frame_mfcc(moved, WAV2VEC2)[15:, :13], abs=1e-4)


def test_a_short_waveform_has_differences_too() -> None:
    assert np.isfinite(mfcc(noise(400))).all()
    assert np.isfinite(mfcc(np.zeros(2000, np.float32))).all()


def test_padded_frames_are_refused() -> None:
    check_geometry(WAV2VEC2)
    with pytest.raises(StrataError, match="pretraining takes unpadded"):
        check_geometry(FrameGeometry(800, 320, offset=-200, overhang=199))
