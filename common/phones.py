"""The 39 phones of ARPABET (CMUdict without stress), lower case, and the labels that mean silence."""

ARPABET: tuple[str, ...] = tuple(
    (
        "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k "
        "l m n ng ow oy p r s sh t th uh uw v w y z zh"
    ).split()
)

# Silence, pauses and noise as MFA, Kaldi, Praat scripts, Buckeye and the LDC write them.
SILENCES: frozenset[str] = frozenset(
    (
        " sil sp spn silence pau h# # <eps> <sil> <p:> <unk> [noise] <noise> noise nsn lau "
        "[laughter] <vocnoise> <iver> {sl} {br} {ns} {lg} sent-start sent-end <s> </s> epi"
    ).split(" ")
)


def normalise(label: str) -> str | None:
    """Case-folded label without stress digits, or None where it means silence or noise."""
    folded = label.strip().casefold()
    if folded in SILENCES:
        return None
    if folded.rstrip("012") in ARPABET:  # a digit is stress only after an ARPABET vowel
        return folded.rstrip("012")
    return folded
