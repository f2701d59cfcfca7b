"""Utterances and folds of frames: seeded, and keeping together what belongs together."""

import numpy as np
import pytest
from drawn import corpus, corpus_of, frames_of, units_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.sampling.folds import (
    FrameSamples,
    blocks,
    draw_frames,
    empty_folds,
    grouped_folds,
)
from common.config import SamplingConfig, UnitSampling
from common.records import StrataError
from common.seeding import generator, hashed_folds


@settings(deadline=None, max_examples=80)
@given(n=st.integers(1, 40), data=st.data(), samples=st.integers(1, 6))
def test_blocks_hold_different_items_and_overlap_only_where_they_must(
    n: int, data: st.DataObject, samples: int
) -> None:
    size = data.draw(st.integers(0, n))
    order = np.random.default_rng(n).permutation(n) + 100
    drawn = blocks(order, size, samples)
    assert len(drawn) == samples
    for block in drawn:
        assert len(block) == len(set(block.tolist())) == size
        assert set(block.tolist()) <= set(order.tolist())
    used = np.bincount(np.concatenate(drawn) - 100, minlength=n)
    assert used.max() - used.min() <= 1  # none is taken again while another is unused


def test_frame_draws_repeat_with_the_seed_and_change_with_it() -> None:
    speech = corpus()
    first, again, other = (frames_of(speech, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.members, again.members)
    assert (first.members != other.members).any()
    np.testing.assert_array_equal(first.groups_of(3, 500), again.groups_of(3, 500))
    assert (first.groups_of(3, 500) != other.groups_of(3, 500)).any()


def test_frame_draws_do_not_depend_on_what_was_drawn_before() -> None:
    speech = corpus()
    alone = units_of(speech, instances=5), frames_of(speech)
    frames = frames_of(speech)
    units_of(speech, instances=7)
    units = units_of(speech, instances=5)
    np.testing.assert_array_equal(frames.members, alone[1].members)
    np.testing.assert_array_equal(units.folds, alone[0].folds)
    np.testing.assert_array_equal(units.start, alone[0].start)


@pytest.mark.parametrize(("n", "wanted"), [(100, 30), (60, 30), (31, 30), (20, 20)])
def test_each_sample_has_its_utterances_and_shares_few(n: int, wanted: int) -> None:
    frames = frames_of(corpus(n))
    np.testing.assert_array_equal(frames.members.sum(0), [wanted] * 3)
    times = frames.members.sum(1)
    assert times.max() - times.min() <= 1


def test_identical_samples_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    frames_of(corpus(31))
    assert "samples are identical" not in caplog.text
    frames_of(corpus(20))
    assert "all 20 utterances are in each of the 3 frame samples" in caplog.text


def test_frame_folds_are_uniform_and_a_frame_keeps_its_own() -> None:
    frames = frames_of(corpus())
    groups = frames.groups_of(7, 50_000)
    share = np.bincount(groups, minlength=10) / len(groups)
    # Ten folds, each tested on: a share is off by 0.0013 (one deviation).
    np.testing.assert_allclose(share, [0.1] * 10, rtol=0, atol=0.01)
    np.testing.assert_array_equal(frames.groups_of(7, 300), groups[:300])
    assert (frames.groups_of(8, 300) != groups[:300]).any()


def test_the_fold_of_a_frame_depends_on_the_name_of_its_utterance_not_its_place() -> None:
    speech = corpus()
    moved = corpus_of(speech.utterances[::-1])
    n = len(speech.utterances)
    np.testing.assert_array_equal(
        frames_of(speech).groups_of(3, 200), frames_of(moved).groups_of(n - 1 - 3, 200)
    )


def test_neighbouring_frames_fall_into_folds_independently() -> None:
    folds = hashed_folds(0, "u", 100_000, 10)
    together = np.bincount(10 * folds[:-1] + folds[1:], minlength=100) / (len(folds) - 1)
    np.testing.assert_allclose(together, 0.01, rtol=0, atol=0.002)


def frame_folds_by_utterance(frames: FrameSamples) -> NDArray[np.int64]:
    assert frames.utterance_folds is not None
    return frames.utterance_folds


@pytest.mark.parametrize("split", ["utterance", "speaker"])
def test_frames_of_one_utterance_or_speaker_share_a_fold(split: str) -> None:
    speech = corpus(n=90, speakers=30)
    frames = frames_of(speech, split)
    fold_of: dict[str, set[int]] = {}
    for u in np.flatnonzero(frames.members.any(1)):
        groups = frames.groups_of(int(u), 40)
        assert len(set(groups.tolist())) == 1
        name = speech.utterances[u].id if split == "utterance" else speech.utterances[u].speaker
        fold_of.setdefault(name, set()).add(int(frame_folds_by_utterance(frames)[u]))
    assert all(len(folds) == 1 for folds in fold_of.values())
    loads = np.bincount([next(iter(folds)) for folds in fold_of.values()], minlength=10)
    assert loads.min() >= 1


def test_folds_of_utterances_are_of_one_size() -> None:
    frames = frames_of(corpus(n=93), "utterance")
    folds = frame_folds_by_utterance(frames)
    loads = np.bincount(folds[frames.members.any(1)], minlength=10)
    assert loads.max() - loads.min() <= 1


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 30), min_size=5, max_size=40), seed=st.integers(0, 99))
def test_grouped_folds_never_tear_and_are_balanced(sizes: list[int], seed: int) -> None:
    keys = [f"k{i}" for i, size in enumerate(sizes) for _ in range(size)]
    order = np.random.default_rng(seed).permutation(len(keys))
    shuffled = [keys[i] for i in order]
    folds = grouped_folds(shuffled, 5, "speaker", generator(seed, "test"))
    by_key: dict[str, set[int]] = {}
    for key, fold in zip(shuffled, folds.tolist(), strict=True):
        by_key.setdefault(key, set()).add(fold)
    assert all(len(folds_of_key) == 1 for folds_of_key in by_key.values())
    loads = np.bincount(folds, minlength=5)
    assert loads.min() >= 1
    assert loads.max() - loads.min() <= max(sizes)


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_placed_first_so_that_small_ones_even_the_folds(seed: int) -> None:
    keys = [*"aaaaabbbbbcccccddddd", *"vwxyz"]
    folds = grouped_folds(keys, 5, "speaker", generator(seed, "test"))
    np.testing.assert_array_equal(np.bincount(folds), [5] * 5)


@pytest.mark.parametrize("unit", ["frame", "phone"])
def test_too_few_speakers_are_refused_with_their_number(unit: str) -> None:
    speech = corpus(speakers=7)
    with pytest.raises(StrataError, match=r"10 folds but there are 7 speakers.*folds=7"):
        _ = frames_of(speech, "speaker") if unit == "frame" else units_of(speech, "speaker")


@pytest.mark.parametrize("unit", ["frame", "phone"])
def test_unknown_speakers_cannot_be_kept_apart(unit: str) -> None:
    known, unknown = corpus(n=40, speakers=20).utterances, corpus(n=6, speaker="").utterances
    speech = corpus_of([*known, *unknown])
    with pytest.raises(StrataError, match=r"split=speaker: \d+ of .* have no speaker.*u000"):
        _ = (
            draw_frames(speech, UnitSampling(), SamplingConfig(), "speaker", 0)
            if unit == "frame"
            else units_of(speech, "speaker")
        )
    assert frames_of(speech, "utterance").utterance_folds is not None


def test_every_sample_has_speech_in_every_fold() -> None:
    """Also where folds that are even over all samples would leave one of a sample empty."""
    speech, run, dealt_anew = corpus(n=60, speakers=60), SamplingConfig(samples=3), 0
    for seed in range(20):
        drawn = draw_frames(speech, UnitSampling(utterances=20), run, "speaker", seed)
        assert drawn.utterance_folds is not None
        counts = [np.bincount(drawn.utterance_folds[m], minlength=10) for m in drawn.members.T]
        assert np.min(counts) >= 1
        rng = generator(seed, "folds", "speaker")
        once = grouped_folds([u.speaker for u in speech.utterances], 10, "speaker", rng)
        if (drawn.utterance_folds == once).all():
            continue
        dealt_anew += 1
        np.testing.assert_array_equal(counts, np.full((3, 10), 2))
        least = [np.bincount(once[m], minlength=10).min() for m in drawn.members.T]
        assert min(least) == 0  # what sufficed stays as it was drawn
    assert 0 < dealt_anew < 20


def test_a_sample_without_speech_in_a_fold_is_refused_before_the_pass() -> None:
    speech, few = corpus(n=12, speakers=12), UnitSampling(utterances=4)
    wrong = r"sample 0 has none of its 4 utterances in fold \d of 10 \(split=utterance\): use more"
    with pytest.raises(StrataError, match=wrong):
        draw_frames(speech, few, SamplingConfig(samples=3), "utterance", 0)
    draw_frames(speech, few, SamplingConfig(samples=3), "frame", 0)
    # With one trial only its test fold and its dev fold need speech.
    folds = np.array([0, 1, 5, -1])
    assert empty_folds(folds, [np.array([0, 1])], SamplingConfig(trials=1)) == {}
    two = [np.array([0, 1, 5]), np.array([0, 1, 2])]
    assert empty_folds(np.array([0, 1, 4, -1, -1, 2]), two, SamplingConfig(trials=2)) == {1: 2}


def hand_made(members: list[list[int]]) -> FrameSamples:
    ids = tuple(f"u{i}" for i in range(len(members)))
    return FrameSamples(np.array(members, dtype=bool), 1, 3, 0, ids, None, "frame")


def test_patterns_name_the_distinct_samples_that_share_an_utterance() -> None:
    frames = hand_made([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0]])
    assert [frames.representative(s) for s in range(3)] == [0, 1, 0]
    assert frames.distinct() == [0, 1]
    assert frames.patterns() == {0: (0,), 1: (0, 1), 2: (1,)}


def test_samples_of_all_utterances_are_one() -> None:
    frames = hand_made([[1, 1, 1], [1, 1, 1]])
    assert frames.distinct() == [0]
    assert frames.patterns() == {0: (0,), 1: (0,)}


def test_groups_are_those_of_the_trials_and_one_for_the_rest() -> None:
    assert frames_of(corpus()).groups == 10
    three = draw_frames(corpus(), UnitSampling(), SamplingConfig(trials=3), "frame", 0)
    assert three.groups == 5
    assert hand_made([[1]]).groups == 3
