"""Analyses from Python give what the command line gives."""

from pathlib import Path

import pandas as pd
import pytest
from running import execute

from analysis import analyse, summarise
from common.records import StrataError


def test_python_and_the_command_line_give_the_same_rows(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    overrides = ("experiment=cca_phone", *common, cache)
    rows = analyse(*overrides, folder=tmp_path / "python")
    pd.testing.assert_frame_equal(rows, execute(tmp_path / "line", *overrides).rows)
    means = summarise(rows)
    assert list(means["layer"]) == list(dict.fromkeys(rows["layer"]))
    assert (tmp_path / "python" / "layers.png").exists()


def test_the_default_folder_is_below_the_runs(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    analyse("experiment=cca_phone", *common, cache, f"paths.runs={tmp_path}")
    assert len(list(tmp_path.glob("cca_phone/small/*/results.csv"))) == 1


def test_other_tasks_are_refused_with_the_command() -> None:
    with pytest.raises(StrataError, match=r"task pretrain.*python run.py experiment=pretrain"):
        analyse("experiment=pretrain", "debug=default")
