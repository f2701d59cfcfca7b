"""Audio with ELAN files (.eaf) beside, or parallel to, it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, final

from common import alignments
from common.datasets.textgrid import TextGrid
from common.reading import shown
from common.records import StrataError


@final
@dataclass(frozen=True, kw_only=True)
class Elan(TextGrid):
    """Audio files and ELAN files of the same path below two roots, or of the same unique name.

    The keys are those of dataset=textgrid. Tiers of annotations that have times of their own and
    those that refer to them are read; where a time slot has no time, ELAN divides the time between
    its neighbours evenly, and so is it read. Needs pympi-ling (the extra `elan`).
    """

    name: ClassVar[str] = "elan"
    suffix: ClassVar[str] = ".eaf"

    @staticmethod
    def _read_alignment(path: Path) -> alignments.Alignment:
        return read_eaf(path)


def read_eaf(path: Path) -> alignments.Alignment:
    """Tiers of an ELAN file, annotations in order of time."""
    try:
        from pympi import Eaf
    except ImportError as error:
        raise StrataError(
            "dataset=elan needs pympi-ling: pip install pympi-ling, or Strata's extra [elan]"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of the format, which differ in the header
            eaf = Eaf(str(path))
            tiers = []
            for name, (aligned, referring, *_) in eaf.tiers.items():
                spans = {id: (first, last, text) for id, (first, last, text, _) in aligned.items()}
                for id, (of, text, *_) in referring.items():
                    first, last, *_ = eaf.get_parent_aligned_annotation(of)
                    spans[id] = (first, last, text)
                times = _times(
                    eaf.timeslots, [slot for a, b, _ in spans.values() for slot in (a, b)]
                )
                rows = [(times[a], times[b], str(text or "")) for a, b, text in spans.values()]
                rows.sort()
                tiers.append((str(name), alignments.from_seconds(rows)))
    except Exception as error:
        # pympi raises its own Exception, KeyError, AttributeError, ValueError … for what is broken.
        raise StrataError(
            f"{shown(path)}: ELAN's file cannot be read ({type(error).__name__}: {error}). Open it "
            "in ELAN and save it again"
        ) from error
    return alignments.Alignment(tuple(tiers))


def _times(milliseconds: Mapping[str, int | None], chain: Sequence[str]) -> dict[str, float]:
    """Seconds of the time slots that a tier's annotations have, from the first to the last.

    Slots without a time lie evenly between the tier's slots before and after them that have one.
    """
    names = list(dict.fromkeys(chain))
    known = [i for i, name in enumerate(names) if milliseconds[name] is not None]
    seconds = {names[i]: (milliseconds[names[i]] or 0) / 1000 for i in known}
    for before, after in pairwise(known):
        first, last = seconds[names[before]], seconds[names[after]]
        for i in range(before + 1, after):
            seconds[names[i]] = first + (last - first) * (i - before) / (after - before)
    return seconds
