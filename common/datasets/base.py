"""The one thing every corpus can do: list itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from common.records import Corpus, StrataError


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A corpus as configured. Constructing one checks keys, ranges and paths; it reads nothing.

    `partition` is the corpus's own part ("dev_clean"). `limit` keeps that many utterances, evenly
    spaced over the listing so that speakers stay mixed (a debugging aid; counted as dropped).
    """

    partition: str = "all"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise StrataError(
                f"dataset.limit={self.limit}: use a number of utterances >= 1, or null"
            )

    @abstractmethod
    def read(self) -> Corpus:
        """List the partition: alignments and headers, no audio is decoded."""
