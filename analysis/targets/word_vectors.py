"""Tables of word vectors: GloVe, word2vec and fastText text, .npz, .safetensors, QVEC's features.

Text: a word and its d numbers a line, separated by spaces; a first line "v d" may state the size. A
word may hold spaces (GloVe 840B has ". . ."): the last d fields are the numbers. A .gz or .zip of
such a file is read as it is.
`.npz`: arrays `words` (v,) of strings and `vectors` (v, d). `.safetensors`: tensors `vectors`
(v, d) and `words`, uint8: the words in UTF-8, one a line.
QVEC (Tsvetkov et al. 2015): word, tab, JSON object feature -> share; a column for each feature.
Pickles are not read: opening one can run any code.

Case: an entry spelt just like the word comes first; where there is none, the table's first entry
that differs in case alone stands in (tiers are lower-case, a table may write "London").
"""

import gzip
import json
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from analysis.targets.base import FileTarget
from common.arrays import Index, Vectors
from common.reading import reading, shown
from common.records import Corpus, StrataError

Row = tuple[str, Vectors]
BLOCK = 1 << 16  # rows of a .safetensors file in memory at once
UNREADABLE = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".bin", ".model")


@dataclass(frozen=True, eq=False)
class Table:
    """Word vectors: `words` (v,) as the file spells them, `vectors` (v, d).

    `index` gives a word's row; it holds the words asked for that the table has, or, where none
    were named, every spelling and its lower case. `counts` says, by reason, how many lines were
    left out and how many words found in another case only.
    """

    words: tuple[str, ...]
    vectors: Vectors
    index: Mapping[str, int]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WordVectors(FileTarget):
    """The vector that a table has for the unit's word (Pasad et al. 2021, section 4.3).

    Words without a vector are not drawn, but counted.
    """

    kind: ClassVar[str] = "embedding"
    units: ClassVar[tuple[str, ...]] = ("word",)
    by_type: ClassVar[bool] = True

    table: Table | None = field(default=None, repr=False, compare=False)

    def prepared(self, labels: Collection[str], corpus: Corpus) -> Self:  # noqa: ARG002
        """The target with the vectors of these words read."""
        changed = self.file.stat().st_mtime_ns
        return replace(self, table=table_of(self.file, changed, frozenset(labels)))

    def known(self, labels: Collection[str]) -> Collection[str]:
        """The words that the table has."""
        return self._table().index.keys() & labels

    def view(self, label: Index, labels: tuple[str, ...]) -> NDArray[np.floating]:
        """The vector (n, d) of each unit's label, in the columns that differ among these labels.

        As a one-hot view has no column for a label that does not occur: it would only change the
        mean eigenvalue that ridges are relative to.
        """
        table = self._table()
        present, codes = np.unique(label, return_inverse=True)
        vectors = table.vectors[[table.index[labels[code]] for code in present]]
        live = (vectors != vectors[0]).any(0)
        return (vectors[:, live] if live.any() else vectors)[codes]

    def counts(self) -> Mapping[str, int]:
        """Lines and words left out of the table."""
        return self._table().counts

    def _table(self) -> Table:
        if self.table is None:
            raise TypeError("the table is read by `prepared`")
        return self.table


@lru_cache(maxsize=4)
def table_of(path: Path, changed: int, words: frozenset[str]) -> Table:  # noqa: ARG001
    """The words' vectors; kept, because a run with controls asks twice and a file may be 5 GB."""
    return read_table(path, words)


def read_table(path: str | Path, words: Collection[str] | None = None) -> Table:
    """The vectors of `words` (of all, if None) in a file; other rows are not kept in memory.

    Raises StrataError where the file is damaged or holds none of the words.
    """
    path = Path(path)
    _check(path)
    counts: Counter[str] = Counter()
    needed = None if words is None else frozenset(words) | {word.lower() for word in words}
    with reading(path, "a table of word vectors", "fetch it again"):
        if path.suffix == ".npz":
            rows = _array_rows(*_read_npz(path))
        elif path.suffix == ".safetensors":
            rows = _safetensors_rows(path)
        else:
            rows = _text_rows(path, needed, counts)
        kept, vectors = _keep(rows, needed, counts)
    if not kept:
        raise _nothing(path, words, counts)
    return Table(kept, vectors, _index(kept, words, counts), dict(counts))


def _check(path: Path) -> None:
    if not path.is_file():
        raise StrataError(f"{path}: there is no such file; name a table of word vectors")
    if path.suffix in UNREADABLE:
        raise StrataError(
            f"{path}: {path.suffix} files are not read (pickles can run code; others hold no "
            "words): save the table as text, .npz or .safetensors"
        )


def _keep(
    rows: Iterable[Row], needed: Collection[str] | None, counts: Counter[str]
) -> tuple[tuple[str, ...], Vectors]:
    """The first row of every needed word, in any case; without later ones and those not finite."""
    kept: dict[str, Vectors] = {}
    for word, vector in rows:
        if needed is not None and word not in needed and word.lower() not in needed:
            continue
        if word in kept:
            counts["repeats of a word"] += 1
        elif not np.isfinite(vector).all():
            counts["vectors with NaN or infinite numbers"] += 1
        else:
            kept[word] = vector
    return tuple(kept), np.array(list(kept.values()), dtype=np.float32)


def _index(
    kept: tuple[str, ...], words: Collection[str] | None, counts: Counter[str]
) -> dict[str, int]:
    """Row of every word: of its own spelling, else of the first that differs in case alone."""
    exact = {word: row for row, word in enumerate(kept)}
    lowered: dict[str, int] = {}
    for row, word in enumerate(kept):
        lowered.setdefault(word.lower(), row)
    if words is None:
        return lowered | exact
    other = {w: lowered[w.lower()] for w in words if w not in exact and w.lower() in lowered}
    if other:
        counts["words found in another case only"] += len(other)
    return {word: exact[word] for word in words if word in exact} | other


def _nothing(path: Path, words: Collection[str] | None, counts: Mapping[str, int]) -> StrataError:
    left_out = "; ".join(f"{reason} {count}" for reason, count in counts.items())
    left_out = f" (left out: {left_out})" if left_out else ""
    if words is None:
        return StrataError(f"{path}: holds no word vectors{left_out}")
    examples = ", ".join(sorted(words)[:5]) or "none"
    return StrataError(
        f"{path}: shares no word with the {len(words)} asked for (as {examples}){left_out}: "
        "another language, or stems for words? Give a table of the same words"
    )


def _read_npz(path: Path) -> tuple[NDArray[np.str_], NDArray[np.floating]]:
    """Both arrays, whole: a compressed archive cannot be read by rows."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            words, vectors = arrays["words"], arrays["vectors"]
    except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise StrataError(
            f"{path}: no arrays `words` and `vectors` ({error}). Pickled objects are not read, "
            "they can run code: save the words as an array of strings"
        ) from error
    if words.dtype.kind != "U" or words.ndim != 1:
        raise StrataError(f"{path}: `words` is {words.dtype} {words.shape}, not (v,) strings")
    _check_vectors(path, vectors.shape, len(words), vectors.dtype.kind == "f")
    return words, vectors


def _array_rows(words: Iterable[str], vectors: NDArray[np.floating]) -> Iterator[Row]:
    for word, vector in zip(words, vectors, strict=True):
        yield str(word), vector.astype(np.float32)


def _safetensors_rows(path: Path) -> Iterator[Row]:
    """Rows by blocks, so that a large table is never whole in memory."""
    try:
        with safe_open(path, framework="numpy") as file:
            words = file.get_tensor("words").tobytes().decode().removesuffix("\n").split("\n")
            vectors = file.get_slice("vectors")
            shape = tuple(vectors.get_shape())
            _check_vectors(path, shape, len(words), vectors.get_dtype() in ("F16", "F32", "F64"))
            for start in range(0, len(words), BLOCK):
                end = min(start + BLOCK, len(words))
                yield from _array_rows(words[start:end], vectors[start:end])
    except (SafetensorError, UnicodeDecodeError) as error:
        raise StrataError(
            f"{path}: no tensors `words` (uint8, UTF-8, one word a line) and `vectors` ({error})"
        ) from error


def _check_vectors(path: Path, shape: tuple[int, ...], words: int, floats: bool) -> None:
    if not floats or len(shape) != 2 or shape[0] != words or shape[1] < 1:
        raise StrataError(
            f"{path}: `vectors` has shape {shape} for {words} words: it must be (v, d), floats"
        )


def _text_rows(path: Path, needed: Collection[str] | None, counts: Counter[str]) -> Iterator[Row]:
    """Rows of a text file, QVEC's or other; only the numbers of `needed` words are parsed."""
    with open_table(path) as lines:
        head = [line for line, _ in zip(lines, range(100), strict=False)]
    if head and is_features(head[0]):
        with open_table(path) as lines:
            yield from _feature_rows(path, lines)
        return
    size: Size = size_of(path, head)
    with open_table(path) as lines:
        yield from text_rows(path, lines, size, needed, counts)


def _feature_rows(path: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    """Rows of QVEC's features; the columns are all features of the file, in their order."""
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            word, _, features = line.decode().rstrip("\r\n").partition("\t")
            entries.append((word, {str(k): float(v) for k, v in json.loads(features).items()}))
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise StrataError(
                f"{path}: line {number} is not word, tab, JSON object of numbers"
            ) from error
    columns = {
        name: i for i, name in enumerate(sorted({f for _, shares in entries for f in shares}))
    }
    for word, shares in entries:
        vector = np.zeros(len(columns), dtype=np.float32)
        vector[[columns[name] for name in shares]] = list(shares.values())
        yield word, vector


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
    dim = min((min(_numbers(parts), len(parts) - 1) for parts in fields), default=0)
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
    needed: Collection[str] | None,
    counts: Counter[str],
) -> Iterator[Row]:
    """Words and numbers; a line of too few or too many numbers is an error, one that is not UTF-8
    a counted loss. A line is parsed only where its word's first part begins a needed word.
    """
    first = None if needed is None else {word.split()[0] for word in needed if word.strip()}
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
