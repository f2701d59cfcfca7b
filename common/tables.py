"""Tables as CSV that a spreadsheet takes for text, not for formulas."""

from collections.abc import Callable
from typing import Any

import pandas as pd

# What makes a spreadsheet compute a cell (OWASP, CSV injection), where it begins one.
STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_of(frame: pd.DataFrame) -> str:
    """The table as CSV without its index; text that would be a formula has an apostrophe before it.

    Numbers are left alone. `without_apostrophes` takes them away again.
    """
    return frame.apply(_each_text, convert=_guarded).to_csv(index=False)


def without_apostrophes(frame: pd.DataFrame) -> pd.DataFrame:
    """A table read from what `csv_of` wrote, as it was."""
    return frame.apply(_each_text, convert=_bare)


def _each_text(column: "pd.Series[Any]", convert: Callable[[object], object]) -> "pd.Series[Any]":
    """The column with its text converted; the same column, of the same type, where nothing is."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    changed = any(isinstance(value, str) and convert(value) != value for value in column)
    made = [convert(value) for value in column]
    return pd.Series(made, column.index, object, column.name) if changed else column


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(STARTS) else value


def _bare(value: object) -> object:
    guarded = isinstance(value, str) and value[:1] == "'" and value[1:].startswith(STARTS)
    return value[1:] if isinstance(value, str) and guarded else value
