"""Windows of long recordings: what they hold, where they are cut, what they hear."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.records import (
    SAMPLE_RATE,
    Corpus,
    Interval,
    StrataError,
    Utterance,
    Waveform,
    counts_of,
)
from common.windows import CLIPPED, CUT, GRID, NO_TEXT, in_windows

SECOND = SAMPLE_RATE


def corpus_of(*utterances: Utterance) -> Corpus:
    return Corpus("toy", "all", "none", utterances, {"phone: silence": 3}, "print")


def spoken(id: str, seconds: float, words: Sequence[tuple[float, float, str]]) -> Utterance:
    """A recording that counts its samples, with words at these times and a phone in each half."""
    n = round(seconds * SECOND)
    word = tuple(Interval(round(s * SECOND), round(e * SECOND), w) for s, e, w in words)
    middles = [(i.start + i.end) // 2 for i in word]
    phone = tuple(
        half
        for i, middle in zip(word, middles, strict=True)
        for half in (Interval(i.start, middle, "a"), Interval(middle, i.end, "b"))
    )
    text = " ".join(i.label for i in word)
    waveform = np.arange(n, dtype=np.float32)
    return Utterance(id, "s", text, n, {"word": word, "phone": phone}, lambda: waveform)


def many(seconds: float, gap: float, length: float = 0.4, seed: int = 0) -> Utterance:
    """Words from the beginning to the end, `gap` seconds between them on average."""
    rng, words, at = np.random.default_rng(seed), [], 0.0
    while at + length < seconds:
        words.append((at, at + length, f"w{len(words)}"))
        at += length + 2 * gap * rng.random()
    return spoken("long", seconds, words)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("gap", [0.0, 0.03, 0.5])
def test_windows_hold_all_of_a_recording_each_piece_once_and_in_place(
    gap: float, overlap: bool
) -> None:
    recording = many(200, gap)
    whole = recording.read()
    windows = in_windows(corpus_of(recording), 20 * SECOND, overlap=overlap).utterances
    starts = [round(float(w.id.partition("@")[2]) * SECOND) for w in windows]
    at = 0
    found: dict[str, list[Interval]] = {"word": [], "phone": []}
    for window, stated in zip(windows, starts, strict=True):
        before, after = window.context
        samples = window.read()
        assert len(samples) == before + window.n_samples + after <= 20 * SECOND
        assert samples[before] == at
        assert abs(stated - at) <= 8  # ids have milliseconds
        assert np.array_equal(samples, whole[at - before : at + window.n_samples + after])
        assert overlap or (before, after) == (0, 0)
        for name, tier in window.tiers.items():
            assert all(0 <= i.start < i.end <= window.n_samples for i in tier)
            found[name] += [Interval(i.start + at, i.end + at, i.label) for i in tier]
        at += window.n_samples
    assert at == recording.n_samples
    assert found == {name: list(tier) for name, tier in recording.tiers.items()}
    assert " ".join(w.text for w in windows) == recording.text
    assert {w.speaker for w in windows} == {"s"}
    assert overlap == any(w.context[0] for w in windows)


def test_windows_begin_on_the_grid_of_frames_in_the_longest_silence() -> None:
    words = [(k + 0.1, k + 0.9, "w") for k in range(60) if k not in (14, 33)]
    windows = in_windows(corpus_of(spoken("r", 60, words)), 25 * SECOND).utterances
    starts = np.cumsum([0, *(w.n_samples for w in windows)])[:-1]
    assert all(start % GRID == 0 for start in starts)
    assert 13.9 < starts[1] / SECOND < 15.1
    assert 32.9 < starts[2] / SECOND < 34.1


def test_what_is_short_stays_and_a_corpus_of_it_keeps_its_fingerprint() -> None:
    short, long = spoken("short", 5, [(1, 2, "a")]), many(30, 0.2)
    corpus = corpus_of(short)
    assert in_windows(corpus, 5 * SECOND) is corpus
    mixed = in_windows(corpus_of(short, long), 10 * SECOND)
    assert mixed.utterances[0] is short
    assert mixed.dropped == {"phone: silence": 3, CUT: 1}
    others = [in_windows(corpus_of(short, long), n * SECOND).fingerprint for n in (10, 12)]
    assert others[0] == mixed.fingerprint != others[1] != corpus.fingerprint


def test_a_word_that_leaves_no_silence_is_cut_and_counted() -> None:
    recording = spoken("r", 40, [(0, 38, "endless"), (38.5, 39, "end")])
    cut = in_windows(corpus_of(recording), 10 * SECOND)
    assert sum(w.n_samples for w in cut.utterances) == recording.n_samples
    assert [i.label for w in cut.utterances for i in w.tiers["word"]] == ["endless", "end"]
    assert cut.dropped[CLIPPED] == 3  # the word, and its two phones
    left_out, changed = counts_of(cut.dropped).split("; kept, but changed: ")
    assert left_out == "left out: phone: silence 3"
    assert changed == f"{CUT} 1, {CLIPPED} 3"


def test_a_recording_without_tiers_is_cut_evenly() -> None:
    recording = replace(many(100, 0.1), tiers={}, text="")
    windows = in_windows(corpus_of(recording), 20 * SECOND).utterances
    assert sum(w.n_samples for w in windows) == recording.n_samples
    assert all(5 * SECOND <= w.n_samples <= 16 * SECOND for w in windows)
    assert all(w.text == "" for w in windows)


def test_a_text_whose_words_are_not_the_tier_s_is_left_out_and_counted() -> None:
    recording = replace(many(100, 0.1), text="something else")
    cut = in_windows(corpus_of(recording), 20 * SECOND)
    assert cut.dropped[NO_TEXT] == len(cut.utterances)
    assert {w.text for w in cut.utterances} == {""}


def test_a_recording_is_decoded_once_and_a_broken_one_is_an_error_of_each_window() -> None:
    calls = []

    def broken() -> Waveform:
        calls.append(None)
        raise StrataError("damaged")

    windows = in_windows(corpus_of(replace(many(100, 0.1), read=broken)), 20 * SECOND).utterances
    for window in windows:
        with pytest.raises(StrataError, match="damaged"):
            window.read()
    assert len(calls) == 1


@pytest.mark.parametrize("within", [1, 800, 1281])
def test_windows_are_no_shorter_than_a_second_allows(within: int) -> None:
    recording = spoken("r", 30, [(0, 29, "endless")])
    windows = in_windows(corpus_of(recording), 10 * SECOND, within, overlap=False).utterances
    assert sum(w.n_samples for w in windows) == recording.n_samples
    assert all(0 < w.n_samples <= SECOND for w in windows)
