"""The page, the figures and the table of `experiment=report`, without a browser."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_runs import HOSTILE, training, write_runs
from running import command, execute
from scipy.stats import ttest_1samp

from analysis.report.page import as_json, render, require_library
from analysis.report.tables import errors_of
from common.records import StrataError


class Reader(HTMLParser):
    """Elements with their attributes, and the text of scripts by their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_runs(folder / "runs")
    execute_report(folder / "out", f"report.runs={folder / 'runs'}")
    return folder / "out"


def execute_report(folder: Path, *overrides: str) -> None:
    execute(folder, "experiment=report", *overrides, pictures=True)


@pytest.fixture(scope="module")
def page(report: Path) -> Reader:
    return Reader((report / "report.html").read_text())


def test_the_page_asks_for_nothing_and_is_small(report: Path, page: Reader) -> None:
    assert (report / "report.html").stat().st_size < 1_500_000
    for tag, attributes in page.elements:
        address = attributes.get("src") or attributes.get("href") or "data:"
        assert address.startswith(("data:", "#")), (tag, attributes)
    (policy,) = [
        str(a["content"])
        for _, a in page.elements
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_rows_of_the_page_are_the_means_of_the_runs(report: Path, page: Reader) -> None:
    tidy = pd.read_csv(report / "results_tidy.csv", keep_default_na=False)
    curves = pd.DataFrame(page.data["curves"]["rows"], columns=page.data["curves"]["columns"])
    keys = ["model", "experiment", "control", "layer"]
    scores = tidy[~tidy["experiment"].isin(["ctc", "cca_inter"])]
    expected = scores.groupby(keys)["value"].agg(["mean", "std", "count"])
    got = curves.set_index(keys)[["mean", "std", "count"]].sort_index().astype(float)
    pd.testing.assert_frame_equal(got, expected.astype(float), rtol=1e-6)
    assert len(page.data["points"]["rows"]) == 12
    (matrix,) = page.data["matrices"]
    assert matrix["layers"] == matrix["others"] == ["T0", "T1", "T2", "T3"]
    np.testing.assert_allclose(np.array(matrix["values"]).max(axis=0), 0.504)


def test_nothing_of_a_run_becomes_markup(page: Reader) -> None:
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert "img" not in {tag for tag, _ in page.elements}
    names = [style["name"] for style in page.data["series"]]
    assert HOSTILE in names  # whole, as text
    assert as_json({"a": "<!--<script>&"}) == '{"a": "\\u003c!--\\u003cscript\\u003e\\u0026"}'


def test_a_name_that_looks_like_a_mark_of_the_template_stays_a_name() -> None:
    text = render("{{data}}", {"series": "{{library}}"})
    assert "<title>Strata: {{data}}</title>" in text
    assert '{"series": "{{library}}"}' in text


def test_what_is_left_out_and_every_run_is_on_the_page(page: Reader) -> None:
    (lost,) = page.data["left_out"]
    assert lost["run"] == "killed"
    runs = {run["name"]: run for run in page.data["runs"]}
    assert {"one", "two", "inter", "ctc_0_0"} <= set(runs)
    assert runs["one"]["overrides"] == ["experiment=paper"]
    assert runs["one"]["config"]["name"] == "paper"
    assert runs["one"]["commit"] == "g"


def test_advice_heads_the_page(page: Reader) -> None:
    topics = {one["topic"] for one in page.data["advice"]}
    assert "phonetic content" in topics
    for one in page.data["advice"]:
        assert one["claim"]
        assert 0 < len(one["headline"].split()) <= 12
        assert one["figures"] or not one["says_something"]
        assert one["caveats"]


def test_experiments_are_under_the_heading_of_what_they_ask(report: Path) -> None:
    groups = Reader((report / "report.html").read_text()).data["groups"]
    assert groups == [
        {"heading": "Phones", "experiments": ["cca_phone"]},
        {"heading": "Words", "experiments": ["cca_word"]},
    ]


def test_figures_are_a_column_wide_and_named_for_any_file_system(report: Path) -> None:
    figures = sorted((report / "figures").iterdir())
    stems = {path.stem for path in figures}
    assert {"cca_phone", "cca_word", "heat_small_toy_all", "layers_b_small"} <= stems
    assert "wer_toy_10m_toy_all" in stems
    for path in figures:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", path.name)
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.width == 1005  # 3.35 inches at 300 dots per inch
        else:
            ET.parse(path)


def test_the_interval_over_seeds_is_students(report: Path) -> None:
    tidy = pd.read_csv(report / "results_tidy.csv", dtype={"reinit_top": "Int64"})
    means = errors_of(tidy[tidy["experiment"] == "ctc"]).set_index(["metric", "reinit_top"])
    values = [0.4, 0.42]
    interval = ttest_1samp(values, 0).confidence_interval()
    row = means.loc[("wer", 1)]
    np.testing.assert_allclose(row["mean"], 0.41)
    np.testing.assert_allclose(row["high"], interval.high)
    np.testing.assert_allclose(row["low"], max(0, interval.low))
    assert row["seeds"] == 2


@pytest.mark.slow
def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    training(tmp_path / "runs" / "a", 0, 0, 0.5)
    execute_report(tmp_path / "out", f"report.runs={tmp_path / 'runs'}")
    data = Reader((tmp_path / "out" / "report.html").read_text()).data
    (wer, _) = [dict(zip(data["means"]["columns"], r, strict=True)) for r in data["means"]["rows"]]
    assert (wer["low"], wer["high"], wer["seeds"]) == (None, None, 1)
    assert data["curves"]["rows"] == []


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(StrataError, match=r"strata\[report\]"):
        require_library()


# The command line.


def ran(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return command("experiment=report", f"hydra.run.dir={cwd / 'out'}", *overrides, cwd=cwd)


def test_on_nothing_there_are_clear_words_and_no_trace(tmp_path: Path) -> None:
    done = ran(cwd=tmp_path)
    assert done.returncode == 1
    assert "report.runs=runs: no run there" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_a_quoted_glob_prints_the_best_layers_and_the_paths(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs")
    done = ran("report.runs=runs/**", "report.experiments=[cca_phone]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"cca_phone .* T2 .* 0\.504 ± 0\.004", done.stdout)
    assert "left out the whole run of killed: half-written" in done.stdout
    assert "torch" not in done.stderr
    paths = [Path(line) for line in done.stdout.splitlines() if line.startswith("/")]
    assert paths[:2] == [tmp_path / "out" / n for n in ("report.html", "results_tidy.csv")]
    assert all(path.is_file() for path in paths)
    assert not any("cca_word" in path.name for path in paths)
