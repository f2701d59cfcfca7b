"""Aligned speech as the rest of the project sees it. Times are integer samples at 16 kHz."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

Waveform = NDArray[np.float32]


class StrataError(ValueError):
    """What a user gave cannot work. The message names the item, the numbers, the cause, the fix."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One labelled stretch of speech: samples `start` (included) to `end` (excluded)."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """One audio file with its alignment.

    `n_samples` is the length at 16 kHz as far as it is known without decoding the audio (the
    file's header; else the end of the last interval): progress bars and budgets use it, never
    the numbers. `tiers` maps "phone" and "word" to intervals in order of time, labels normalised
    and silences removed, and "stress" and "tone" to those of the phones whose labels carry one,
    labelled by it. `read` returns the waveform: (n,) float32, mono, 16 kHz, within [-1, 1].
    `attributes`: what else the corpus knows of it, by name (`gender`). `context`: of a window of a
    long recording (`common.windows`): how many samples `read` returns before and after the
    window's own, which the model sees and nothing else counts; `recording`: that recording's id,
    and the sample of it at which the window begins.
    """

    id: str
    speaker: str
    text: str
    n_samples: int
    tiers: Mapping[str, tuple[Interval, ...]]
    read: Callable[[], Waveform] = field(repr=False, compare=False)
    attributes: Mapping[str, str] = field(default_factory=dict)
    context: tuple[int, int] = (0, 0)
    recording: tuple[str, int] | None = None

    def attribute(self, name: str) -> str:
        """Its speaker, or another attribute; "" where it is not known."""
        return self.speaker if name == "speaker" else self.attributes.get(name, "")


def without_speaker(utterances: Sequence[Utterance]) -> str:
    """Which utterances have no speaker, and how to name speakers; "" where each has one."""
    ids = {u.id: bool(u.speaker) for u in utterances}
    lacking = [id for id, known in ids.items() if not known]
    if not lacking:
        return ""
    return (
        f"{len(lacking)} of {len(ids)} utterances have no speaker (the first is {lacking[0]}): a "
        "folder of audio for each speaker names them, or dataset.speaker=prefix takes it from the "
        "file name"
    )


@dataclass(frozen=True, slots=True)
class Corpus:
    """A dataset's partition, listed: every utterance, what was dropped, and a fingerprint.

    `dropped` counts by reason what listing left out ("phone: silence" -> 812), or kept but changed
    ("word: clipped to the audio (kept)"; see `counts_of`). `fingerprint`
    changes whenever the utterances, their audio or their alignments would. `phones`: the convention
    in which phone labels were read (`common.phones`).
    """

    name: str
    partition: str
    licence: str
    utterances: tuple[Utterance, ...]
    dropped: Mapping[str, int]
    fingerprint: str
    phones: str = "arpabet"

    @property
    def hours(self) -> float:
        """Length of all utterances together, in hours."""
        return sum(u.n_samples for u in self.utterances) / SAMPLE_RATE / 3600

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers that at least one utterance has."""
        return tuple(sorted({name for u in self.utterances for name in u.tiers}))

    @property
    def speakers(self) -> set[str]:
        """Names of the speakers; one whose name is empty is not known, and may be many people."""
        return {u.speaker for u in self.utterances} - {""}

    def only_speakers(self, speakers: Collection[str]) -> "Corpus":
        """The utterances of some speakers alone."""
        kept = [u for u in self.utterances if u.speaker in speakers]
        return self._keeping(kept, "utterance: of another speaker")

    def without_speakers(self, speakers: Collection[str]) -> "Corpus":
        """Without the utterances of some speakers."""
        kept = [u for u in self.utterances if u.speaker not in speakers]
        return self._keeping(kept, "utterance: of a left-out speaker")

    def thinned(self, limit: int | None) -> "Corpus":
        """`limit` utterances, evenly spaced over the listing; all of them for None."""
        n = len(self.utterances)
        chosen = range(n) if limit is None or limit >= n else [i * n // limit for i in range(limit)]
        kept = [self.utterances[i] for i in chosen]
        return self._keeping(kept, "utterance: beyond dataset.limit")

    def _keeping(self, kept: Sequence[Utterance], reason: str) -> "Corpus":
        """Some of the utterances; the others are counted as dropped for a reason."""
        if len(kept) == len(self.utterances):
            return self
        named = "\n".join((self.fingerprint, *(u.id for u in kept)))
        return replace(
            self,
            utterances=tuple(kept),
            dropped={**self.dropped, reason: len(self.utterances) - len(kept)},
            fingerprint=hashlib.sha256(named.encode()).hexdigest(),
        )

    def describe(self) -> dict[str, object]:
        """What was listed, for a run's metadata."""
        return {
            "name": self.name,
            "partition": self.partition,
            "licence": self.licence,
            "fingerprint": self.fingerprint,
            "phones": self.phones,
            "utterances": len(self.utterances),
            "hours": round(self.hours, 4),
            "speakers": len(self.speakers),
            "dropped": dict(self.dropped),
        }


def counts_of(dropped: Mapping[str, int]) -> str:
    """Counts by reason, as `Corpus.dropped` has them: of what is left out, and of what is kept."""
    kinds: dict[str, list[str]] = {"left out": [], "kept, but changed": []}
    for reason, count in dropped.items():
        if count:
            kinds["kept, but changed" if "(kept" in reason else "left out"].append(
                f"{reason} {count}"
            )
    return "; ".join(f"{kind}: {', '.join(found)}" for kind, found in kinds.items() if found)
