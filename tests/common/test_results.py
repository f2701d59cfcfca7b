"""Rows, table and metadata: what a user and the next program read."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rows import placed, row

from analysis.report import tables
from common.results import results
from common.results.results import (
    Row,
    config_key,
    git_commit,
    primary_scores,
    read_results,
    summarise,
    to_frame,
    versions,
    write_results,
)
from common.results.score_table import print_table
from common.tracking import best_layers


def layered(experiments: list[str], layers: list[str], trials: int = 2) -> pd.DataFrame:
    return to_frame(
        [
            row(
                experiment=experiment,
                **placed(layer),
                trial=trial,
                value=0.1 * int(layer[1:]) + 0.01 * trial,
            )
            for experiment in experiments
            for layer in layers
            for trial in range(trials)
        ]
    )


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    value = 0.1 + 0.2  # all its digits
    frame = to_frame([row(value=value), row(trial=None, metric="cka", value=1e-300)])
    paths = write_results(tmp_path, frame, {"a": np.float64(1.5), "b": Path("/x"), "c": (1, 2)})
    assert [path.name for path in paths] == ["results.csv", "metadata.json"]
    back = read_results(tmp_path)
    pd.testing.assert_frame_equal(back, frame)
    assert back["value"].tolist() == [value, 1e-300]
    assert back["trial"].tolist() == [0, pd.NA]
    assert json.loads(paths[1].read_text()) == {"a": 1.5, "b": "/x", "c": [1, 2]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metadata.json", "results.csv"]


def test_no_rows_are_a_table_with_columns(tmp_path: Path) -> None:
    write_results(tmp_path, to_frame([]), {})
    assert list(read_results(tmp_path).columns) == list(Row.__dataclass_fields__)


def test_metadata_that_cannot_be_written_leave_the_old_files(tmp_path: Path) -> None:
    write_results(tmp_path, to_frame([row()]), {"run": 1})
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(ValueError, match="Circular"):
        write_results(tmp_path, to_frame([row(value=9.0)]), circle)
    assert read_results(tmp_path)["value"].tolist() == [0.5]
    assert json.loads((tmp_path / "metadata.json").read_text()) == {"run": 1}


def test_a_summary_is_over_samples_and_trials() -> None:
    frame = to_frame(
        [row(sample=s, trial=t, value=float(3 * s + t)) for s in range(2) for t in range(3)]
    )
    (one,) = summarise(frame).itertuples()
    assert (one.mean, one.count) == (2.5, 6)
    assert one.std == pytest.approx(np.std(range(6), ddof=1))


def test_one_score_alone_has_no_deviation() -> None:
    assert np.isnan(summarise(to_frame([row()]))["std"].iloc[0])


@pytest.mark.parametrize("columns", ["40", "80", "120", "200", None])
def test_a_table_fits_the_width_and_nothing_is_cut(
    columns: str | None, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experiments that do not fit beside the others come in tables below; a pipe has 120."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    names = [*(f"cca_{i}" for i in range(8)), "an_experiment_with_quite_a_long_name"]
    layers = [*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(25))]
    print_table(layered(names, layers), "a model on a corpus")
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    tabled = [line for line in lines if line and line[0] in "│┃┏┡└├"]
    room = int(columns or 120)
    assert max(map(len, tabled)) <= max(room, 9 + 3 + len(names[-1]))  # that one alone is wider
    headers = [line for line in tabled if "layer" in line]
    assert [name for line in headers for name in line.replace("┃", "").split()[1:]] == names
    assert len(headers) == {40: 9, 80: 3, 120: 2, 200: 1}[room]
    for layer in layers:
        found = [line for line in tabled if line.split("│")[1:2] == [f" {layer:<5} "]]
        value = f"{0.1 * int(layer[1:]) + 0.005:.3f} ± 0.007"
        assert sum(line.count(value) for line in found) == len(names)


def test_layers_go_down_in_the_models_order_and_the_best_is_marked(
    capsys: pytest.CaptureFixture,
) -> None:
    frame = layered(["cca_mel"], ["T10", "T2", "C2", "C1"])
    print_table(frame, "title")
    cells = [line.split("│") for line in capsys.readouterr().out.splitlines() if "±" in line]
    lines = [(c[1].strip(), "*" in c[2]) for c in cells if len(c) > 2]
    assert lines == [("C1", False), ("C2", False), ("T2", False), ("T10", True)]


def test_a_layer_that_an_experiment_does_not_cover_has_an_empty_cell(
    capsys: pytest.CaptureFixture,
) -> None:
    frame = pd.concat([layered(["cca_mel"], ["C1", "T1"]), layered(["cca_phone"], ["T1"])])
    print_table(frame, "title")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " C1 " in line]
    assert line.split("│")[3].strip() == ""


RAW = {
    "name": "paper",
    "seed": 0,
    "model": {"name": "small", "revision": "main"},
    "device": "auto",
    "layers": {"select": "all"},
    "cache": "on",
    "clear": None,
    "tracking": {"backend": "none"},
    "paths": {"runs": "runs"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cpu"},
        {"layers": {"select": "last4"}},
        {"cache": "off"},
        {"tracking": {"backend": "wandb"}},
        {"paths": {"runs": "/elsewhere"}},
        {"name": "mine"},
    ],
    ids=str,
)
def test_the_config_key_ignores_what_cannot_change_a_number(change: dict[str, object]) -> None:
    assert config_key(RAW | change) == config_key(RAW)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"model": {"name": "small", "revision": "v2"}}, {"split": "speaker"}]
)
def test_the_config_key_heeds_the_rest(change: dict[str, object]) -> None:
    assert config_key(RAW | change) != config_key(RAW)
    assert config_key(dict(reversed(RAW.items()))) == config_key(RAW)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout_has_a_plus_where_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert git_commit() == commit
    (tmp_path / "untracked").write_text("of no matter")
    assert git_commit() == commit
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{commit}+"


def test_outside_a_checkout_or_without_git_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert git_commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() == "unknown"


def test_versions_name_what_computed_the_numbers() -> None:
    assert {"python", "numpy", "scipy", "torch", "transformers"} <= versions().keys()


OLDER = ["primary", "control", "low", "high", "weighted"]


def test_results_of_an_older_run_are_read_with_what_they_lack(tmp_path: Path) -> None:
    frame = to_frame([row(), row(layer="T2", layer_index=2, value=0.7)])
    frame.drop(columns=OLDER).to_csv(tmp_path / "results.csv", index=False)
    pd.testing.assert_frame_equal(read_results(tmp_path), frame)


def test_controls_and_secondary_figures_are_kept_apart() -> None:
    frame = to_frame(
        [
            row(value=0.8, low=0.7, high=0.9),
            row(value=0.1, control="random_weights"),
            row(value=0.2, control="random_weights"),
            row(value=9.0, metric="n", primary=False),
        ]
    )
    summary = summarise(frame).set_index(["metric", "control"])
    assert summary["mean"].to_dict() == {
        ("pwcca", ""): 0.8,
        ("pwcca", "random_weights"): pytest.approx(0.15),
        ("n", ""): 9.0,
    }
    assert summary.loc[("pwcca", ""), ["low", "high"]].tolist() == [0.7, 0.9]
    assert primary_scores(frame)["value"].tolist() == [0.8]


def test_controls_are_rows_below_the_layers(capsys: pytest.CaptureFixture) -> None:
    controls = [
        row(layer="mel", layer_index=0, part="mel", control="mel", value=0.3),
        row(layer="T1", control="random_weights", value=0.1),
        row(layer="T2", layer_index=2, control="random_weights", value=0.2),
        row(layer="T1", control="shuffled_labels", value=-0.01),
        row(layer="T1", value=1000.0, metric="n", primary=False),
    ]
    frame = pd.concat([layered(["cca_phone", "cca_mel"], ["T1", "T2"]), to_frame(controls)])
    print_table(frame, "title", {"cca_agwe": "target.path is not given"})
    out = capsys.readouterr().out
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert cells == [
        ["T1", "0.105 ± 0.007", "0.105 ± 0.007"],
        ["T2", "0.205 ± 0.007*", "0.205 ± 0.007*"],
        ["mel", "0.300", ""],
        ["random weights", "T2: 0.200", ""],
        ["shuffled labels", "T1: -0.010", ""],
    ]
    assert "left out cca_agwe: target.path is not given" in out
    assert "1000" not in out


def test_a_table_of_nothing_says_so(capsys: pytest.CaptureFixture) -> None:
    secondary = to_frame([row(primary=False)])
    for frame in (to_frame([]), secondary):
        print_table(frame, "a model on a corpus", {"cca_word": "there is no word tier"})
        printed_lines = capsys.readouterr().out.splitlines()
        assert printed_lines == [
            "a model on a corpus: there are no scores",
            "left out cca_word: there is no word tier",
        ]


def test_layers_and_mel_that_are_weighed_differently_are_told_apart(
    capsys: pytest.CaptureFixture,
) -> None:
    layers = [
        row(experiment=name, layer=f"T{k}", layer_index=k, weighted="target")
        for name in ("cca_word", "cca_phone")
        for k in range(5)
    ]
    mel = {"layer": "mel", "layer_index": 0, "part": "mel", "control": "mel"}
    controls = [
        row(experiment="cca_word", weighted="layer", **mel),
        row(experiment="cca_phone", weighted="target", **mel),
    ]
    frame = to_frame([*layers, *controls, row(experiment="cca_cka", metric="cka")])
    why = "weighed T0 … T4 by the target's columns, mel by the layer's columns: not comparable"
    assert results.incomparable(frame) == {"cca_word": why}
    print_table(frame, "title")
    assert f"cca_word: {why}" in capsys.readouterr().out


def test_no_star_across_what_cannot_be_compared(capsys: pytest.CaptureFixture) -> None:
    """C1 scores highest, weighed by its own columns; the best is sought among the other side."""
    levels = {"C1": 0.9, "C2": 0.8, "C3": 0.3, "T0": 0.4, "T1": 0.5}
    rows = [
        row(
            experiment="cca_mel",
            **placed(name),
            value=value,
            weighted="layer" if value > 0.7 else "target",
            control=control,
        )
        for name, value in levels.items()
        for control in ("", "random_weights")
    ]
    frame = to_frame(rows)
    print_table(frame, "title")
    printed = capsys.readouterr().out
    marked = {line.split()[1] for line in printed.splitlines() if "*" in line and "│" in line}
    assert marked == {"T1"}
    assert "T1: 0.500" in printed  # of random weights, which are held against the same layers
    assert "* best layer, among those weighed like most" in printed
    assert best_layers(frame)["cca_mel/best_layer"] == "T1"
    assert tables.best_layers(tables.curves_of(frame.assign(depth=0.0)))["layer"].tolist() == ["T1"]


def test_of_two_sides_with_as_many_layers_the_deepest_counts() -> None:
    levels = {"C1": 0.9, "C2": 0.8, "T0": 0.4, "T1": 0.3}
    rows = [
        row(**placed(n), value=v, weighted="layer" if v > 0.7 else "target")
        for n, v in levels.items()
    ]
    assert results.rankable(summarise(to_frame(rows)))["layer"].tolist() == ["T0", "T1"]


def test_views_of_different_width_and_the_weighing_side_are_told() -> None:
    wide = row(experiment="cca_mel", model="wide", dim=768, weighted="target")
    narrow = replace(wide, model="narrow", dim=192)
    assert results.unlike_widths(to_frame([wide])) == {}
    note = results.unlike_widths(to_frame([wide, narrow]))["cca_mel"]
    assert "wide 768, narrow 192 columns" in note
    mel = replace(wide, layer="mel", part="mel", control="mel", dim=80)
    assert "mel 80" in results.unlike_widths(to_frame([wide, mel]))["cca_mel"]
    probes = [replace(one, metric="probe") for one in (wide, narrow)]
    assert results.unlike_widths(to_frame(probes)) == {}
    assert results.directions(to_frame([wide])) == {}
    inter = replace(wide, experiment="cca_inter", target="other@1:T1", weighted="layer")
    assert "weighed by the layer's columns" in results.directions(to_frame([inter]))["cca_inter"]


def test_a_matrix_is_of_one_run(tmp_path: Path) -> None:
    """Two models, each against one of its own, are no matrix; one against two layers is."""
    one = [row(experiment="cca_inter", target="b@1:T1"), row(experiment="cca_inter", layer="T2")]
    other = row(experiment="cca_inter", target="c@2:T1")
    for different in ({"model": "large"}, {"revision": "s"}, {"config_key": "l"}):
        assert results.pairwise(to_frame([*one, replace(other, **different)])) == []
    assert results.pairwise(to_frame([*one, other])) == ["cca_inter"]


def test_older_results_have_the_figures_of_today(tmp_path: Path) -> None:
    """An experiment's own figure used to be the raw information; a lone one stays what it is."""
    old = [
        row(experiment="mi_phone", metric="mutual_information", value=0.5),
        row(experiment="mi_phone", metric="mutual_information_shuffled", value=0.2, primary=False),
        row(experiment="mi_phone", metric="mutual_information_adjusted", value=0.4, primary=False),
        row(experiment="mi_word", metric="mutual_information", value=0.7),
        row(experiment="cca_phone", value=0.3),
        row(experiment="word_segmentation", metric="boundary_f1", value=0.2),
        row(experiment="word_segmentation", metric="boundary_r_value", value=0.1, primary=False),
    ]
    write_results(tmp_path, to_frame(old), {})
    read = read_results(tmp_path)
    assert read["metric"].tolist() == [
        "pnmi",
        "pnmi_shuffled",
        "mutual_information_adjusted",
        "pnmi",
        "pwcca",
        "boundary_f1",
        "boundary_r_value",
    ]
    assert read["primary"].tolist() == [False, False, True, True, True, False, True]
    write_results(tmp_path, read, {})
    pd.testing.assert_frame_equal(read_results(tmp_path), read)
