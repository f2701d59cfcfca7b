from pathlib import Path

import numpy as np
import pytest
import torch
from models import save
from test_ctc import clips, module_of

from finetune.ctc.masks import FairseqMasks, equal_masks, masks_of
from finetune.pretrain.crops import draw_negatives, span_mask


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


def one_row(length: int, share: float, span: int, least: int, rng: np.random.Generator) -> set[int]:
    """The masked places of a row before rows are made alike, place by place."""
    count = max(least, int(share * length / span + rng.random()))
    starts = rng.choice(max(length - span, count + 1), count, replace=False)
    return {s + k for s in starts.tolist() for k in range(span) if s + k < length}


def test_all_rows_have_as_many_masked_places_as_the_one_with_fewest() -> None:
    """fairseq's; a mask that all rows keep whole is a union of spans."""
    lengths = [400, 390, 350, 300]
    for seed in range(50):
        mask = equal_masks(lengths, 420, 0.65, 10, 2, rng(seed))
        again = rng(seed)
        rows = [one_row(length, 0.65, 10, 2, again) for length in lengths]
        fewest = min(map(len, rows))
        assert mask.sum(1).tolist() == [fewest] * 4
        for row, places in zip(mask, rows, strict=True):
            assert set(np.flatnonzero(row).tolist()) <= places


@pytest.mark.parametrize("length", [1, 2, 5, 10, 11, 12])
def test_rows_shorter_than_a_span_are_masked_within_their_length(length: int) -> None:
    for seed in range(20):
        mask = equal_masks([length, 100], 100, 0.65, 10, 2, rng(seed))
        assert not mask[0, length:].any()
        assert mask.sum(1).tolist() == [mask[0].sum()] * 2


def test_a_model_is_masked_so_in_training_alone(tmp_path: Path) -> None:
    """Group norm: the feature extractor gives no mask of the padding, and none of it is masked."""
    texts = ["AB", "A", "B"]
    keys = {"mask_time_prob": 0.5, "mask_time_length": 3, "mask_feature_prob": 0.3}
    keys |= {"mask_feature_length": 4, "activation_dropout": 0.0}
    folder = save("wav2vec2_base", tmp_path)
    module, blueprint, vocabulary = module_of(folder, texts, masks="fairseq", **keys)
    torch.nn.init.normal_(module.model.lm_head.weight)
    speech = clips(tmp_path, vocabulary, texts, blueprint.feature_extractor)
    batch = speech.batch([0, 1, 2], [1.0] * 3)
    assert isinstance(module.masks, FairseqMasks)
    encoder = module.model.base_model
    frames = [module.geometry.n_frames(n) for n in batch.samples.tolist()]
    hidden = torch.ones(3, max(frames), 32)
    with torch.no_grad():
        encoder.masked_spec_embed.fill_(2.0)
        module.masks.draw(frames, rng())
        found = encoder.train()._mask_hidden_states(hidden, attention_mask=None)
        channels, time = (found == 0).all(1), (found == 2).any(2)
        assert channels.sum(1).unique().numel() == time.sum(1).unique().numel() == 1
        assert channels.any()
        assert time.any()
        assert not any(row[n:].any() for row, n in zip(time, frames, strict=True))
        assert torch.equal(encoder.eval()._mask_hidden_states(hidden), hidden)
        module.train()
        module.masks.draw(frames, rng())
        one = module.losses(batch)[0]
        module.masks.draw(frames, rng())
        assert torch.equal(module.losses(batch)[0], one)
        module.masks.draw(frames, rng(1))
        assert not torch.equal(module.losses(batch)[0], one)
    assert masks_of(encoder, module_of(tmp_path, texts, **keys)[0].recipe) is None
