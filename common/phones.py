"""Labels: the conventions that phones are written in, and what means silence or noise."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

CONVENTIONS = ("arpabet", "ipa", "sampa", "as_is")
MARKS = ("stress", "tone")  # what a label may carry beside its phone


def _split(labels: str) -> tuple[str, ...]:
    return tuple(labels.split())


ARPABET: tuple[str, ...] = _split(
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k "
    "l m n ng ow oy p r s sh t th uh uw v w y z zh"
)

_ARPABET = frozenset(ARPABET)

# Bare labels of silence, as MFA, Prosodylab, HTK, Kaldi, Julius and Praat scripts write them.
_BARE = frozenset(("", *_split("sil sp ssil sil_s pau h# # _ -- ... xxx silb sile")))

# Silence, pauses, noise and untranscribed speech on a phone tier: the bare ones and those that on
# a word tier are words ("noise"), as the LDC, Kaldi and Buckeye write them.
SILENCES: frozenset[str] = _BARE.union(
    _split(
        "epi spn nsn lau silence pause noise vocnoise laugh laughter breath unknown iver unk "
        "cutoff error sent-start sent-end"
    )
)

# Speech that the transcriber or the aligner's lexicon did not know.
UNKNOWNS = frozenset(_split("spn unk unknown <unk> [unk] <unknown> [unknown] <oov> [oov] xxx"))

# <p:>, [laughter], {SL}, ++breath++: no convention writes speech in such brackets.
_BRACKETED = re.compile(r"<.*>|\[.*\]|\{.*\}|\++[^+]*\++", re.DOTALL)

# Stress 0, 1, 2 after a vowel, and Kaldi's position in the word (AH0_B).
_DECORATED = re.compile(r"([A-Za-z]{1,3})([012])?(?:_[BIESbies])?")

# What transcribers of English write beside the 39: reduced vowels, flaps, syllabics, closures.
_FURTHER_ARPABET = frozenset(
    _split("ax axr ix ux dx nx el em en eng hv q wh bcl dcl gcl pcl tcl kcl")
)
_KNOWN_ARPABET = _ARPABET | _FURTHER_ARPABET
_VOWELS = frozenset(p for p in _KNOWN_ARPABET if p[0] in "aeiou" and p not in ("el", "em", "en"))
# Two letters that no syllable of pinyin has as an initial or a final.
_UNMISTAKABLE = frozenset(p for p in ARPABET if len(p) == 2) - set(_split("ao er ch sh zh ng"))

_IPA_STRESS = {"\u02c8": "1", "\u02cc": "2"}  # primary, secondary
# Chao's tone letters, tone numbers set high, and the accents of level and contour tones.
_IPA_TONE = re.compile(
    "[\u02e5-\u02e9\u00b9\u00b2\u00b3\u2074\u2075\u0300\u0301\u0302\u0304\u030b\u030c\u030f]"
)
# What keyboards have, for the letters that IPA has: ejectives, the voiced velar stop, length.
_IPA_TYPED = str.maketrans({"'": "\u02bc", "\u2019": "\u02bc", "g": "\u0261", ":": "\u02d0"})
_SAMPA_STRESS = {'"': "1", "%": "2"}
_SAMPA_TONE = re.compile(r"(?:_[THMLBRF])+$")
# One or more symbols of (X-)SAMPA: a letter or sign, then its modifiers.
_SAMPA_SYMBOL = re.compile(r"(?:[A-Za-z@{}&?1-9][\\`]?(?::\\?|~|=|'|_[A-Za-z^~=?/\\\-+>}\"]\\?)*)+")


@dataclass(frozen=True, slots=True)
class PhoneLabel:
    """What a phone's label says: the phone, and its stress or tone where the label carries one.

    `stress`: "0" unstressed, "1" primary, "2" secondary. `tone`: as the convention writes it.
    """

    phone: str
    stress: str | None = None
    tone: str | None = None


def parse(label: str, convention: str) -> PhoneLabel | None:
    """A phone's label read in a convention, or None for silence and noise.

    arpabet: case is folded, stress (AH0) and Kaldi's position in the word (AH0_B) are taken off.
    ipa: canonical Unicode, with ' g : as typed for ʼ ɡ ː; stress marks and tones (letters,
    raised numbers, accents) are taken off.
    sampa (SAMPA, X-SAMPA): S and s are two phones; stress (" and %) and tones (_H) are taken off.
    as_is: the label, without blanks around it.
    """
    plain = label.strip()
    folded = plain.casefold()
    if folded in SILENCES or _BRACKETED.fullmatch(folded):
        return None
    if convention == "arpabet":
        match = _DECORATED.fullmatch(plain)
        if match and match[1].casefold() in _KNOWN_ARPABET:
            return PhoneLabel(match[1].casefold(), stress=match[2])
        return PhoneLabel(folded)
    if convention == "ipa":
        return _parse_ipa(plain)
    if convention == "sampa":
        stress = _SAMPA_STRESS.get(plain[0]) if len(plain) > 1 else None
        rest = plain[1:] if stress else plain
        tone = _SAMPA_TONE.search(rest)
        phone = rest[: tone.start()] if tone and tone.start() else rest
        return PhoneLabel(phone, stress, tone[0] if tone and tone.start() else None)
    return PhoneLabel(plain)


def _parse_ipa(label: str) -> PhoneLabel:
    apart = unicodedata.normalize("NFD", label).translate(_IPA_TYPED)
    stress = next((value for mark, value in _IPA_STRESS.items() if mark in apart), None)
    tone = "".join(_IPA_TONE.findall(apart))
    phone = _IPA_TONE.sub("", apart.translate(dict.fromkeys(map(ord, _IPA_STRESS))))
    whole = unicodedata.normalize("NFC", phone)
    return PhoneLabel(whole, stress, tone or None) if whole else PhoneLabel(label)


def normalise(label: str, convention: str = "arpabet") -> str | None:
    """The phone alone, or None for silence and noise; see `parse`."""
    parsed = parse(label, convention)
    return parsed.phone if parsed else None


def guess_convention(labels: Collection[str]) -> str:
    """The convention of an inventory of raw labels where it leaves no doubt, else "as_is".

    arpabet: every label is a phone of ARPABET in one case, digits stand after vowels alone, and one
    label or more is unmistakable (pinyin's er1 and sh are phones of ARPABET too). ipa: some labels
    hold letters beyond ASCII, none a capital, a digit or a sign of SAMPA but ' and :. sampa: all
    are symbols of SAMPA, @ or { is among them, and some letter is there both as a capital and
    small.
    """
    spoken = [label.strip() for label in labels if parse(label, "as_is")]
    if _all_arpabet(spoken):
        return "arpabet"
    if any(not label.isascii() for label in spoken):
        ascii_part = "".join(c for label in spoken for c in label if c.isascii())
        return "ipa" if re.fullmatch(r"[a-z.':]*", ascii_part) else "as_is"
    single = {label for label in spoken if len(label) == 1}
    both_cases = any(label.isupper() and label.lower() in single for label in single)
    sign = any(label[0] in "@{" for label in spoken)
    plain = [label.lstrip('"%') for label in spoken]
    if both_cases and sign and all(_SAMPA_SYMBOL.fullmatch(label) for label in plain):
        return "sampa"
    return "as_is"


def _all_arpabet(labels: Collection[str]) -> bool:
    matches = [_DECORATED.fullmatch(label) for label in labels]
    found = [match for match in matches if match and match[1].casefold() in _KNOWN_ARPABET]
    if len(found) < len(matches):
        return False
    names = "".join(match[1] for match in found)
    stressed = (match[1].casefold() for match in found if match[2])
    return (
        (names.isupper() or names.islower())
        and all(phone in _VOWELS for phone in stressed)
        and any(match[1].casefold() in _UNMISTAKABLE for match in found)
    )


def normalise_word(label: str) -> str | None:
    """Case-folded word, or None for silence, noise and words unknown to the aligner."""
    folded = label.strip().casefold()
    if folded in _BARE or folded in ("spn", "nsn") or _BRACKETED.fullmatch(folded):
        return None
    return folded
