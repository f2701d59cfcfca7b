"""Speech at other speeds and with noise, by nothing but the seed, the epoch and its number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from models import noise
from running import resolved

from common.config.finetune import AugmentConfig
from common.encoder.frames import FrameGeometry
from common.records import StrataError
from finetune.ctc.augment import Augment

GEOMETRY = FrameGeometry(receptive_field=400, hop=320)
TONE = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)


def augment(lengths: list[int], needed: list[int] | None = None, **keys: Any) -> Augment:
    recipe, least = AugmentConfig(**keys), needed or [1] * len(lengths)
    return Augment.of(recipe, 0, np.array(lengths), least, GEOMETRY, 30 * 16_000)


@pytest.mark.parametrize("speed", [0.9, 1.1, 1.5])
def test_speed_changes_length_and_pitch_together(speed: float) -> None:
    changed = augment([16_000], speeds=[speed]).change(TONE, 0, epoch=0)
    assert len(changed) == pytest.approx(16_000 / speed, abs=1)
    assert changed.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(changed, 2**17))
    assert spectrum.argmax() * 16_000 / 2**17 == pytest.approx(1000 * speed, rel=1e-3)


def test_every_speed_is_drawn_alike_and_anew_in_every_epoch() -> None:
    drawn = augment([16_000] * 3000, speeds=[0.9, 1.0, 1.1])
    first, again, other = (drawn.speeds(epoch) for epoch in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).mean() == pytest.approx(2 / 3, abs=0.05)
    for speed in (0.9, 1.0, 1.1):
        assert (first == speed).mean() == pytest.approx(1 / 3, abs=0.05)


def test_speech_that_would_be_too_short_or_too_long_keeps_its_speed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """49 frames at 1, 45 at 1.1, where 46 are needed; 29 s are 32 s at 0.9."""
    fast = augment([16_000] * 2, [46, 45], speeds=[1.1])
    assert fast.speeds(0).tolist() == [1.0, 1.1]
    assert "1 of 2 utterances keep their speed where 1.1 is drawn" in caplog.text
    assert augment([29 * 16_000], speeds=[0.9]).speeds(0).tolist() == [1.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        soundfile.write(tmp_path / f"{k}.wav", noise(5000 + 9000 * k, k), 16_000)
    (tmp_path / "README").write_text("no audio")
    return tmp_path


def test_noise_lies_so_far_below_the_speech(folder: Path) -> None:
    """Shorter noise is repeated, longer cut."""
    noisy = augment([16_000] * 40, noise=str(folder), noise_share=1.0, snr=[7, 12])
    ratios = []
    for number in range(40):
        changed = noisy.change(TONE, number, epoch=0)
        added = changed - TONE
        assert changed.shape == TONE.shape
        ratios.append(10 * np.log10(np.square(TONE).mean() / np.square(added).mean()))
    assert 7 - 1e-3 < min(ratios) < max(ratios) < 12 + 1e-3
    assert np.std(ratios) > 0.5
    assert (noisy.change(TONE, 3, 1) == noisy.change(TONE, 3, 1)).all()
    assert (noisy.change(TONE, 3, 1) != noisy.change(TONE, 3, 2)).any()


def test_some_speech_stays_without_noise_and_silence_stays_silent(folder: Path) -> None:
    noisy = augment([16_000] * 400, noise=str(folder), noise_share=0.3)
    same = [np.array_equal(noisy.change(TONE, number, 0), TONE) for number in range(400)]
    assert np.mean(same) == pytest.approx(0.7, abs=0.08)
    silent = noisy.change(np.zeros(16_000, np.float32), same.index(False), 0)
    assert np.isfinite(silent).all()
    assert np.abs(silent).max() < 1e-6


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("speeds=[0.9,3]",), r"augment\.speeds=\[0\.9, 3\.0\]: use one or more, 0\.5 to 2"),
        (("snr=[10]",), r"augment\.snr=\[10\.0\]"),
        (("noise_share=0",), r"augment\.noise_share=0"),
        (("noise=/no/such",), r"augment\.noise=/no/such: there is no such folder"),
    ],
)
def test_what_cannot_be_is_told_with_the_configuration(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        resolved("experiment=ctc", *(f"finetune.augment.{key}" for key in keys))


def test_a_folder_without_audio_is_told(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="no audio file is in it"):
        augment([16_000], noise=str(tmp_path))
