"""Hashes of the contents of files, kept in a table from run to run.

A file is read again when its size, its inode or its time of change (of its contents or of its
inode: the latter no copying or touching sets back) are not what they were.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from time import time_ns

import xxhash

log = logging.getLogger(__name__)

TABLE = "files.json"
READ_AT_ONCE = 1 << 23  # bytes
SETTLED = 2_000_000_000  # nanoseconds: a file changed twice in less may have one time for both

Seen = tuple[int, int, int, int]  # size, times of change of contents and inode in ns, inode


class FileHashes:
    """The table, in a file of its own; without a path it lives as long as the process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._new: dict[str, tuple[Seen, str]] = {}

    @cached_property
    def _known(self) -> dict[str, tuple[Seen, str]]:
        """The table as it is when first needed: another process may write it until then."""
        return _read(self.path) if self.path is not None else {}

    def of(self, file: Path) -> str:
        """XXH3 (128 bits) of a file's contents."""
        name, seen = str(file.absolute()), _seen(file)
        known = self._new.get(name) or self._known.get(name)
        if known is not None and known[0] == seen:
            return known[1]
        asked = time_ns()
        digest = xxhash.xxh3_128()
        with file.open("rb") as opened:
            while block := opened.read(READ_AT_ONCE):
                digest.update(block)
        if _seen(file) == seen and max(seen[1:3]) < asked - SETTLED:
            self._new[name] = (seen, digest.hexdigest())
        return digest.hexdigest()

    def save(self) -> None:
        """Write what is new into the table, beside what other jobs wrote meanwhile."""
        if self.path is None or not self._new:
            return
        content = _read(self.path) | self._new
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content))
            partial.replace(self.path)
        except OSError as error:
            log.info("hashes of audio are not kept: %s (%s)", self.path, error.strerror)


def _seen(file: Path) -> Seen:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(path: Path) -> dict[str, tuple[Seen, str]]:
    try:
        content = json.loads(path.read_text())
        return {name: (tuple(seen), str(digest)) for name, (seen, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # absent or damaged: the files are read again


_current: ContextVar[FileHashes | None] = ContextVar("file_hashes", default=None)


@contextmanager
def hashes_kept(folder: Path | None) -> Iterator[None]:
    """Within the block the table of a folder is used, and written at its end; None: no table."""
    hashes = FileHashes(folder / TABLE if folder is not None else None)
    token = _current.set(hashes)
    try:
        yield
    finally:
        _current.reset(token)
        hashes.save()


def save_hashes() -> None:
    """Write the table now, for other processes of the run that are about to ask for it."""
    current = _current.get()
    if current is not None:
        current.save()


def content_hash(file: Path) -> str:
    """Hash of a file's contents, from the table where `hashes_kept` gives one."""
    return (_current.get() or FileHashes()).of(file)
