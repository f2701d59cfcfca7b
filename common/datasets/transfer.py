"""Fetch a file: resumed where it broke off, kept under its name only when whole and checked."""

import hashlib
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import requests

from common.progress import Progress
from common.records import StrataError

ATTEMPTS = 5  # per mirror, in a row and without a byte gained
PAUSE = 1.0  # seconds before the next, times the number of those failed
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 16  # bytes; what a broken transfer loses at most


@dataclass(frozen=True)
class Remote:
    """A file to fetch: its addresses, and its checksum ("sha256:…", "md5:…") if known."""

    name: str
    urls: tuple[str, ...]
    checksum: str | None


def fetch(remote: Remote, folder: Path) -> Path:
    """The file in `folder`, whole and checked; a broken transfer is kept as .part and resumed."""
    if remote.name in ("", ".", "..") or re.search(r"[/\\\0]", remote.name):
        raise StrataError(
            f"{remote.urls[0]}: its record names the file {remote.name!r}, which would be written "
            f"outside {folder}: unsafe. Not the publisher's record: look at the address"
        )
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
        "again and it resumes there. --help names the options for other addresses; or fetch the "
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
        bar = Progress(part.stem, total, "B", start, unit_scale=True)
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
    recorded = read_sums(sums.read_text() if sums.is_file() else "").get(remote.name)
    expected = remote.checksum or (f"sha256:{recorded}" if recorded else None)
    if expected is None:
        _require_archive(path, remote)
        with sums.open("a") as file:
            file.write(f"{digest(path, 'sha256')}  {remote.name}\n")
        print(f"{remote.name}: no published checksum; recorded this one's in {sums}")
        return
    algorithm, _, value = expected.partition(":")
    found = digest(path, algorithm)
    if found != value:
        size = path.stat().st_size
        path.unlink()
        raise StrataError(
            f"{remote.name}: {algorithm} is {found}, should be {value} ({size} bytes). Damaged on "
            "the way, or a mirror out of date: it was deleted, run this again"
        )


def _require_archive(path: Path, remote: Remote) -> None:
    """Refuse a damaged zip, whose checksum would be recorded: its directory is at its end."""
    if remote.name.endswith(".zip") and not zipfile.is_zipfile(path):
        size = path.stat().st_size
        path.unlink()
        raise StrataError(
            f"{remote.name}: what came from {remote.urls[0]} is no zip file ({size} bytes): a web "
            "page in its place, or cut short. It was deleted: look at the address in a browser"
        )


def read_sums(text: str) -> dict[str, str]:
    """File name -> checksum, from the output of md5sum or sha256sum."""
    lines = (line.split() for line in text.splitlines())
    return {PurePosixPath(f[1].lstrip("*")).name: f[0] for f in lines if len(f) == 2}
