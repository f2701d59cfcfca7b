"""Download LibriSpeech and its alignments: python -m common.datasets.download librispeech --help.

Audio from OpenSLR 12 and TextGrids from Zenodo record 2619474 (Lugosch et al.), both CC BY 4.0,
unpacked as dataset=librispeech_local reads them. Transfers resume, checksums are compared before
anything is unpacked, and a folder appears under its name only when it is whole.
"""

import argparse
import hashlib
import re
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import requests
from tqdm import tqdm

from common.datasets.librispeech_local import PARTITIONS, canonical
from common.records import StrataError

OPENSLR = (
    "https://www.openslr.org/resources/12",
    "https://openslr.trmal.net/resources/12",
    "https://openslr.elda.org/resources/12",
)
ZENODO = "https://zenodo.org/api/records/2619474"

# SHA-256 of OpenSLR's archives, as torchaudio has long checked them.
SHA256 = {
    "dev-clean.tar.gz": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other.tar.gz": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean.tar.gz": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other.tar.gz": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100.tar.gz": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360.tar.gz": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500.tar.gz": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}

ATTEMPTS = 5  # per mirror, in a row and without a byte gained
PAUSE = 1.0  # seconds before the next, times the number of those failed
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 16  # bytes; what a broken transfer loses at most


@dataclass(frozen=True)
class Remote:
    """A file to fetch: where it may be had, and its checksum ("sha256:…", "md5:…") if known."""

    name: str
    urls: tuple[str, ...]
    checksum: str | None


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, whole and checked; a broken transfer is kept as .part and resumed."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    if not target.is_file():
        part = target.with_name(f"{target.name}.part")
        _transfer(remote, part)
        _check(part, remote, folder)
        part.replace(target)
    else:
        _check(target, remote, folder)
    return target


def _transfer(remote: Remote, part: Path) -> None:
    """Fill `part` from the first mirror that gives the file."""
    failures = []
    for url in remote.urls:
        stalled = 0
        while stalled < ATTEMPTS:
            before = _size(part)
            try:
                _resume(url, part)
                return
            except requests.HTTPError as error:
                failures.append(f"{url}: {error}")
                break
            except requests.RequestException as error:
                failures.append(f"{url}: {type(error).__name__}")
                stalled = 0 if _size(part) > before else stalled + 1
                time.sleep(PAUSE * stalled)
    tried = "; ".join(dict.fromkeys(failures))
    raise StrataError(
        f"{remote.name} could not be fetched ({tried}). {_size(part)} bytes are kept: run this "
        "again and it resumes there. Another mirror: --openslr URL or --zenodo URL; or fetch the "
        f"file by other means and put it at {part.with_suffix('')}"
    )


def _resume(url: str, part: Path) -> None:
    """Append what `part` lacks; start over where the server cannot or the file has shrunk."""
    have = _size(part)
    asked = {"Range": f"bytes={have}-"} if have else {}
    # Archives are stored compressed: "identity" keeps lengths and offsets those of the file.
    headers = {"Accept-Encoding": "identity", **asked}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if _total(answer) != have:
                part.unlink()
                raise requests.ConnectionError("the kept part is longer than the file")
            return
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        start = have if resumed else 0
        length = int(answer.headers.get("Content-Length", 0))
        total = start + length or None
        bar = tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True)
        with part.open("ab" if resumed else "wb") as file, bar:
            for chunk in answer.iter_content(CHUNK):
                bar.update(file.write(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _total(answer: requests.Response) -> int:
    """Length of the whole file, from "Content-Range: bytes */1234"; -1 where it is not given."""
    match = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check(path: Path, remote: Remote, folder: Path) -> None:
    """Compare with the publisher's checksum, else with the one recorded at the first download."""
    sums = folder / "SHA256SUMS"
    recorded = _read_sums(sums.read_text() if sums.is_file() else "").get(remote.name)
    wanted = remote.checksum or (f"sha256:{recorded}" if recorded else None)
    if wanted is None:
        with sums.open("a") as file:
            file.write(f"{digest(path, 'sha256')}  {remote.name}\n")
        print(f"{remote.name}: no published checksum; recorded this one's in {sums}")
        return
    algorithm, _, value = wanted.partition(":")
    found = digest(path, algorithm)
    if found != value:
        size = path.stat().st_size
        path.unlink()
        raise StrataError(
            f"{remote.name}: {algorithm} is {found}, should be {value} ({size} bytes). Damaged on "
            "the way, or a mirror out of date: it was deleted, run this again"
        )


def _read_sums(text: str) -> dict[str, str]:
    """File name -> checksum, from the output of md5sum or sha256sum."""
    lines = (line.split() for line in text.splitlines())
    return {PurePosixPath(f[1].lstrip("*")).name: f[0] for f in lines if len(f) == 2}


def audio_archive(partition: str, mirrors: Sequence[str]) -> Remote:
    """OpenSLR's archive of a partition; an unlisted one is checked against its md5sum.txt."""
    name = f"{partition.replace('_', '-')}.tar.gz"
    checksum = f"sha256:{SHA256[name]}" if name in SHA256 else _published_md5(name, mirrors)
    return Remote(name, tuple(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), checksum)


def _published_md5(name: str, mirrors: Iterable[str]) -> str | None:
    for mirror in mirrors:
        try:
            answer = requests.get(f"{mirror.rstrip('/')}/md5sum.txt", timeout=TIMEOUT)
        except requests.RequestException:
            continue
        if answer.ok and name in (sums := _read_sums(answer.text)):
            return f"md5:{sums[name]}"
    return None


def alignment_archive(record: str) -> Remote:
    """The zip file of a Zenodo record, with the checksum that its API states."""
    try:
        answer = requests.get(record, timeout=TIMEOUT)
        answer.raise_for_status()
        entry = next(f for f in answer.json()["files"] if f["key"].endswith(".zip"))
        return Remote(entry["key"], (entry["links"]["self"],), entry.get("checksum"))
    except (requests.RequestException, KeyError, ValueError, StopIteration) as error:
        raise StrataError(
            f"{record} does not describe the alignments' zip file ({type(error).__name__}: "
            f"{error}). Zenodo is down or has moved: try later, or give --zenodo URL of the record"
        ) from error


def unpack_audio(archive: Path, root: Path, partition: str) -> Path:
    """`root`/LibriSpeech/dev-clean, and the corpus's README, LICENSE and SPEAKERS files."""
    scratch = _scratch(root, archive)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")  # refuses paths that leave the folder
        source = scratch / "LibriSpeech"
        _require(source / partition, archive)
        (root / "LibriSpeech").mkdir(exist_ok=True)
        for path in sorted(source.iterdir(), key=lambda p: p.name == partition):
            path.replace(root / "LibriSpeech" / path.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _broken(archive, error) from error
    finally:
        shutil.rmtree(scratch)
    return root / "LibriSpeech" / partition


def unpack_alignments(archive: Path, root: Path, partition: str) -> Path:
    """`root`/alignments/dev-clean: the partition's TextGrids, whatever folders enclose it."""
    scratch = _scratch(root, archive)
    try:
        with zipfile.ZipFile(archive) as bundle:
            for member in bundle.infolist():
                _extract(bundle, member, scratch, partition)
        _require(scratch / partition, archive)
        (root / "alignments").mkdir(exist_ok=True)
        (scratch / partition).replace(root / "alignments" / partition)
    except (zipfile.BadZipFile, OSError) as error:
        raise _broken(archive, error) from error
    finally:
        shutil.rmtree(scratch)
    return root / "alignments" / partition


def _extract(
    bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, partition: str
) -> None:
    """A TextGrid of the partition to `folder`/dev-clean/…; any other member is left out."""
    parts = PurePosixPath(member.filename).parts
    if partition not in parts or not member.filename.casefold().endswith(".textgrid"):
        return
    below = parts[parts.index(partition) :]
    target = folder.joinpath(*below)
    if ".." in below or not target.resolve().is_relative_to(folder.resolve()):
        raise StrataError(f"{bundle.filename}: {member.filename} would leave its folder: unsafe")
    target.parent.mkdir(parents=True, exist_ok=True)
    with bundle.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _scratch(root: Path, archive: Path) -> Path:
    """An empty folder beside the results, so that a rename finishes the work."""
    scratch = root / f".unpacking-{archive.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _require(folder: Path, archive: Path) -> None:
    if not folder.is_dir():
        raise StrataError(f"{archive}: holds no {folder.name}. Another archive by this name?")


def _broken(archive: Path, error: Exception) -> StrataError:
    return StrataError(
        f"{archive} could not be unpacked ({type(error).__name__}: {error}). "
        "Disk full, or an archive not ours: make room or delete it, and run this again"
    )


def librispeech(
    partition: str, root: Path, mirrors: Sequence[str] = OPENSLR, zenodo: str = ZENODO
) -> tuple[Path, Path]:
    """Folders of audio and of alignments of a partition; what is there already stays as it is."""
    folder = canonical(partition).replace("_", "-")
    audio, alignments = root / "LibriSpeech" / folder, root / "alignments" / folder
    if not audio.is_dir():
        archive = fetch(audio_archive(folder, mirrors), root / "archives")
        audio = unpack_audio(archive, root, folder)
    if not alignments.is_dir():
        archive = fetch(alignment_archive(zenodo), root / "archives")
        alignments = unpack_alignments(archive, root, folder)
    return audio, alignments


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 on failure, with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m common.datasets.download")
    corpora = parser.add_subparsers(dest="corpus", required=True)
    libri = corpora.add_parser("librispeech", help="audio and alignments of a partition")
    libri.add_argument("--partition", default="dev_clean", help=", ".join(PARTITIONS))
    libri.add_argument("--root", type=Path, required=True, help="folder to put everything in")
    libri.add_argument("--openslr", action="append", help="base URL of a mirror of OpenSLR 12")
    libri.add_argument("--zenodo", default=ZENODO, help="API URL of the alignments' record")
    options = parser.parse_args(arguments)
    try:
        audio, alignments = librispeech(
            options.partition, options.root, options.openslr or OPENSLR, options.zenodo
        )
    except StrataError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"audio: {audio}\nalignments: {alignments}\nuse: dataset=librispeech_local "
        f"dataset.partition={canonical(options.partition)} dataset.audio_root={options.root} "
        f"dataset.alignment_root={options.root / 'alignments'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
