"""What listing a corpus finds wrong: all of it is reported at once, or counted and left out."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from common.records import StrataError

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
NAMED = 10  # faults that an error spells out; the log has every one

# Reasons under which `skip` counts what listing could not use: such a corpus is not complete.
NOT_COMPLETE = (
    "utterance: a file of it could not be read",
    "utterance: two files of one name",
    "folder: cannot be entered",
)

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass
class Faults:
    """Files and folders that cannot be used, collected while a corpus is listed.

    `dropped` counts by reason what is left out of the corpus on purpose.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    found: list[tuple[str, StrataError]] = field(default_factory=list)

    def add(self, reason: str, error: StrataError) -> None:
        """Add a fault; `reason` is what it counts as where it is left out."""
        log.warning("%s", error)
        self.found.append((reason, error))

    def usable(
        self, items: Iterable[Item], read: Callable[[Item, Counter[str]], Read]
    ) -> Iterator[tuple[Item, Read]]:
        """Items with what `read` makes of them; those that raise StrataError are faults.

        What `read` counts as dropped counts only where it succeeds.
        """
        for item in items:
            dropped: Counter[str] = Counter()
            try:
                made = read(item, dropped)
            except StrataError as error:
                self.add("utterance: a file of it could not be read", error)
                continue
            self.dropped.update(dropped)
            yield item, made

    def resolve(self, on_error: OnError) -> Counter[str]:
        """What was dropped, faults among it (`skip`); or one error about all of them (`raise`)."""
        if not self.found:
            return self.dropped
        if on_error == "skip":
            return self.dropped + Counter(reason for reason, _ in self.found)
        if len(self.found) == 1:
            raise self.found[0][1]
        more = len(self.found) - NAMED
        lines = [f"  {error}" for _, error in self.found[:NAMED]]
        lines += [f"  and {more} more: the log names every one"] if more > 0 else []
        raise StrataError(
            f"{len(self.found)} files or folders of the dataset cannot be used:\n"
            + "\n".join(lines)
            + "\nRepair or remove them; on_error=skip leaves them out, with a count"
        )
