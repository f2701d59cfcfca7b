"""The synthetic corpus: same seed, same bytes; times that fit the sound."""

import hashlib
import os
import pickle
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from lexicon import all_words
from running import ROOT, python

pytest.importorskip("espeakng_loader", reason="needs espeak-ng: pip install espeakng-loader")

from common.datasets.synthetic import Reading, Synthetic, _voice
from common.datasets.textgrid import TextGrid
from common.phones import ARPABET
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance

VOWELS = {phone for phone in ARPABET if phone[0] in "aeiou"}


def synthetic(**changes) -> Synthetic:
    return Synthetic(**({"minutes": 2, "speakers": 10, "seed": 0, "write_to": None} | changes))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic().read()


@pytest.fixture(scope="module")
def waveforms(corpus) -> dict[str, np.ndarray]:
    return {u.id: u.read() for u in corpus.utterances}


def digest(utterances) -> str:
    total = hashlib.sha256()
    for u in utterances:
        total.update(u.read().tobytes())
        total.update(repr((u.id, u.speaker, u.text, u.n_samples, u.tiers)).encode())
    return total.hexdigest()


@pytest.mark.slow
def test_a_fresh_process_says_the_same(corpus):
    code = (
        "from tests.common.test_synthetic import digest, synthetic\n"
        "c = synthetic().read()\n"
        "print(c.fingerprint, digest(c.utterances[::-1][:12][::-1]))"
    )
    result = python("-c", code, PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [corpus.fingerprint, digest(corpus.utterances[-12:])]


def test_a_small_vocabulary_is_another_corpus_and_says_nothing_else(corpus):
    small = synthetic(words_per_class=1).read()
    assert small.fingerprint != corpus.fingerprint
    spoken_words = {word.removesuffix("'s") for u in small.utterances for word in u.text.split()}
    assert spoken_words <= set(all_words(1))


def test_what_was_said_before_does_not_matter(corpus, waveforms):
    order = np.random.default_rng(0).permutation(len(corpus.utterances))
    for i in order:
        utterance = corpus.utterances[i]
        np.testing.assert_array_equal(utterance.read(), waveforms[utterance.id])


def test_threads_take_turns(corpus, waveforms):
    with ThreadPoolExecutor(4) as pool:
        for u, waveform in zip(
            corpus.utterances, pool.map(lambda u: u.read(), corpus.utterances), strict=True
        ):
            np.testing.assert_array_equal(waveform, waveforms[u.id])


def test_more_minutes_append(corpus):
    longer = synthetic(minutes=3).read()
    n = len(corpus.utterances)
    assert len(longer.utterances) > n
    assert longer.utterances[:n] == corpus.utterances
    assert longer.fingerprint != corpus.fingerprint
    assert 2 / 60 <= corpus.hours < 2 / 60 + 0.005


def test_seed_changes_everything(corpus):
    other = synthetic(seed=1).read()
    assert other.fingerprint != corpus.fingerprint
    assert other.utterances[0].text != corpus.utterances[0].text
    assert other.utterances[0].read.voice != corpus.utterances[0].read.voice


def test_tiers_are_ordered_and_inside_the_waveform(corpus, waveforms):
    for u in corpus.utterances:
        assert len(waveforms[u.id]) == u.n_samples
        for tier in ("phone", "word"):
            assert all(0 <= x.start < x.end <= u.n_samples for x in u.tiers[tier])
            assert all(a.end <= b.start for a, b in pairwise(u.tiers[tier]))


def test_words_are_the_text_and_hold_their_phones(corpus):
    for u in corpus.utterances:
        words, phones = u.tiers["word"], list(u.tiers["phone"])
        assert " ".join(w.label for w in words) == u.text
        assert u.text == u.text.lower()
        for word in words:
            inside = [p for p in phones if word.start <= p.start and p.end <= word.end]
            assert inside
            assert (inside[0].start, inside[-1].end) == (word.start, word.end)
            phones = phones[len(inside) :]
        assert not phones


def test_phone_lengths_are_those_of_speech(corpus):
    lengths = [p.end - p.start for u in corpus.utterances for p in u.tiers["phone"]]
    assert min(lengths) > 0.010 * SAMPLE_RATE
    assert max(lengths) < 0.450 * SAMPLE_RATE
    assert 0.05 * SAMPLE_RATE < np.median(lengths) < 0.1 * SAMPLE_RATE


def test_sound_is_loud_in_words_and_silent_between(corpus, waveforms):
    for u in corpus.utterances:
        x = waveforms[u.id].astype(np.float64)
        inside = np.zeros(len(x), bool)
        for word in u.tiers["word"]:
            inside[word.start : word.end] = True
        assert x.dtype == np.float64
        assert 0.05 < np.abs(x).max() < 0.99
        assert np.mean(x[inside] ** 2) > 1000 * np.mean(x[~inside] ** 2)


def test_fricatives_hiss_and_vowels_do_not(corpus, waveforms):
    """Zero crossings per second within the labelled interval, and at the very border of s."""
    crossings: dict[str, list[float]] = {}
    for u in corpus.utterances:
        sign = np.signbit(waveforms[u.id])
        changes = np.append(sign[1:] != sign[:-1], False)
        for p in u.tiers["phone"]:
            kind = "vowel" if p.label in VOWELS else p.label
            crossings.setdefault(kind, []).append(changes[p.start : p.end].mean() * SAMPLE_RATE)
    medians = {kind: np.median(values) for kind, values in crossings.items()}
    assert medians["s"] > 6000
    assert medians["sh"] > 5000
    assert medians["vowel"] < 3500
    assert medians["n"] < 2500


def test_onsets_are_where_the_sound_starts(corpus, waveforms):
    """After a plosive the energy below 1 kHz rises within 12 ms of the vowel's labelled start."""
    offsets = []
    for u in corpus.utterances:
        smooth = np.convolve(waveforms[u.id], np.ones(16) / 16, "same").astype(np.float64) ** 2
        for before, vowel in pairwise(u.tiers["phone"]):
            if before.label in {"p", "t", "k"} and vowel.label in VOWELS:
                starts = vowel.start + np.arange(-480, 481, 16)
                log = np.log([smooth[i : i + 16].mean() + 1e-9 for i in starts])
                errors = [log[:j].var() * j + log[j:].var() * (len(log) - j) for j in range(5, 56)]
                offsets.append(np.argmin(errors) - 25)
    assert len(offsets) > 20
    assert abs(np.median(offsets)) <= 3  # ms
    assert np.mean(np.abs(offsets) <= 12) > 0.85


@pytest.mark.slow
def test_every_phone_occurs_in_twelve_minutes():
    spoken = synthetic(minutes=12, speakers=40).read()
    counts = Counter(p.label for u in spoken.utterances for p in u.tiers["phone"])
    assert set(counts) == set(ARPABET)
    assert min(counts.values()) >= 5
    assert len({u.speaker for u in spoken.utterances}) == 40
    assert len({w.label for u in spoken.utterances for w in u.tiers["word"]}) > 700


def test_speakers_differ():
    """Ten speakers, one sentence: pitch tells women from men, spectra tell all apart."""
    text = "we saw the yellow house near the river."
    pitches, spectra = [], []
    for k in range(10):
        x = Reading(text, _voice(0, k))().astype(np.float64)
        spectrum = np.abs(np.fft.rfft(x[: len(x) // 512 * 512].reshape(-1, 512))).mean(axis=0)
        spectra.append(spectrum / np.linalg.norm(spectrum))
        pitches.append(_pitch(x))
    assert min(pitches[0::2]) > max(pitches[1::2])
    similarities = np.array(spectra) @ np.array(spectra).T
    assert np.max(similarities - np.eye(10)) < 0.995


def _pitch(x: np.ndarray) -> float:
    """Median Hz of the strongest autocorrelation between 70 and 350 Hz, over loud frames."""
    frames = x[: len(x) // 1024 * 1024].reshape(-1, 1024)
    loud = frames[np.std(frames, axis=1) > np.std(x)]
    power = np.abs(np.fft.rfft(loud - loud.mean(axis=1, keepdims=True), 2048)) ** 2
    correlation = np.fft.irfft(power)[:, 45:230]
    return float(np.median(SAMPLE_RATE / (45 + correlation.argmax(axis=1))))


def test_readers_can_be_pickled(corpus, waveforms):
    utterance = pickle.loads(pickle.dumps(corpus.utterances[3]))
    assert isinstance(utterance, Utterance)
    np.testing.assert_array_equal(utterance.read(), waveforms[utterance.id])


def test_partitions_share_no_speaker(corpus):
    parts = {name: synthetic(partition=name).read() for name in ("train", "dev", "test")}
    speakers = [u.speaker for part in parts.values() for u in part.utterances]
    assert len(speakers) == len(corpus.utterances)
    assert {u.speaker for u in parts["dev"].utterances} == {"s0008"}
    assert {u.speaker for u in parts["test"].utterances} == {"s0009"}
    assert parts["dev"].fingerprint != parts["test"].fingerprint


def test_limit_spreads_and_is_counted(corpus):
    some = synthetic(limit=7).read()
    assert len(some.utterances) == 7
    assert some.dropped["utterance: beyond dataset.limit"] == len(corpus.utterances) - 7
    assert some.utterances[0] == corpus.utterances[0]
    assert corpus.utterances.index(some.utterances[-1]) > 0.8 * len(corpus.utterances)
    assert some.fingerprint != corpus.fingerprint
    assert corpus.dropped["phone: silence"] > 0


def test_written_files_read_back(tmp_path, waveforms):
    """Through the dataset `textgrid`: same times to the sample, same audio to the bit."""
    written = synthetic(write_to=str(tmp_path), limit=3).read()
    corpus = TextGrid(
        audio_root=str(tmp_path / "audio"),
        alignment_root=str(tmp_path / "alignments"),
        word_tier=None,
        phone_tier=None,
        speaker="folder",
        licence="",
    ).read()
    assert len(corpus.utterances) == 3
    ours = {u.id: u for u in written.utterances}
    for u in corpus.utterances:
        same = ours[u.id]
        assert (u.speaker, u.text, u.n_samples) == (same.speaker, same.text, same.n_samples)
        assert u.tiers == same.tiers
        np.testing.assert_array_equal(u.read(), waveforms[u.id])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0}, "dataset.minutes=0"),
        ({"words_per_class": 0}, "dataset.words_per_class=0"),
        ({"speakers": 0}, "dataset.speakers=0"),
        ({"seed": -1}, "dataset.seed=-1"),
        ({"partition": "dev_clean"}, "synthetic has all, train, dev, test"),
        ({"partition": "test", "speakers": 9}, "use at least 10"),
        ({"write_to": __file__}, "this is a file"),
        ({"limit": 0}, "dataset.limit=0"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(StrataError, match=message):
        synthetic(**changes)


def test_too_short_for_the_partition():
    with pytest.raises(StrataError, match="use more minutes"):
        synthetic(minutes=0.1, partition="test").read()


def test_missing_package_says_what_to_install(monkeypatch):
    from common.datasets import espeak

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(StrataError, match="pip install espeakng-loader"):
        espeak._find()
