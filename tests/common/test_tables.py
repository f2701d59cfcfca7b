"""Cells that begin like formulas are text in every table that is written, and are read back."""

from io import StringIO

import pandas as pd

from common.tables import csv_of, without_apostrophes

FRAME = pd.DataFrame(
    {
        "text": ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "plain", "'quoted", "", None],
        "number": [-1.5, 2.0, float("nan"), 0.1 + 0.2, -0.0, 1e-300, 5, 6, 7],
        "whole": pd.array([1, -2, None, 4, 5, 6, 7, 8, 9], dtype="Int64"),
        "yes": [True, False] * 4 + [True],
    }
)


def test_no_text_begins_like_a_formula_and_numbers_are_left_alone() -> None:
    lines = csv_of(FRAME).splitlines()
    assert not [line for line in lines if line.lstrip('"').startswith(("=", "+", "-", "@", "\t"))]
    assert lines[1].startswith("'=1+1,-1.5,1,True")
    assert "0.30000000000000004" in lines[4]


def test_what_was_written_is_read_back() -> None:
    read = pd.read_csv(StringIO(csv_of(FRAME)), dtype={"whole": "Int64"})
    back = without_apostrophes(read)
    assert back["text"].fillna("").tolist() == FRAME["text"].fillna("").tolist()
    pd.testing.assert_frame_equal(
        back[["number", "whole", "yes"]], FRAME[["number", "whole", "yes"]]
    )
