"""A TextGrid's text as Praat itself reads it, in each of its forms: long, short, chronological.

Praat (manual, "TextGrid file formats") reads the free-standing numbers, texts in quotes and flags
in angle brackets, in a fixed order, and passes over all else: names of fields, indentation, line
breaks, and what follows a free-standing "!". So does this: a number can be no label and a label
no number, and the sizes that a file announces are the sizes that are read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

CHRONOLOGICAL = "Praat chronological TextGrid text file"
HEADERS = ("ooTextFile", "ooTextFile short")
# A text in quotes, where "" is a quote; a quote that is never closed; a comment; anything else.
_TOKEN = re.compile(r'"((?:[^"]++|"")*+)"|(")|(?<![^\s])!([^\r\n]*)|([^\s"=]++)|=')
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,4})?")

Row = tuple[float, float, str]


class Grid(NamedTuple):
    """Start and end of its time in seconds, and the interval tiers: (name, rows)."""

    start: float
    end: float
    tiers: tuple[tuple[str, tuple[Row, ...]], ...]


class GridError(ValueError):
    """A text is no TextGrid: what was expected, what was found, in which line."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A free-standing number, text or flag, and the place where it begins."""

    kind: str
    value: str
    place: int


def parse(text: str) -> Grid:
    """Read a TextGrid; point tiers hold no intervals and are passed over.

    Raises GridError where the text ends early, goes on after its end, or is something else.
    """
    reader = _Reader(text)
    header = reader.text("its kind of file")
    if header == CHRONOLOGICAL:
        return _chronological(reader)
    if header not in HEADERS:
        raise GridError(f'the first text in quotes is "{header[:40]}", not "ooTextFile"')
    kind = reader.text("its class of object")
    if kind != "TextGrid":
        raise GridError(f'it holds a "{kind[:40]}", not a TextGrid')
    start, end = reader.number("the start"), reader.number("the end")
    if reader.flag() == "<absent>":
        return Grid(start, end, ())
    tiers = tuple(_tier(reader) for _ in range(reader.count("the number of tiers")))
    reader.finish()
    return Grid(start, end, tuple(tier for tier in tiers if tier is not None))


def _tier(reader: "_Reader") -> tuple[str, tuple[Row, ...]] | None:
    kind, name = reader.text("a tier's class"), reader.text("a tier's name")
    reader.number(f"the start of tier {name}")
    reader.number(f"the end of tier {name}")
    size = reader.count(f"the size of tier {name}")
    rows = []
    for k in range(size):
        where = f"interval {k + 1} of the {size} that tier {name} announces"
        if kind == "TextTier":
            reader.number(where)
            reader.text(where)
        elif kind == "IntervalTier":
            start, end = reader.number(where), reader.number(where)
            rows.append((start, end, reader.text(where)))
        else:
            raise GridError(f'tier {name} is of the class "{kind[:40]}"')
    return (name, tuple(rows)) if kind == "IntervalTier" else None


def _chronological(reader: "_Reader") -> Grid:
    """Tiers first, then the intervals of all of them in order of time, with their tier's number."""
    start, end = reader.number("the start"), reader.number("the end")
    kinds, names = [], []
    for _ in range(reader.count("the number of tiers")):
        kinds.append(reader.text("a tier's class"))
        names.append(reader.text("a tier's name"))
        reader.number("a tier's start")
        reader.number("a tier's end")
    rows: list[list[Row]] = [[] for _ in names]
    while not reader.at_end():
        tier = reader.count("a tier's number") - 1
        if not 0 <= tier < len(names):
            raise GridError(f"an interval of tier {tier + 1}, and there are {len(names)}")
        first = reader.number("a time")
        last = reader.number("a time") if kinds[tier] == "IntervalTier" else first
        rows[tier].append((first, last, reader.text("a label")))
    every = zip(kinds, names, rows, strict=True)
    tiers = ((name, tuple(items)) for kind, name, items in every if kind == "IntervalTier")
    return Grid(start, end, tuple(tiers))


class _Reader:
    """The tokens of a text, one after another."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens, None)

    def _take(self, kind: str, what: str) -> str:
        token = self._next
        if token is None:
            raise GridError(f"it ends before {what}: cut short")
        if token.kind != kind:
            raise GridError(
                f"line {self._line(token)}: {what} should be a {kind}, it is the {token.kind} "
                f"{token.value[:40]!r}"
            )
        self._next = next(self._tokens, None)
        return token.value

    def _line(self, token: _Token) -> int:
        return self._text.count("\n", 0, token.place) + 1

    def text(self, what: str) -> str:
        """A text in quotes."""
        return self._take("text", what).replace('""', '"')

    def number(self, what: str) -> float:
        """A number."""
        return float(self._take("number", what))

    def count(self, what: str) -> int:
        """A whole number from 0 on."""
        value = self._take("number", what)
        if not re.fullmatch("[0-9]{1,12}", value):
            raise GridError(f"{what} is {value[:40]}, not a whole number")
        return int(value)

    def flag(self) -> str:
        """<exists> or <absent>."""
        return self._take("flag", "<exists> or <absent>")

    def at_end(self) -> bool:
        """Whether all has been read."""
        return self._next is None

    def finish(self) -> None:
        """Raise unless all has been read."""
        if self._next is not None:
            raise GridError(
                f"line {self._line(self._next)}: it goes on after the tiers and intervals that it "
                f"announces, with the {self._next.kind} {self._next.value[:40]!r}: a quote in a "
                'label is written ""'
            )


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        quoted, unclosed, _, word = match.groups()
        if unclosed is not None:
            line = text.count("\n", 0, match.start()) + 1
            raise GridError(f"line {line}: a quote opens and is never closed: cut short")
        if quoted is not None:
            yield _Token("text", quoted, match.start())
        elif word is not None and _NUMBER.fullmatch(word):
            yield _Token("number", word, match.start())
        elif word in ("<exists>", "<absent>"):
            yield _Token("flag", word, match.start())
