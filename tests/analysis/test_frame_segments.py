"""Segments whose frames are kept: utterances that have the tier, words that are long enough."""

import numpy as np
import pytest

from analysis.metrics.word_discrimination import WarpedDiscrimination
from analysis.metrics.word_segmentation import Segmentation
from analysis.sampling.folds import draw_frames
from analysis.sampling.segments import Segments, draw_units, draw_utterances
from analysis.targets.labels import Word
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.records import Corpus, Interval, StrataError, Utterance

RUN = SamplingConfig(samples=3)
SEGMENTATION = Segmentation((1,), (0.1,), ("cosine",), 20, "r_value")


def unread() -> np.ndarray:
    raise AssertionError("no audio is to be read")


def corpus_of(n: int, without: tuple[int, ...] = ()) -> Corpus:
    words = (
        Interval(0, 8000, "seven"),
        Interval(8000, 15_999, "eight"),
        Interval(16_000, 30_000, "four"),
        Interval(30_000, 40_000, "eleven"),
    )
    utterances = tuple(
        Utterance(f"u{k}", f"s{k % 3}", "", 40_000, {} if k in without else {"word": words}, unread)
        for k in range(n)
    )
    return Corpus("toy", "all", "none", utterances, {}, "print")


def analysis(unit: str, **limits: float) -> AnalysisConfig:
    metric = SEGMENTATION if unit == "frame" else WarpedDiscrimination()
    sampling = UnitSampling(**limits)
    return AnalysisConfig(
        unit=unit,
        target=Word(),
        metric=metric,
        sampling=sampling,
        pooling="mean",
    )


def draw(corpus: Corpus, analysis: AnalysisConfig, seed: int = 0) -> Segments:
    if analysis.unit == "frame":
        return draw_utterances(corpus, analysis, RUN, seed)
    return draw_units(corpus, analysis, RUN, "frame", seed)


def test_utterances_without_the_tier_are_counted_and_never_drawn() -> None:
    drawn = draw(corpus_of(20, without=(2, 7)), analysis("frame", utterances=6))
    assert drawn.dropped == {"word: utterance without such units": 2}
    assert (drawn.folds >= 0).sum(1).tolist() == [6, 6, 6]
    utterance = drawn.utterance
    assert not {2, 7} & set(utterance.tolist())
    assert np.array_equal(utterance, np.unique(utterance))
    together = np.concatenate([drawn.drawn(sample) for sample in range(3)])
    assert sorted(together.tolist()) == list(range(18))  # 18 utterances, 3 samples of 6: no overlap
    assert drawn.labels == ()


def test_where_all_have_the_tier_they_are_those_that_frames_are_drawn_from() -> None:
    corpus = corpus_of(20)
    drawn = draw(corpus, analysis("frame", utterances=5), 3)
    frames = draw_frames(corpus, UnitSampling(utterances=5), RUN, "frame", 3)
    for sample in range(3):
        utterances = drawn.utterance[drawn.drawn(sample)]
        assert utterances.tolist() == np.flatnonzero(frames.members[:, sample]).tolist()


def test_words_are_of_half_a_second_and_five_characters_exactly() -> None:
    limits = {"min_seconds": 0.5, "min_characters": 5}
    drawn = draw(corpus_of(4), analysis("word", **limits))
    assert {drawn.labels[code] for code in drawn.label} == {"seven", "eleven"}
    assert drawn.dropped["word: shorter than 0.5 s"] == 4  # "eight" lacks one sample
    assert drawn.dropped["word: label of less than 5 characters"] == 4
    assert set(zip(drawn.start.tolist(), drawn.end.tolist(), strict=True)) == {
        (0, 8000),
        (30_000, 40_000),
    }


@pytest.mark.parametrize(
    ("unit", "limits", "message"),
    [
        ("word", {"min_seconds": 9}, r"no word unit is left to draw \(word: shorter than 9 s 16\)"),
        ("word", {"min_characters": 7}, "label of less than 7 characters 16"),
    ],
)
def test_nothing_long_enough_is_an_error(unit: str, limits: dict[str, float], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        draw(corpus_of(4), analysis(unit, **limits))


@pytest.mark.parametrize("unit", ["frame", "word"])
def test_no_tier_is_an_error(unit: str) -> None:
    with pytest.raises(StrataError, match="has no word tier: it has none"):
        draw(corpus_of(3, without=(0, 1, 2)), analysis(unit))


def test_another_draw_has_another_digest() -> None:
    digests = {
        draw(corpus_of(20), analysis("frame", utterances=n), seed).digest()
        for n, seed in ((5, 0), (5, 1), (4, 0))
    }
    assert len(digests) == 3
