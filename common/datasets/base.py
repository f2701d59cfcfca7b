"""The base of all corpora: what a dataset is configured with, and how it is listed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

from common.datasets import files
from common.datasets.faults import Faults, OnError
from common.datasets.label_tables import with_attributes
from common.records import Corpus, StrataError


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A corpus as configured. Constructing one checks keys, ranges and paths; it reads nothing.

    `partition` is the corpus's own part ("dev_clean"). `only_speakers` keeps the utterances of
    these speakers, `without_speakers` leaves those of others out. `limit` keeps that many
    utterances, evenly spaced over the listing so that speakers stay mixed (a debugging aid).
    `attributes`: a table of what else is known of speakers or utterances, as their gender.
    What is left out is counted as dropped.
    """

    partition: str = "all"
    limit: int | None = None
    only_speakers: list[str] | None = None
    without_speakers: list[str] | None = None
    attributes: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise StrataError(
                f"dataset.limit={self.limit}: use a number of utterances >= 1, or null"
            )
        both = set(self.only_speakers or ()) & set(self.without_speakers or ())
        if both:
            raise StrataError(
                f"dataset.only_speakers and dataset.without_speakers both name "
                f"{', '.join(sorted(both))}: name each speaker in one of them"
            )

    @final
    def read(self, on_error: OnError = "raise") -> Corpus:
        """List the partition: alignments and headers, no audio is decoded.

        All that cannot be read is named in one error; with `on_error` "skip" it is left out and
        counted as dropped.
        """
        faults = Faults()
        if self.only_speakers is None and self.without_speakers is None:
            return self._attributed(self._without_faults(self._list(faults), faults, on_error))
        # The limit is for what the choice of speakers leaves: list all, choose, then thin.
        corpus = self._without_faults(replace(self, limit=None)._list(faults), faults, on_error)
        self._check_speakers(corpus)
        chosen = corpus.without_speakers(self.without_speakers or ())
        if self.only_speakers is not None:
            chosen = chosen.only_speakers(self.only_speakers)
        return self._attributed(chosen.thinned(self.limit))

    def with_tiers(self, names: Sequence[str]) -> Self:  # noqa: ARG002
        """The dataset with these tiers read too, where its files may have others than it reads."""
        return self

    def _attributed(self, corpus: Corpus) -> Corpus:
        return with_attributes(corpus, self.attributes) if self.attributes else corpus

    @staticmethod
    def _without_faults(corpus: Corpus, faults: Faults, on_error: OnError) -> Corpus:
        dropped = faults.resolve(on_error)
        files.report(corpus.name, corpus.partition, len(corpus.utterances), dropped)
        if not corpus.utterances and faults.found:
            raise StrataError(
                f"{corpus.name} ({corpus.partition}): none of its {len(faults.found)} files can be "
                f"used, as {faults.found[0][1]}"
            )
        return replace(corpus, dropped={reason: n for reason, n in dropped.items() if n})

    def _check_speakers(self, corpus: Corpus) -> None:
        """A named speaker must exist: a misspelt name would go unseen."""
        speakers = {u.speaker for u in corpus.utterances}
        named = [*(self.only_speakers or ()), *(self.without_speakers or ())]
        unknown = [speaker for speaker in named if speaker not in speakers]
        if unknown:
            raise StrataError(
                f"dataset.only_speakers or dataset.without_speakers names {', '.join(unknown)}; "
                f"{corpus.name} ({corpus.partition}) has {len(speakers)} speakers, such as "
                f"{', '.join(sorted(speakers)[:5])}. Numbers with leading zeros need quotes: "
                "['0036']"
            )

    @abstractmethod
    def _list(self, faults: Faults) -> Corpus:
        """List the partition, at most `limit` utterances of it; `faults` takes what is wrong."""
