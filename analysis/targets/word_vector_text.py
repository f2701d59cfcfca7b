"""Word vectors as lines of text: find their size, then parse the lines that are wanted."""

import gzip
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from common.reading import shown
from common.records import StrataError

Row = tuple[str, NDArray[np.float32]]
DECIMAL = re.compile(rb"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Size:
    """Numbers a line, and the number of lines where the first line states both."""

    dim: int
    stated: int | None


@contextmanager
def open_table(path: Path) -> Iterator[Iterable[bytes]]:
    """Lines of a file, or of the one file in a .gz or .zip."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                yield file
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as bundle, bundle.open(_only_member(path, bundle)) as member:
                yield member
        else:
            with path.open("rb") as file:
                yield file
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise StrataError(
            f"{shown(path)}: damaged or cut short ({error}): fetch it again"
        ) from error


def _only_member(path: Path, bundle: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        member
        for member in bundle.infolist()
        if not member.is_dir() and not _is_of_macos(member.filename)
    ]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5])
        raise StrataError(
            f"{path}: holds {len(members)} files ({names}), one is read: unpack it and name one"
        )
    return members[0]


def _is_of_macos(name: str) -> bool:
    """__MACOSX/…, ._x and .DS_Store, which macOS puts into archives."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(("._", ".DS_Store"))


def is_features(line: bytes) -> bool:
    """Whether a line is QVEC's: word, tab, JSON object."""
    return line.partition(b"\t")[2].lstrip().startswith(b"{")


def size_of(path: Path, head: Sequence[bytes]) -> Size:
    """Size of a table from its first lines: as stated, else the fewest numbers that end a line."""
    fields = [line.split() for line in head if line.strip()]
    if fields and len(fields[0]) == 2 and all(re.fullmatch(rb"[0-9]{1,9}", f) for f in fields[0]):
        stated = Size(dim=int(fields[0][1]), stated=int(fields[0][0]))
        if stated.dim < 1:
            raise StrataError(f"{shown(path)}: its first line states vectors of 0 numbers")
        return stated
    dim = min((min(_numbers(own), len(own) - 1) for own in fields), default=0)
    if dim < 1:
        raise StrataError(
            f"{path}: its first lines are no words with numbers after them: not a text table of "
            "word vectors (GloVe, word2vec or fastText, not their binary forms)"
        )
    return Size(dim, None)


def _numbers(fields: Sequence[bytes]) -> int:
    return sum(1 for _ in takewhile(_is_number, reversed(fields)))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def text_rows(
    path: Path,
    lines: Iterable[bytes],
    size: Size,
    wanted: Collection[str] | None,
    counts: Counter[str],
) -> Iterator[Row]:
    """Words and numbers; a line of too few or too many numbers is an error, one that is not UTF-8
    a counted loss. A line is parsed only where its word's first part begins a wanted word.
    """
    first = None if wanted is None else {word.split()[0] for word in wanted if word.strip()}
    count = 0
    header = size.stated is not None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if header:
            header = False
            continue
        count += 1
        try:
            start = line.split(None, 1)[0].decode()
            short = line.count(b" ") + line.count(b"\t") < size.dim
            if short or first is None or start in first or start.lower() in first:
                yield _parse(path, number, line.split(), size.dim)
        except UnicodeDecodeError:
            counts["lines that are not UTF-8"] += 1
    if size.stated is not None and count != size.stated:
        raise StrataError(
            f"{path}: its first line states {size.stated} words, it has {count}: cut short, or "
            "joined with another; fetch it again"
        )


def _parse(path: Path, number: int, fields: Sequence[bytes], dim: int) -> Row:
    word, numbers = fields[:-dim], fields[-dim:]
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError:
        vector = np.empty(0, dtype=np.float32)
    surplus = len(word) > 1 and DECIMAL.fullmatch(word[-1])
    if not word or surplus or len(vector) != dim:
        found = min(_numbers(fields), max(len(fields) - 1, 0))
        raise StrataError(
            f"{path}: line {number} has {found} numbers after its word where others have {dim}: "
            "the file is damaged there"
        )
    return b" ".join(word).decode(), vector
