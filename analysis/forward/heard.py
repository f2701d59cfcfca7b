"""What an entry of the cache heard. It belongs to the entry: a later pass must hear the same."""

from collections.abc import Collection

import numpy as np
import xxhash
from numpy.typing import NDArray

from common.cache.cache import Entry
from common.records import Waveform

HEARD = "heard"  # the file in the entry


class HeardOtherwise(Exception):  # noqa: N818  # it is no error: the pass begins again
    """A pass heard something else than the pass whose statistics the entry holds."""

    def __init__(self, entry: Entry, what: str) -> None:
        super().__init__(what)
        self.entry = entry


class Hearing:
    """Which utterances a pass heard for an entry, with a hash of each one's waveform.

    Where the entry holds statistics of an earlier pass, anything else than what that one heard is
    `HeardOtherwise`: layers of one entry are always of the same speech.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.digests: dict[int, int] = {}
        self.unread: set[int] = set()
        self.expected = read_heard(entry)[0] if entry.has(HEARD) else None

    def hear(self, utterance: int, waveform: Waveform) -> None:
        """Take note of an utterance that is about to be collected."""
        digest = xxhash.xxh3_64_intdigest(np.ascontiguousarray(waveform).data)
        self.digests[utterance] = digest
        if self.expected is not None and self.expected.get(utterance) != digest:
            raise HeardOtherwise(self.entry, "an utterance that is not what it was")

    def settle(self) -> None:
        """The pass is over: write down what it heard, before any of its statistics appear."""
        if self.expected is not None:
            if self.expected.keys() != self.digests.keys():
                lost = len(self.expected.keys() - self.digests.keys())
                raise HeardOtherwise(self.entry, f"{lost} utterances less than before")
            return
        self.entry.save(HEARD, self.state() | {"unread": _indices(self.unread)})

    def state(self) -> dict[str, NDArray[np.generic]]:
        """As arrays, for a pass that may have to go on later."""
        heard = sorted(self.digests)
        digests = np.array([self.digests[u] for u in heard], dtype=np.uint64)
        return {"heard": _indices(heard), "digest": digests}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Go on from there."""
        self.digests = _paired(state)


def read_heard(entry: Entry) -> tuple[dict[int, int], list[int]]:
    """Hash of each utterance that the entry heard, and which ones could not be read."""
    arrays = entry.load(HEARD)
    return _paired(arrays), arrays["unread"].tolist()


def _paired(arrays: dict[str, NDArray[np.generic]]) -> dict[int, int]:
    return dict(zip(arrays["heard"].tolist(), arrays["digest"].tolist(), strict=True))


def _indices(utterances: Collection[int]) -> NDArray[np.int64]:
    return np.array(sorted(utterances), dtype=np.int64)
