"""A folder for what is not to be kept; one that a killed job left is deleted by the next."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from common.cache.locks import FolderLock

PREFIX = ".statistics-"
DEEPEST = 4  # levels of folders between the folder of all runs and a run's own


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, deleted at the end of the block."""
    own = Path(mkdtemp(dir=folder, prefix=PREFIX))
    lock = FolderLock(own)
    lock.take(exclusive=True)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        lock.release()


def clear_left_over(root: Path) -> int:
    """Delete the scratch folders below `root` that no running job holds; returns how many."""
    cleared = 0
    for depth in range(DEEPEST + 1):
        for folder in root.glob("*/" * depth + f"{PREFIX}*"):
            lock = FolderLock(folder)
            if not folder.is_symlink() and lock.take(exclusive=True, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
                cleared += 1
    return cleared
