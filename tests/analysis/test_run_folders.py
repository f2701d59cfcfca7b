"""Folders of runs: which are found, which cannot be read, and what each lacks."""

import json
from pathlib import Path

import pandas as pd
import pytest
from report_runs import analysis_config, curve, gathered, training, unfinished, write_run

from analysis.report.run_folders import find_folders
from common.records import StrataError


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
    "binary": "results.csv cannot be read",
    "empty": "results.csv cannot be read",
    "no rows": "nothing was scored",
    "words": "results.csv cannot be read",
    "older": "lacks the columns unit, split: an older version",
    "newer": "does not know (fold): a newer version",
    "no metadata": "half-written: no metadata.json",
    "half metadata": "metadata.json cannot be read",
    "list metadata": "metadata.json holds no mapping",
    "half config": "half-written: its .hydra/config.yaml cannot be read",
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
    metadata = {"left_out": {"cca_word": "no words there"}, "not_scored": {}}
    write_run(tmp_path / "a", curve(), config, **metadata)
    lost = {one.what: one.why for one in gathered(tmp_path).left_out}
    assert lost["cca_word"] == "no words there"
    assert "does not say why" in lost["cca_mel"]


def test_a_training_that_was_a_step_lacks_no_scores(tmp_path: Path) -> None:
    file = training(tmp_path / "ctc", 2, 0, 0.5) / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["config"] |= {"task": "steps", "experiments": {"cca_phone": {}}}
    file.write_text(json.dumps(metadata))
    assert gathered(tmp_path).left_out == ()


def test_results_of_a_part_of_the_speech_are_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", curve(), not_complete={"cca_phone": ["u1", "u2"]})
    (lost,) = gathered(tmp_path).left_out
    assert lost.what == "2 utterances of cca_phone"
    assert lost.why == "NOT COMPLETE: could not be read"


def test_a_folder_whose_name_looks_like_a_pattern_is_found_by_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "model=[a,b] seed*", curve())
    assert find_folders([str(folder)]) == [folder.resolve()]
