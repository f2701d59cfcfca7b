"""Labelled units that are drawn: seeded, bounded, counted by reason, stratified over folds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn import analysis, corpus, corpus_of, silent, units_of, utterance
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.sampling.segments import (
    Segments,
    check_folds,
    draw_single_frames,
    draw_units,
)
from analysis.targets.labels import Attribute, Word
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.encoder.frames import FrameGeometry
from common.records import Corpus, Interval, StrataError, Utterance

RUN = SamplingConfig(samples=2, folds=4, trials=1)


def all_labels(speech: Corpus) -> Counter[str]:
    return Counter(iv.label for u in speech.utterances for iv in u.tiers["phone"])


def drawn_labels(units: Segments, sample: int) -> Counter[str]:
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
    assume(len(wanted) >= 2 and sum(wanted.values()) >= 60)
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
            of_label = folds[(units.label == code) & (folds >= 0)]
            loads = np.bincount(of_label, minlength=10)
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
            of_key = folds[drawn & (keys[units.utterance] == key)]
            assert len(set(of_key.tolist())) == 1
        loads = np.bincount(folds[drawn], minlength=10)
        assert loads.max() - loads.min() <= max(sizes.values())


def test_a_tier_that_is_not_there_is_named_with_those_that_are() -> None:
    words = AnalysisConfig(unit="word", target=Word(), metric=None, pooling="mean")
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


# By speaker, utterance and partition


def spoken_by(speakers: int, each: int = 8, words: Sequence[str] = ("a", "b")) -> Corpus:
    """Utterances of 20 words; the last speaker says nothing but "rare"."""
    made = []
    for index in range(speakers * each):
        speaker = index // each
        spoken = ["rare"] * 2 if speaker == speakers - 1 else [*words] * 10
        tier = tuple(Interval(100 * k, 100 * k + 100, word) for k, word in enumerate(spoken))
        made.append(Utterance(f"u{index}", f"s{speaker}", "", 16_000, {"word": tier}, None))
    return Corpus("toy", "all", "none", tuple(made), {}, "fingerprint")


def in_folds(
    speech: Corpus, split: str, unit: str = "word", target: str = "word", **more: Any
) -> Segments:
    limits = UnitSampling(labels=2 if target == "word" else None, **more.pop("limits", {}))
    analysis = AnalysisConfig(
        unit=unit,
        target=Attribute(attribute="speaker") if target == "speaker" else Word(),
        metric=None,
        sampling=limits,
        pooling="mean",
    )
    return draw_units(speech, analysis, RUN, split, 0, **more)


@pytest.mark.parametrize(("speakers", "split"), [(5, "speaker"), (4, "utterance")])
def test_enough_speakers_are_those_of_the_units_drawn(speakers: int, split: str) -> None:
    """One of them has no unit of the two labels: three are too few for four folds."""
    drawn = in_folds(spoken_by(speakers), "speaker_else_utterance")
    assert (drawn.split, drawn.labels) == (split, ("a", "b"))


def test_folds_of_utterances_are_even_within_each_speaker() -> None:
    drawn = in_folds(spoken_by(5), "utterance", unit="utterance", target="speaker")
    assert drawn.split == "utterance"
    for folds in drawn.folds:
        for speaker in range(5):
            assert Counter(folds[drawn.label == speaker].tolist()) == dict.fromkeys(range(4), 2)


@pytest.mark.parametrize(("fit", "fitted"), [(None, 6), (40, 40), (999, 160)])
def test_a_partition_to_fit_on_has_instances_of_its_own(fit: int | None, fitted: int) -> None:
    speech = spoken_by(5)
    scored = np.array([u.speaker in ("s2", "s3") for u in speech.utterances])
    limits = {"instances": 6, "fit_instances": fit}
    drawn = in_folds(speech, "speaker_else_utterance", scored=scored, limits=limits)
    assert drawn.split == "partition"
    for folds in drawn.folds:
        rows = np.flatnonzero(folds >= 0)
        parts = Counter(zip(drawn.label[rows], scored[drawn.utterance[rows]], strict=True))
        assert parts == {(0, True): 6, (1, True): 6, (0, False): fitted, (1, False): fitted}


# The place of what was drawn in its tier


def test_drawn_phones_know_their_place_in_the_tier() -> None:
    speech = corpus()
    drawn = units_of(speech, instances=4)
    for rows in (np.arange(len(drawn.label)), np.arange(0, len(drawn.label), 3)):
        some = drawn.take(rows)
        for u, start, label, place in zip(
            some.utterance, some.start, some.label, some.place, strict=True
        ):
            interval = speech.utterances[u].tiers["phone"][place]
            assert (interval.start, interval.label) == (start, drawn.labels[label])


@pytest.mark.parametrize("unit", ["phone", "frame"])
def test_frames_have_the_place_of_the_phone_that_they_lie_in(unit: str) -> None:
    tier = tuple(Interval(1600 * k, 1600 * (k + 1), label) for k, label in enumerate("abcab"))
    speech = corpus_of([Utterance("u", "s", "", 8000, {"phone": tier}, silent)])
    drawn = draw_units(
        speech, replace(analysis(), unit=unit), SamplingConfig(samples=1), "frame", 0
    )
    times = 5 if unit == "frame" else 1
    assert drawn.place.tolist() == [k for k in range(5) for _ in range(times)]


def test_whole_utterances_and_frames_without_labels_are_of_no_tier() -> None:
    speech = corpus(n=30, speakers=30)
    by_speaker = replace(analysis(), unit="utterance", target=Attribute(attribute="speaker"))
    drawn = draw_units(speech, by_speaker, SamplingConfig(samples=1), "frame", 0)
    assert (drawn.tier, set(drawn.place.tolist())) == ("", {-1})
    single = draw_single_frames(
        speech, UnitSampling(frames=20), SamplingConfig(), "frame", 0, [FrameGeometry(400, 320)]
    )
    assert (single.tier, set(single.place.tolist())) == ("", {-1})
