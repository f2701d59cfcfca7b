"""Labels as targets: that of a tier's interval, or an attribute of the utterance."""

from dataclasses import dataclass
from typing import ClassVar

from analysis.targets.base import FRAME, LabelTarget, Segment
from common.records import Corpus, Interval, StrataError, Utterance, without_speaker


@dataclass(frozen=True, kw_only=True)
class Phone(LabelTarget):
    """The label of the phone tier; a unit `frame` has that of the phone in its middle."""

    tier: ClassVar[str] = "phone"
    units: ClassVar[tuple[str, ...]] = ("phone", "frame")

    @property
    def name(self) -> str:
        """The tier."""
        return self.tier


@dataclass(frozen=True, kw_only=True)
class Word(Phone):
    """The label of the word tier; a unit `frame` has that of the word in its middle."""

    tier: ClassVar[str] = "word"
    units: ClassVar[tuple[str, ...]] = ("word", "frame")


@dataclass(frozen=True, kw_only=True)
class Attribute(LabelTarget):
    """What is known of a whole utterance: its `speaker`, or another attribute of the corpus.

    `attribute`: `speaker`, or a key of `Utterance.attributes`, as `gender`.
    """

    units: ClassVar[tuple[str, ...]] = ("utterance", "phone", "word")

    attribute: str

    @property
    def name(self) -> str:
        """The attribute."""
        return self.attribute

    def segments(self, corpus: Corpus, unit: str, first_centre: int = FRAME // 2) -> list[Segment]:
        """Every unit of the corpus; all utterances must have the attribute."""
        lacking = [u.id for u in corpus.utterances if not u.attribute(self.attribute)]
        if lacking:
            raise StrataError(why_lacking(self.attribute, corpus, lacking))
        return super().segments(corpus, unit, first_centre)

    def label(self, utterance: Utterance, interval: Interval) -> str:  # noqa: ARG002
        """The utterance's attribute."""
        return utterance.attribute(self.attribute)


def why_lacking(attribute: str, corpus: Corpus, lacking: list[str]) -> str:
    """Why an attribute is missing, and what to do; `lacking`: ids of utterances without it."""
    if attribute == "speaker":
        return without_speaker(corpus.utterances)
    known = sorted({key for u in corpus.utterances for key in u.attributes})
    return (
        f"{len(lacking)} of {len(corpus.utterances)} utterances have no {attribute} (the first is "
        f"{lacking[0]}); dataset {corpus.name} knows of {', '.join(['speaker', *known])}"
    )
