"""Labels: the 39 phones of ARPABET (CMUdict without stress), and what means silence or noise."""

import re


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
_DECORATED = re.compile(r"([a-z]{1,2})[012]?(?:_[bies])?")


def normalise(label: str) -> str | None:
    """Case-folded phone without stress or word position, or None for silence and noise."""
    folded = label.strip().casefold()
    if folded in SILENCES or _BRACKETED.fullmatch(folded):
        return None
    match = _DECORATED.fullmatch(folded)
    return match[1] if match and match[1] in _ARPABET else folded


def normalise_word(label: str) -> str | None:
    """Case-folded word, or None for silence, noise and words unknown to the aligner."""
    folded = label.strip().casefold()
    if folded in _BARE or folded in ("spn", "nsn") or _BRACKETED.fullmatch(folded):
        return None
    return folded
