"""espeak's phones as ARPABET: every mnemonic covered, words and cuts exact."""

from pathlib import Path

import numpy as np
import pytest
from lexicon import all_words
from marks import slow

pytest.importorskip("espeakng_loader", reason="needs espeak-ng: pip install espeakng-loader")

from common.datasets.espeak import SpokenPhone, SynthesisedSpeech, Voice, speak
from common.datasets.espeak_phones import ACCENTS, align, arpabet, is_pause
from common.phones import ARPABET
from common.records import Interval, StrataError

TABLES = {"en-US": "en-us", "en": "en", "en-GB-x-rp": "en-rp", "en-GB-x-gbclan": "en-n"}


def voice(accent: str) -> Voice:
    return Voice(accent, 180, (90, 130), (100,) * 9, (100,) * 9, (100,) * 9)


def own_phones_of(table: str) -> set[str]:
    """Mnemonics that espeak's compiled phoneme tables define for `table`, without the general ones.

    phontab: a count, then for each table (n phonemes, parent, name) and n records of 16 bytes.
    """
    import espeakng_loader

    data = (Path(espeakng_loader.get_data_path()) / "phontab").read_bytes()
    position = 4
    for _ in range(data[0]):
        n, name = data[position], data[position + 4 : position + 36].split(b"\0")[0].decode()
        position += 36
        if name == table:
            records = range(position, position + 16 * n, 16)
            return {data[r : r + 4].rstrip(b"\0").decode() for r in records} - {""}
        position += 16 * n
    raise AssertionError(table)


@pytest.mark.parametrize("accent", ACCENTS)
def test_every_phone_of_the_accent_has_an_equivalent(accent):
    for mnemonic in own_phones_of("en") | own_phones_of(TABLES[accent]):
        assert set(arpabet(mnemonic, accent)) <= set(ARPABET), mnemonic
        assert arpabet(mnemonic, accent)


@pytest.mark.parametrize("accent", [slow(a) if a != "en-US" else a for a in ACCENTS])
def test_the_whole_vocabulary_is_covered(accent):
    """Every fourth word in each accent: the phones that come are known, none is dropped."""
    words = all_words()[list(ACCENTS).index(accent) :: len(ACCENTS)]
    for start in range(0, len(words), 12):
        part = words[start : start + 12]
        spoken = speak(part, voice(accent))
        tiers = align(spoken, part, accent, 0)
        assert [w.label for w in tiers["word"]] == list(part)
        assert {p.label for p in tiers["phone"]} <= set(ARPABET)


def test_unknown_phone_is_named():
    with pytest.raises(StrataError, match=r"'Q\^' \(accent en-US\)"):
        arpabet("Q^", "en-US")


@pytest.mark.parametrize(
    ("accent", "word", "phones"),
    [
        ("en-US", "car", "k aa r"),
        ("en", "car", "k aa"),
        ("en-US", "bath", "b ae th"),
        ("en-GB-x-rp", "bath", "b aa th"),
        ("en-US", "hearing", "hh ih r ih ng"),
        ("en-US", "little", "l ih t ah l"),
        ("en-US", "button", "b ah t n"),
        ("en-US", "being", "b iy ih ng"),
        ("en", "near", "n ih ah"),
        ("en-GB-x-gbclan", "cup", "k uh p"),
        ("en-US", "old", "ow l d"),
        ("en-US", "measure", "m eh zh er"),
    ],
)
def test_pronunciations(accent, word, phones):
    tiers = align(speak([word], voice(accent)), [word], accent, 0)
    assert [p.label for p in tiers["phone"]] == phones.split()


def test_contracted_words_keep_their_own_intervals():
    """One entry of espeak's dictionary says "of the", "in a", "would have" and 200 others."""
    for text in (
        "one of the men in a boat",
        "it would have been for a while",
        "he had to be at it",
    ):
        words = text.split()
        tiers = align(speak(words, voice("en-US")), words, "en-US", 0)
        assert [w.label for w in tiers["word"]] == words
        assert all(w.end - w.start > 16 * 20 for w in tiers["word"])


def test_glides_closures_and_shared_sounds():
    """A hand-made signal at 22.05 kHz: zeros are silence, ones are sound; 441 samples = 320."""
    pcm = np.ones(4410, np.int16)
    pcm[882:1323] = 0  # the closure of t
    pcm[2205:2646] = 0  # a silent l: sounded at the end of the vowel
    phones = (
        SpokenPhone(0, "i:", 0),
        SpokenPhone(441, ";", 0),
        SpokenPhone(600, "I", 0),
        SpokenPhone(1323, "t", 0),
        SpokenPhone(1764, "oU", 1),
        SpokenPhone(2205, "l", 1),
        SpokenPhone(2646, "i@", 1),
        SpokenPhone(3528, "_:", 1),
    )
    tiers = align(SynthesisedSpeech(pcm, phones, (0, 1764)), ("eat", "old"), "en-US", 441)
    assert tiers["word"] == (Interval(320, 1600, "eat"), Interval(1600, 2880, "old"))
    assert tiers["phone"] == (
        Interval(320, 640, "iy"),
        Interval(640, 960, "ih"),
        Interval(960, 1600, "t"),
        Interval(1600, 1813, "ow"),
        Interval(1813, 2240, "l"),
        Interval(2240, 2560, "iy"),
        Interval(2560, 2880, "ah"),
    )


def test_a_word_without_sound_is_an_error():
    silent = SynthesisedSpeech(np.zeros(441, np.int16), (SpokenPhone(0, "_:", 0),), (0,))
    with pytest.raises(StrataError, match="left out the word 'mute'"):
        align(silent, ("mute",), "en-US", 0)


def test_pauses_are_recognised():
    assert is_pause("_:")
    assert is_pause("_")
    assert not is_pause("@")
