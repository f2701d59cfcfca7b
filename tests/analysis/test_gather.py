"""Gathering runs: what is found, told apart, refused, superseded and left out, and why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_runs import analysis_config, curve, row, training, unfinished, write_run

from analysis.report.gather import Gathered, gather
from analysis.report.run_folders import find_folders
from common.records import StrataError
from common.report_config import ReportConfig


def gathered(*runs: Path | str, **keys: Any) -> Gathered:
    return gather(ReportConfig(runs=[str(run) for run in runs], **keys))


# What is found.


def test_globs_folders_and_a_folder_of_folders_find_the_same_runs(tmp_path: Path) -> None:
    multirun = tmp_path / "runs" / "multirun"
    for k, name in enumerate(("cca_phone", "cca_word")):
        write_run(multirun / str(k), curve(experiment=name))
    expected = [multirun / "0", multirun / "1"]
    for pattern in ("runs/**", "runs", "runs/multirun/*", "runs/**/results.csv"):
        assert find_folders([str(tmp_path / pattern)]) == expected
    both = gathered(tmp_path / "runs", multirun / "0")  # named twice, read once
    assert sorted(set(both.frame["run"])) == ["0", "1"]
    assert not both.duplicates


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


# What is refused.


def two(tmp_path: Path, config: dict[str, Any] | None = None, **keys: Any) -> tuple[Path, Path]:
    metadata = keys.pop("metadata", {})
    one = write_run(tmp_path / "one", curve())
    rows = curve(**({"model": "large", "revision": "sha256:l"} | keys))
    return one, write_run(tmp_path / "two", rows, config, **metadata)


def changed(key: str, value: object) -> dict[str, Any]:
    config = analysis_config(["cca_phone"])
    node = config if key in config else config["experiments"]["cca_phone"]
    node[key] = value
    return config


CORPUS = {"partition": "all", "fingerprint": "f" * 64, "utterances": 7, "hours": 0.1}
STAGES = [{"experiments": ["cca_phone"], "versions": {"sampling": 2}}]
UNLIKE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "split": ({"split": "speaker"}, ("split", "frame", "speaker")),
    "metric": ({"metric": "cka"}, ("metric", "pwcca", "cka")),
    "seed": ({"seed": 3}, ("seed", "0", "3")),
    "pooling": ({"config": changed("pooling", "max")}, ("pooling", "mean", "max")),
    "folds": (
        {"config": changed("sampling", {"samples": 1, "folds": 8, "trials": 3})},
        ("sampling.folds", "10", "8"),
    ),
    "speech": ({"metadata": {"dataset": CORPUS}}, ("speech of all", "20 utt", "7 utt")),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_was_not_made_alike_is_refused_with_both_runs_and_values(
    tmp_path: Path, name: str
) -> None:
    keys, words = UNLIKE[name]
    two(tmp_path, **dict(keys))
    with pytest.raises(StrataError) as error:
        gathered(tmp_path)
    for word in (*words, "in one", "in two", "report.mix=true"):
        assert word in str(error.value)
    mixed = gathered(tmp_path, mix=True)
    assert len(mixed.frame) == 24
    assert len(mixed.notes) == 1
    if name != "metric":  # which has a panel of its own
        assert all("[" in model for model in mixed.frame["model"])


def test_another_version_of_a_stage_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "one", curve(), studies=STAGES)
    newer = [{"experiments": ["cca_phone"], "versions": {"sampling": 3}}]
    write_run(tmp_path / "two", curve(model="b", revision="b"), studies=newer)
    with pytest.raises(StrataError, match=r"version of sampling is [23] in"):
        gathered(tmp_path)


def test_other_models_layers_datasets_and_experiments_go_together(tmp_path: Path) -> None:
    two(tmp_path)
    config = analysis_config(["cca_phone"], layers={"select": "last4"})
    write_run(tmp_path / "layers", curve(["T3", "T4"], model="c", revision="c"), config)
    write_run(tmp_path / "data", curve(dataset="another"), dataset=CORPUS)
    write_run(tmp_path / "words", curve(experiment="cca_word"))
    assert gathered(tmp_path).frame["run"].nunique() == 5


def test_mixed_protocols_of_one_model_are_never_one_curve(tmp_path: Path) -> None:
    write_run(tmp_path / "one", curve())
    write_run(tmp_path / "two", curve(split="speaker", config_key="l"))
    frame = gathered(tmp_path, mix=True).frame
    assert set(frame["model"]) == {"small [split frame]", "small [split speaker]"}


def test_a_sweep_over_blocks_and_seeds_goes_together_but_two_recipes_do_not(
    tmp_path: Path,
) -> None:
    for top in (0, 1):
        for seed in (0, 1):
            training(tmp_path / f"{top}_{seed}", top, seed, 0.5 - 0.1 * top)
    assert len(gathered(tmp_path).frame) == 8
    training(tmp_path / "longer", 2, 0, 0.1, updates=99)
    with pytest.raises(StrataError, match=r"ctc of small .*finetune.updates is (8|99) in"):
        gathered(tmp_path)


# What is there twice.


def test_of_the_same_run_twice_the_newest_is_kept_and_the_other_counted(tmp_path: Path) -> None:
    write_run(tmp_path / "old", curve(n=1), age=100)
    write_run(tmp_path / "new", curve(n=2))
    found = gathered(tmp_path)
    assert set(found.frame["n"]) == {2}
    assert found.duplicates == {"old": 12}
    assert [run.name for run in found.runs] == ["new"]


def test_a_rerun_after_a_change_supersedes_the_old_one_instead_of_being_refused(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "old", curve(), age=100, studies=STAGES)
    newer = [{"experiments": ["cca_phone"], "versions": {"sampling": 3}}]
    write_run(tmp_path / "new", curve(), studies=newer)
    assert gathered(tmp_path).duplicates == {"old": 12}


def test_the_same_analysis_in_two_sets_of_experiments_counts_once(tmp_path: Path) -> None:
    both = [*curve(config_key="both"), *curve(experiment="cca_word", config_key="both")]
    write_run(tmp_path / "both", both)
    write_run(tmp_path / "alone", curve(config_key="alone"), age=100)
    found = gathered(tmp_path)
    assert found.duplicates == {"alone": 12}
    assert len(found.frame) == 24


# What cannot be read.


def test_nothing_at_all_says_what_was_searched_and_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"no run there .*results\.csv.*experiment=paper"):
        gathered(tmp_path / "nowhere" / "**")


def test_only_half_written_runs_are_named_in_the_error(tmp_path: Path) -> None:
    unfinished(tmp_path / "a")
    with pytest.raises(StrataError, match=r"1 folders? of runs, none to report: a: half-written"):
        gathered(tmp_path)


def test_a_run_of_a_task_without_scores_is_no_half_written_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", curve())
    for task in ("cache", "pretrain", "report", "growth", "steps"):
        unfinished(tmp_path / task, task)
    assert not gathered(tmp_path).left_out


def broken(folder: Path, name: str) -> None:
    """Make a run unreadable in one of the ways there are."""
    results, metadata = folder / "results.csv", folder / "metadata.json"
    frame = pd.read_csv(results)
    {
        "no results": lambda: results.unlink(),
        "binary": lambda: results.write_bytes(b"\x00\xff" * 50),
        "empty": lambda: results.write_text(""),
        "no rows": lambda: frame[:0].to_csv(results, index=False),
        "words": lambda: frame.assign(value="high").to_csv(results, index=False),
        "older": lambda: frame.drop(columns=["split", "unit"]).to_csv(results, index=False),
        "newer": lambda: frame.assign(fold=1).to_csv(results, index=False),
        "no metadata": lambda: metadata.unlink(),
        "half metadata": lambda: metadata.write_text(metadata.read_text()[:40]),
        "list metadata": lambda: metadata.write_text("[]"),
        "half config": lambda: (
            results.unlink(),
            (folder / ".hydra/config.yaml").write_text(": ["),
        ),
    }[name]()


REASONS = {
    "no results": "half-written: it has no results.csv (it was killed, or is still running)",
    "binary": "results.csv",
    "empty": "results.csv cannot be read",
    "no rows": "nothing was scored",
    "words": "results.csv cannot be read",
    "older": "lacks the columns unit, split: an older version",
    "newer": "does not know (fold): a newer version",
    "no metadata": "half-written: no metadata.json",
    "half metadata": "metadata.json cannot be read",
    "list metadata": "metadata.json holds no mapping",
    "half config": "half-written",
}


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_read_is_left_out_with_its_reason(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "good", curve())
    broken(write_run(tmp_path / "bad", curve(model="b", revision="b")), name)
    found = gathered(tmp_path)
    (lost,) = found.left_out
    assert (lost.run, lost.what) == ("bad", "the whole run")
    assert REASONS[name] in lost.why
    assert "left out the whole run of bad" in caplog.text
    assert set(found.frame["model"]) == {"small"}


def test_columns_that_came_later_are_filled_in(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", curve()) / "results.csv"
    pd.read_csv(path).drop(columns=["primary", "control", "low", "high"]).to_csv(path, index=False)
    frame = gathered(tmp_path).frame
    assert frame["primary"].all()
    assert (frame["control"] == "").all()


def test_a_failed_run_is_left_out_with_its_error(tmp_path: Path) -> None:
    write_run(tmp_path / "good", curve())
    unfinished(tmp_path / "bad", log="[2026-01-01][strata][ERROR] - layer T9 does not exist\n")
    (lost,) = gathered(tmp_path).left_out
    assert lost.why == "half-written: it has no results.csv (it failed: layer T9 does not exist)"


def test_a_snapshot_that_was_never_scored_is_left_out_by_name(tmp_path: Path) -> None:
    growth = unfinished(tmp_path / "growth", "growth")
    write_run(growth / "step_000000", curve())
    (growth / "step_000100").mkdir()
    (lost,) = gathered(tmp_path).left_out
    assert lost.run.endswith("step_000100")
    assert "half-written" in lost.why


def test_an_experiment_without_rows_is_told_with_the_runs_own_reason(tmp_path: Path) -> None:
    config = analysis_config(["cca_phone", "cca_word", "cca_mel"])
    told = {"left_out": {"cca_word": "no words there"}, "not_scored": {}}
    write_run(tmp_path / "a", curve(), config, **told)
    lost = {one.what: one.why for one in gathered(tmp_path).left_out}
    assert lost["cca_word"] == "no words there"
    assert "does not say why" in lost["cca_mel"]


def test_a_training_that_was_a_step_lacks_no_scores(tmp_path: Path) -> None:
    file = training(tmp_path / "ctc", 2, 0, 0.5) / "metadata.json"
    told = json.loads(file.read_text())
    told["config"] |= {"task": "steps", "experiments": {"cca_phone": {}}}
    file.write_text(json.dumps(told))
    assert gathered(tmp_path).left_out == ()


# Filters, and the configuration.


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


def test_a_filter_makes_room_where_runs_would_be_refused(tmp_path: Path) -> None:
    two(tmp_path, split="speaker")
    assert set(gathered(tmp_path, models=["small"]).frame["split"]) == {"frame"}


def test_the_configuration_is_checked() -> None:
    for wrong in (3, ["a", 3], "", [" "]):
        with pytest.raises(StrataError, match=r"report\.runs"):
            ReportConfig(runs=wrong)
    with pytest.raises(StrataError, match=r"report.models=\[\]"):
        ReportConfig(runs="runs", models=[])
    assert ReportConfig(runs="runs/**").patterns == ("runs/**",)
