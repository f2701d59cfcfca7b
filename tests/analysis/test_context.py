"""Effective context: cuts of the same frame, planted distances, models that cannot hear far."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from passes import corpus_of
from running import execute, resolved
from units import planted

from analysis.metrics.context import ContextKept, frames_of, share_kept
from analysis.metrics.units import Units
from analysis.targets.cut_audio import CutAudio
from common.config.analysis import UnitSampling
from common.records import SAMPLE_RATE, StrataError

METRIC = ContextKept(width=0.2)
TARGET = CutAudio(widths=(0.2, 0.4))


def made(*kept: float, n: int = 400, seed: int = 0) -> Units:
    """Frames of which a cut leaves so much of the variance as it is, and noise for the rest."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(n, 16)) + 3
    vectors = np.empty((n, 1 + len(kept), 16))
    vectors[:, 0] = whole
    for k, share in enumerate(kept):
        noise = rng.normal(size=(n, 16))
        vectors[:, 1 + k] = whole + np.sqrt(1 - share) * noise
    count = n * (1 + len(kept))
    units = planted(n=count, labels=3, seed=seed)
    speaker = np.repeat(np.arange(n) % 40, 1 + len(kept))
    return replace(
        units,
        vectors=vectors.reshape(count, 16).astype(np.float32),
        label=np.tile([2, 0, 1], n),
        labels=("0.2", "0.4", "whole"),
        utterance=np.arange(count),
        speaker=speaker,
        speakers=tuple(f"s{k}" for k in range(40)),
        fold=speaker % 10,
        target=TARGET,
    )


def test_planted_shares_are_found_and_have_an_interval() -> None:
    primary, near, far = METRIC.score(made(0.5, 0.9, n=4000))
    assert primary.value == near.value == pytest.approx(0.5, abs=0.03)
    assert (near.metric, far.metric) == ("context_kept_0.2", "context_kept_0.4")
    assert far.value == pytest.approx(0.9, abs=0.01)
    assert primary.low is not None
    assert primary.high is not None
    assert primary.low < primary.value < primary.high
    assert METRIC.score(made(1, 1))[0].value == 1
    assert METRIC.score(made(0, 1))[0].value == pytest.approx(0, abs=0.1)


def test_scale_shift_and_rotation_do_not_matter() -> None:
    units = made(0.4, 0.7)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))[0]
    moved = replace(units, vectors=(90 * units.vectors @ turn - 7).astype(np.float32))
    for one, other in zip(METRIC.score(units), METRIC.score(moved), strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-4)


def test_frames_that_lack_a_cut_are_left_out_of_all() -> None:
    units = made(0.4, 0.7)
    kept = np.delete(np.arange(1200), [1, 602])  # a cut of frame 0, another one of frame 200
    rows = {
        k: getattr(units, k)[kept] for k in ("vectors", "label", "utterance", "speaker", "fold")
    }
    found = frames_of(replace(units, **rows))
    assert {len(vectors) for vectors in found.values()} == {398}
    np.testing.assert_array_equal(found["whole"][0], units.vectors[3])


def test_constant_frames_few_frames_and_other_widths_are_refused() -> None:
    with pytest.raises(StrataError, match="3 frames are all the same"):
        share_kept(np.ones((3, 2)), np.ones((3, 2)))
    empty = replace(made(1, 1), vectors=np.zeros((1200, 0), np.float32))
    METRIC.check(empty)
    with pytest.raises(StrataError, match=r"metric\.width=0\.3: it is not among target\.widths"):
        ContextKept(width=0.3).check(empty)
    few = {k: getattr(empty, k)[:15] for k in ("vectors", "label", "utterance", "speaker", "fold")}
    with pytest.raises(StrataError, match="5 frames were drawn, 10 are needed"):
        METRIC.check(replace(empty, **few))
    for wrong in ("[]", "[0.01]", "[0.2,0.2]"):
        with pytest.raises(StrataError, match=r"target\.widths="):
            resolved("experiment=context", f"experiments.context.target.widths={wrong}")


def test_every_cut_has_the_same_samples_around_its_frame() -> None:
    corpus = corpus_of([3 * SAMPLE_RATE, 2 * SAMPLE_RATE + 17, SAMPLE_RATE // 2])
    cut = TARGET.derived(corpus, UnitSampling(utterances=9), seed=0)
    assert len(cut.utterances) == 2 * 3
    assert cut.dropped == {"utterance: too short for the cuts": 1}
    segments = TARGET.segments(cut, "frame")
    for k in range(0, 6, 3):
        audio = [cut.utterances[k + j].read() for j in range(3)]
        frames = [
            waveform[s.start : s.end]
            for waveform, s in zip(audio, segments[k : k + 3], strict=True)
        ]
        assert all(
            len(waveform) == u.n_samples
            for waveform, u in zip(audio, cut.utterances[k:], strict=False)
        )
        np.testing.assert_array_equal(frames[0], frames[1])
        np.testing.assert_array_equal(frames[0], frames[2])
        for waveform, s, width in zip(
            audio[1:], segments[k + 1 : k + 3], TARGET.widths, strict=True
        ):
            assert len(waveform) == (2 * round(width * 50) + 1) * 320
            assert s.start == round(width * 50) * 320
    with pytest.raises(StrataError, match=r"none of 3 utterances .* lasts"):
        CutAudio(widths=(5.0,)).derived(corpus, UnitSampling(), seed=0)


@pytest.mark.slow
def test_from_end_to_end_mel_depends_on_nothing_beyond_its_window(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    """A mel frame sees 64 ms on each side; blocks of attention hear the whole cut."""
    widths = "experiments.context.target.widths=[0.05,0.2,0.4]"
    more = "+analysis@experiments.cca_phone=cca_phone"
    run = execute(tmp_path, "experiment=context", *common, cache, "controls=true", widths, more)
    rows = run.rows[run.rows["experiment"] == "context"]
    assert set(rows["control"]) == {"", "mel", "random_weights"}
    figures = {"context_kept", *(f"context_kept_{width}" for width in ("0.05", "0.2", "0.4"))}
    assert set(rows["metric"]) == figures
    level = rows.groupby(["control", "layer", "metric"])["value"].mean()
    assert level["mel", "mel", "context_kept_0.4"] > 0.9
    assert level["", "T3", "context_kept_0.05"] < level["", "T3", "context_kept_0.4"] < 1
    assert "no labels" in str(run.metadata["controls"]["without"]["context"])
    assert rows["n"].min() > 0
