"""Experiments from end to end: what a run writes, and what the next ones take from its pass."""

from pathlib import Path

import models
import numpy as np
import pandas as pd
import pytest
from marks import slow
from PIL import Image
from running import Finished, execute

from analysis.forward.consumers import VectorConsumer
from analysis.metrics.cca import PWCCA
from analysis.moments import Folds
from analysis.report.advice.advise import advise, lines_of
from common.encoder.architecture import Layer
from common.metric import Score
from common.records import StrataError
from common.results.results import Row, incomparable, read_results

ISSUE_COLUMNS = {
    *("model", "dataset", "partition", "experiment", "unit", "target", "metric", "split", "layer"),
    *("layer_index", "sample", "trial", "value", "revision", "n", "dim", "seed", "config_key"),
    *("git_commit", "part", "primary", "control", "low", "high", "weighted", "pairs"),
}


@pytest.fixture(scope="module")
def paper(
    common: tuple[str, ...], cache: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """The four experiments, from an empty cache."""
    folder = tmp_path_factory.mktemp("paper")
    return execute(folder, "experiment=paper", *common, cache, pictures=True)


def test_results_have_a_row_per_experiment_layer_sample_and_trial(paper: Finished) -> None:
    rows = paper.rows
    assert set(rows.columns) == ISSUE_COLUMNS == set(Row.__dataclass_fields__)
    assert rows["primary"].all()
    assert set(rows["control"]) == {""}
    counts = rows.groupby("experiment")["layer"].count().to_dict()
    assert counts == {"cca_mel": 11, "cca_intra": 4, "cca_phone": 4, "cca_word": 4}
    assert not rows.duplicated(["experiment", "layer", "sample", "trial"]).any()
    assert not rows.drop(columns=["trial", "low", "high", "pairs"]).isna().any().any()
    assert set(rows["target"]) == {"mel", "T0", "phone", "word"}
    weighted = rows.groupby("experiment")["weighted"].unique().str.join(" ").to_dict()
    assert weighted["cca_intra"] == "layer"
    assert weighted["cca_word"] == "target"  # 5 words; phones are more than the model is wide
    assert paper.metadata["not_comparable"] == incomparable(rows)
    assert (rows["n"] > 0).all()
    assert np.isfinite(rows["value"]).all()


def test_a_layers_index_counts_within_its_part(paper: Finished) -> None:
    for row in paper.rows.itertuples():
        assert row.layer == f"{'C' if row.part == 'cnn' else 'T'}{row.layer_index}"
        of_cnn = models.FAMILY["conv_dim"][row.layer_index - 1]
        assert row.dim == (32 if row.part == "transformer" else of_cnn)


def test_a_layer_against_itself_is_fully_correlated(paper: Finished) -> None:
    assert paper.curve("cca_intra")["T0"] == pytest.approx(1, abs=1e-6)


def test_metadata_say_what_was_drawn_dropped_and_spent(paper: Finished) -> None:
    metadata = paper.metadata
    assert metadata["model"]["revision"].startswith("sha256:")
    assert set(paper.rows["revision"]) == {metadata["model"]["revision"]}
    assert metadata["dataset"]["utterances"] == 24
    assert metadata["dataset"]["dropped"]["utterance: beyond dataset.limit"] > 0
    assert metadata["forward_pass"]["utterances"] == 24
    assert metadata["forward_pass"]["audio_seconds"] > 30
    stages = {"preparing", "loading", "reading", "forward", "collecting", "storing", "scoring"}
    assert set(metadata["seconds"]) == stages
    assert all(seconds >= 0 for seconds in metadata["seconds"].values())
    assert 1e8 < metadata["peak_memory_bytes"] < 1e11
    assert {"python", "numpy", "torch", "transformers"} <= set(metadata["versions"])
    assert metadata["config"]["dataset"]["partition"] == "all"
    assert metadata["not_scored"] == metadata["controls"] == {}


def test_what_sampling_leaves_out_is_counted(paper: Finished) -> None:
    """A unit that no sample drew is no dropped item, but a label that was too rare is."""
    studies = {tuple(s["experiments"]): s for s in paper.metadata["studies"]}
    words = studies["cca_word",]
    assert words["dropped"]["word: label occurs less than 5 times"] > 0
    assert set(words["units_per_label"].values()) <= set(range(5, 21))


def test_the_pictures_show_something(paper: Finished) -> None:
    with Image.open(paper.folder / "layers.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 400
    assert 0.01 < (pixels < 128).mean() < 0.5  # ink, not a black or an empty page
    svg = (paper.folder / "layers.svg").read_text()
    for text in ("cca_word", "transformer", "CNN"):
        assert text in svg


def test_a_second_run_reads_no_audio_and_gives_the_same_numbers(
    paper: Finished,
    common: tuple[str, ...],
    cache: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = execute(tmp_path, "experiment=paper", *common, cache)
    assert paper.passed
    assert not again.passed
    pd.testing.assert_frame_equal(again.rows, paper.rows)
    _, _, end = capsys.readouterr().out.partition("mean ± standard deviation")
    lines = lines_of(advise(again.rows))
    assert len(lines) > 1
    assert all(f"\n{line}\n" in end for line in lines)  # after the table


@pytest.mark.parametrize(
    "override",
    [
        slow("metric=cka"),
        slow("metric=svcca"),
        "layers.index=2",
        slow("layers=single layers.indices=[T1]"),
    ],
)
def test_another_metric_or_layer_costs_no_forward_pass(
    override: str, paper: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    other = execute(tmp_path, "experiment=paper", *common, cache, *override.split())
    assert not other.passed
    if not override.startswith("metric"):
        layer = "T2" if "2" in override else "T1"
        assert other.curve("cca_phone") == {layer: paper.curve("cca_phone")[layer]}
    else:
        assert set(other.rows["metric"]) == {override.removeprefix("metric=")}
        assert other.rows["config_key"].iloc[0] != paper.rows["config_key"].iloc[0]


def test_cka_gives_one_value_per_sample_without_trial(
    paper: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    run = execute(tmp_path, "experiment=cca_phone", "metric=cka", *common, cache)
    assert not run.passed
    assert set(run.rows["metric"]) == {"cka"}
    assert run.rows["trial"].isna().all()
    assert len(run.rows) == 4


def test_a_member_of_the_paper_alone_comes_from_the_papers_pass(
    paper: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    one = execute(tmp_path, "experiment=cca_word", *common, cache)
    assert not one.passed
    assert one.curve("cca_word") == paper.curve("cca_word")


@pytest.mark.parametrize(
    "override",
    ["seed=1", slow("precision=bf16"), "model.final_norm=false", slow("sampling.instances=10")],
)
def test_what_changes_the_numbers_changes_the_entry(
    override: str, paper: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    other = execute(tmp_path, "experiment=cca_phone", *common, override, cache)
    same = override == "model.final_norm=false"  # the default, said aloud
    assert other.passed == (not same)
    assert (other.curve("cca_phone") == paper.curve("cca_phone")) == same


@pytest.mark.slow
def test_bf16_gives_nearly_the_same_layers(
    paper: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    intra = ["experiment=cca_mel", *common, cache, "metric=cka"]
    full = execute(tmp_path / "fp32", *intra).curve("cca_mel")
    half = execute(tmp_path / "bf16", *intra, "precision=bf16").curve("cca_mel")
    assert list(half) == list(full)
    assert half != full
    assert half == pytest.approx(full, abs=0.02)


@pytest.mark.parametrize(
    ("split", "experiment"),
    [
        slow("utterance", "cca_mel"),
        ("speaker", "cca_phone"),
        slow("utterance", "cca_phone"),
        slow("speaker", "cca_mel"),
    ],
)
def test_folds_of_utterances_and_speakers(
    split: str,
    experiment: str,
    paper: Finished,
    common: tuple[str, ...],
    cache: str,
    tmp_path: Path,
) -> None:
    done = execute(tmp_path, f"experiment={experiment}", *common, f"split={split}", cache)
    assert set(done.rows["split"]) == {split}
    assert done.curve(experiment).keys() == paper.curve(experiment).keys()
    same = split == "speaker"  # what the default comes to: there are speakers enough
    assert set(paper.rows["split"]) == {"speaker"}
    assert (done.curve(experiment) == paper.curve(experiment)) == same
    # Vectors of units do not depend on how folds are cut; moments by fold do.
    assert done.passed == (experiment == "cca_mel" and not same)


@pytest.mark.slow
def test_untrained_weights_are_said_in_one_line_and_stand_in_the_results(
    paper: Finished,
    common: tuple[str, ...],
    cache: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = ["experiment=cca_phone", *common, cache]
    untrained = execute(tmp_path / "1", *phone, "model.random_init=true")
    lines = [r.getMessage() for r in caplog.records if "random weights" in r.getMessage()]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert untrained.rows["revision"].iloc[0].startswith("random:0:")
    assert untrained.curve("cca_phone") != paper.curve("cca_phone")
    caplog.clear()
    execute(tmp_path / "2", *phone)
    assert "random weights" not in caplog.text


def test_an_exception_of_any_kind_spares_the_other_layers_and_experiments(
    paper: Finished,
    common: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    score, calls = PWCCA.score, []

    def once_broken(self: PWCCA, folds: Folds, with_interval: bool = False) -> list[Score]:
        calls.append(folds)
        if len(calls) == 2:
            raise ZeroDivisionError("a planted fault")
        return score(self, folds, with_interval)

    monkeypatch.setattr(PWCCA, "score", once_broken)
    overrides = ("experiment=paper", *common, f"paths.cache={tmp_path / 'cache'}")
    with pytest.raises(StrataError, match=r"was not scored: \w+: ZeroDivisionError: a planted"):
        execute(tmp_path / "run", *overrides)
    rows = read_results(tmp_path / "run")
    there = set(zip(rows["experiment"], rows["layer"], strict=True))
    all_ = set(zip(paper.rows["experiment"], paper.rows["layer"], strict=True))
    assert len(all_ - there) == 1
    (record,) = [one for one in caplog.records if one.exc_info]
    assert "a planted fault" in record.getMessage()


@pytest.mark.slow
def test_statistics_that_cannot_be_collected_spare_the_other_experiments(
    common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: VectorConsumer, layer: Layer, frames: object) -> None:
        raise StrataError(f"layer {layer.name} gives NaN or infinite values: try precision=fp32")

    monkeypatch.setattr(VectorConsumer, "add", broken)
    overrides = ("experiment=paper", *common, f"paths.cache={tmp_path / 'cache'}")
    with pytest.raises(StrataError, match="cca_phone was not scored: forward pass: layer C1 gives"):
        execute(tmp_path / "run", *overrides)
    rows = read_results(tmp_path / "run")
    assert set(rows["experiment"]) == {"cca_mel", "cca_intra"}
