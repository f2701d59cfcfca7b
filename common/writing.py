"""Files that appear whole or not at all: written beside, in the same folder, and then renamed."""

import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.records import StrataError

FULL = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "larger than files may be here",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path in the folder of `path` to write a file to, which then takes the place of `path`.

    It is renamed once its bytes are on the disk; after an error, or a kill, `path` is what it was.
    One process at a time may write a path. A full disk is a StrataError.
    """
    partial = path.with_name(f".part.{path.name}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        reason = FULL.get(error.errno or 0)
        if reason is None:
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        raise StrataError(
            f"{path}: cannot be written, {reason} ({free:.0f} MB free). What was there before is "
            "kept: make room and give the same command again"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def checksum(path: Path) -> int:
    """CRC-32 of a file's contents, which detects damage, at about a second per gigabyte."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            total = zlib.crc32(block, total)
    return total


def try_writing(folder: Path) -> None:
    """Make a folder and, for a moment, a file in it; OSError where one of them cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".writable.{os.getpid()}"
    probe.touch()
    probe.unlink()
