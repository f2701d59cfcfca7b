"""Dissimilarities and peaks of all utterances at once, against one utterance at a time."""

import numpy as np
import pytest
from frames_in_memory import frames_of, utterance
from geometries import WAV2VEC2
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import find_peaks

from analysis.metrics import peaks
from analysis.metrics.frames import Frames

Array = NDArray[np.float64]


def some_frames(seed: int, lengths: list[int], d: int = 6, dtype: str = "f4") -> Frames:
    rng = np.random.default_rng(seed)
    parts = [(5 + rng.normal(size=(t, d)) * np.arange(1, d + 1)).astype(dtype) for t in lengths]
    return frames_of(parts, [utterance(f"u{k}", "s", 320 * t, {}) for k, t in enumerate(lengths)])


def everything(frames: Frames) -> Array:
    return np.concatenate([frames.of(k) for k in range(len(frames.utterances))]).astype(np.float64)


def test_reading_across_stretches_is_reading_them_one_after_another() -> None:
    frames = some_frames(0, [4, 1, 7, 3])
    whole = everything(frames)
    for start in range(15):
        for end in range(start + 1, 16):
            np.testing.assert_array_equal(frames.read(start, end), whole[start:end])


def test_z_scores_are_of_the_chosen_rows_and_blocks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = some_frames(1, [30, 20, 50])
    rows = np.repeat([True, False, True], [30, 20, 50])
    whole = everything(frames)
    for block in (7, 8192):
        monkeypatch.setattr(peaks, "BLOCK", block)
        scaling = peaks.fit_scaling(frames, rows)
        np.testing.assert_allclose(scaling.z(whole[rows]), stats.zscore(whole[rows]), atol=1e-5)
        found = peaks.dissimilarities(frames, scaling)
        z = (whole - whole[rows].mean(0)) / whole[rows].std(0)
        lengths = np.linalg.norm(z, axis=1)
        cosine = 1 - (z[1:] * z[:-1]).sum(1) / lengths[1:] / lengths[:-1]
        np.testing.assert_allclose(found["cosine"], cosine, atol=1e-5)
        np.testing.assert_allclose(
            found["euclidean"], np.linalg.norm(np.diff(z, axis=0), axis=1), rtol=1e-5
        )


def test_a_constant_dimension_and_a_large_mean_do_no_harm() -> None:
    rng = np.random.default_rng(2)
    part = np.column_stack([np.full(40, 0.1), 3000 + rng.normal(size=40), rng.normal(size=40)])
    frames = frames_of([part.astype("f4")], [utterance("u", "s", 1, {})])
    scaling = peaks.fit_scaling(frames, np.ones(40, dtype=bool))
    z = scaling.z(part)
    assert not z[:, 0].any()
    np.testing.assert_allclose(z[:, 1:].std(0), 1, rtol=1e-3)
    assert np.isfinite(peaks.dissimilarities(frames, scaling)["cosine"]).all()


def test_scale_and_shift_of_a_dimension_change_nothing() -> None:
    frames = some_frames(3, [25, 25], dtype="f8")
    moved = frames_of(
        [frames.of(k) * np.array([1, 50, 2, 9, 0.1, 3]) - 4 for k in range(2)], frames.utterances
    )
    rows = np.ones(50, dtype=bool)
    one, other = (peaks.dissimilarities(f, peaks.fit_scaling(f, rows)) for f in (frames, moved))
    for distance in peaks.DISTANCES:
        np.testing.assert_allclose(one[distance], other[distance], atol=1e-4)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.sampled_from([1, 2, 3, 6]),
    st.sampled_from([0, 0.1, 0.5]),
)
def test_peaks_of_all_are_those_of_each_alone(
    seed: int, lengths: list[int], window: int, prominence: float
) -> None:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    curve = rng.integers(0, 5, n - 1) / 4 if seed % 2 else rng.random(n - 1)  # with plateaus
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    found = peaks.peaks(curve, offsets, window)
    kept = found.prominence >= prominence
    for k, length in enumerate(lengths):
        piece = curve[offsets[k] : offsets[k] + length - 1]
        expected = np.array([], dtype=int)
        if len(piece) >= window:
            smooth = np.array(
                [piece[j : j + window].mean() for j in range(len(piece) - window + 1)]
            )
            expected, _ = find_peaks(smooth, prominence=prominence)
        if window == 1 or seed % 2 == 0:  # sums of equal quarters may differ in the last digit
            assert found.index[kept & (found.utterance == k)].tolist() == expected.tolist()


def test_a_peak_lies_between_the_centres_of_its_frames() -> None:
    change = peaks.half_samples(np.array([10]), 1, WAV2VEC2)
    assert change == [WAV2VEC2.centre(10) + WAV2VEC2.centre(11)]
    # Smoothed over four distances, from frame 10 to frame 14: in the middle of these.
    assert peaks.half_samples(np.array([10]), 4, WAV2VEC2) == [2 * WAV2VEC2.centre(12)]
