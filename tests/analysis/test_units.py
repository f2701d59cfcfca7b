"""Units: what labels them, which are drawn against a table, and what a shuffle leaves alone."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.metrics.cka import LinearCKA
from analysis.metrics.units import Units
from analysis.sampling.segments import Segments, draw_units
from analysis.targets.base import FRAME, LabelTarget, frames_within
from analysis.targets.labels import Attribute, Phone, Word
from analysis.targets.sentence_pairs import SentencePairs
from analysis.targets.word_vectors import Table, WordVectors
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.records import Corpus, Interval, StrataError, Utterance, Waveform

RUN = SamplingConfig(samples=2)
WORD, SPEAKER = Word(), Attribute(attribute="speaker")


def silent() -> Waveform:
    raise AssertionError("drawing reads no audio")


def corpus(speaker: str = "s", n: int = 40) -> Corpus:
    """Utterances of 12 words of 0.1 s; word w3 is said by everybody, w39 hardly ever."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(n):
        drawn_words = rng.choice(40, size=12, p=1 / np.arange(1, 41) / (1 / np.arange(1, 41)).sum())
        words = tuple(
            Interval(1600 * k, 1600 * k + 1600, f"w{code}") for k, code in enumerate(drawn_words)
        )
        name = f"{speaker}{index % 8}" if speaker else ""
        made.append(Utterance(f"u{index:02}", name, "", 20_000, {"word": words}, silent))
    return Corpus("toy", "all", "none", tuple(made), {}, "fingerprint")


def analysis(unit: str = "word", target: LabelTarget = WORD, **limits: int) -> AnalysisConfig:
    return AnalysisConfig(
        unit=unit,
        target=target,
        metric=LinearCKA(),
        sampling=UnitSampling(**limits),
        pooling="mean",
    )


def sentence_pairs(folder: Path) -> SentencePairs:
    """Whole utterances against a table whose sentences nobody recorded."""
    table = folder / "pairs.csv"
    table.write_text("id_a,id_b,score\nx1,x2,1\nx2,x3,2\nx1,x3,3\n")
    return SentencePairs(path=str(table))


def draw(
    speech: Corpus,
    member: AnalysisConfig,
    split: str = "frame",
    known: Collection[str] | None = None,
) -> Segments:
    if known is not None:
        member = replace(member, target=table_of(known))
    return draw_units(speech, member, RUN, split, 0)


def table_of(words: Collection[str]) -> WordVectors:
    """A table that holds these words and no others."""
    rows = {word: row for row, word in enumerate(sorted(words))}
    return WordVectors(table=Table(tuple(rows), np.eye(len(rows), dtype=np.float32), rows))


# Labels


@pytest.mark.parametrize("start", [0, 1, 159, 160, 161, 319, 320, 321, 1000])
@pytest.mark.parametrize("length", [1, 100, 160, 319, 320, 321, 1600])
def test_a_frame_has_the_label_of_its_middle_sample(start: int, length: int) -> None:
    found = list(frames_within(Interval(start, start + length, "a")))
    middles = [k for k in range(20) if start <= FRAME * k + FRAME // 2 < start + length]
    assert [iv.start // FRAME for iv in found] == middles
    assert all(iv.end - iv.start == FRAME and iv.start % FRAME == 0 for iv in found)


def test_frames_of_a_tier_are_disjoint_and_cover_it() -> None:
    speech = corpus()
    units = Word().segments(speech, "frame")
    assert len({(one.utterance, one.start) for one in units}) == len(units)
    assert len(units) == 40 * 12 * 1600 // FRAME
    by_label = Counter(one.label for one in units)
    words = Counter(one.label for one in Word().segments(speech, "word"))
    assert by_label == Counter({word: 5 * count for word, count in words.items()})


def test_an_utterance_is_one_unit_labelled_by_itself_or_by_its_speaker(tmp_path: Path) -> None:
    speech = corpus()
    whole = sentence_pairs(tmp_path).segments(speech, "utterance")
    assert whole[:2] == [(0, 0, 20_000, "u00", -1), (1, 0, 20_000, "u01", -1)]
    drawn_words = SPEAKER.segments(speech, "utterance")
    assert [one.label for one in drawn_words] == [u.speaker for u in speech.utterances]
    words = SPEAKER.segments(speech, "word")
    assert [one.label for one in words[:13]] == ["s0"] * 12 + ["s1"]


def test_whole_utterances_need_no_tier_and_speakers_must_be_known(tmp_path: Path) -> None:
    bare = Utterance("u", "", "", 16_000, {}, silent)
    speech = Corpus("toy", "all", "none", (bare, replace(bare, id="v")), {}, "fingerprint")
    assert len(sentence_pairs(tmp_path).segments(speech, "utterance")) == 2
    with pytest.raises(StrataError, match=r"2 of 2 utterances have no speaker.*prefix"):
        SPEAKER.segments(speech, "utterance")


@pytest.mark.parametrize(("unit", "target"), [("word", WordVectors()), ("frame", Phone())])
def test_a_missing_tier_is_named_with_those_there_are(unit: str, target: LabelTarget) -> None:
    tier = "word" if unit == "word" else "phone"
    speech = corpus()
    if tier == "word":
        bare = tuple(Utterance(u.id, "s", "", 9, {"phone": ()}, silent) for u in speech.utterances)
        speech = Corpus("toy", "all", "none", bare, {}, "fingerprint")
    with pytest.raises(StrataError, match=rf"toy \(all\) has no {tier} tier: it has"):
        target.segments(speech, unit)


# Drawing against a table


def test_only_labels_that_the_target_knows_are_drawn_and_the_others_counted() -> None:
    speech, known = corpus(), {f"w{code}" for code in range(0, 40, 3)} | {"never"}
    counts = Counter(iv.label for u in speech.utterances for iv in u.tiers["word"])
    drawn = draw(speech, analysis("word"), known=known)
    assert set(drawn.labels) == known & set(counts)
    missing = set(counts) - known
    assert drawn.dropped["word: not known to the target"] == sum(counts[w] for w in missing)
    assert drawn.dropped["word: labels not known to the target"] == len(missing)
    assert len(drawn.label) == sum(counts[w] for w in known)


def test_a_target_that_shares_no_label_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(StrataError, match=r"none of the \d+ word labels \(as w0, .*target\.path"):
        draw(corpus(), analysis("word"), known={"the", "of"})


def test_one_shared_label_is_not_enough() -> None:
    with pytest.raises(StrataError, match=r"1 word label.*a comparison needs two"):
        draw(corpus(), analysis("word"), known={"w0"})


# Folds of an analysis's own


def test_how_folds_are_cut_changes_no_row() -> None:
    speech = corpus()
    plain = draw(speech, analysis(instances=5))
    by_utterance = draw(speech, analysis(instances=5), split="utterance")
    assert plain.digest() == by_utterance.digest()
    np.testing.assert_array_equal(plain.folds >= 0, by_utterance.folds >= 0)
    assert (plain.split, by_utterance.split) == ("frame", "utterance")


@pytest.mark.parametrize(("folds", "split"), [(7, "speaker"), (8, "speaker"), (9, "utterance")])
def test_speakers_where_there_are_enough_else_utterances(folds: int, split: str) -> None:
    run = SamplingConfig(samples=1, folds=folds, trials=1)
    drawn = draw_units(corpus(), analysis(), run, "speaker_else_utterance", 0)
    assert drawn.split == split


def test_unknown_speakers_are_not_taken_for_one() -> None:
    drawn = draw(corpus(speaker=""), analysis(), split="speaker_else_utterance")
    assert drawn.split == "utterance"


# Shuffling


def units(scored: np.ndarray) -> Units:
    n = len(scored)
    rng = np.random.default_rng(1)
    return Units(
        vectors=rng.normal(size=(n, 3)).astype(np.float32),
        label=rng.integers(0, 5, n),
        labels=tuple("abcde"),
        speaker=rng.integers(0, 4, n),
        speakers=tuple("wxyz"),
        utterance=np.arange(n),
        fold=rng.integers(0, 10, n),
        scored=scored,
        seed=7,
    )


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_shuffling_moves_labels_only_and_keeps_their_counts(share: float) -> None:
    before_shuffling = units(np.random.default_rng(2).random(400) < share)
    moved = before_shuffling.shuffled()
    for part in (before_shuffling.scored, ~before_shuffling.scored):
        before, after = (np.bincount(u.label[part], minlength=5) for u in (before_shuffling, moved))
        np.testing.assert_array_equal(before, after)
    assert 0.1 < (moved.label == before_shuffling.label).mean() < 0.3  # a fifth stays by chance
    assert moved.vectors is before_shuffling.vectors
    np.testing.assert_array_equal(moved.fold, before_shuffling.fold)
    np.testing.assert_array_equal(moved.label, before_shuffling.shuffled().label)
