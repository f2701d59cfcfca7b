"""The command that downloads LibriSpeech and Libri-light, against a mirror on this machine."""

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mirror import ID, Mirror, add, alignment_zip, record
from speech import write_audio

from common.datasets import download
from common.datasets.librilight import LibriLight
from common.datasets.librispeech_local import LibriSpeechLocal
from common.datasets.transfer import Remote, fetch
from common.records import StrataError


def run(mirror: Mirror, root: Path) -> int:
    where = ["--openslr", f"{mirror.url}/12/", "--zenodo", f"{mirror.url}/record"]
    return download.main(["librispeech", "--partition", "dev_clean", "--root", str(root), *where])


def test_what_it_downloads_is_what_the_dataset_reads(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_an_interrupted_run_resumes_in_the_next(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = mirror.files["/12/dev-clean.tar.gz"]
    archives = tmp_path / "data" / "archives"
    archives.mkdir(parents=True)
    (archives / "dev-clean.tar.gz.part").write_bytes(content[:1000])
    assert run(mirror, tmp_path / "data") == 0
    assert ("/12/dev-clean.tar.gz", "bytes=1000-") in mirror.requests


def test_a_wrong_checksum_is_an_error_and_nothing_is_unpacked(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.files["/12/md5sum.txt"] = b"0" * 32 + b"  dev-clean.tar.gz\n"
    assert run(mirror, tmp_path / "data") == 1
    assert "md5 is" in (error := capsys.readouterr().err)
    assert f"should be {'0' * 32}" in error
    assert [p for p in (tmp_path / "data").rglob("*") if p.is_file()] == []


def test_zenodo_checksums_count_too(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.files["/record"] = record(mirror.url, "f" * 32)
    assert run(mirror, tmp_path / "data") == 1
    assert "librispeech_alignments.zip: md5 is" in capsys.readouterr().err
    mirror.files["/record"] = b"<html>maintenance</html>"
    assert run(mirror, tmp_path / "data") == 1
    assert "/record does not describe the alignments' zip file" in capsys.readouterr().err


def test_archives_cannot_write_outside_their_folder(mirror: Mirror, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["../../x.zip", "/tmp/strata-x.zip", "..\\x.zip", ".."])
def test_a_record_cannot_name_a_file_outside_the_folder(
    mirror: Mirror, tmp_path: Path, name: str
) -> None:
    remote = Remote(name, (f"{mirror.url}/light.tgz",), None)
    with pytest.raises(StrataError, match=r"which would be written outside .*: unsafe"):
        fetch(remote, tmp_path / "root/archives")
    assert mirror.requests == []
    assert not (tmp_path / "root").exists()


def test_an_archive_that_announces_far_too_much_is_refused(tmp_path: Path) -> None:
    bomb = bytes(10_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("dev-clean/84/bomb.TextGrid", bomb)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        add(tar, "LibriSpeech/dev-clean/bomb.flac", bomb.decode())
    for unpack, name in (
        (download.unpack_alignments, "bomb.zip"),
        (download.unpack_audio, "bomb.tar.gz"),
    ):
        with pytest.raises(StrataError, match=r"announces more than 100 times its own size"):
            unpack(tmp_path / name, tmp_path / "root", "dev-clean")
    assert list((tmp_path / "root").iterdir()) == []


def test_other_archives_by_our_name_are_refused(mirror: Mirror, tmp_path: Path) -> None:
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
        file = replace(download.LIBRILIGHT, checksum=checksum)
        monkeypatch.setattr(download, "LIBRILIGHT", file)

    return put


def test_libri_light_is_read_as_it_comes(
    mirror: Mirror,
    publish: Callable[[bytes], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
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
def test_half_of_libri_light_is_refused(
    mirror: Mirror,
    publish: Callable[[bytes], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    publish(light_tar(tmp_path, ("1h/0",)) if content is None else content)
    assert light(mirror, tmp_path / "data") == 1
    printed = capsys.readouterr().err
    assert ("holds no 9h" if content is None else "could not be unpacked (ReadError") in printed
    assert {p.name for p in (tmp_path / "data").iterdir()} == {"archives"}
