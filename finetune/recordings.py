"""Waveforms of utterances in one file on disk: read once, whatever decodes or speaks them."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.progress import progress
from common.records import StrataError, Utterance, Waveform

log = logging.getLogger(__name__)

VERSION = 1  # bumped when the files would hold something else
SCALE = 2**15


@dataclass(frozen=True)
class Recordings:
    """Waveforms as 16-bit samples, in the order of some utterances; lengths in samples.

    An utterance that could not be read has no samples. Holds a path, no map of it, so that it is
    small to send to another process.
    """

    path: Path
    lengths: tuple[int, ...]

    def read(self, numbers: Sequence[int]) -> list[Waveform]:
        """Waveforms (n,) of some utterances."""
        pcm = np.memmap(self.path, np.int16, "r")
        ends = np.cumsum(self.lengths)
        return [_waveform(pcm[ends[k] - self.lengths[k] : ends[k]]) for k in numbers]


def _waveform(pcm: NDArray[np.int16]) -> Waveform:
    return pcm.astype(np.float32) / np.float32(SCALE)


def record(utterances: Sequence[Utterance], fingerprint: str, path: Path) -> Recordings:
    """Write the waveforms to `path`; what is there already, whole, is kept."""
    named = "\n".join((str(VERSION), fingerprint, *(u.id for u in utterances)))
    identity = hashlib.sha256(named.encode()).hexdigest()
    index = path.with_suffix(".json")
    if index.is_file() and (kept := json.loads(index.read_text()))["identity"] == identity:
        return Recordings(path, tuple(kept["lengths"]))
    lengths = []
    with path.open("wb") as file:
        for waveform in _waveforms(utterances):
            pcm = np.clip(np.rint(waveform * SCALE), -SCALE, SCALE - 1).astype(np.int16)
            file.write(pcm.tobytes())
            lengths.append(len(pcm))
    if not sum(lengths):
        raise StrataError(f"none of {len(lengths)} utterances can be read: see the log")
    partial = index.with_suffix(".part")
    partial.write_text(json.dumps({"identity": identity, "lengths": lengths}))
    partial.replace(index)
    return Recordings(path, tuple(lengths))


def _waveforms(utterances: Sequence[Utterance]) -> Iterator[Waveform]:
    for utterance in progress(utterances, "reading", "utterances"):
        try:
            yield utterance.read()
        except StrataError as error:
            log.warning("leaving out %s: %s", utterance.id, error)
            yield np.zeros(0, np.float32)
