"""Waveforms of utterances in one file on disk: decoded or synthesised once."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from common.cache.locks import FolderLock
from common.datasets.faults import Faults, OnError
from common.progress import progress
from common.records import StrataError, Utterance, Waveform
from common.writing import checksum, replacing, write_text

log = logging.getLogger(__name__)

VERSION = 2  # bumped when the files would hold something else
SCALE = 2**15
COPY = "pcm"  # the file of a copy that jobs share


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
        parts = [pcm[ends[k] - self.lengths[k] : ends[k]] for k in numbers]
        return [part.astype(np.float32) / np.float32(SCALE) for part in parts]


def record(
    utterances: Sequence[Utterance],
    fingerprint: str,
    path: Path,
    on_error: str = "raise",
    shared: Path | None = None,
) -> Recordings:
    """Write the waveforms to `path`; what is there already, whole, is kept.

    Those that cannot be read are one error after the rest has been read, or (`skip`) have no
    samples. Where `shared` is a folder on the disk of `path`, jobs that need the same waveforms at
    the same time share one copy, to which each has a link.
    """
    named = "\n".join((str(VERSION), fingerprint, *(u.id for u in utterances)))
    identity = hashlib.sha256(named.encode()).hexdigest()
    kept = _kept(path, identity)
    if kept is not None:
        return Recordings(path, kept)
    _index(path).unlink(missing_ok=True)
    faults = cast(OnError, on_error)
    if shared is None or shared.stat().st_dev != path.parent.stat().st_dev:
        return Recordings(path, _write(utterances, identity, path, faults))
    with _alone_in(shared / identity) as folder:
        copy = folder / COPY
        lengths = _kept(copy, identity) or _write(utterances, identity, copy, faults)
        path.unlink(missing_ok=True)
        for source, own in ((copy, path), (_index(copy), _index(path))):
            try:
                os.link(source, own)
            except OSError:  # a disk without links
                source.replace(own)
    return Recordings(path, lengths)


def delete_unused(shared: Path) -> None:
    """Delete copies of which no job has a link any more; one that is being made stays."""
    for folder in shared.iterdir():
        lock = FolderLock(folder)
        if not lock.take(exclusive=True, wait=False):
            continue
        try:
            copy = folder / COPY
            if not copy.exists() or copy.stat().st_nlink == 1:
                shutil.rmtree(folder)
        finally:
            lock.release()


@contextmanager
def _alone_in(folder: Path) -> Iterator[Path]:
    """The folder, made if absent, for one process at a time."""
    lock = FolderLock(folder)
    try:
        while True:
            folder.mkdir(exist_ok=True)
            lock.take(exclusive=True)
            if folder.is_dir():  # another job may have deleted it before it was locked
                break
        yield folder
    finally:
        lock.release()


def _index(path: Path) -> Path:
    return path.with_suffix(".json")


def _write(
    utterances: Sequence[Utterance], identity: str, path: Path, on_error: OnError
) -> tuple[int, ...]:
    """Write the waveforms, and which they are; lengths (u,) in samples."""
    lengths = []
    faults = Faults()
    with replacing(path) as partial, partial.open("wb") as file:
        for waveform in _waveforms(utterances, faults):
            pcm = np.clip(np.rint(waveform * SCALE), -SCALE, SCALE - 1).astype(np.int16)
            file.write(pcm.tobytes())
            lengths.append(len(pcm))
        faults.resolve(on_error)
    if not sum(lengths):
        raise StrataError(f"none of {len(lengths)} utterances can be read: see the log")
    content = {"identity": identity, "lengths": lengths, "checksum": checksum(path)}
    write_text(_index(path), json.dumps(content))
    return tuple(lengths)


def _kept(path: Path, identity: str) -> tuple[int, ...] | None:
    """Lengths of the waveforms that are there, if they are whole and of `identity`."""
    index = _index(path)
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
