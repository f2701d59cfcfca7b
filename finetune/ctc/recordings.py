"""Waveforms of utterances in one file on disk: decoded or synthesised once."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from common.datasets.faults import Faults, OnError
from common.progress import progress
from common.records import StrataError, Utterance, Waveform
from common.writing import checksum, replacing, write_text

log = logging.getLogger(__name__)

VERSION = 2  # bumped when the files would hold something else
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


def record(
    utterances: Sequence[Utterance], fingerprint: str, path: Path, on_error: str = "raise"
) -> Recordings:
    """Write the waveforms to `path`; what is there already, whole, is kept.

    Those that cannot be read are one error when the rest has been, or (`skip`) have no samples.
    """
    named = "\n".join((str(VERSION), fingerprint, *(u.id for u in utterances)))
    identity = hashlib.sha256(named.encode()).hexdigest()
    index = path.with_suffix(".json")
    kept = _kept(index, identity, path)
    if kept is not None:
        return Recordings(path, kept)
    index.unlink(missing_ok=True)
    lengths = []
    faults = Faults()
    with replacing(path) as partial, partial.open("wb") as file:
        for waveform in _waveforms(utterances, faults):
            pcm = np.clip(np.rint(waveform * SCALE), -SCALE, SCALE - 1).astype(np.int16)
            file.write(pcm.tobytes())
            lengths.append(len(pcm))
        faults.resolve(cast(OnError, on_error))
    if not sum(lengths):
        raise StrataError(f"none of {len(lengths)} utterances can be read: see the log")
    content = {"identity": identity, "lengths": lengths, "checksum": checksum(path)}
    write_text(index, json.dumps(content))
    return Recordings(path, tuple(lengths))


def _kept(index: Path, identity: str, path: Path) -> tuple[int, ...] | None:
    """Lengths of the waveforms that are there, if they are whole and of `identity`."""
    try:
        held = json.loads(index.read_text(encoding="utf-8"))
        if held["identity"] != identity:
            return None
        if checksum(path) == held["checksum"]:
            return tuple(map(int, held["lengths"]))
        reason = "its checksum is another"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = repr(error)
    log.warning("%s or %s is damaged (%s): reading the speech again", path, index.name, reason)
    return None


def _waveforms(utterances: Sequence[Utterance], faults: Faults) -> Iterator[Waveform]:
    for utterance in progress(utterances, "reading", "utterances"):
        try:
            yield utterance.read()
        except StrataError as error:
            faults.add("utterance: audio could not be read", error)
            yield np.zeros(0, np.float32)
