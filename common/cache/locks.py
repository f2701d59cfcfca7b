"""Locks on folders: shared for reading, exclusive for changing; scratch folders held by a lock."""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

log = logging.getLogger(__name__)

NAME = ".lock"
SCRATCH = ".statistics-"
DEEPEST = 4  # levels of folders between the folder of all runs and a run's own


class FolderLock:
    """A lock of one folder, on a file in it; the system releases it when the process ends.

    Where the folder cannot be written to and has no such file, its content cannot change:
    there is nothing to lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: int | None = None

    def take(self, exclusive: bool, wait: bool = True) -> bool:
        """Hold the lock, exclusively or with other readers; False if it is held and not `wait`.

        What this lock held before is released first.
        """
        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        self.release()
        while True:
            file = self._open()
            if file is None:
                return True
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    os.close(file)
                    return False
                doing = "uses" if exclusive else "computes"
                log.info("waiting for another job that %s %s", doing, self.path.parent.name)
                fcntl.flock(file, how)
            if self._is_there(file):
                self._file = file
                return True
            os.close(file)  # the folder was deleted meanwhile, with the file that was waited for

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            try:
                return os.open(self.path, os.O_RDONLY)
            except OSError:
                return None

    def _is_there(self, file: int) -> bool:
        try:
            current = self.path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(file)
        return (held.st_dev, held.st_ino) == (current.st_dev, current.st_ino)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, deleted at the end of the block."""
    scratch = Path(mkdtemp(dir=folder, prefix=SCRATCH))
    lock = FolderLock(scratch)
    lock.take(exclusive=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def clear_left_over(root: Path) -> int:
    """Delete the scratch folders below `root` that no running job holds; returns how many."""
    cleared = 0
    for depth in range(DEEPEST + 1):
        for folder in root.glob("*/" * depth + f"{SCRATCH}*"):
            lock = FolderLock(folder)
            if not folder.is_symlink() and lock.take(exclusive=True, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
                cleared += 1
    return cleared
