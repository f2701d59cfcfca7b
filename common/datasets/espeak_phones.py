"""What espeak-ng says in English, as ARPABET phones and words with exact times.

Labels follow the sound, not the spelling: a British "car" ends in `aa`, an American one in `r`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.datasets.espeak import ESPEAK_RATE, SynthesisedSpeech
from common.records import SAMPLE_RATE, Interval, StrataError

# espeak's mnemonic -> ARPABET, where every accent agrees. Two or three phones share the interval.
_COMMON = {
    **{name: (name,) for name in "bdfgklmnprstvwz"},
    "D": ("dh",),
    "N": ("ng",),
    "S": ("sh",),
    "T": ("th",),
    "Z": ("zh",),
    "dZ": ("jh",),
    "h": ("hh",),
    "j": ("y",),
    "tS": ("ch",),
    "w#": ("w",),
    # The tap of "city" and the glottal stop of "button" are t, as in CMUdict.
    "t2": ("t",),
    "t#": ("t",),
    "?": ("t",),
    "d#": ("d",),
    "z#": ("z",),
    "z/2": ("z",),
    "r-": ("r",),
    "r/": ("r",),
    "l-": ("l",),
    "l/": ("l",),
    "l/2": ("l",),
    "l/3": ("l",),
    "m-": ("m",),
    "n-": ("n",),
    "N-": ("ng",),
    "@L": ("ah", "l"),
    "@": ("ah",),
    "@-": ("ah",),
    "@2": ("ah",),
    "@5": ("ah",),
    "@#": ("ah",),
    "3": ("ah",),
    "a#": ("ah",),
    "a#2": ("ah",),
    "V": ("ah",),
    "a": ("ae",),
    "a2": ("ae",),
    "a/": ("ae",),
    "aa": ("ae",),
    "A#": ("ae",),
    "A:": ("aa",),
    "A~": ("aa", "n"),
    "E": ("eh",),
    "E2": ("eh",),
    "E#": ("eh",),
    "e#": ("eh",),
    "e:": ("ey",),
    "eI": ("ey",),
    "I": ("ih",),
    "I2": ("ih",),
    "I#": ("ih",),
    "I2#": ("ih",),
    "i": ("iy",),
    "i:": ("iy",),
    "0": ("aa",),
    "0#": ("aa",),
    "02": ("aa",),
    "O2": ("aa",),
    "O": ("ao",),
    "O:": ("ao",),
    "O~": ("ao", "n"),
    "U": ("uh",),
    "u:": ("uw",),
    "o:": ("ow",),
    "oU": ("ow",),
    "oU#": ("ow",),
    "aI": ("ay",),
    "aI2": ("ay",),
    "aI#": ("ay",),
    "OI": ("oy",),
    "aU": ("aw",),
    "3:": ("er",),
    "IR": ("er",),
    "VR": ("er",),
    # Before a silent r; the r is a phone of its own where an accent has one.
    "A@": ("aa",),
    "O@": ("ao",),
    "o@": ("ao",),
    "e@": ("eh",),
    "i@": ("iy", "ah"),
    "i@3": ("ih", "ah"),
    "U@": ("uh", "ah"),
    "aI@": ("ay", "ah"),
    "aI3": ("ay", "ah"),
    "aU@": ("aw", "ah"),
}

_AMERICAN = {
    "3": ("er",),
    "A#": ("aa",),
    "O2": ("ao",),
    "02": ("ah",),
    "A@": ("aa", "r"),
    "O@": ("ao", "r"),
    "o@": ("ao", "r"),
    "e@": ("eh", "r"),
    "i@3": ("ih", "r"),
    "U@": ("uh", "r"),
    "aI3": ("ay", "er"),
    "aU@": ("aw", "er"),
}

# espeak's language files that may be used, and how each departs from the rest.
ACCENTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en-US": _COMMON | _AMERICAN,
    "en": _COMMON,
    "en-GB-x-rp": {**_COMMON, "aa": ("aa",)},
    "en-GB-x-gbclan": {**_COMMON, "V": ("uh",)},
}

_Timed = tuple[int, int, str]  # start, end (22.05 kHz), espeak's mnemonic

_GLIDE = ";"  # a [j] that slides into the next vowel ("being"); ARPABET gives it no phone
_PLOSIVES = frozenset(("p", "b", "t", "t2", "t#", "d", "d#", "k", "g", "?", "tS", "dZ"))
_R = frozenset(("r", "r-", "r/"))
_LIQUIDS = _R.union(("l", "l/", "l/2", "l/3"))


def is_pause(mnemonic: str) -> bool:
    """Whether espeak's phone is silence: "_", "_:", "_!" and the like."""
    return mnemonic.startswith("_")


def arpabet(mnemonic: str, accent: str, following: str = "") -> tuple[str, ...]:
    """The ARPABET phones of an espeak phone, given the espeak phone after it."""
    try:
        phones = ACCENTS[accent][mnemonic]
    except KeyError:
        raise StrataError(
            f"espeak-ng said the phone {mnemonic!r} (accent {accent}), which has no ARPABET "
            "equivalent in common/datasets/espeak_phones.py: add it there; words that are not "
            "English bring foreign phones in"
        ) from None
    if len(phones) > 1 and phones[-1] == "r" and following in _R:
        return phones[:-1]  # "hearing": the r is coming anyway
    return phones


def align(
    speech: SynthesisedSpeech, words: Sequence[str], accent: str, lead: int
) -> dict[str, tuple[Interval, ...]]:
    """The tiers "phone" and "word" of `speech` in samples at 16 kHz.

    `lead` samples (at 22.05 kHz) of silence are to come before the speech. An espeak phone that
    stands for k ARPABET phones is cut into k equal parts, each to the integer sample below.
    """
    phones: list[Interval] = []
    spoken: list[Interval] = []
    for label, timed in zip(words, _by_word(speech), strict=True):
        if not timed:
            raise StrataError(f"espeak-ng left out the word {label!r} in {' '.join(words)!r}")
        bounds = [_to_16_khz(lead + sample) for sample, _, _ in timed]
        ends = [_to_16_khz(lead + end) for _, end, _ in timed]
        names = [mnemonic for _, _, mnemonic in timed]
        spoken.append(Interval(bounds[0], ends[-1], label))
        for start, end, name, following in zip(bounds, ends, names, [*names[1:], ""], strict=True):
            labels = arpabet(name, accent, following)
            cuts = [start + (end - start) * i // len(labels) for i in range(len(labels) + 1)]
            phones += [
                Interval(cuts[i], cuts[i + 1], phone)
                for i, phone in enumerate(labels)
                if cuts[i] < cuts[i + 1]
            ]
    return {"phone": tuple(phones), "word": tuple(spoken)}


def _by_word(speech: SynthesisedSpeech) -> list[list[_Timed]]:
    """For each word its phones as (start, end, mnemonic), at 22.05 kHz, pauses and glides gone."""
    grouped: list[list[_Timed]] = [[] for _ in speech.words]
    last = len(speech.pcm)
    for i, phone in enumerate(speech.phones):
        if is_pause(phone.mnemonic):
            continue
        end = speech.phones[i + 1].sample if i + 1 < len(speech.phones) else last
        if phone.word + 1 < len(speech.words):
            end = min(end, speech.words[phone.word + 1])
        grouped[phone.word].append((phone.sample, end, phone.mnemonic))
    return [
        _with_closures(_with_liquids(_without_glides(timed), speech.pcm), speech.pcm, start)
        for timed, start in zip(grouped, speech.words, strict=True)
    ]


def _without_glides(timed: list[_Timed]) -> list[_Timed]:
    """A glide's time goes to the vowel it slides into, or to the one before at a word's end."""
    kept: list[_Timed] = []
    glide_start: int | None = None
    for start, end, mnemonic in timed:
        if mnemonic == _GLIDE:
            glide_start = start
            if kept:
                kept[-1] = (kept[-1][0], end, kept[-1][2])
        else:
            if glide_start is not None and kept:
                kept[-1] = (kept[-1][0], glide_start, kept[-1][2])
            kept.append((start if glide_start is None else glide_start, end, mnemonic))
            glide_start = None
    return kept


def _with_liquids(timed: list[_Timed], pcm: NDArray[np.int16]) -> list[_Timed]:
    """Give a silent l or r the last third of the vowel before it.

    Before a consonant or a pause espeak sounds them as the vowel's ending ("old", Scottish "car")
    and their own event marks only what follows, a closure or nothing.
    """
    shared: list[_Timed] = []
    for start, end, mnemonic in timed:
        if mnemonic in _LIQUIDS and shared and not pcm[start:end].any():
            vowel_start, vowel_end, vowel = shared[-1]
            start = vowel_start + 2 * (vowel_end - vowel_start) // 3
            shared[-1] = (vowel_start, start, vowel)
        shared.append((start, end, mnemonic))
    return shared


def _with_closures(timed: list[_Timed], pcm: NDArray[np.int16], word: int) -> list[_Timed]:
    """Move each start to where the sound's own part of the signal begins.

    espeak marks a plosive at its burst; the closure before it is exactly zero and belongs to it.
    A word starts at its `word` event: with its closure, else after the zeros of a pause.
    """
    refined: list[_Timed] = []
    for start, end, mnemonic in timed:
        plosive = mnemonic in _PLOSIVES
        if refined:
            before, _, previous = refined[-1]
            if plosive:
                start -= _leading_zeros(pcm[before + 1 : start][::-1])
            refined[-1] = (before, start, previous)
        elif word < start:
            start = word if plosive else word + _leading_zeros(pcm[word:start])
        refined.append((start, end, mnemonic))
    return refined


def _leading_zeros(pcm: NDArray[np.int16]) -> int:
    sound = np.flatnonzero(pcm)
    return int(sound[0]) if sound.size else len(pcm)


def _to_16_khz(sample: int) -> int:
    """The nearest sample at 16 kHz, in integers."""
    return (2 * sample * SAMPLE_RATE + ESPEAK_RATE) // (2 * ESPEAK_RATE)
