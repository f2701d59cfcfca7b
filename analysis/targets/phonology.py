"""Phones as symbols of the IPA, with their phonological features by panphon."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from analysis.targets.base import FRAME, LabelTarget, Segment
from common.arrays import Index
from common.records import Corpus, StrataError

# ARPABET's phones that are one segment of the IPA; diphthongs and r-coloured vowels are two.
_ARPABET = "aa ae ah ao eh ih iy uh uw b d dh f g hh k l m n ng p r s sh t th v w y z zh"
IPA_OF_ARPABET = dict(zip(_ARPABET.split(), "ɑæʌɔɛɪiʊubdðfɡhklmnŋpɹsʃtθvwjzʒ", strict=True))
IPA_OF_ARPABET |= {"ch": "t͡ʃ", "jh": "d͡ʒ"}


@dataclass(frozen=True, kw_only=True)
class IpaPhone(LabelTarget):
    """The phone of a unit in the IPA, where panphon knows its features (Mortensen et al. 2016).

    Labels of ARPABET are translated, those of the IPA taken as they are (`dataset.phones`). What is
    not one segment with known features (diphthongs, r-coloured vowels) is left out and counted.
    Needs the package panphon (the extra `phonology`).
    """

    units: ClassVar[tuple[str, ...]] = ("phone", "frame")

    name: ClassVar[str] = "phone"

    def missing(self, key: str) -> str:  # noqa: ARG002
        """The package, where it is not installed."""
        if find_spec("panphon") is None:
            return "needs panphon's features: pip install 'strata[phonology]', or panphon"
        return ""

    def segments(self, corpus: Corpus, unit: str, first_centre: int = FRAME // 2) -> list[Segment]:
        """Every phone, labelled by its symbol; "" where it has no features."""
        if corpus.phones not in ("arpabet", "ipa"):
            raise StrataError(
                f"dataset {corpus.name} ({corpus.partition}): phones written as {corpus.phones} "
                "have no known features; where they are, say dataset.phones=arpabet or ipa"
            )
        found = super().segments(corpus, unit, first_centre)
        symbols = {label: label for label in {segment.label for segment in found}}
        symbols = IPA_OF_ARPABET if corpus.phones == "arpabet" else symbols
        known = {
            label: symbol
            for label, symbol in symbols.items()
            if symbol and _features().seg_known(symbol)
        }
        return [segment._replace(label=known.get(segment.label, "")) for segment in found]


@lru_cache(maxsize=1)
def _features() -> Any:
    import panphon

    return panphon.FeatureTable()


def features_of(symbols: Collection[str]) -> Index:
    """Features (k, 24) of segments: 1, -1, or 0 where one does not apply."""
    return np.array([_features().fts(symbol).numeric() for symbol in symbols], dtype=np.int64)
