"""The pitch of frames as a target: planted tones, frames without pitch, whole runs."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from running import execute, resolved

from analysis.targets.f0 import FundamentalFrequency
from common.records import SAMPLE_RATE, StrataError

RNG = np.random.default_rng(0)


def buzz(frequency: np.ndarray) -> np.ndarray:
    """A voice-like sound: ten harmonics of a frequency (n,) in Hz that changes."""
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    return (0.05 * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def test_a_planted_pitch_is_found_where_it_is_and_noise_and_silence_have_none() -> None:
    n = SAMPLE_RATE
    glide = np.linspace(100, 200, n)
    noise = 0.01 * RNG.standard_normal(n).astype(np.float32)
    waveform = np.concatenate([buzz(glide), noise, np.zeros(n, np.float32)])
    found = FundamentalFrequency().frames(waveform, "u").numpy()
    assert found.shape == (301, 1)
    inside = slice(5, 95)
    planted = np.log(glide[np.arange(5, 95) * 160])
    assert np.abs(found[inside, 0] - planted).max() < 0.01
    assert np.isnan(found[110:190]).mean() > 0.9
    assert np.isnan(found[210:]).all()


def test_sounds_shorter_than_three_periods_have_no_pitch() -> None:
    for n in (1, 160, 640):
        found = FundamentalFrequency().frames(np.ones(n, np.float32), "u").numpy()
        assert found.shape == (1 + n // 160, 1)
        assert np.isnan(found).all()


@pytest.mark.parametrize(("floor", "ceiling"), [(0, 600), (600, 75), (75, 9000)])
def test_impossible_ranges_are_refused(floor: float, ceiling: float) -> None:
    limits = (("floor", floor), ("ceiling", ceiling))
    with pytest.raises(StrataError, match=r"target\.floor="):
        resolved(*(f"experiments.cca_f0.target.{k}={v}" for k, v in limits), "experiment=cca_f0")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["pwcca", "rsa"])
def test_a_run_with_controls_counts_frames_without_pitch(
    metric: str, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    overrides = ("experiment=cca_f0", *common, cache, "controls=true", f"metric={metric}")
    parts = ["experiments.cca_f0.parts=[transformer]", "metric.rows=300"] if metric == "rsa" else []
    run = execute(tmp_path / "run", *overrides, *parts)
    primary = run.rows[run.rows["primary"]]
    assert {"mel", "random_weights"} <= set(primary["control"])
    assert set(primary["target"]) == {"f0"}
    assert primary["value"].notna().all()
    dropped = run.metadata["studies"][0]["statistics"]["dropped"]
    assert sum(count for reason, count in dropped.items() if "without a value of" in reason) > 0


def test_the_number_of_frames_is_that_of_voiced_ones(
    small: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    for speaker in range(4):
        folder = tmp_path / "audio" / f"s{speaker}"
        folder.mkdir(parents=True)
        for k in range(3):
            voiced = buzz(np.full(SAMPLE_RATE, 110.0 + 20 * speaker + 7 * k))
            silence = np.zeros(SAMPLE_RATE, np.float32)
            sound = np.concatenate([voiced, silence]) + 1e-5 * RNG.standard_normal(2 * SAMPLE_RATE)
            soundfile.write(folder / f"u{speaker}{k}.wav", sound, SAMPLE_RATE)
    run = execute(
        tmp_path / "run",
        "experiment=cca_f0",
        *small,
        cache,
        "dataset=recordings",
        f"dataset.audio_root={tmp_path / 'audio'}",
        "layers=transformer",
        "metric=cka",
    )
    (n,) = set(run.rows["n"])
    assert 12 * 40 < n < 12 * 52  # of 50 frames of 20 ms a second, those of the voiced second
