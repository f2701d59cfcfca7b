"""Statistics of forward passes, kept between runs: an entry is a folder named by a hash of its key.

The key is an allow-list: exactly what the numbers depend on. Files appear whole or not at all
(written beside, then renamed), each with a checksum, its shape and its type beside it. Changing an
entry takes its lock exclusively; readers share it.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from common.cache.locks import FolderLock
from common.config import Config
from common.writing import try_writing

log = logging.getLogger(__name__)

Key = Mapping[str, object]
PARTIAL = ".part"  # prefix of the files of an unfinished pass
UNFINISHED = re.compile(r"\.part(\d*)\.")  # with the number of the process unless it is the first
HIDDEN = ".hidden."  # prefix of a mark: do not use this array of the read-only entry
STATE = "state"  # where an unfinished pass stores what it needs to resume
READ_AT_ONCE = 1 << 23  # bytes
READ_FROM_ZIP = 1 << 18  # bytes that are read at once where zipfile copies them
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk without room
DEFAULT = "~/.cache/strata"
# numpy reads an array's header with Python's parser, and CPython 3.11's fails now and then where
# two threads parse at once (SystemError: AST constructor recursion depth mismatch).
HEADERS = Lock()
FOLDER = re.compile(r"[0-9a-f]{24}")


class GrowingArray:
    """A .npy file (n, d) written front to back; it can be read once it is closed.

    numpy leaves room in a header for the number of rows to grow, so that it can be rewritten in
    place. The first `n` rows of an existing file are kept, the rest is cut off.
    """

    def __init__(self, path: Path, dim: int, dtype: DTypeLike, n: int = 0) -> None:
        self.path = path
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.n = n
        if n == 0:
            path.write_bytes(b"")
        self._write_header()
        end = self._end()
        if path.stat().st_size < end:
            raise ValueError(f"{path} is shorter than its {n} rows")
        os.truncate(path, end)

    def append(self, rows: NDArray[np.generic]) -> None:
        """Append rows (r, d), in the array's own type."""
        r, d = rows.shape
        if d != self.dim:
            raise ValueError(f"rows of {d} columns for an array of {self.dim}")
        with self.path.open("ab") as file:  # not held open: a pass may break off anywhere
            file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.n += r

    def flush(self) -> None:
        """Flush to disk what was written, so that it can be read."""
        self._write_header()
        with self.path.open("ab") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Write the final number of rows into the header."""
        self._write_header()

    def _end(self) -> int:
        with self.path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell() + self.n * self.dim * self.dtype.itemsize

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.n, self.dim)}
        with self.path.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: named arrays that all follow from one key.

    `below` is the same entry in a cache that cannot be written to: it is read where this one lacks
    an array, and left as it is. `content` is the key. Unfinished files belong to the process that
    writes them, `writer` of `writers`.
    """

    folder: Path
    below: Path | None = None
    content: Key = field(default_factory=dict, compare=False)
    writer: int = field(default=0, compare=False)
    writers: int = field(default=1, compare=False)

    def prepare(self) -> None:
        """Make the folder, with the key in clear in it, if it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        described = self.folder / "key.json"
        if not described.exists() and self.content:
            partial = self.folder / f".key.{socket.gethostname()}.{os.getpid()}.part"
            partial.write_text(json.dumps(self.content, sort_keys=True, default=str, indent=1))
            partial.replace(described)

    def has(self, name: str) -> bool:
        """Whether there is an array, or several, under a name, complete."""
        return self._holder(name) is not None

    def names(self) -> list[str]:
        """Names of its arrays."""
        return [name for name, _, _ in self._records()]

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as one file."""
        self.stage(name, arrays)
        self.publish(name)

    def stage(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as one file that others see when it is published."""
        beside = self._partial(f"{PARTIAL}.{name}.npz")
        with beside.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        beside.replace(self._partial(f"{name}.npz"))

    def load(self, name: str) -> dict[str, NDArray[Any]]:
        """Read named arrays."""
        with zipfile.ZipFile(self._found(name) / f"{name}.npz") as archive:
            return {key: _read(archive, member) for key, member in _members(archive).items()}

    def note(self, content: Mapping[str, object]) -> None:
        """Record how the arrays were computed."""
        self._write("note.json", content)

    def notes(self) -> dict[str, Any]:
        """What `note` recorded; empty without."""
        return self._json("note.json")

    def create(self, name: str, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
        """A float32 array on disk to be filled row by row; `publish` it when it is complete.

        An unfinished array of this shape is continued. Its disk space is reserved at once:
        writing to a memory-mapped file on a full disk would kill the process.
        """
        path = self._partial(f"{name}.npy")
        if not path.exists():
            with path.open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                _allocate(file.fileno(), file.tell(), 4 * shape[0] * shape[1])
        return np.lib.format.open_memmap(path, "r+")

    def grow(self, name: str, dim: int, dtype: DTypeLike, n: int = 0) -> GrowingArray:
        """An array (., dim) on disk to be written front to back; close it, then `publish` it.

        The first n rows of an unfinished array are kept.
        """
        return GrowingArray(self._partial(f"{name}.npy"), dim, dtype, n)

    def publish(self, name: str, needs: str = "") -> None:
        """Let others see an array that `create`, `grow` or `stage` made.

        `needs`: another array without which it is useless.
        """
        file = f"{name}.npz" if self._partial(f"{name}.npz").exists() else f"{name}.npy"
        record = {"file": file, "needs": needs, **_described(self._partial(file))}
        (self.folder / f"{name}.sum").unlink(missing_ok=True)
        self._partial(file).replace(self.folder / file)
        self._write(f"{name}.sum", record)

    def open(self, name: str) -> NDArray[np.float32]:
        """A published array, memory-mapped."""
        return np.load(self._found(name) / f"{name}.npy", mmap_mode="r")

    def save_state(self, identity: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Store the state of a pass, from which one of the same `identity` can resume."""
        state = self._partial(f"{STATE}.npz")
        files = [path.name for path in self._partials() if path != state]
        named = {"identity": np.array(identity), "files": np.array(files, dtype=np.str_)}
        self.stage(STATE, {**arrays, **named})

    def load_state(self, identity: str) -> dict[str, NDArray[Any]] | None:
        """The stored state of a pass of this identity; that of any other pass is deleted."""
        try:
            with np.load(self._partial(f"{STATE}.npz"), allow_pickle=False) as archive:
                arrays = dict(archive)
        except Exception:  # absent, or damaged in whatever way: begin anew
            arrays = {}
        present = {path.name for path in self._partials()}
        if str(arrays.get("identity")) == identity and present >= set(arrays["files"].tolist()):
            return arrays
        self.delete_unfinished()
        return None

    def delete_unfinished(self) -> None:
        """Delete the unfinished files of this writer."""
        for path in self._partials():
            path.unlink()

    def delete_all_unfinished(self) -> None:
        """Delete the unfinished files of all writers."""
        for path in self.folder.glob(f"{PARTIAL}*"):
            path.unlink()

    def unfinished(self, name: str) -> NDArray[Any]:
        """The rows written so far of an array that `grow` made, memory-mapped."""
        return np.load(self._partial(f"{name}.npy"), mmap_mode="r")

    def move_staged(self, name: str, other: "Entry") -> None:
        """Rename a file that `stage` made to the name that another writer of the entry gives it."""
        self._partial(f"{name}.npz").replace(other._partial(f"{name}.npz"))

    def of_writer(self, number: int) -> "Entry":
        """The same entry as another process writes it."""
        return replace(self, writer=number)

    def of_other_writers(self) -> "list[Entry]":
        """The entry as those processes of an unfinished pass wrote it that this one merges.

        Where that pass had more processes, process n modulo the present number of processes merges
        the files of process n.
        """
        found = (UNFINISHED.match(path.name) for path in self.folder.glob(f"{PARTIAL}*"))
        numbers = {int(match[1] or 0) for match in found if match}
        mine = (n for n in sorted(numbers - {self.writer}) if n % self.writers == self.writer)
        return [self.of_writer(n) for n in mine]

    def _partials(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._prefix}*"))

    def damaged(self) -> dict[str, str]:
        """Damaged arrays, and what is wrong with each; reads all of them."""
        wrong = {}
        records = {name: (folder, record) for name, folder, record in self._records()}
        for name, (folder, record) in records.items():
            why = _fault(folder, record)
            if why:
                wrong[name] = why
        for name, (_, record) in records.items():
            needed = record.get("needs")
            if needed and (needed in wrong or needed not in records):
                wrong.setdefault(name, f"{needed} is missing or damaged")
        return wrong

    def discard(self, name: str) -> None:
        """Delete an array; one that is only `below` is ignored from now on."""
        for suffix in ("sum", "npz", "npy"):
            (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)
        if self.below is not None:
            (self.folder / f"{HIDDEN}{name}").touch()

    def clear(self) -> None:
        """Delete every array, unfinished ones included; the lock and the key stay."""
        for name in self.names():
            self.discard(name)
        self.delete_all_unfinished()
        for path in self.folder.glob("*.np[yz]"):  # without a checksum: of an earlier version
            path.unlink()

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

    def _records(self) -> Iterator[tuple[str, Path, dict[str, Any]]]:
        """Name, folder and record of every array; an unreadable record is an empty one."""
        seen = set()
        for folder in filter(None, (self.folder, self.below)):
            for path in sorted(folder.glob("*.sum")):
                if (
                    path.name.startswith(".")
                    or path.stem in seen
                    or self._holder(path.stem) != folder
                ):
                    continue
                seen.add(path.stem)
                yield path.stem, folder, _read_json(path)

    def _holder(self, name: str) -> Path | None:
        if (self.folder / f"{name}.sum").exists():
            return self.folder
        hidden = (self.folder / f"{HIDDEN}{name}").exists()
        if self.below is not None and not hidden and (self.below / f"{name}.sum").exists():
            return self.below
        return None

    def _found(self, name: str) -> Path:
        folder = self._holder(name)
        if folder is None:
            raise FileNotFoundError(self.folder / name)
        return folder

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return _read_json(path if path.exists() or self.below is None else self.below / name)

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        partial = self._partial(name)
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(self.folder / name)

    @property
    def _prefix(self) -> str:
        return f"{PARTIAL}{self.writer or ''}."

    def _partial(self, file: str) -> Path:
        return self.folder / f"{self._prefix}{file}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _allocate(file: int, start: int, size: int) -> None:
    """Reserve room on the disk, or fail now."""
    if size == 0:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, start, size)
        return
    block = bytes(READ_AT_ONCE)  # where the system has no such call
    os.lseek(file, start, os.SEEK_SET)
    while size > 0:
        size -= os.write(file, block[:size])


def _checksum(path: Path) -> str:
    """XXH3 of a file, which detects damage, not tampering."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _arrays_of(path: Path) -> dict[str, list[object]]:
    """Shape and type of each array of a file, from the arrays' headers."""
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return {"": _described_by(_header(file))}
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name, member in _members(archive).items():
            with archive.open(member) as file:
                found[name] = _described_by(_header(file))
        return found


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """Names of the arrays of an .npz, and of their files in it."""
    return {member.removesuffix(".npy"): member for member in archive.namelist()}


def _read(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """One array of an .npz. Unlike numpy.load, it lets other threads read at the same time."""
    with archive.open(member) as file:
        shape, by_columns, dtype = _header(file)
        array = np.empty(shape, dtype, order="F" if by_columns else "C")
        stored = array.reshape(-1, order="A").view(np.uint8)
        for start in range(0, stored.size, READ_FROM_ZIP):
            part = stored[start : start + READ_FROM_ZIP]
            part.data[:] = file.read(part.size)  # raises if the file is shorter
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape of the array in numpy's format that a file begins with, its order, and its type."""
    with HEADERS:
        major, _ = np.lib.format.read_magic(file)
        if major == 1:
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)


def _described_by(header: tuple[tuple[int, ...], bool, np.dtype[Any]]) -> list[object]:
    shape, _, dtype = header
    return [list(shape), dtype.str]


def _described(path: Path) -> dict[str, object]:
    return {
        "size": path.stat().st_size,
        "xxh3": _checksum(path),
        "arrays": _arrays_of(path),
    }


def _fault(folder: Path, record: Mapping[str, Any]) -> str:
    """What is wrong with a file of an entry; "" if nothing is."""
    if not {"file", "size", "xxh3", "arrays"} <= record.keys():
        return "its record cannot be read"
    path = folder / str(record["file"])
    if not path.is_file():
        return "it is missing"
    size = path.stat().st_size
    if size != record["size"]:
        return f"it has {size} bytes instead of {record['size']}"
    if _checksum(path) != record["xxh3"]:
        return "its checksum is another"
    if _arrays_of(path) != record["arrays"]:
        return "its shape or type is another"
    return ""


class Held:
    """Locks of entries, taken in one order so that no two jobs wait for each other."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = {entry.folder: entry for entry in sorted(entries, key=lambda e: e.folder)}
        self._locks = [FolderLock(entry.below or folder) for folder, entry in self.entries.items()]
        self.alone = False

    def read(self) -> None:
        """Share the locks: others may read the entries, none may change them."""
        self._take(exclusive=False)

    def change(self) -> None:
        """Hold the locks exclusively; an entry deleted meanwhile is made again, empty."""
        self._take(exclusive=True)

    def _take(self, exclusive: bool) -> None:
        self.release()
        for lock in self._locks:
            lock.take(exclusive)
        for entry in self.entries.values():
            entry.prepare()

    def release(self) -> None:
        """Release the locks."""
        for lock in self._locks:
            lock.release()


@dataclass(frozen=True)
class Cache:
    """A folder of entries; `below` is one that cannot be written to, and is only read."""

    root: Path
    below: Path | None = None

    def entry(self, kind: str, key: Key) -> Entry:
        """The entry of a key, made if absent, with the key in clear beside it."""
        text = json.dumps(key, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        below = self.below / kind / name if self.below is not None else None
        entry = Entry(self.root / kind / name, below if below and below.is_dir() else None, key)
        entry.prepare()
        return entry

    def entries(self) -> list[Entry]:
        """Every entry there is, those without a readable key included."""
        folders = (path for path in sorted(self.root.glob("*/*")) if path.is_dir())
        return [Entry(folder) for folder in folders if FOLDER.fullmatch(folder.name)]

    def delete(self, entry: Entry) -> bool:
        """Remove an entry whole; False where a job is using it."""
        lock = FolderLock(entry.folder)
        if not lock.take(exclusive=True, wait=False):
            return False
        try:
            shutil.rmtree(entry.folder)
        finally:
            lock.release()
        return True

    @contextmanager
    def held(self, entries: Sequence[Entry]) -> Iterator[Held]:
        """Locks of entries, to be taken in the block and released after it."""
        held = Held(entries)
        try:
            yield held
        finally:
            held.release()


def cache_root(config: Config) -> Path:
    """The folder that `paths.cache` names; an empty STRATA_CACHE counts as not set."""
    return Path(config.paths.cache or DEFAULT).expanduser()


def hashes_folder(config: Config) -> Path | None:
    """Where hashes of audio files are kept; `cache=off` keeps none."""
    return cache_root(config) if config.cache != "off" else None


def open_cache(config: Config, scratch: Path) -> Cache:
    """The cache of a run. One that cannot be written to is read; new statistics go to `scratch`.

    Whatever is in `scratch` is not kept. `cache=off` reads nothing either.
    """
    if config.cache == "off":
        return Cache(scratch)
    root = cache_root(config)
    try:
        try_writing(root)
    except OSError as error:
        log.warning(
            "the cache %s cannot be written to (%s): what it holds is used, what this run computes "
            "is not kept. Another folder: paths.cache=, or STRATA_CACHE",
            root,
            error.strerror,
        )
        return Cache(scratch, root)
    return Cache(root)
