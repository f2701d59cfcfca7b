"""Frames against torch's own convolutions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.frames import FrameGeometry

WAV2VEC2 = FrameGeometry.from_convolutions((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))

layer = st.integers(1, 6).flatmap(
    lambda kernel: st.tuples(st.just(kernel), st.integers(1, 4), st.integers(0, kernel // 2))
)


def convolve(n: int, layers: list[tuple[int, int, int]]) -> torch.Tensor:
    """(T, n) weight with which each of n samples reaches each frame, by sums over windows."""
    hidden = torch.eye(n)[:, None]
    for kernel, stride, padding in layers:
        weight = torch.ones(1, 1, kernel)
        hidden = torch.nn.functional.conv1d(hidden, weight, stride=stride, padding=padding)
    return hidden[:, 0].T


def geometries(layers: list[tuple[int, int, int]]) -> list[FrameGeometry]:
    stacks = [layers[: i + 1] for i in range(len(layers))]
    return [FrameGeometry.from_convolutions(*zip(*stack, strict=True)) for stack in stacks]


@settings(deadline=None, max_examples=30)
@given(st.lists(layer, min_size=1, max_size=4), st.integers(0, 60))
def test_counts_are_those_of_convolutions(layers, extra):
    each = geometries(layers)
    n = max(geometry.min_samples for geometry in each) + extra
    for i, geometry in enumerate(each, start=1):
        assert geometry.n_frames(n) == len(convolve(n, layers[:i]))


@settings(deadline=None, max_examples=30)
@given(st.lists(layer, min_size=1, max_size=4), st.integers(0, 60))
def test_receptive_fields_are_those_of_convolutions(layers, extra):
    layers = [(kernel, stride, 0) for kernel, stride, _ in layers]
    geometry = geometries(layers)[-1]
    for frame, row in enumerate(convolve(geometry.min_samples + extra, layers)):
        seen = row.nonzero()[:, 0]
        start = frame * geometry.hop
        assert (seen[0], seen[-1]) == (start, start + geometry.receptive_field - 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(layer, min_size=1, max_size=4), st.integers(0, 60))
def test_padding_moves_the_first_frame_ahead_of_the_audio(layers, extra):
    each = geometries(layers)
    n = max(geometry.min_samples for geometry in each) + extra
    for frame, row in enumerate(convolve(n, layers)):
        start = each[-1].offset + frame * each[-1].hop
        outside = torch.ones(n, dtype=torch.bool)
        outside[max(start, 0) : max(start + each[-1].receptive_field, 0)] = False
        assert not row[outside].any()


@given(st.integers(0, 100_000))
def test_too_little_audio_has_no_frame(n):
    assert (WAV2VEC2.n_frames(n) == 0) == (n < WAV2VEC2.min_samples)


@given(st.integers(0, 10**6), st.integers(1, 10**5))
def test_a_span_covers_its_samples(start, length):
    first, last = WAV2VEC2.span(start, start + length)
    assert first * 320 <= start < (first + 1) * 320
    assert (last - 1) * 320 < start + length <= last * 320


def test_wav2vec2():
    assert (WAV2VEC2.receptive_field, WAV2VEC2.hop, WAV2VEC2.offset) == (400, 320, 0)
    assert [WAV2VEC2.n_frames(n) for n in (0, 399, 400, 719, 720, 16_000)] == [0, 0, 1, 1, 2, 49]
    assert (WAV2VEC2.centre(0), WAV2VEC2.centre(10)) == (200, 3400)
    assert WAV2VEC2.span(319, 641) == (0, 3)
    assert WAV2VEC2.span(320, 640) == (1, 2)


def test_an_empty_span_between_frames_is_empty():
    assert WAV2VEC2.span(640, 640) == (2, 2)


@given(st.integers(1, 480_000))
def test_whisper_counts_the_frames_whose_centre_lies_in_the_audio(n):
    mel = FrameGeometry(receptive_field=400, hop=160, offset=-200, overhang=199)
    last = mel.then(3, 1, 1).then(3, 2, 1)
    assert (last.centre(0), last.hop) == (0, 320)
    assert last.n_frames(n) == sum(1 for centre in range(0, n, 320)) == -(-n // 320)
