"""Statistics of forward passes, kept between runs: an entry is a folder named by a hash of its key.

The key is an allow-list: exactly what the numbers depend on. Files appear whole or not at all
(written beside, then renamed); whoever computes an entry holds its lock, the others wait for it.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from common.config import Config
from common.growing import GrowingArray

log = logging.getLogger(__name__)

Key = Mapping[str, object]
PARTIAL = ".part."  # how the names of files begin that are being written under the entry's lock


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: named arrays that all follow from one key."""

    folder: Path

    def has(self, name: str) -> bool:
        """Whether an array is there, whole."""
        return self._archive(name).exists() or self._array(name).exists()

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as one file."""
        partial = self._partial(name)
        with partial.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        partial.replace(self._archive(name))

    def load(self, name: str) -> dict[str, NDArray[Any]]:
        """Read named arrays."""
        with np.load(self._archive(name), allow_pickle=False) as archive:
            return dict(archive)

    def note(self, content: Mapping[str, object]) -> None:
        """Write down how the arrays came about."""
        partial = self._partial("note.json")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(self.folder / "note.json")

    def notes(self) -> dict[str, Any]:
        """What was written down; empty if nothing was."""
        return self._json("note.json")

    def create(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A float32 array on disk to be filled row by row; `publish` it when it is complete."""
        return np.lib.format.open_memmap(self._partial(name), "w+", np.dtype(np.float32), shape)

    def grow(self, name: str, dim: int, dtype: DTypeLike) -> GrowingArray:
        """An array (n, dim) on disk to be written front to back; close it, then `publish` it."""
        return GrowingArray(self._partial(name), dim, dtype)

    def publish(self, name: str) -> None:
        """Let others see an array that `create` or `grow` made."""
        self._partial(name).replace(self._array(name))

    def open(self, name: str) -> NDArray[np.float32]:
        """A published array, memory-mapped."""
        return np.load(self._array(name), mmap_mode="r")

    @property
    def kind(self) -> str:
        """What sort of statistics it holds."""
        return self.folder.parent.name

    def key(self) -> dict[str, Any]:
        """The key in clear; empty where it cannot be read."""
        return self._json("key.json")

    def size(self) -> int:
        """Bytes on disk, files that were never finished included."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def clear(self) -> None:
        """Delete every array; the lock and the key stay."""
        for path in self.folder.glob("*.np[yz]"):
            path.unlink()

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return content

    def _archive(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _array(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _partial(self, name: str) -> Path:
        return self.folder / f"{PARTIAL}{os.getpid()}.{name}"


@dataclass(frozen=True)
class Cache:
    """A folder of entries."""

    root: Path

    def entry(self, kind: str, key: Key) -> Entry:
        """The entry of a key, made if absent, with the key in clear beside it."""
        text = json.dumps(key, sort_keys=True, default=str)
        folder = self.root / kind / hashlib.sha256(text.encode()).hexdigest()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        described = folder / "key.json"
        if not described.exists():
            partial = folder / f".key.{os.getpid()}.part"
            partial.write_text(json.dumps(key, sort_keys=True, default=str, indent=1))
            partial.replace(described)
        return Entry(folder)

    def entries(self) -> list[Entry]:
        """Every entry there is."""
        return [Entry(path.parent) for path in sorted(self.root.glob("*/*/key.json"))]

    def delete(self, entry: Entry) -> bool:
        """Remove an entry whole; False where a job is using it."""
        try:
            with FileLock(entry.folder / ".lock").acquire(timeout=0):
                shutil.rmtree(entry.folder)
        except Timeout:
            return False
        return True

    @contextmanager
    def locked(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Hold the locks of entries, taken in one order so that no two jobs wait for each other."""
        with ExitStack() as stack:
            for folder in sorted({entry.folder for entry in entries}):
                lock = FileLock(folder / ".lock")
                try:
                    stack.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    log.info("waiting for another job that computes %s", folder.name)
                    stack.enter_context(lock.acquire())
                for orphan in folder.glob(f"{PARTIAL}*"):  # of a job that was killed
                    orphan.unlink()
            yield


def cache_root(config: Config) -> Path:
    """The folder that `paths.cache` names."""
    return Path(config.paths.cache).expanduser()
