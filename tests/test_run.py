"""Runs from end to end: what is written, what comes from the cache, and how errors look."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import ROOT, Finished, command, environment, execute, textgrids, write_corpus
from wandb_files import API_KEY, files_with, offline_run

from analysis.studies import VERSIONS
from common.records import StrataError
from common.results import Row, incomparable

DEBUG = ["debug=default", "model=hf", "model.name=small"]
ISSUE_COLUMNS = {
    *("model", "dataset", "partition", "experiment", "unit", "target", "metric", "split", "layer"),
    *("layer_index", "sample", "trial", "value", "revision", "n", "dim", "seed", "config_key"),
    *("git_commit", "part", "primary", "control", "low", "high", "weighted"),
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def common(speech: Path, model: Path) -> list[str]:
    """Overrides that every run here shares, but for the cache's folder."""
    return [*DEBUG, f"model.checkpoint={model}", *textgrids(speech)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"paths.cache={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def paper(common: list[str], cache: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The four experiments, from an empty cache."""
    return execute(tmp_path_factory.mktemp("paper"), "experiment=paper", *common, cache)


# The command line itself.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    folder = tmp_path_factory.mktemp("demo")
    overrides = ["debug=default", "dataset.minutes=1", f"hydra.run.dir={folder / 'run'}"]
    return command(*overrides, STRATA_CACHE=str(folder / "cache")), folder / "run"


def test_the_default_command_prints_a_table_and_the_paths_of_what_it_wrote(demo) -> None:
    done, folder = demo
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("cca_mel", "cca_intra", "cca_phone", "cca_word"):
        assert any(name in line for line in lines)
    for layer in (*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(7))):
        assert any(re.search(rf"\b{layer}\b", line) for line in lines), layer
    assert "Traceback" not in done.stderr
    names = ("results.csv", "metadata.json", "layers.png", "layers.svg")
    assert [Path(line) for line in lines if line.startswith("/")] == [folder / n for n in names]
    assert all((folder / n).is_file() for n in names)
    assert sorted(p.name for p in (folder / ".hydra").iterdir()) == [
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    ]
    assert not list(folder.glob(".statistics-*"))  # nor any other scratch


def test_a_run_that_is_not_watched_draws_no_bars_and_says_once_that_its_weights_are_random(
    demo,
) -> None:
    done, _ = demo
    told = done.stdout + done.stderr
    assert "%|" not in told
    assert "\r" not in told
    assert told.count("random weights") == 1


def test_help_lists_groups_and_options() -> None:
    done = command("--help")
    assert done.returncode == 0
    for path in (ROOT / "conf").glob("*/*.yaml"):
        line = re.search(rf"^{path.parent.name}: (.+)$", done.stdout, re.MULTILINE)
        assert line is not None, path
        assert path.stem in line[1].split(", ")


def test_a_wrong_experiment_is_answered_with_what_there_is() -> None:
    done = command("experiment=cca_fone")
    assert done.returncode != 0
    for path in (ROOT / "conf/experiment").glob("*.yaml"):
        assert path.stem in done.stderr
    assert "Traceback" not in done.stderr


# What a run writes.


def test_results_have_a_row_per_experiment_layer_sample_and_trial(paper: Finished) -> None:
    rows = paper.rows
    assert set(rows.columns) == ISSUE_COLUMNS == set(Row.__dataclass_fields__)
    assert rows["primary"].all()
    assert set(rows["control"]) == {""}
    counts = rows.groupby("experiment")["layer"].count().to_dict()
    assert counts == {"cca_mel": 11, "cca_intra": 4, "cca_phone": 4, "cca_word": 4}
    assert not rows.duplicated(["experiment", "layer", "sample", "trial"]).any()
    assert not rows.drop(columns=["trial", "low", "high"]).isna().any().any()
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
        assert row.dim == (32 if row.part == "transformer" else row.dim)


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
    assert metadata["not_scored"] == {}


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


# The cache.


def test_a_second_run_reads_no_audio_and_gives_the_same_numbers(
    paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    again = execute(tmp_path, "experiment=paper", *common, cache)
    assert paper.passed
    assert not again.passed
    pd.testing.assert_frame_equal(again.rows, paper.rows)


@pytest.mark.parametrize(
    "override",
    ["metric=cka", "metric=svcca", "layers.index=2", "layers=single layers.indices=[T1]"],
)
def test_another_metric_or_layer_costs_no_forward_pass(
    override: str, paper: Finished, common: list[str], cache: str, tmp_path: Path
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
    paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    rows = execute(tmp_path, "experiment=cca_phone", "metric=cka", *common, cache).rows
    assert rows["trial"].isna().all()
    assert len(rows) == 4


def test_a_member_of_the_paper_alone_comes_from_the_papers_pass(
    paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    for name in ("cca_phone", "cca_word"):
        one = execute(tmp_path / name, f"experiment={name}", *common, cache)
        assert not one.passed
        assert one.curve(name) == paper.curve(name)


def test_cache_off_stores_nothing_and_refresh_computes_anew(
    paper: Finished, common: list[str], tmp_path: Path
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    off = execute(tmp_path / "off", *phone, "cache=off")
    assert off.passed
    assert not (tmp_path / "cache").exists()
    assert [p.name for p in (tmp_path / "off").iterdir() if p.name.startswith(".")] == []
    on = execute(tmp_path / "on", *phone)
    (stored,) = (tmp_path / "cache").glob("vectors/*/T1.npy")
    before = stored.stat().st_mtime_ns
    refreshed = execute(tmp_path / "refreshed", *phone, "cache=refresh")
    assert refreshed.passed
    assert stored.stat().st_mtime_ns > before
    expected = paper.curve("cca_phone")
    assert off.curve("cca_phone") == on.curve("cca_phone") == expected
    assert refreshed.curve("cca_phone") == expected


@pytest.mark.parametrize(
    "override", ["seed=1", "precision=bf16", "model.final_norm=false", "sampling.instances=10"]
)
def test_what_changes_the_numbers_changes_the_entry(
    override: str, paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    other = execute(tmp_path, "experiment=cca_phone", *common, override, cache)
    same = override == "model.final_norm=false"  # the default, said aloud
    assert other.passed == (not same)
    assert (other.curve("cca_phone") == paper.curve("cca_phone")) == same


def test_bf16_gives_nearly_the_same_layers(
    paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    intra = ["experiment=cca_mel", *common, cache, "metric=cka"]
    full = execute(tmp_path / "fp32", *intra).curve("cca_mel")
    half = execute(tmp_path / "bf16", *intra, "precision=bf16").curve("cca_mel")
    assert list(half) == list(full)
    assert half != full
    assert half == pytest.approx(full, abs=0.02)


def test_the_cache_is_listed_and_deleted_only_when_asked(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    root = tmp_path / "cache"
    at = f"paths.cache={root}"
    phone = ["experiment=cca_phone", *common, at]

    def listed(*overrides: str) -> str:
        capsys.readouterr()
        execute(tmp_path / "list", "experiment=cache", at, *overrides)
        return capsys.readouterr().out

    assert "0 entries" in listed()
    execute(tmp_path / "old", *phone)
    with monkeypatch.context() as patch:
        patch.setitem(VERSIONS["vectors"], "pooling", 99)  # as if pooling meant something else
        newer = execute(tmp_path / "newer", *phone)
        assert newer.passed
        text = listed()
        assert "2 entries" in text
        assert (text.count("stale"), text.count("current")) == (1, 1)
        assert len(list(root.glob("vectors/*/T0.npy"))) == 2
        assert "deleted stale" in listed("clear=stale")
        (kept,) = root.glob("vectors/*/T0.npy")
        assert not execute(tmp_path / "again", *phone).passed
    assert json.loads((kept.parent / "key.json").read_text())["versions"]["pooling"] == 99
    assert "0 entries, 0.0 MB" in listed("clear=all")
    assert list(root.glob("*/*")) == []


def test_a_job_killed_in_the_middle_leaves_nothing_that_is_believed(
    paper: Finished, common: list[str], tmp_path: Path
) -> None:
    script = """
import os, runpy, signal, sys
from analysis.consumers import UnitConsumer
ends = iter(range(10))
UnitConsumer.end = lambda self: next(ends) < 9 or os.kill(os.getpid(), signal.SIGKILL)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    line = [sys.executable, "-c", script, str(ROOT / "run.py"), *phone]
    done = subprocess.run(
        [*line, f"hydra.run.dir={tmp_path / 'killed'}"],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (entry,) = (tmp_path / "cache/vectors").iterdir()
    assert list(entry.glob(".part.*"))  # it was in the middle
    assert not list(entry.glob("*.np[yz]"))
    again = execute(tmp_path / "again", *phone)
    assert again.passed
    assert again.curve("cca_phone") == paper.curve("cca_phone")
    assert not list(entry.glob(".part.*"))  # nor does what it left stay for ever


def test_tracking_offline_leaves_a_run_beside_the_results(
    paper: Finished,
    common: list[str],
    cache: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    wandb = ["tracking=wandb", "tracking.mode=offline"]
    done = execute(tmp_path / "run", "experiment=cca_phone", *common, cache, *wandb)
    logged = offline_run(done.folder)
    printed = capsys.readouterr()
    assert str(logged.folder) in printed.out.splitlines()
    # All that a dashboard needs is in the run: configuration, code, data and rows.
    told = done.metadata
    assert logged.run.display_name == f"{told['model']['name']} cca_phone"
    assert logged.config["experiments"] == told["config"]["experiments"]
    assert logged.config["metadata"]["git_commit"] == told["git_commit"]
    assert logged.config["metadata"]["dataset"]["fingerprint"] == told["dataset"]["fingerprint"]
    assert "config" not in logged.config["metadata"]
    assert logged.rows["value"].tolist() == pytest.approx(done.rows["value"].tolist())
    assert logged.rows["layer"].tolist() == done.rows["layer"].tolist()
    assert API_KEY not in printed.out + printed.err
    assert files_with(API_KEY, tmp_path) == []
    assert files_with(told["git_commit"], done.folder)  # or the search above would find nothing


# Sweeps.


def test_parallel_jobs_of_a_sweep_over_layers_share_one_forward_pass(
    paper: Finished, common: list[str], tmp_path: Path
) -> None:
    """Two processes begin on an empty cache: one computes, the other waits for it."""
    sweep = ["layers=single", "layers.index=range(0,3)", "launcher=joblib"]
    done = command(
        *("-m", "experiment=cca_phone", *common, *sweep),
        *(f"paths.cache={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    jobs = [Finished(tmp_path / str(k)) for k in range(3)]
    assert sorted(job.passed for job in jobs) == [False, False, True]
    curves = [job.curve("cca_phone") for job in jobs]
    expected = paper.curve("cca_phone")
    assert curves == [{layer: expected[layer]} for layer in ("T0", "T1", "T2")]


def test_jobs_of_a_sweep_share_a_group_and_tell_no_key(
    common: list[str], cache: str, tmp_path: Path
) -> None:
    sweep = ["layers=single", "layers.index=0,1", f"hydra.sweep.dir={tmp_path / 'my_sweep'}"]
    done = command(
        *("-m", "experiment=cca_phone", *common, cache, *sweep),
        *("tracking=wandb", "tracking.mode=offline"),
        WANDB_API_KEY=API_KEY,
        **{f"WANDB_{name}_DIR": str(tmp_path) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")},
    )
    assert done.returncode == 0, done.stderr
    runs = [offline_run(tmp_path / "my_sweep" / job) for job in ("0", "1")]
    assert [one.run.run_group for one in runs] == ["my_sweep", "my_sweep"]
    assert [one.summary["layer"] for one in runs] == [0, 1]
    assert {one.steps["cca_phone/pwcca"] for one in runs} == {"layer"}
    assert list((tmp_path / "my_sweep").rglob("run.log"))
    assert API_KEY not in done.stdout + done.stderr
    assert files_with(API_KEY, tmp_path) == []


def test_a_failed_job_of_a_serial_sweep_is_told_and_the_others_finish(
    common: list[str], cache: str, tmp_path: Path
) -> None:
    done = command(
        *("-m", "experiment=cca_phone", *common, "layers=single", "layers.index=99,0,98"),
        *(cache, f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 1
    assert Finished(tmp_path / "1").curve("cca_phone").keys() == {"T0"}
    assert not (tmp_path / "0/results.csv").exists()
    for layer in ("T99", "T98"):  # every failure, not the first alone
        assert f"layer {layer} does not exist" in done.stdout + done.stderr


def test_slurms_launcher_runs_jobs_on_this_machine_too(
    paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    """The local executor of submitit, with those of slurm.yaml's keys that it understands."""
    overrides = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    overrides += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=4"]
    done = command(
        *("-m", "experiment=cca_phone", *common, "metric=cka", *overrides),
        *(cache, f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    job = Finished(tmp_path / "0")
    assert not job.passed
    assert set(job.rows["metric"]) == {"cka"}
    assert job.curve("cca_phone").keys() == paper.curve("cca_phone").keys()
    assert list((tmp_path / ".submitit").rglob("*_result.pkl"))  # so submitit ran it


# Errors.


def unreadable(speech: Path, folder: Path, count: int | None = None) -> list[Path]:
    """A copy of the corpus whose first files have headers, but no audio that can be decoded."""
    shutil.copytree(speech, folder)
    paths = sorted(folder.rglob("*.flac"))[:count]
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    return paths


@pytest.mark.parametrize("override", ["layers.index=99", "experiments.cca_intra.target.layer=T99"])
def test_an_unknown_layer_fails_before_weights_or_audio_are_read(
    override: str, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(model / name, folder)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/a.wav").write_bytes(b"no audio")
    (tmp_path / "audio/a.TextGrid").write_text("no alignment")
    data = ["dataset=textgrid", f"dataset.audio_root={tmp_path}/audio"]
    overrides = ["experiment=cca_intra", *DEBUG, f"model.checkpoint={folder}", *data, override]
    with pytest.raises(StrataError, match=r"T99.*T0, T1, T2, T3"):
        execute(tmp_path / "run", *overrides, "dataset.alignment_root=null")
    assert not (tmp_path / "run/results.csv").exists()


def test_one_corrupt_file_is_counted_and_the_run_goes_on(
    speech: Path, common: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bad,) = unreadable(speech, tmp_path / "speech", 1)
    overrides = [*common[:-3], *textgrids(tmp_path / "speech")]
    overrides += [f"paths.cache={tmp_path / 'cache'}", "dataset.limit=null"]
    first = execute(tmp_path / "1", "experiment=cca_mel", *overrides)
    assert first.metadata["forward_pass"]["dropped"]["utterance: audio could not be read"] == 1
    assert bad.stem in caplog.text
    assert np.isfinite(first.rows["value"]).all()
    again = execute(tmp_path / "2", "experiment=cca_mel", "metric=cka", *overrides)
    assert not again.passed
    (study,) = again.metadata["studies"]
    assert study["statistics"]["dropped"]["utterance: audio could not be read"] == 1


def test_a_file_that_is_no_audio_at_all_is_counted_too(
    speech: Path, common: list[str], tmp_path: Path
) -> None:
    shutil.copytree(speech, tmp_path / "speech")
    sorted((tmp_path / "speech").rglob("*.flac"))[0].write_bytes(b"404 not found")
    overrides = [*common[:-3], *textgrids(tmp_path / "speech"), "dataset.limit=null"]
    done = execute(tmp_path / "1", "experiment=cca_mel", *overrides, "cache=off")
    assert done.metadata["dataset"]["dropped"]["utterance: audio could not be read"] == 1


def test_a_corpus_without_any_readable_audio_is_an_error(
    speech: Path, common: list[str], tmp_path: Path
) -> None:
    unreadable(speech, tmp_path / "speech")
    overrides = [*common[:-3], *textgrids(tmp_path / "speech"), "cache=off"]
    with pytest.raises(StrataError, match="audio could not be read: 24"):
        execute(tmp_path / "run", "experiment=cca_mel", *overrides)
    assert not (tmp_path / "run/results.csv").exists()


@pytest.mark.parametrize("experiment", ["cca_word", "paper"])
def test_a_corpus_without_words_says_which_tiers_it_has(
    experiment: str, common: list[str], tmp_path: Path
) -> None:
    with pytest.raises(StrataError, match=r"no word tier.* phone"):
        execute(
            tmp_path, f"experiment={experiment}", *common, "dataset.word_tier=none", "cache=off"
        )


@pytest.mark.parametrize("experiment", ["cca_mel", "cca_phone"])
@pytest.mark.parametrize("split", ["utterance", "speaker"])
def test_folds_of_utterances_and_speakers(
    split: str, experiment: str, paper: Finished, common: list[str], cache: str, tmp_path: Path
) -> None:
    done = execute(tmp_path, f"experiment={experiment}", *common, f"split={split}", cache)
    assert set(done.rows["split"]) == {split}
    assert done.curve(experiment).keys() == paper.curve(experiment).keys()
    assert done.curve(experiment) != paper.curve(experiment)
    # Vectors of units do not depend on how folds are cut; moments by fold do.
    assert done.passed == (experiment == "cca_mel")


def test_too_few_speakers_for_the_folds(common: list[str], cache: str, tmp_path: Path) -> None:
    overrides = [*common, "split=speaker", "sampling.folds=7", cache]
    with pytest.raises(StrataError, match=r"7 folds.*6 speakers.*sampling\.folds=6.*split=frame"):
        execute(tmp_path, "experiment=cca_mel", *overrides)


def test_untrained_weights_are_said_in_one_line_and_stand_in_the_results(
    paper: Finished,
    common: list[str],
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


def test_a_device_that_is_not_there(common: list[str], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(StrataError, match=r"device=cuda.*cpu.*device=auto"):
        execute(tmp_path, "experiment=cca_phone", *common, "device=cuda", "cache=off")
