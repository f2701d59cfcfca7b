"""Every pair of layers of two models beside the same layers: a heat map and a curve, not mixed."""

from pathlib import Path

import pytest
from report_runs import analysis_config, curve, write_run

from analysis.report.gather import Gathered, gather
from analysis.report.tables import best_layers, curves_of, matrices_of, split_frame
from common.config.report import ReportConfig
from common.records import StrataError
from common.results.results import Row

LAYERS = ("T0", "T1", "T2", "T3")


def config(pairs: str, frames: int | None) -> dict[str, object]:
    made = analysis_config(["cca_inter"])
    made["experiments"]["cca_inter"] |= {
        "unit": "frame",
        "target": {"kind": "model", "pairs": pairs},
        "sampling": {"utterances": 500, "frames": frames},
    }
    return made


def inter(layers: tuple[str, ...], others: tuple[str, ...], key: str) -> list[Row]:
    names = {"experiment": "cca_inter", "unit": "frame", "config_key": key, "model": "b"}
    return [one for o in others for one in curve(layers, target=f"small@1:{o}", **names)]


def gathered(folder: Path, **keys: object) -> Gathered:
    return gather(ReportConfig(runs=[str(folder)], **keys))


def write_both(folder: Path) -> None:
    write_run(folder / "all", inter(LAYERS, LAYERS, "all"), config("all", 2000), age=9)
    same = [one for layer in LAYERS for one in inter((layer,), (layer,), "same")]
    write_run(folder / "same", same, config("same", None))


def test_a_heat_map_and_a_curve_of_one_experiment_stand_in_one_report(tmp_path: Path) -> None:
    write_both(tmp_path)
    report = gathered(tmp_path)
    assert len(report.frame) == 3 * (16 + 4)
    assert report.notes == ()
    assert report.duplicates == {}
    scores, pairs, _ = split_frame(report.frame)
    assert set(scores["run"]) == {"same"}
    assert set(pairs["run"]) == {"all"}
    (matrix,) = matrices_of(pairs)
    assert matrix.values.shape == (4, 4)
    (best,) = best_layers(curves_of(scores)).itertuples()
    assert (best.series, best.layer) == ("b with small@1", "T2")


def test_two_heat_maps_of_other_frames_are_not_mixed(tmp_path: Path) -> None:
    write_both(tmp_path)
    write_run(tmp_path / "more", inter(LAYERS, LAYERS, "more"), config("all", 9000))
    with pytest.raises(StrataError, match=r"every pair of layers\).*sampling.frames is 2000"):
        gathered(tmp_path)
