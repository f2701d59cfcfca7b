"""Frames of a segment and rows of the 10 ms grid, against the rules written out by hand."""

from math import floor

import numpy as np
import pytest
import torch
from geometries import KERNELS, STRIDES, after_convolutions
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.forward.pooling import grid_rows, grid_step, pool, pool_frames, to_grid
from common.config.analysis import POOLINGS
from common.encoder.frames import FrameGeometry
from common.records import StrataError

WAV2VEC2 = [after_convolutions(KERNELS[:depth], STRIDES[:depth]) for depth in range(1, 8)]
WINDOWS = [(79, 32), (39, 16), (19, 8), (9, 4), (4, 2), (2, 1)]  # C1 … C6 of wav2vec 2.0


def kept(pooling: str, frames: list[int]) -> list[int]:
    """Frames of a segment that its vector is taken from (docs/metrics.md, pooling)."""
    n = len(frames)
    if pooling == "centre":
        return [frames[(n - 1) // 2]]
    if pooling == "first":
        return frames[:1]
    if pooling == "last":
        return frames[-1:]
    if pooling == "middle_third":
        cut = floor((n + 1) / 3)
        left = [f for i, f in enumerate(frames) if cut <= i < n - cut]
        return left or [frames[cut]]
    return frames


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_segment_of_any_length_keeps_the_frames_of_the_rule(pooling: str) -> None:
    for start in (0, 7):
        for n in range(1, 61):
            frames = list(range(start, start + n))
            first, last = pool_frames(pooling, start, start + n)
            assert list(range(first, last)) == kept(pooling, frames), n


def test_the_middle_third_of_short_phones_by_hand() -> None:
    spans = {n: pool_frames("middle_third", 0, n) for n in range(1, 9)}
    assert spans == {
        1: (0, 1),
        2: (1, 2),
        3: (1, 2),
        4: (1, 3),
        5: (2, 3),
        6: (2, 4),
        7: (2, 5),
        8: (3, 5),
    }


@settings(deadline=None, max_examples=40)
@given(
    pooling=st.sampled_from(POOLINGS),
    cuts=st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)), min_size=1, max_size=12),
    seed=st.integers(0, 100),
)
def test_pool_equals_a_loop_over_frames(
    pooling: str, cuts: list[tuple[int, int]], seed: int
) -> None:
    rows = np.random.default_rng(seed).normal(size=(40, 5)).astype(np.float32)
    spans = [(start, min(40, start + n)) for start, n in cuts]
    expected = []
    for start, end in spans:
        frames = rows[kept(pooling, list(range(start, end)))]
        expected.append(frames.max(0) if pooling == "max" else frames.mean(0))
    pooled = pool(torch.from_numpy(rows), spans, pooling)
    assert pooled.shape == (len(spans), 5)
    np.testing.assert_allclose(pooled.numpy(), np.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("geometry", "window"),
    list(zip(WAV2VEC2[:6], WINDOWS, strict=True)),
    ids=[f"C{depth}" for depth in range(1, 7)],
)
def test_a_fast_layer_is_averaged_over_the_published_windows(
    geometry: FrameGeometry, window: tuple[int, int]
) -> None:
    kernel, stride = window
    assert grid_step(geometry, "C") == 1
    frames = geometry.n_frames(9000)
    hidden = torch.from_numpy(np.random.default_rng(0).normal(size=(frames, 3))).float()
    starts = range(0, frames - kernel + 1, stride)
    expected = torch.stack([hidden[s : s + kernel].double().mean(0) for s in starts])
    torch.testing.assert_close(to_grid(hidden, geometry).double(), expected, rtol=0, atol=1e-6)


def test_c7_keeps_its_frames_which_meet_every_second_mel_frame() -> None:
    geometry = WAV2VEC2[6]
    assert (geometry.receptive_field, geometry.hop) == (400, 320)
    assert grid_step(geometry, "C7") == 2
    hidden = torch.arange(12.0).reshape(6, 2)
    assert to_grid(hidden, geometry) is hidden
    assert grid_rows(geometry, 16_000) == geometry.n_frames(16_000) == 49


def test_a_window_sees_no_more_than_mels_25_ms() -> None:
    for geometry, (kernel, _) in zip(WAV2VEC2[:6], WINDOWS, strict=True):
        assert geometry.then(kernel, 1).receptive_field <= 400
        assert geometry.then(kernel + 1, 1).receptive_field > 400


@settings(deadline=None, max_examples=60)
@given(depth=st.integers(0, 6), n_samples=st.integers(400, 60_000))
def test_announced_rows_are_the_rows_there_are(depth: int, n_samples: int) -> None:
    geometry = WAV2VEC2[depth]
    hidden = torch.zeros(geometry.n_frames(n_samples), 1)
    assert len(to_grid(hidden, geometry)) == grid_rows(geometry, n_samples)


def test_audio_too_short_for_a_window_has_no_row() -> None:
    for geometry in WAV2VEC2[:6]:
        assert grid_rows(geometry, geometry.min_samples) == 0
        assert grid_rows(geometry, 400) == 1  # all of them agree on 25 ms


@pytest.mark.parametrize(("hop", "step"), [(5, 1), (80, 1), (160, 1), (320, 2), (640, 4)])
def test_hops_that_divide_or_are_multiples_of_10_ms(hop: int, step: int) -> None:
    assert grid_step(FrameGeometry(hop=hop), "T0") == step


def test_a_10_ms_layer_is_left_alone() -> None:
    hidden = torch.ones(5, 2)
    assert to_grid(hidden, FrameGeometry(receptive_field=400, hop=160)) is hidden


@pytest.mark.parametrize("hop", [100, 150, 240, 400])
def test_other_hops_are_refused_with_the_layer_and_the_number(hop: int) -> None:
    with pytest.raises(StrataError, match=f"layer C4 has a frame every {hop} samples"):
        grid_step(FrameGeometry(hop=hop), "C4")
