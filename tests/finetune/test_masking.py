import numpy as np
import pytest

from finetune.pretrain.masking import draw_negatives, span_mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def runs_of(row: np.ndarray) -> list[int]:
    """Lengths of the stretches that are masked."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_spans_respect_lengths() -> None:
    lengths = [100, 57, 12, 200]
    for seed in range(50):
        mask = span_mask(lengths, 0.65, 10, rng(seed))
        assert mask.shape == (4, 200)
        for row, length in zip(mask, lengths, strict=True):
            assert not row[length:].any()
            assert 0 < row.sum() < length
            assert min(runs_of(row)) >= 1
            assert all(run >= 10 or row[:length].sum() == length - 1 for run in runs_of(row))


def test_the_number_of_spans_is_what_probability_asks_for() -> None:
    # Without overlap the share would be 0.2; starts are drawn from all, so a little is lost.
    masks = [span_mask([500], 0.2, 5, rng(seed)) for seed in range(300)]
    expected = 1 - (1 - 20 / 496) ** 5  # a frame is free if none of 5 starts is drawn
    assert np.mean(masks) == pytest.approx(expected, rel=0.02)


def test_an_utterance_too_short_for_a_span_is_not_masked_and_none_is_masked_whole() -> None:
    assert not span_mask([8], 0.65, 8, rng()).any()
    for seed in range(100):
        mask = span_mask([9, 16], 1.0, 8, rng(seed))
        assert 0 < mask[0].sum() < 9
        assert 0 < mask[1].sum() < 16


def test_masks_are_the_seeds() -> None:
    first, again, other = (span_mask([100, 80], 0.65, 8, rng(s)) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_negatives_are_other_masked_frames_of_the_same_utterance() -> None:
    mask = span_mask([60, 40, 25], 0.65, 5, rng())
    negatives = draw_negatives(mask, 200, rng(1))
    utterance = np.nonzero(mask)[0]
    assert negatives.shape == (mask.sum(), 200)
    assert (utterance[negatives] == utterance[:, None]).all()
    assert (negatives != np.arange(len(negatives))[:, None]).all()


def test_negatives_are_uniform_over_the_others() -> None:
    mask = np.ones((1, 5), dtype=bool)
    negatives = draw_negatives(mask, 40_000, rng())
    for frame, drawn in enumerate(negatives):
        shares = np.bincount(drawn, minlength=5) / 40_000
        assert shares[frame] == 0
        assert np.delete(shares, frame) == pytest.approx([0.25] * 4, abs=0.01)


def test_a_lone_masked_frame_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="single masked frame"):
        draw_negatives(np.array([[True, False, False]]), 3, rng())
