"""A file from one of its mirrors: broken transfers, checksums, and what no mirror has."""

from pathlib import Path

import pytest
from mirror import Mirror

from common.datasets import download, transfer
from common.records import StrataError


def test_a_broken_transfer_resumes_where_it_broke(mirror: Mirror, tmp_path: Path) -> None:
    remote = download.audio_archive("dev_clean", [f"{mirror.url}/12"])
    mirror.cut = 2
    content = mirror.files["/12/dev-clean.tar.gz"]
    path = transfer.fetch(remote, tmp_path)
    assert path.read_bytes() == content
    half = len(content) // 2 // 1000 * 1000
    more = (len(content) - half) // 2 // 1000 * 1000
    asked = [r for p, r in mirror.requests if p.endswith(".gz")]
    assert asked == [None, f"bytes={half}-", f"bytes={half + more}-"]


def test_a_complete_part_and_a_server_without_ranges(mirror: Mirror, tmp_path: Path) -> None:
    remote = download.audio_archive("dev-clean", [f"{mirror.url}/12"])
    content = mirror.files["/12/dev-clean.tar.gz"]
    for part, ranges in ((content, True), (content + b"more", True), (content[:500], False)):
        mirror.ranges = ranges
        folder = tmp_path / f"{len(part)}"
        folder.mkdir()
        (folder / "dev-clean.tar.gz.part").write_bytes(part)
        assert transfer.fetch(remote, folder).read_bytes() == content


def test_a_file_without_published_sum_is_recorded_then_compared(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del mirror.files["/12/md5sum.txt"]
    remote = download.audio_archive("dev-clean", [f"{mirror.url}/12"])
    assert remote.checksum is None
    path = transfer.fetch(remote, tmp_path)
    assert "no published checksum; recorded" in capsys.readouterr().out
    assert transfer.fetch(remote, tmp_path) == path
    path.write_bytes(b"changed")
    with pytest.raises(StrataError, match=r"dev-clean\.tar\.gz: sha256 is .* \(7 bytes\)"):
        transfer.fetch(remote, tmp_path)


def test_a_missing_file_tries_the_next_mirror_then_says_so(mirror: Mirror, tmp_path: Path) -> None:
    mirrors = [f"{mirror.url}/gone", f"{mirror.url}/12"]
    assert transfer.fetch(download.audio_archive("dev-clean", mirrors), tmp_path / "a").is_file()
    mirrors = [f"{mirror.url}/gone", "http://127.0.0.1:9"]
    with pytest.raises(
        StrataError, match=r"404 Client Error.*gone/.*; http://127\.0\.0\.1:9/.*Connec"
    ):
        transfer.fetch(download.audio_archive("dev-clean", mirrors), tmp_path / "b")
