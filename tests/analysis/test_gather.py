"""Gathering runs: rows with their run and depth, names of models, what is there twice, filters."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import analysis_config, curve, gathered, training, two, write_run
from rows import row

from common.records import StrataError


def test_every_row_comes_back_with_its_run_depth_and_training(tmp_path: Path) -> None:
    rows = curve(["C1", "C2", "T0", "T1", "T3"])
    rows.append(row(layer="mel", part="", layer_index=0, control="mel"))
    write_run(tmp_path / "a", rows)
    training(tmp_path / "b", top=2, seed=1, value=0.3)
    frame = gathered(tmp_path).frame
    assert len(frame) == len(rows) + 2
    blocks = frame[frame["part"] == "transformer"]
    np.testing.assert_allclose(blocks["depth"], blocks["layer_index"] / 3)
    assert frame.loc[frame["part"] != "transformer", "depth"].isna().all()
    ctc = frame[frame["experiment"] == "ctc"]
    assert ctc["reinit_top"].tolist() == [2, 2]
    assert set(ctc["subset"]) == {"10m"}
    assert set(ctc["train_dataset"]) == {"toy"}
    others = frame[frame["experiment"] != "ctc"]
    assert others["reinit_top"].isna().all()
    assert (others["subset"] == "").all()


def test_without_a_number_of_blocks_depth_is_of_the_last_one_scored(tmp_path: Path) -> None:
    write_run(tmp_path / "a", curve(["T0", "T4"]), model={})
    frame = gathered(tmp_path).frame
    assert sorted(set(frame["depth"])) == [0.0, 1.0]
    config = analysis_config(["cca_phone"], layers={"select": "all", "index": 2})
    write_run(tmp_path / "b", curve(["T2"], model="other", revision="r"), config, model={})
    frame = gathered(tmp_path).frame
    assert frame.loc[frame["model"] == "other", "depth"].isna().all()


def test_runs_of_one_layer_each_make_one_curve(tmp_path: Path) -> None:
    for k in range(4):
        write_run(tmp_path / str(k), curve([f"T{k}"]))
    found = gathered(tmp_path)
    assert set(found.frame["layer"]) == {"T0", "T1", "T2", "T3"}
    assert not found.duplicates


def test_revisions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "final", curve() + curve(control="random_weights", revision="random:0"))
    step = {"checkpoint": "/x/snapshots/step_000400", "blocks": 3}
    write_run(tmp_path / "step", curve(revision="sha256:bbbbbbbbbb"), model=step)
    write_run(tmp_path / "random", curve(revision="random:0:cc"), model={"random_init": True})
    frame = gathered(tmp_path).frame
    names = {"small (aaaaaaa)", "small (step 400)", "small (random weights)"}
    assert set(frame["model"]) == names
    control = frame[frame["control"] == "random_weights"]
    assert set(control["model"]) == {"small (aaaaaaa)"}  # of the model that it is a control of


def test_of_the_same_run_twice_the_newest_is_kept_and_the_other_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "old", curve(n=1), age=100)
    write_run(tmp_path / "new", curve(n=2))
    found = gathered(tmp_path)
    assert set(found.frame["n"]) == {2}
    assert found.duplicates == {"old": 12}
    assert [run.name for run in found.runs] == ["new"]


def test_the_same_analysis_in_two_sets_of_experiments_counts_once(tmp_path: Path) -> None:
    both = [*curve(config_key="both"), *curve(experiment="cca_word", config_key="both")]
    write_run(tmp_path / "both", both)
    write_run(tmp_path / "alone", curve(config_key="alone"), age=100)
    found = gathered(tmp_path)
    assert found.duplicates == {"alone": 12}
    assert len(found.frame) == 24


def test_filters_keep_what_they_name_and_know_what_there_is(tmp_path: Path) -> None:
    two(tmp_path)
    write_run(tmp_path / "words", curve(experiment="cca_word"))
    frame = gathered(tmp_path, models=["small"], experiments=["cca_phone"]).frame
    assert set(frame["model"]) == {"small"}
    assert set(frame["experiment"]) == {"cca_phone"}
    with pytest.raises(StrataError, match=r"report.models has huge: the runs have large, small"):
        gathered(tmp_path, models=["huge"])
    with pytest.raises(StrataError, match="no row is left"):
        gathered(tmp_path, models=["large"], experiments=["cca_word"])
