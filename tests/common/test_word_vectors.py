"""Tables of word vectors from the command that fetches them, as the analyses read them."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from mirror import Mirror

from analysis.targets.word_vectors import read_table
from common.datasets import download

VECTORS = "the 0.1 0.2\nking 0.3 0.4\n"


def zipped(text: str, name: str = "table.txt") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(name, text)
        bundle.writestr("__MACOSX/._table.txt", "left by an archiver")
    return buffer.getvalue()


def vectors(mirror: Mirror, root: Path, name: str = "glove", path: str = "/data/table.zip") -> int:
    return download.main([name, "--root", str(root), "--url", f"{mirror.url}{path}"])


@pytest.mark.parametrize("name", ["glove", "agwe"])
def test_word_vectors_are_read_as_they_come(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mirror.files["/data/table.zip"] = zipped(VECTORS)
    assert vectors(mirror, tmp_path / "v", name) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "v" / "table.zip"
    assert f"use: experiment=cca_{name} target.path={path}" in printed
    assert read_table(path).words == ("the", "king")


def test_word_vectors_are_recorded_then_compared(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody publishes their sums."""
    content = zipped(VECTORS)
    mirror.files["/data/table.zip"] = content
    assert vectors(mirror, tmp_path) == vectors(mirror, tmp_path) == 0
    recorded = (tmp_path / "SHA256SUMS").read_text()
    assert recorded == f"{hashlib.sha256(content).hexdigest()}  table.zip\n"
    assert len(mirror.requests) == 1
    (tmp_path / "table.zip").unlink()
    mirror.files["/data/table.zip"] = zipped(VECTORS + "queen 0.5 0.6\n")
    assert vectors(mirror, tmp_path) == 1
    assert "table.zip: sha256 is" in capsys.readouterr().err
    assert not (tmp_path / "table.zip").exists()


def test_a_web_page_instead_of_vectors_is_not_recorded(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.files["/data/table.zip"] = b"<html>please log in</html>"
    assert vectors(mirror, tmp_path) == 1
    assert "is no zip file (26 bytes): a web page in its place" in capsys.readouterr().err
    assert list(tmp_path.glob("*SUMS")) == list(tmp_path.glob("table.zip*")) == []
    assert vectors(mirror, tmp_path, path="/") == 1
    assert "must end in the name of a file" in capsys.readouterr().err


def test_word_vectors_without_a_url_come_from_their_publishers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(download, "fetch", lambda remote, root: asked.append(remote) or root)
    for name in download.VECTOR_TABLES:
        assert download.main([name, "--root", str(tmp_path)]) == 0
    assert [remote.name for remote in asked] == ["glove.840B.300d.zip", "librispeech_agwe_map.zip"]
    assert [remote.checksum for remote in asked] == [None, None]
    assert all(url.startswith("https://") for remote in asked for url in remote.urls)
