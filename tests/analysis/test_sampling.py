"""What is drawn: seeded, bounded, counted; and folds that keep together what belongs together."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.sampling import (
    FrameSamples,
    blocks,
    draw_frames,
    grouped_folds,
)
from analysis.unit_sampling import UnitSamples, check_folds, draw_units
from common.config import AnalysisConfig, SamplingConfig, TargetConfig, UnitSampling
from common.records import Corpus, Interval, StrataError, Utterance, Waveform
from common.seeding import generator, hashed_folds

FRAMES = UnitSampling(utterances=30)


def silent() -> Waveform:
    raise AssertionError("drawing reads no audio")


def utterance(index: int, labels: Sequence[str], speaker: str) -> Utterance:
    units = tuple(Interval(100 * k, 100 * k + 100, label) for k, label in enumerate(labels))
    return Utterance(f"u{index:03}", speaker, "", 16_000, {"phone": units}, silent)


def corpus_of(utterances: Sequence[Utterance]) -> Corpus:
    return Corpus("toy", "all", "none", tuple(utterances), {}, "fingerprint")


def corpus(n: int = 60, speakers: int = 12, seed: int = 0, speaker: str = "s") -> Corpus:
    """Utterances of 3 to 40 phones whose frequencies fall off."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, 16)
    made = []
    for index in range(n):
        drawn = rng.choice(15, size=rng.integers(3, 41), p=frequency / frequency.sum())
        name = f"{speaker}{index % speakers}" if speaker else ""
        made.append(utterance(index, [f"p{code:02}" for code in drawn], name))
    return corpus_of(made)


def analysis(**limits: int) -> AnalysisConfig:
    return AnalysisConfig(
        unit="phone",
        target=TargetConfig(kind="phone"),
        metric=None,
        sampling=UnitSampling(**limits),
        pooling="mean",
    )


def units_of(
    corpus: Corpus, split: str = "frame", seed: int = 0, samples: int = 3, **limits: int
) -> UnitSamples:
    return draw_units(corpus, analysis(**limits), SamplingConfig(samples=samples), split, seed)


def frames_of(corpus: Corpus, split: str = "frame", seed: int = 0) -> FrameSamples:
    return draw_frames(corpus, FRAMES, SamplingConfig(), split, seed)


# Blocks of a permutation


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


# Frames


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
    share = np.bincount(groups, minlength=7) / len(groups)
    # Six folds of a tenth, and the other four together; a share is off by 0.0013 (one deviation).
    np.testing.assert_allclose(share, [0.1] * 6 + [0.4], rtol=0, atol=0.01)
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
    speech = corpus(n=90, speakers=15)
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
    assert all(len(own) == 1 for own in by_key.values())
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
    with pytest.raises(StrataError, match=r"split=speaker: 6 of .* have no speaker.*u000"):
        _ = (
            draw_frames(speech, UnitSampling(), SamplingConfig(), "speaker", 0)
            if unit == "frame"
            else units_of(speech, "speaker")
        )
    assert frames_of(speech, "utterance").utterance_folds is not None


# Which samples share an utterance


def hand_made(members: list[list[int]]) -> FrameSamples:
    ids = tuple(f"u{i}" for i in range(len(members)))
    return FrameSamples(np.array(members, dtype=bool), 1, 3, 0, ids, None)


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
    assert frames_of(corpus()).groups == 7
    assert hand_made([[1]]).groups == 3


# Units


def all_labels(speech: Corpus) -> Counter[str]:
    return Counter(iv.label for u in speech.utterances for iv in u.tiers["phone"])


def drawn_labels(units: UnitSamples, sample: int) -> Counter[str]:
    return Counter(units.labels[code] for code in units.label[units.folds[sample] >= 0])


@settings(deadline=None, max_examples=25)
@given(
    labels=st.integers(2, 15),
    instances=st.integers(5, 200),
    least=st.integers(1, 40),
    seed=st.integers(0, 50),
)
def test_every_sample_draws_what_the_limits_allow(
    labels: int, instances: int, least: int, seed: int
) -> None:
    speech = corpus(n=80, seed=seed)
    counts = all_labels(speech)
    often = sorted((c for c in counts if counts[c] >= least), key=lambda c: (-counts[c], c))
    wanted = {label: min(counts[label], instances) for label in often[:labels]}
    if len(wanted) < 2 or sum(wanted.values()) < 60:
        return
    units = units_of(speech, seed=seed, labels=labels, instances=instances, min_instances=least)
    assert units.labels == tuple(wanted)
    for sample in range(3):
        assert drawn_labels(units, sample) == wanted
    assert len(units.label) + sum(units.dropped.values()) == sum(counts.values())


def test_what_is_left_out_is_counted_by_reason() -> None:
    speech = corpus()
    counts = all_labels(speech)
    ranked = [count for _, count in counts.most_common()]
    rare = sum(count for count in ranked if count < 20)
    outside = sum(count for count in ranked[6:] if count >= 20)
    units = units_of(speech, samples=1, labels=6, instances=10, min_instances=20)
    beyond = sum(count - 10 for count in ranked[:6])
    assert list(units.dropped.values()) == [rare, outside, beyond]
    assert all(reason.startswith("phone: ") for reason in units.dropped)


def test_units_keep_their_times_and_the_order_of_the_corpus() -> None:
    speech = corpus()
    units = units_of(speech, instances=8)
    assert (np.diff(units.utterance) >= 0).all()
    rows = zip(units.utterance, units.start, units.end, units.label, strict=True)
    for u, start, end, label in rows:
        interval = Interval(int(start), int(end), units.labels[label])
        assert interval in speech.utterances[u].tiers["phone"]
    assert len({*zip(units.utterance, units.start, strict=True)}) == len(units.start)
    assert (units.folds >= 0).any(0).all()


def test_rows_of_an_utterance() -> None:
    units = units_of(corpus(), instances=3)
    for u in range(62):  # two of them beyond the corpus
        rows = units.of(u)
        np.testing.assert_array_equal(
            np.arange(rows.start, rows.stop), np.flatnonzero(units.utterance == u)
        )
    assert any(units.of(u).start == units.of(u).stop for u in range(60))


def test_samples_of_a_frequent_label_are_disjoint_and_those_of_a_rare_one_overlap() -> None:
    units = units_of(corpus(), instances=20)
    counts = all_labels(corpus())
    for code, label in enumerate(units.labels):
        times = (units.folds[:, units.label == code] >= 0).sum(0)
        assert times.max() == (1 if counts[label] >= 60 else -(-60 // max(counts[label], 20)))


def test_folds_are_stratified_within_each_label() -> None:
    units = units_of(corpus(n=120), instances=25)
    for folds in units.folds:
        for code in range(len(units.labels)):
            own = folds[(units.label == code) & (folds >= 0)]
            loads = np.bincount(own, minlength=10)
            assert loads.max() - loads.min() <= 1


def test_what_many_labels_leave_over_does_not_pile_up_in_the_first_folds() -> None:
    texts = [[f"w{label:03}" for label in range(100)]] * 15
    units = units_of(corpus_of([utterance(i, labels, "s") for i, labels in enumerate(texts)]))
    for folds in units.folds:
        loads = np.bincount(folds, minlength=10)
        # 5 of 15 instances go to half of the folds: 150 each, with a deviation of 5.
        np.testing.assert_allclose(loads, 150, rtol=0, atol=25)


def test_unit_draws_change_with_the_seed() -> None:
    speech = corpus()
    first, again, other = (units_of(speech, instances=8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.folds, again.folds)
    assert first.start.tolist() != other.start.tolist()


@pytest.mark.parametrize("split", ["utterance", "speaker"])
def test_units_of_one_utterance_or_speaker_share_a_fold_within_a_sample(split: str) -> None:
    speech = corpus(n=90, speakers=18)
    units = units_of(speech, split, instances=40)
    keys = np.array([u.id if split == "utterance" else u.speaker for u in speech.utterances])
    for folds in units.folds:
        drawn = folds >= 0
        sizes = Counter(keys[units.utterance[drawn]])
        for key in sizes:
            own = folds[drawn & (keys[units.utterance] == key)]
            assert len(set(own.tolist())) == 1
        loads = np.bincount(folds[drawn], minlength=10)
        assert loads.max() - loads.min() <= max(sizes.values())


def test_a_tier_that_is_not_there_is_named_with_those_that_are() -> None:
    words = AnalysisConfig(
        unit="word", target=TargetConfig(kind="word"), metric=None, pooling="mean"
    )
    with pytest.raises(StrataError, match="no word tier: it has phone"):
        draw_units(corpus(), words, SamplingConfig(), "frame", 0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([["a"] * 40] * 5, "1 phone label.s. occur 2 times or more among 200 units of 1 labels"),
        ([["a"] * 40] * 5 + [["b"]], "1 phone label.s. occur 2 times or more among 201 units of 2"),
        ([["a", "b"]], "0 phone label.s. occur 2 times"),
    ],
    ids=["one label", "one that occurs once", "all occur once"],
)
def test_fewer_than_two_labels_are_refused(texts: list[list[str]], message: str) -> None:
    speech = corpus_of([utterance(i, labels, "s") for i, labels in enumerate(texts)])
    with pytest.raises(StrataError, match=message):
        units_of(speech, min_instances=2)


def test_a_label_with_one_instance_is_drawn_where_that_is_allowed() -> None:
    texts = [["a"] * 40 + ["b"] * 40] * 3 + [["c"]]
    speech = corpus_of([utterance(i, labels, "s") for i, labels in enumerate(texts)])
    units = units_of(speech, min_instances=1, instances=30)
    assert drawn_labels(units, 0) == drawn_labels(units, 2) == {"a": 30, "b": 30, "c": 1}


def test_too_few_units_for_the_folds_are_refused_with_their_number() -> None:
    speech = corpus_of([utterance(0, ["a", "b"] * 7, "s")])
    (folds, *_) = units_of(speech).folds
    with pytest.raises(StrataError, match=r"14 phone units over 10 folds leave [01] in one"):
        check_folds("phone", folds, SamplingConfig())


def test_no_limits_draw_every_unit() -> None:
    speech = corpus(n=20)
    units = units_of(speech)
    assert (units.folds >= 0).all()
    assert sum(units.dropped.values()) == 0
    assert len(units.label) == sum(all_labels(speech).values())
