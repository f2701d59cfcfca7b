"""Hashes of files: any change is seen, and what has not changed is not read again."""

import os
from pathlib import Path
from time import time_ns

import pytest

from common.file_hashes import TABLE, FileHashes, content_hash, hashes_kept

HOUR = 3600 * 10**9


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 100 kB, looked at an hour after it was written."""
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(100_000))
    monkeypatch.setattr("common.file_hashes.time_ns", lambda: time_ns() + HOUR)
    return path


def test_a_change_anywhere_is_seen_even_with_the_times_set_back(
    audio: Path, tmp_path: Path
) -> None:
    with hashes_kept(tmp_path):
        before = content_hash(audio)
    times = audio.stat()
    data = bytearray(audio.read_bytes())
    data[20_000] = 1  # neither at the head nor in the middle nor at the tail
    audio.write_bytes(data)
    os.utime(audio, ns=(times.st_atime_ns, times.st_mtime_ns))
    with hashes_kept(tmp_path):
        assert content_hash(audio) != before
    assert FileHashes(tmp_path / TABLE).of(audio) != before


def test_what_has_not_changed_is_not_read_again(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hashes_kept(tmp_path / "cache"):
        before = content_hash(audio)
    with monkeypatch.context() as patch:
        patch.setattr("common.file_hashes.xxhash.xxh3_128", None)
        assert FileHashes(tmp_path / "cache" / TABLE).of(audio) == before
    copy = tmp_path / "copy.wav"
    copy.write_bytes(audio.read_bytes())
    assert content_hash(copy) == before  # in another place it is the same speech


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    """It may change once more within the resolution of the file system's clock."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    hashes = FileHashes(tmp_path / TABLE)
    hashes.of(path)
    hashes.save()
    assert not (tmp_path / TABLE).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_a_damaged_table_is_an_empty_one(content: str, audio: Path, tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text(content)
    with hashes_kept(tmp_path):
        assert len(content_hash(audio)) == 32
    assert str(audio) in (tmp_path / TABLE).read_text()
