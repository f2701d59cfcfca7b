"""Runs logged to Weights & Biases without network, read back from the files that wandb writes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
from rows import placed, row
from wandb_files import finished, offline_run, values

from common.config import TrackingConfig
from common.records import StrataError
from common.results.results import to_frame
from common.tracking import best_layers, log_results, training_logger

RAW = {"seed": 7, "model": {"name": "small"}, "experiments": {"cca_phone": {"unit": "phone"}}}


def scores() -> pd.DataFrame:
    """Two experiments over three blocks, one of them over two CNN layers too."""
    levels = {
        ("cca_mel", "C1"): 0.9,
        ("cca_mel", "C2"): 0.8,
        **{("cca_mel", f"T{i}"): 0.5 + 0.1 * i for i in range(3)},
        **{("cca_phone", f"T{i}"): [0.1, 0.4, 0.2][i] for i in range(3)},
    }
    rows = [
        row(
            experiment=experiment,
            **placed(layer),
            trial=trial,
            value=level + 0.01 * (trial - 0.5),
        )
        for (experiment, layer), level in levels.items()
        for trial in range(2)
    ]
    return to_frame(rows)


def log(folder: Path, name: str = "paper", mode: str = "offline", **keys: str) -> str | None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    pictures = [folder / "layers.png", folder / "layers.svg"]
    Image.new("L", (40, 30)).save(pictures[0])
    pictures[1].write_text("<svg/>")
    tracking = TrackingConfig(backend="wandb", mode=mode, **keys)
    return log_results(tracking, name, RAW, scores(), {"dropped": {"x": 3}}, folder, pictures)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No login, no settings of the user's, and every address leads nowhere."""
    home = str(tmp_path_factory.mktemp("wandb_home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
            patch.setenv(name, home)
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        patch.delenv("WANDB_MODE", raising=False)
        yield


@pytest.fixture(scope="module")
def runs(quiet: None, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, list[Any]]]:
    """Folder and records of two runs that one process logged, one after the other."""
    folder = tmp_path_factory.mktemp("sweep")
    found = []
    for job in ("0", "1"):
        run_folder = log(folder / job, name=f"job{job}", project="mine", group="sweep")
        (path,) = (folder / job / "wandb").glob("offline-run-*/*.wandb")
        assert run_folder == str(path.parent)
        found.append((path.parent, finished(path)))
    return found


@pytest.fixture
def logged(runs: list[tuple[Path, list[Any]]]) -> list[Any]:
    return runs[0][1]


def test_a_run_has_its_name_and_the_whole_configuration(logged: list[Any]) -> None:
    (run,) = [r.run for r in logged if r.HasField("run")]
    assert (run.display_name, run.project, run.run_group) == ("job0", "mine", "sweep")
    config = values(run.config.update)
    for record in logged:
        config |= values(record.config.update)
    assert {key: config[key] for key in RAW} == RAW
    assert config["metadata"] == {"dropped": {"x": 3}}


def test_layer_is_the_x_axis_of_every_curve(logged: list[Any]) -> None:
    steps = {r.metric.name: r.metric.step_metric for r in logged if r.HasField("metric")}
    assert steps["cca_phone/pwcca"] == steps["cca_mel/pwcca"] == "layer"
    assert steps["cca_mel/pwcca (cnn)"] == "cnn_layer"


def test_history_has_one_value_per_layer_of_each_experiment(logged: list[Any]) -> None:
    history = [values(r.history.item) for r in logged if r.HasField("history")]
    curves: dict[str, dict[int, float]] = {}
    for point in history:
        for key in (key for key in point if "/" in key and not key.startswith("_")):
            step = "cnn_layer" if "(cnn)" in key else "layer"
            curve = curves.setdefault(key, {})
            assert point[step] not in curve
            curve[point[step]] = pytest.approx(point[key])
    assert curves == {
        "cca_mel/pwcca": {0: 0.5, 1: 0.6, 2: 0.7},
        "cca_phone/pwcca": {0: 0.1, 1: 0.4, 2: 0.2},
        "cca_mel/pwcca (cnn)": {1: 0.9, 2: 0.8},
    }


def test_the_summary_names_the_best_layer_and_its_score(logged: list[Any]) -> None:
    summary: dict[str, Any] = {}
    for record in logged:
        summary |= values(record.summary.update)
    assert summary["cca_phone/best_layer"] == "T1"
    assert summary["cca_phone/best_score"] == pytest.approx(0.4)
    assert (summary["cca_phone/best_block"], summary["cca_mel/best_block"]) == (1, 2)
    assert summary["cca_mel/best_layer"] == best_layers(scores())["cca_mel/best_layer"] == "C1"


def test_the_table_and_the_picture_are_kept(runs: list[tuple[Path, list[Any]]]) -> None:
    folder, logged = runs[0]
    history: dict[str, Any] = {}
    for record in logged:
        history |= values(record.history.item)
    assert history["results._type"] == "table-file"
    table = json.loads((folder / "files" / history["results.path"]).read_text())
    assert len(table["data"]) == len(scores())
    assert table["columns"] == list(scores().columns)
    assert history["layers._type"] == "image-file"
    assert (history["layers.width"], history["layers.height"]) == (40, 30)
    assert (folder / "files" / history["layers.path"]).is_file()


def test_two_jobs_of_one_process_are_two_finished_runs(
    runs: list[tuple[Path, list[Any]]],
) -> None:
    for job, (_, logged) in enumerate(runs):
        assert [r.run.display_name for r in logged if r.HasField("run")] == [f"job{job}"]
        assert [r.exit.exit_code for r in logged if r.HasField("exit")] == [0]
    ids = {r.run.run_id for _, logged in runs for r in logged if r.HasField("run")}
    assert len(ids) == 2


def test_disabled_writes_nothing(quiet: None, tmp_path: Path) -> None:
    assert log(tmp_path / "run", mode="disabled") is None
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["layers.png", "layers.svg"]


def test_none_does_not_even_import_wandb(tmp_path: Path) -> None:
    run_folder = log_results(TrackingConfig(backend="none"), "x", RAW, scores(), {}, tmp_path, [])
    assert run_folder is None
    assert list(tmp_path.iterdir()) == []


def test_online_without_login_says_how_to_go_on(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # what other tests of this process gave it is forgotten
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(StrataError, match=r"tracking\.mode=offline"):
        log(tmp_path / "run", mode="online")


def test_a_matrix_of_layers_is_no_curve(quiet: None, tmp_path: Path) -> None:
    tracking = TrackingConfig(backend="wandb", mode="offline")
    curve = scores()
    pairs = pd.concat(
        curve.assign(experiment="cca_inter", target=target) for target in ("T0", "T1")
    )
    log_results(tracking, "x", RAW, pd.concat([curve, pairs]), {}, tmp_path, [])
    logged = offline_run(tmp_path)
    assert "cca_phone/pwcca" in logged.steps
    assert not any(name.startswith("cca_inter/") for name in logged.steps)
    assert set(logged.rows["experiment"]) == {"cca_mel", "cca_phone", "cca_inter"}


def test_runs_of_a_sweep_share_a_group_unless_another_is_asked_for() -> None:
    tracking = TrackingConfig(backend="wandb")
    assert tracking.in_sweep(Path("runs/multirun/2026")).group == "2026"
    assert TrackingConfig(backend="wandb", group="mine").in_sweep(Path("a/2026")).group == "mine"


def test_controls_and_secondary_figures_are_no_curves() -> None:
    frame = scores()
    better = frame.assign(value=frame["value"] + 5)
    both = pd.concat(
        [frame, better.assign(control="random_weights"), better.assign(metric="n", primary=False)]
    )
    assert best_layers(both) == best_layers(frame)


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "online"),
        ({"WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_DISABLED": "true"}, "disabled"),
    ],
)
def test_wandbs_environment_counts_where_a_key_does_not_say_otherwise(
    environment: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert TrackingConfig(backend="wandb").mode == mode
    assert TrackingConfig(backend="wandb", mode="online").mode == "online"
    assert TrackingConfig(backend="wandb").project == "strata"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert TrackingConfig(backend="wandb").project == "theirs"
    monkeypatch.setenv("WANDB_RUN_GROUP", "night")
    assert TrackingConfig(backend="wandb").in_sweep(Path("a/2026")).group == "night"


def test_a_mode_that_wandb_alone_knows_concerns_only_runs_that_it_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "shared")
    assert TrackingConfig(backend="none").mode == "shared"
    for keys in ({"backend": "wandb"}, {"backend": "none", "mode": "live"}):
        with pytest.raises(StrataError, match=r"tracking\.mode="):
            TrackingConfig(**keys)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_training_that_goes_on_goes_on_with_its_run(
    quiet: None, mode: str, tmp_path: Path
) -> None:
    ids = []
    for folder in ("one", "one", "other"):
        tracking = TrackingConfig(backend="wandb", mode=mode)
        logger = training_logger(tracking, "x", RAW, tmp_path / folder)
        logger.log_metrics({"loss": 1.0}, step=3)
        ids.append(logger.experiment.id)
        logger.experiment.finish()
    assert ids[0] == ids[1] != ids[2]
    left = sorted(p.parent.name for p in tmp_path.glob("one/wandb/offline-run-*/*.wandb"))
    assert bool(left) == (mode == "offline")
    assert all(f"-{ids[0]}" in name for name in left)  # newer W&B numbers those of one second
    assert "WANDB_MODE" not in os.environ  # or a later run that is to be online would be offline


def test_a_training_without_login_ends_before_it_begins(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(StrataError, match=r"Nothing has been trained .*tracking\.mode=offline"):
        training_logger(TrackingConfig(backend="wandb", mode="online"), "x", RAW, tmp_path)
