"""The one place where whatever a reader raises becomes the project's error, naming the file."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from common.records import StrataError


@contextmanager
def reading(
    path: object, what: str, remedy: str = "copy it again, or leave it out"
) -> Iterator[None]:
    """Turn any exception of the body into a StrataError about `path`, which is to be `what`.

    Parsers, decompressors and the system raise classes of their own for bad files (zlib.error,
    csv.Error, RecursionError, OSError …); no list of them is complete, so none is named here but
    MemoryError, which is about the size of what was read.
    """
    try:
        yield
    except StrataError:
        raise
    except OSError as error:
        raise StrataError(
            f"{shown(path)}: cannot be read ({error.strerror or error}). Moved, not permitted, or "
            f"a failing disk: {remedy}"
        ) from error
    except MemoryError as error:
        raise StrataError(
            f"{shown(path)}: too large for the memory, or it claims to be: {remedy}"
        ) from error
    except UnicodeDecodeError as error:
        raise StrataError(
            f"{shown(path)}: byte {error.start} is not {error.encoding.upper()}: save {what} in "
            "UTF-8"
        ) from error
    except Exception as error:
        raise StrataError(
            f"{shown(path)}: not {what} ({type(error).__name__}: {brief(error)}): {remedy}"
        ) from error


def brief(error: object) -> str:
    """An error's text, one line of it at most 200 characters long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]} …"


def shown(path: object) -> str:
    """A path that can be written: bytes of its name that are not UTF-8 as \\xe9."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def decode(path: Path) -> str:
    """Text of a file in UTF-8 or in UTF-16, with a byte order mark (as Praat writes it) or without.

    Text holds no NUL, and UTF-16 of any script has them where blanks and line ends are: half of
    such a character is NUL, and which half it is gives the byte order.
    """
    with reading(path, "a text file"):
        data = path.read_bytes()
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise StrataError(_undecoded(path, encoding, error.start)) from error
    if "\0" in text:
        raise StrataError(
            f"{shown(path)}: character {text.index(chr(0))} is NUL: no text in UTF-8 or UTF-16. "
            "A binary file (Praat's own binary form too): save it as text"
        )
    return text


def delimiter_of(path: Path) -> str:
    """What separates the columns of a table: commas in a .csv, tabs in any other file."""
    return "," if path.suffix.casefold() == ".csv" else "\t"


def rows_of(path: Path, delimiter: str, needed: Sequence[str] = ()) -> "csv.DictReader[str]":
    """The lines of a table by the names of its columns; StrataError without the `needed` ones."""
    reader = csv.DictReader(StringIO(decode(path), newline=""), delimiter=delimiter)
    columns = reader.fieldnames or ()
    if lacking := [name for name in needed if name not in columns]:
        raise StrataError(
            f"{shown(path)}: no column {', '.join(lacking)}; its first line names "
            f"{', '.join(columns) or 'nothing'}"
        )
    return reader


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" not in data:
        return "utf-8-sig"
    return "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"


def _undecoded(path: Path, encoding: str, start: int) -> str:
    if encoding == "utf-8-sig":
        return (
            f"{shown(path)}: byte {start} is not UTF-8, nor does the file begin with a UTF-16 "
            "mark. Latin-1, most likely: convert it to UTF-8 (Praat: Text writing preferences) and "
            "save again"
        )
    return (
        f"{shown(path)}: byte {start} is not UTF-16, in which the file seems to be: cut short, or "
        "a binary file (Praat's own binary form too): save it as text in UTF-8"
    )
