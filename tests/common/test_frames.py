"""Frames against torch's own convolutions."""

import torch
from geometries import WAV2VEC2, after_convolutions
from hypothesis import given, settings
from hypothesis import strategies as st

from common.encoder.frames import FrameGeometry

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
    return [after_convolutions(*zip(*stack, strict=True)) for stack in stacks]


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


WHISPER = FrameGeometry(receptive_field=400, hop=160, offset=-200, overhang=199)
WHISPER = WHISPER.then(3, 1, 1).then(3, 2, 1)


@given(st.sampled_from([WAV2VEC2, WHISPER]), st.integers(400, 10**6), st.integers(1, 10**5))
def test_a_span_has_the_frames_around_whose_centres_its_samples_lie(geometry, start, length):
    first, last = geometry.span(start, start + length)
    begin, end = geometry.centre(first) - 160, geometry.centre(last - 1) + 160
    assert begin <= start < begin + 320
    assert end - 320 < start + length <= end


@given(st.sampled_from([WAV2VEC2, WHISPER]), st.integers(0, 10**6))
def test_the_nearest_frame_is_centred_within_half_a_hop(geometry, sample):
    frame = geometry.nearest(sample)
    assert abs(geometry.centre(frame) - sample) <= 160 or (
        frame == 0 and sample < geometry.centre(0)
    )
    assert geometry.nearest(geometry.centre(frame)) == frame


def test_frames_are_pooled_without_a_shift():
    """Centres of the frames of a segment, on average over where it begins, lie in its middle."""
    for geometry in (WAV2VEC2, WHISPER):
        shifts = []
        for start in range(10_000, 10_320):
            first, last = geometry.span(start, start + 1600)
            middle = (geometry.centre(first) + geometry.centre(last - 1)) / 2
            shifts.append(middle - (start + 800))
        assert abs(sum(shifts) / len(shifts)) < 1  # samples


def test_what_lies_before_the_first_frames_samples_is_the_first_frames():
    assert (WAV2VEC2.span(0, 30), WAV2VEC2.span(0, 361)) == ((0, 1), (0, 2))
    assert (WAV2VEC2.nearest(0), WHISPER.nearest(0)) == (0, 0)


def test_wav2vec2():
    assert (WAV2VEC2.receptive_field, WAV2VEC2.hop, WAV2VEC2.offset) == (400, 320, 0)
    assert [WAV2VEC2.n_frames(n) for n in (0, 399, 400, 719, 720, 16_000)] == [0, 0, 1, 1, 2, 49]
    assert (WAV2VEC2.centre(0), WAV2VEC2.centre(10)) == (200, 3400)
    assert WAV2VEC2.span(359, 681) == (0, 3)
    assert WAV2VEC2.span(360, 680) == (1, 2)


def test_an_empty_span_between_frames_is_empty():
    assert WAV2VEC2.span(680, 680) == (2, 2)


@given(st.integers(1, 480_000))
def test_whisper_counts_the_frames_whose_centre_lies_in_the_audio(n):
    mel = FrameGeometry(receptive_field=400, hop=160, offset=-200, overhang=199)
    last = mel.then(3, 1, 1).then(3, 2, 1)
    assert (last.centre(0), last.hop) == (0, 320)
    assert last.n_frames(n) == sum(1 for centre in range(0, n, 320)) == -(-n // 320)
