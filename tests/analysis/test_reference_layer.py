"""A layer against itself scores 1 by construction: nobody calls it the best."""

import numpy as np
import pandas as pd
import pytest
from report_runs import curve, row

from analysis.growth import print_growth
from analysis.report.advice.advise import advise
from analysis.report.figures import heat_figures
from analysis.report.tables import best_layers, curves_of
from common import tracking
from common.results.results import Row, best_of, summarise, to_frame
from common.results.score_table import print_table

LEVELS = {"T0": 1.0, "T1": 0.8, "T2": 0.5, "T3": 0.7}


def intra(levels: dict[str, float] = LEVELS, target: str = "T0", **keys: object) -> list[Row]:
    return [
        row(
            experiment="cca_intra",
            target=target,
            layer=layer,
            layer_index=int(layer[1:]),
            sample=sample,
            value=value + 0.001 * sample * int(layer[1:]),
            **keys,
        )
        for layer, value in levels.items()
        for sample in range(6)
    ]


def test_the_table_marks_the_best_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    controls = intra({"T0": 1.0, "T1": 0.3, "T2": 0.4, "T3": 0.2}, control="random_weights")
    print_table(to_frame([*intra(), *curve(), *controls]), "title")
    printed = capsys.readouterr().out
    marked = {line.split()[1] for line in printed.splitlines() if "*" in line and "│" in line}
    assert marked == {"T1", "T2"}  # of cca_intra and of cca_phone
    assert "1.000 ± 0.000*" not in printed
    assert "T2: 0.405" in printed  # of random weights, not T0: 1.000
    assert "* best layer, apart from one against itself" in printed


def test_tables_without_such_a_layer_do_not_speak_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(to_frame(curve()), "title")
    assert capsys.readouterr().out.rstrip().endswith("* best layer")


def test_the_reference_alone_has_no_best_layer(capsys: pytest.CaptureFixture[str]) -> None:
    frame = to_frame(intra({"T0": 1.0}))
    assert best_of(summarise(frame)).empty
    print_table(frame, "title")
    assert "1.000 ± 0.000*" not in capsys.readouterr().out
    assert tracking.best_layers(frame) == {}
    print_growth(frame.assign(step=0), "title")
    assert "(T0)" not in capsys.readouterr().out


def test_another_reference_is_passed_over_too() -> None:
    summary = summarise(to_frame(intra({"T0": 0.6, "T1": 0.7, "T2": 1.0, "T3": 0.8}, "T2")))
    assert best_of(summary)["layer"].tolist() == ["T3"]


def test_report_tracking_and_growth_agree_with_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = to_frame(intra()).assign(depth=0.0)
    assert best_layers(curves_of(frame))["layer"].tolist() == ["T1"]
    assert tracking.best_layers(frame)["cca_intra/best_block"] == 1
    print_growth(frame.assign(step=0), "title")
    assert "(T1)" in capsys.readouterr().out


def test_a_heat_map_leaves_the_reference_blank() -> None:
    frame = to_frame([*intra(), *curve()]).assign(depth=0.0)
    ((_, figure),) = heat_figures(curves_of(frame))
    shares = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    column = shares[:, names.index("cca_intra")]
    assert np.isnan(column[0])
    assert column[1] == 1.0
    assert np.isfinite(shares[:, names.index("cca_phone")]).all()


@pytest.mark.parametrize(("second", "found"), [(0.8, True), (0.5, False)])
def test_leaving_the_input_is_found_from_other_layers_than_it(second: float, found: bool) -> None:
    rng = np.random.default_rng(0)
    levels = {"T0": 1.0, "T1": second, "T2": 0.5, "T3": 0.7}
    rows = [one for trial in range(6) for one in intra(levels, trial=trial)]
    frame = to_frame(rows).assign(run="run", reinit_top=pd.NA)
    frame["value"] += np.where(frame["layer"] == "T0", 0, 0.002 * rng.normal(size=len(frame)))
    turns = [one for one in advise(frame) if one.topic == "where content turns back"]
    assert [one.figures[0].cells["before"].split()[0] for one in turns] == ["T1"] * found
