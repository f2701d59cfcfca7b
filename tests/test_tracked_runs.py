"""Runs and sweeps that are tracked: what a dashboard needs is there, and no key is told."""

from pathlib import Path

import pandas as pd
import pytest
from marks import slow
from running import command, execute
from wandb_files import API_KEY, files_with, offline_run

OFFLINE = ("tracking=wandb", "tracking.mode=offline")


def settings(folder: Path) -> dict[str, str]:
    """A key, and a folder for what wandb keeps outside of a run's own."""
    folders = {f"WANDB_{name}_DIR": str(folder) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
    return folders | {"WANDB_API_KEY": API_KEY}


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own files go below the test's folder."""
    for name, value in settings(tmp_path / "home").items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("wandb_home")
def test_tracking_offline_leaves_a_run_beside_the_results(
    common: tuple[str, ...],
    cache: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    run = ["experiment=cca_phone", *common, cache, *OFFLINE]
    done = execute(tmp_path / "run", *run, pictures=True)
    logged = offline_run(done.folder)
    printed = capsys.readouterr()
    assert str(logged.folder) in printed.out.splitlines()
    # All that a dashboard needs is in the run: configuration, code, data and rows.
    metadata = done.metadata
    assert logged.run.display_name == f"{metadata['model']['name']} cca_phone"
    assert logged.config["experiments"] == metadata["config"]["experiments"]
    assert logged.config["metadata"]["git_commit"] == metadata["git_commit"]
    assert logged.config["metadata"]["dataset"]["fingerprint"] == metadata["dataset"]["fingerprint"]
    assert "config" not in logged.config["metadata"]
    assert logged.rows["value"].tolist() == pytest.approx(done.rows["value"].tolist())
    assert logged.rows["layer"].tolist() == done.rows["layer"].tolist()
    assert API_KEY not in printed.out + printed.err
    assert files_with(API_KEY, tmp_path) == []
    assert files_with(metadata["git_commit"], done.folder)  # or the search above would find nothing


@pytest.mark.usefixtures("wandb_home")
@pytest.mark.parametrize("task", [slow("features"), "units"])
def test_features_and_units_log_their_tables(
    task: str,
    small: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    speech = ("dataset=synthetic", "dataset.minutes=0.5", "dataset.speakers=2")
    few = ("units.clusters=8", "units.batch=200") if task == "units" else ()
    chosen = (f"experiment={task}", "layers.indices=[C7,T1,T2]")
    done = execute(tmp_path / "run", *chosen, *small, *speech, *few, *OFFLINE)
    logged = offline_run(done.folder)
    assert str(logged.folder) in capsys.readouterr().out.splitlines()
    assert logged.config["metadata"]["dataset"] == done.metadata["dataset"]
    written = {"features": "features/index.csv", "units": "units.csv"}[task]
    table = pd.read_csv(done.folder / written)
    pd.testing.assert_frame_equal(logged.table(task), table, check_dtype=False)
    if task == "units":
        assert logged.steps["units/pnmi"] == "layer"
        blocks = table[table["layer"].str.startswith("T")]
        expected = dict(zip((1, 2), blocks["pnmi"], strict=True))
        assert logged.curve("units/pnmi", "layer") == pytest.approx(expected)


@pytest.mark.slow
def test_jobs_of_a_sweep_share_a_group_and_tell_no_key(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    sweep = ["layers=single", "layers.index=0,1", f"hydra.sweep.dir={tmp_path / 'my_sweep'}"]
    done = command(
        *("-m", "experiment=cca_phone", *common, cache, *sweep, *OFFLINE), **settings(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    runs = [offline_run(tmp_path / "my_sweep" / job) for job in ("0", "1")]
    assert [one.run.run_group for one in runs] == ["my_sweep", "my_sweep"]
    assert [one.summary["layer"] for one in runs] == [0, 1]
    assert {one.steps["cca_phone/pwcca"] for one in runs} == {"layer"}
    assert list((tmp_path / "my_sweep").rglob("run.log"))
    assert API_KEY not in done.stdout + done.stderr
    assert files_with(API_KEY, tmp_path) == []
