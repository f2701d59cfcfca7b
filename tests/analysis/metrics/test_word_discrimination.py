"""Word discrimination as metrics: what they report of pooled vectors and of frames."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from frames_in_memory import frames_of, utterance
from units_in_memory import units_of

from analysis.metrics.frames import Frames
from analysis.metrics.units import Units
from analysis.metrics.word_discrimination import PooledDiscrimination, WarpedDiscrimination
from analysis.targets.labels import Phone, Word
from common.metric import Score
from common.records import Interval, StrataError

POOLED, WARPED = PooledDiscrimination(), WarpedDiscrimination()
RNG = np.random.default_rng(0)
WORDS = np.repeat(np.arange(8), 5)
SPEAKERS = np.tile(np.arange(5), 8)


def by_name(scores: list[Score]) -> dict[str, float]:
    assert len({s.metric for s in scores}) == len(scores)
    return {s.metric: s.value for s in scores}


def pooled(noise: float, speaker: float = 0.0) -> Units:
    word, voice = RNG.normal(size=(8, 16)), RNG.normal(size=(5, 16))
    deviation = noise * RNG.normal(size=(40, 16))
    return units_of(
        word[WORDS] + speaker * voice[SPEAKERS] + deviation,
        WORDS.tolist(),
        [f"w{k}" for k in range(8)],
        SPEAKERS.tolist(),
    )


def test_words_alone_are_found_and_noise_is_chance() -> None:
    clear = by_name(POOLED.score(pooled(noise=0.1)))
    further = ("", "_swdp", "_across_speakers")
    names = [f"average_precision{which}{more}" for which in ("_centred", "") for more in further]
    assert clear.keys() == {"", *names[1:]}
    assert min(clear.values()) > 0.99
    noise = POOLED.score(pooled(noise=1e4))
    assert by_name(noise)[""] == pytest.approx(80 / 780, abs=0.05)
    assert noise[0].detail["pairs"] == (
        "80 of 780 pairs are the same word, 80 by different speakers; chance 0.1026"
    )


def test_voices_hide_words_less_across_speakers_only() -> None:
    scores = by_name(POOLED.score(pooled(noise=0.1, speaker=1.5)))
    assert scores[""] < 0.9
    # Different words of one voice are alike: left out, they do no harm.
    assert scores["average_precision_centred_across_speakers"] > scores[""] + 0.05
    swdp = scores["average_precision_centred_swdp"]
    assert swdp == pytest.approx(scores[""])  # each says a word once


def test_a_mean_that_all_words_share_changes_nothing() -> None:
    """Of pooled vectors and of frames; uncentred, words sink in it."""
    units = pooled(noise=0.7)
    shift = 30 * RNG.normal(size=16)
    plain, shared = (
        by_name(POOLED.score(replace(units, vectors=units.vectors + s))) for s in (0, shift)
    )
    assert shared[""] == pytest.approx(plain[""], abs=1e-3)
    assert shared["average_precision"] < plain["average_precision"] - 0.03
    frames = warped(jitter=True, noise=2.0)
    moved = replace(frames, hidden=frames.hidden + 30 * RNG.normal(size=10))
    plain, shared = by_name(WARPED.score(frames)), by_name(WARPED.score(moved))
    for figure in ("", "average_precision_pooled_centred"):
        assert shared[figure] == pytest.approx(plain[figure], abs=1e-3)
    assert shared["average_precision_dtw"] < plain["average_precision_dtw"]


def test_discrimination_takes_words_alone() -> None:
    for metric in (POOLED, WARPED):
        assert metric.accepts("word", Word())
        assert not metric.accepts("frame", Word())
        assert not metric.accepts("phone", Phone())


def test_nothing_to_compare_is_an_error_before_there_are_vectors() -> None:
    empty = np.zeros((4, 0))
    for label, message in (([0, 1, 2, 3], "each at most 1 times"), ([0] * 4, "of 1 words")):
        with pytest.raises(StrataError, match=message):
            POOLED.check(units_of(empty, label, ["a", "b", "c", "d"], [0, 1, 0, 1]))


def test_one_speaker_is_said_and_has_no_figure(caplog: pytest.LogCaptureFixture) -> None:
    units = units_of(RNG.normal(size=(4, 3)), [0, 0, 1, 1], ["a", "b"], [0, 0, 1, 1])
    with caplog.at_level(logging.WARNING):
        POOLED.check(units)
    assert "no word of 4 segments is known to be said by two speakers (2 speakers" in caplog.text
    assert [s.metric for s in POOLED.score(units)] == ["", "average_precision"]


def warped(jitter: bool, noise: float = 0.05) -> Frames:
    """Each word a path of its own; with jitter each segment holds its frames for another time."""
    paths = RNG.normal(size=(8, 6, 10))
    parts, utterances, intervals = [], [], []
    for word, speaker in zip(WORDS, SPEAKERS, strict=True):
        times = RNG.choice([1, 12], 6) if jitter else np.full(6, 3)
        parts.append(
            np.repeat(paths[word], times, axis=0) + noise * RNG.normal(size=(times.sum(), 10))
        )
        utterances.append(utterance("u", f"s{speaker}", 1, {}))
        intervals.append(Interval(0, 1, f"w{word}"))
    return frames_of(parts, utterances, intervals=intervals)


def test_warping_sees_through_tempo_where_the_mean_does_not() -> None:
    scores = by_name(WARPED.score(warped(jitter=True)))
    assert scores[""] > 0.999
    assert scores["average_precision_pooled"] < 0.95
    assert scores["average_precision_dtw_swdp"] > 0.999
    assert scores["average_precision_dtw_across_speakers"] > 0.999


def test_the_pooled_figure_beside_it_is_that_of_the_means() -> None:
    frames = warped(jitter=True)
    means = np.stack([frames.of(k).mean(0) for k in range(40)])
    units = units_of(means, WORDS.tolist(), [f"w{k}" for k in range(8)], SPEAKERS.tolist())
    expected = by_name(POOLED.score(units))["average_precision"]
    assert by_name(WARPED.score(frames))["average_precision_pooled"] == pytest.approx(expected)


def test_the_summary_keeps_the_pairs_once() -> None:
    scores = POOLED.score(pooled(noise=0.1)) * 3
    assert len(POOLED.summary(scores, "word_discrimination")["pairs"]) == 1
