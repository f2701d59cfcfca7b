"""Files are whole or as they were, whatever happens while they are written."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import python

from common.records import StrataError
from common.writing import checksum, replacing, write_text

KILLED = """
import os, signal
from pathlib import Path
from common.writing import replacing
with replacing(Path({path!r})) as partial, partial.open("wb") as file:
    file.write(b"new" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may be larger than 64 KiB: what a full disk does to a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("one", "two, longer"):
        write_text(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
    before = checksum(path)
    path.write_text("two, Longer")
    assert checksum(path) != before


def test_a_kill_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    assert python("-c", KILLED.format(path=str(path))).returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there_and_is_told(tmp_path: Path, small_disk: None) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        pytest.raises(StrataError, match=r"file: cannot be written, .* \(\d+ MB free\)"),
        replacing(path) as partial,
        partial.open("wb") as file,
    ):
        file.write(b"new" * 100_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        (tmp_path / "nowhere").read_text()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
