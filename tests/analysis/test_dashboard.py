"""The workspace's specification, panel by panel, against what runs really log."""

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from running import ROOT, execute

from common.records import StrataError
from common.tracking import curve_name

ANALYSIS_FILES = list((ROOT / "conf" / "analysis").glob("*.yaml"))
ANALYSES = {path.stem for path in ANALYSIS_FILES}
OFFLINE = ("experiment=dashboard", "tracking.mode=offline")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("dashboard")
    return specification(folder, "tracking.project=mine", "tracking.group=sweep1")


def specification(folder: Path, *overrides: str) -> dict[str, Any]:
    execute(folder, *OFFLINE, *overrides)
    return json.loads((folder / "workspace.json").read_text())


def panels(workspace: dict[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and configuration of the panels of a section."""
    bank = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    (found,) = (one for one in bank if one["name"] == section)
    return [(panel["viewType"], panel["config"]) for panel in found["panels"]]


def test_a_line_plot_over_layer_for_every_experiment(workspace: dict[str, Any]) -> None:
    found = panels(workspace, "Layers")
    assert {kind for kind, _ in found} == {"Run History Line Plot"}
    blocks = {c["chartTitle"]: c for _, c in found if "(cnn)" not in c["chartTitle"]}
    assert blocks.keys() == ANALYSES
    for name, config in blocks.items():
        assert config["xAxis"] == "layer"
        (key,) = config["metrics"]
        assert re.fullmatch(rf"{name}/[a-z_0-9]+", key)
        assert config["limit"] >= 100  # W&B draws ten by default
    assert blocks["cca_phone"]["metrics"] == [curve_name("cca_phone", "pwcca")]
    assert blocks["cca_glove"]["metrics"] == ["cca_glove/pwcca"]  # though it lacks its file here
    assert blocks["mi_phone"]["metrics"] == ["mi_phone/mutual_information_adjusted"]


def test_convolutional_layers_have_panels_of_their_own(workspace: dict[str, Any]) -> None:
    found = panels(workspace, "Layers")
    cnn = {c["chartTitle"]: c for _, c in found if "(cnn)" in c["chartTitle"]}
    files = {path.stem: yaml.safe_load(path.read_text()) for path in ANALYSIS_FILES}
    having = [name for name, analysis in files.items() if "cnn" in analysis.get("parts", [])]
    assert cnn.keys() == {f"{name} (cnn)" for name in having}
    assert cnn["cca_mel (cnn)"]["metrics"] == [curve_name("cca_mel", "pwcca", "cnn")]
    assert cnn["cca_mel (cnn)"]["xAxis"] == "cnn_layer"


def test_bars_of_the_best_layers(workspace: dict[str, Any]) -> None:
    found = panels(workspace, "Best layers")
    assert {kind for kind, _ in found} == {"Bar Chart"}
    keys = [key for _, config in found for key in config["metrics"]]
    wanted = {f"{name}/{key}" for name in ANALYSES for key in ("best_block", "best_score")}
    assert sorted(keys) == sorted(wanted)


def test_wer_against_re_initialised_blocks(workspace: dict[str, Any]) -> None:
    (line, lines), (scatter, points), (_, training) = panels(workspace, "Recognition")
    assert (line, scatter) == ("Run History Line Plot", "Scatter Plot")
    assert (lines["xAxis"], lines["metrics"]) == ("reinit_top", ["test/wer"])
    assert (lines["groupBy"], lines["aggregate"]) == ("model.value.name", True)
    assert (lines["groupAgg"], lines["groupArea"]) == ("mean", "minmax")
    assert (points["xAxis"], points["yAxis"]) == ("summary:reinit_top", "summary:test/wer")
    assert (training["xAxis"], training["metrics"]) == ("trainer/global_step", ["valid/wer"])


def test_project_and_group(workspace: dict[str, Any], tmp_path: Path) -> None:
    assert (workspace["project"], workspace["displayName"]) == ("mine", "Strata: sweep1")
    (chosen,) = filters(workspace)
    assert (chosen["key"]["name"], chosen["value"]) == ("group", "sweep1")
    everything = specification(tmp_path, "tracking.entity=us")
    assert not filters(everything)
    assert (everything["entity"], everything["project"]) == ("us", "strata")


def filters(workspace: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked of the runs that are shown."""
    return workspace["spec"]["section"]["runSets"][0]["filters"]["filters"]


@pytest.mark.slow
def test_another_metric_has_its_own_panels(tmp_path: Path) -> None:
    found = {c["chartTitle"]: c for _, c in panels(specification(tmp_path, "metric=cka"), "Layers")}
    assert found["cca_phone"]["metrics"] == ["cca_phone/cka"]
    assert found["mi_phone"]["metrics"] == ["mi_phone/mutual_information_adjusted"]


def test_without_a_login_it_says_so_and_leaves_the_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # what other tests of this process set up; Lightning even sets the mode
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(StrataError, match=r"workspace\.json.*wandb login"):
        execute(tmp_path, "experiment=dashboard")
    assert panels(json.loads((tmp_path / "workspace.json").read_text()), "Layers")


def test_without_wandb_workspaces_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any, **keys: Any) -> Any:
        if name.startswith("wandb_workspaces"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *more, **keys)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StrataError, match=r"strata\[dashboard\]"):
        execute(tmp_path, *OFFLINE)
    assert not list(tmp_path.iterdir())
