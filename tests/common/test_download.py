import functools
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from speech import PHONES, WORDS, textgrid, write_audio

from analysis.embeddings import read_table
from common.datasets import download, transfer, word_vectors
from common.datasets.librilight import LibriLight
from common.datasets.librispeech_local import LibriSpeechLocal
from common.records import StrataError

ID = "84-121123-0000"


class Mirror:
    """Serves `files` by path, with byte ranges; `cut` counts the answers to break off half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut = 0
        self.ranges = True
        handler = functools.partial(MirrorHandler, self)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class MirrorHandler(BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *args: object) -> None:
        self.mirror = mirror
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.mirror.requests.append((self.path, asked))
        content = self.mirror.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(re.findall(r"\d+", asked)[0]) if asked and self.mirror.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.mirror.cut:
            self.mirror.cut -= 1
            body = body[: len(body) // 2]
        return self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Both archives of a LibriSpeech of one utterance, and Zenodo's description of the second."""
    monkeypatch.setattr(download, "SHA256", {})
    monkeypatch.setattr(transfer, "PAUSE", 0)
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    served = Mirror()
    tar, bundle = audio_tar(tmp_path), alignment_zip()
    served.files = {
        "/12/dev-clean.tar.gz": tar,
        "/12/md5sum.txt": f"{hashlib.md5(tar).hexdigest()}  dev-clean.tar.gz\n".encode(),
        "/files/librispeech_alignments.zip": bundle,
        "/record": record(served.url, hashlib.md5(bundle).hexdigest()),
    }
    yield served
    served.close()


def record(url: str, md5: str) -> bytes:
    links = {"self": f"{url}/files/librispeech_alignments.zip"}
    file = {"key": "librispeech_alignments.zip", "checksum": f"md5:{md5}", "links": links}
    return json.dumps({"files": [file]}).encode()


def audio_tar(folder: Path) -> bytes:
    flac = write_audio(folder / "x.flac")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(flac, f"LibriSpeech/dev-clean/84/121123/{ID}.flac")
        add(tar, "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt", f"{ID} SHE HAD\n")
        add(tar, "LibriSpeech/README.TXT", "read me")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content.encode()))


def alignment_zip(enclosing: str = "LibriSpeech/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        grid = textgrid({"words": WORDS, "phones": PHONES})
        bundle.writestr(f"{enclosing}dev-clean/84/121123/{ID}.TextGrid", grid)
        bundle.writestr(f"{enclosing}dev-other/84/121123/{ID}.TextGrid", grid)
    return buffer.getvalue()


def run(mirror: Mirror, root: Path) -> int:
    where = ["--openslr", f"{mirror.url}/12/", "--zenodo", f"{mirror.url}/record"]
    return download.main(["librispeech", "--partition", "dev_clean", "--root", str(root), *where])


def test_what_it_downloads_is_what_the_dataset_reads(mirror: Mirror, tmp_path, capsys) -> None:
    root = tmp_path / "data"
    assert run(mirror, root) == 0
    assert "dataset=librispeech_local" in capsys.readouterr().out
    corpus = LibriSpeechLocal(
        partition="dev_clean", audio_root=str(root), alignment_root=str(root / "alignments")
    ).read()
    assert [(u.id, u.text) for u in corpus.utterances] == [(ID, "SHE HAD")]
    names = {p.name for p in root.iterdir()}
    assert names == {"LibriSpeech", "alignments", "archives"}
    assert {p.name for p in (root / "alignments").iterdir()} == {"dev-clean"}
    mirror.requests.clear()
    assert run(mirror, root) == 0
    assert mirror.requests == []


def test_a_broken_transfer_resumes_where_it_broke(mirror: Mirror, tmp_path) -> None:
    remote = download.audio_archive("dev_clean", [f"{mirror.url}/12"])
    mirror.cut = 2
    content = mirror.files["/12/dev-clean.tar.gz"]
    path = transfer.fetch(remote, tmp_path)
    assert path.read_bytes() == content
    half = len(content) // 2 // 1000 * 1000
    more = (len(content) - half) // 2 // 1000 * 1000
    asked = [r for p, r in mirror.requests if p.endswith(".gz")]
    assert asked == [None, f"bytes={half}-", f"bytes={half + more}-"]


def test_an_interrupted_run_resumes_in_the_next(mirror: Mirror, tmp_path, capsys) -> None:
    content = mirror.files["/12/dev-clean.tar.gz"]
    archives = tmp_path / "data" / "archives"
    archives.mkdir(parents=True)
    (archives / "dev-clean.tar.gz.part").write_bytes(content[:1000])
    assert run(mirror, tmp_path / "data") == 0
    assert ("/12/dev-clean.tar.gz", "bytes=1000-") in mirror.requests


def test_a_complete_part_and_a_server_without_ranges(mirror: Mirror, tmp_path) -> None:
    remote = download.audio_archive("dev-clean", [f"{mirror.url}/12"])
    content = mirror.files["/12/dev-clean.tar.gz"]
    for part, ranges in ((content, True), (content + b"more", True), (content[:500], False)):
        mirror.ranges = ranges
        folder = tmp_path / f"{len(part)}"
        folder.mkdir()
        (folder / "dev-clean.tar.gz.part").write_bytes(part)
        assert transfer.fetch(remote, folder).read_bytes() == content


def test_a_wrong_checksum_is_an_error_and_nothing_is_unpacked(mirror, tmp_path, capsys) -> None:
    mirror.files["/12/md5sum.txt"] = b"0" * 32 + b"  dev-clean.tar.gz\n"
    assert run(mirror, tmp_path / "data") == 1
    assert "md5 is" in (error := capsys.readouterr().err)
    assert f"should be {'0' * 32}" in error
    assert [p for p in (tmp_path / "data").rglob("*") if p.is_file()] == []


def test_zenodo_checksums_count_too(mirror: Mirror, tmp_path, capsys) -> None:
    mirror.files["/record"] = record(mirror.url, "f" * 32)
    assert run(mirror, tmp_path / "data") == 1
    assert "librispeech_alignments.zip: md5 is" in capsys.readouterr().err
    mirror.files["/record"] = b"<html>maintenance</html>"
    assert run(mirror, tmp_path / "data") == 1
    assert "/record does not describe the alignments' zip file" in capsys.readouterr().err


def test_a_file_without_published_sum_is_recorded_then_compared(mirror, tmp_path, capsys) -> None:
    del mirror.files["/12/md5sum.txt"]
    remote = download.audio_archive("dev-clean", [f"{mirror.url}/12"])
    assert remote.checksum is None
    path = transfer.fetch(remote, tmp_path)
    assert "no published checksum; recorded" in capsys.readouterr().out
    assert transfer.fetch(remote, tmp_path) == path
    path.write_bytes(b"changed")
    with pytest.raises(StrataError, match=r"dev-clean\.tar\.gz: sha256 is .* \(7 bytes\)"):
        transfer.fetch(remote, tmp_path)


def test_a_missing_file_tries_the_next_mirror_then_says_so(mirror, tmp_path) -> None:
    mirrors = [f"{mirror.url}/gone", f"{mirror.url}/12"]
    assert transfer.fetch(download.audio_archive("dev-clean", mirrors), tmp_path / "a").is_file()
    mirrors = [f"{mirror.url}/gone", "http://127.0.0.1:9"]
    with pytest.raises(
        StrataError, match=r"404 Client Error.*gone/.*; http://127\.0\.0\.1:9/.*Connec"
    ):
        transfer.fetch(download.audio_archive("dev-clean", mirrors), tmp_path / "b")


def test_archives_cannot_write_outside_their_folder(mirror: Mirror, tmp_path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        add(tar, "../evil.txt", "x")
    (tmp_path / "evil.tar.gz").write_bytes(buffer.getvalue())
    root = tmp_path / "root"
    with pytest.raises(StrataError, match=r"evil\.tar\.gz could not be unpacked \(OutsideDest"):
        download.unpack_audio(tmp_path / "evil.tar.gz", root, "dev-clean")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as bundle:
        bundle.writestr("dev-clean/../../evil.TextGrid", "x")
    with pytest.raises(StrataError, match="unsafe"):
        download.unpack_alignments(tmp_path / "evil.zip", root, "dev-clean")
    assert list(root.iterdir()) == []
    assert not list(tmp_path.glob("evil.T*"))


def test_other_archives_by_our_name_are_refused(mirror: Mirror, tmp_path) -> None:
    (tmp_path / "a.zip").write_bytes(alignment_zip(enclosing="x/y/"))
    found = download.unpack_alignments(tmp_path / "a.zip", tmp_path, "dev-clean")
    assert (found / "84/121123" / f"{ID}.TextGrid").is_file()
    with pytest.raises(StrataError, match=r"a\.zip: holds no test-clean"):
        download.unpack_alignments(tmp_path / "a.zip", tmp_path, "test-clean")
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(StrataError, match=r"a\.tar\.gz could not be unpacked \(ReadError"):
        download.unpack_audio(tmp_path / "a.tar.gz", tmp_path, "dev-clean")


def test_the_published_sums_are_whole() -> None:
    sums = download.SHA256
    assert len(sums) == 7
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in sums.values())


def light_tar(folder: Path, parts: tuple[str, ...] = ("1h/0", "1h/1", "9h")) -> bytes:
    """Libri-light's release with an utterance in each part."""
    flac = write_audio(folder / "y.flac")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for k, part in enumerate(parts):
            chapter = f"librispeech_finetuning/{part}/clean/8{k}/121123"
            tar.add(flac, f"{chapter}/8{k}-121123-0000.flac")
            add(tar, f"{chapter}/8{k}-121123.trans.txt", f"8{k}-121123-0000 SHE HAD\n")
    return buffer.getvalue()


def light(mirror: Mirror, root: Path) -> int:
    return download.main(["librilight", "--root", str(root), "--url", f"{mirror.url}/light.tgz"])


@pytest.fixture
def publish(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put something in the release's place, with a checksum that fits."""

    def put(content: bytes) -> None:
        mirror.files["/light.tgz"] = content
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        own = replace(download.LIBRILIGHT, checksum=checksum)
        monkeypatch.setattr(download, "LIBRILIGHT", own)

    return put


def test_libri_light_is_read_as_it_comes(mirror: Mirror, publish, tmp_path, capsys) -> None:
    root = tmp_path / "data"
    mirror.files["/light.tgz"] = light_tar(tmp_path)
    assert light(mirror, root) == 1  # not what was published
    assert "sha256 is" in capsys.readouterr().err
    publish(light_tar(tmp_path))
    assert light(mirror, root) == 0
    folder = root / "librispeech_finetuning"
    assert f"finetune.train.dataset.root={folder}" in capsys.readouterr().out
    for partition, speakers in (("10m", ["80"]), ("1h", ["80", "81"]), ("10h", ["80", "81", "82"])):
        corpus = LibriLight(partition=partition, root=str(folder)).read()
        assert [(u.speaker, u.text) for u in corpus.utterances] == [
            (s, "SHE HAD") for s in speakers
        ]
    mirror.requests.clear()
    assert light(mirror, root) == 0
    assert mirror.requests == []


@pytest.mark.parametrize("content", [b"no archive", None])
def test_half_of_libri_light_is_refused(mirror, publish, tmp_path, capsys, content) -> None:
    publish(light_tar(tmp_path, ("1h/0",)) if content is None else content)
    assert light(mirror, tmp_path / "data") == 1
    told = capsys.readouterr().err
    assert ("holds no 9h" if content is None else "could not be unpacked (ReadError") in told
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"archives"}


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
def test_word_vectors_are_read_as_they_come(mirror, tmp_path, capsys, name: str) -> None:
    mirror.files["/data/table.zip"] = zipped(VECTORS)
    assert vectors(mirror, tmp_path / "v", name) == 0
    told = capsys.readouterr().out
    path = tmp_path / "v" / "table.zip"
    assert f"use: experiment=cca_{name} target.path={path}" in told
    assert read_table(path).words == ("the", "king")


def test_word_vectors_are_recorded_then_compared(mirror, tmp_path, capsys) -> None:
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


def test_a_web_page_instead_of_vectors_is_not_recorded(mirror, tmp_path, capsys) -> None:
    mirror.files["/data/table.zip"] = b"<html>please log in</html>"
    assert vectors(mirror, tmp_path) == 1
    assert "is no zip file (26 bytes): a web page in its place" in capsys.readouterr().err
    assert list(tmp_path.glob("*SUMS")) == list(tmp_path.glob("table.zip*")) == []
    assert vectors(mirror, tmp_path, path="/") == 1
    assert "must end in the name of a file" in capsys.readouterr().err


def test_word_vectors_without_a_url_come_from_their_publishers(monkeypatch, tmp_path) -> None:
    asked = []
    monkeypatch.setattr(word_vectors, "fetch", lambda remote, root: asked.append(remote) or root)
    for name in word_vectors.SOURCES:
        assert download.main([name, "--root", str(tmp_path)]) == 0
    assert [remote.name for remote in asked] == ["glove.840B.300d.zip", "librispeech_agwe_map.zip"]
    assert [remote.checksum for remote in asked] == [None, None]
    assert all(url.startswith("https://") for remote in asked for url in remote.urls)
