import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from finetune_speech import blueprint_of, prepared
from models import one_thread, save
from running import Finished, execute, resolved
from safetensors.torch import load_file
from wandb_files import API_KEY, files_with, offline_run

from common.records import StrataError
from finetune.curves import read_curves
from finetune.pretrain.experiment import units_of

SMALL = [
    *("experiment=pretrain", "debug=default", "dataset.minutes=0.6", "dataset.speakers=4"),
    *("pretrain.batch_seconds=2", "pretrain.crop_seconds=1", "pretrain.units=8"),
    *("pretrain.steps=8", "pretrain.valid_every=4", "pretrain.warmup_steps=2", "model=hf"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    root = tmp_path_factory.mktemp("models")
    return {
        name: [f"model.checkpoint={save(name, root / name)}", f"model.name={name}"]
        for name in ("wav2vec2_base", "hubert_base", "wav2vec2_lv60")
    }


def pretrain(folder: Path, *overrides: str) -> Finished:
    with one_thread():
        return execute(folder, *SMALL, *overrides)


@pytest.fixture(scope="module")
def trained(
    models: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Finished]:
    """A training by each objective, not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    return {
        name: pretrain(root / name, *models[name], "pretrain.snapshots=[0.5,1]")
        for name in ("wav2vec2_base", "hubert_base")
    }


@pytest.mark.parametrize("name", ["wav2vec2_base", "hubert_base"])
def test_a_model_is_trained_and_exported(name: str, trained: dict[str, Finished]) -> None:
    done = trained[name]
    weights = load_file(done.folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not (done.folder / "speech").exists()
    assert done.metadata["data"]["main"]["utterances"] > 4
    curves = read_curves(done.folder)
    assert {"train/loss", "valid/loss", "valid/accuracy", "valid/acoustic"} <= set(curves)
    assert np.isfinite(curves["valid/loss"].dropna()).all()


@pytest.mark.slow
def test_a_model_is_analysed_as_it_grew(
    models: dict[str, list[str]], trained: dict[str, Finished], tmp_path: Path
) -> None:
    name = "wav2vec2_base"
    with one_thread():
        growth = execute(
            tmp_path / "growth",
            *("experiment=growth", "debug=default", "dataset.minutes=0.6", "dataset.speakers=4"),
            *(
                "model=hf",
                *models[name],
                f"snapshots={trained[name].folder / 'snapshots'}",
                "cache=off",
            ),
            *("layers.indices=[T0,T3]", "sampling.utterances=8", "sampling.min_instances=2"),
            pictures=True,
        )
    rows = pd.read_csv(growth.folder / "growth.csv")
    assert sorted(rows["step"].unique()) == [0, 4, 8]
    assert set(rows["layer"]) == {"T0", "T3", "mel"}
    scores = rows[rows["control"].isna()]
    assert scores.groupby("step")["revision"].nunique().tolist() == [1, 1, 1]
    assert scores["revision"].nunique() == 3
    assert (growth.folder / "growth.png").stat().st_size > 10_000


@pytest.mark.slow
def test_units_of_a_trained_models_layer(
    models: dict[str, list[str]],
    trained: dict[str, Finished],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = trained["hubert_base"]
    teacher = [f"pretrain.teacher={first.folder / 'model'}", "pretrain.teacher_layer=T2"]
    second = pretrain(tmp_path / "second", *models["hubert_base"], *teacher)
    printed = capsys.readouterr().out
    for wanted in ("validation", "loss", "curves.png", "model"):
        assert wanted in printed
    one, other = (load_file(r.folder / "model" / "model.safetensors") for r in (first, second))
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_units_are_kept_for_what_they_were_made_from(
    models: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other speech, another number of clusters, a damaged file: they are made anew."""
    blueprint = blueprint_of("hubert_base", tmp_path)
    speech = prepared(blueprint, tmp_path)
    config = resolved(*SMALL, *models["hubert_base"])
    first = units_of(config, speech, tmp_path)
    kept = tmp_path / "units.npz"
    before = kept.stat().st_mtime_ns
    assert np.array_equal(units_of(config, speech, tmp_path), first)
    assert kept.stat().st_mtime_ns == before
    kept.write_bytes(kept.read_bytes()[:-100])
    assert np.array_equal(units_of(config, speech, tmp_path), first)
    assert "units.npz is damaged" in caplog.text
    for changed in (
        replace(config, pretrain=replace(config.pretrain, units=5)),
        replace(config, seed=1),
    ):
        assert not np.array_equal(units_of(changed, speech, tmp_path), first)


@pytest.mark.slow
def test_training_goes_on_from_a_models_weights_and_from_no_others(
    models: dict[str, list[str]], trained: dict[str, Finished], tmp_path: Path
) -> None:
    for name, first in trained.items():
        again = [f"pretrain.start={first.folder / 'model'}", "pretrain.learning_rate=1e-9"]
        second = pretrain(tmp_path / name, *models[name], *again)
        one, other = (load_file(r.folder / "model" / "model.safetensors") for r in (first, second))
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert torch.allclose(tensor, other[key], atol=1e-3), key
    start = f"pretrain.start={trained['hubert_base'].folder / 'model'}"
    with pytest.raises(StrataError, match=r"pretrain\.start=.*are not those of"):
        pretrain(tmp_path / "other", *models["wav2vec2_lv60"], start)


def test_what_a_teacher_lacks_is_told_before_any_audio_is_read(
    models: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.datasets.base import Dataset

    monkeypatch.setattr(Dataset, "read", lambda _: pytest.fail("audio was read"))
    checkpoint = models["hubert_base"][0].split("=")[1]
    for layer, message in (("T9", "the teacher has C1"), ("C3", "has a frame every")):
        with pytest.raises(StrataError, match=message):
            pretrain(
                tmp_path,
                *models["hubert_base"],
                *(f"pretrain.teacher={checkpoint}", f"pretrain.teacher_layer={layer}"),
            )


@pytest.mark.slow
def test_a_mix_leaves_speakers_out_everywhere_and_counts_them(
    models: dict[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mix = [
        *("+dataset@pretrain.mix.more=synthetic", "pretrain.mix.more.minutes=0.6"),
        *("pretrain.mix.more.seed=1", "+pretrain.weights.more=3"),
    ]
    with caplog.at_level(logging.INFO):
        done = pretrain(
            tmp_path / "run", *models["hubert_base"], *mix, "pretrain.without_speakers=[s0001]"
        )
    for name in ("main", "more"):
        data = done.metadata["data"][name]
        assert data["dropped"]["utterance: of a left-out speaker"] >= 1
    assert "more: synthetic (all)" in caplog.text
    with pytest.raises(StrataError, match="nobody, whom no dataset has"):
        pretrain(tmp_path / "no", *models["hubert_base"], "pretrain.without_speakers=[nobody]")


def test_more_units_than_frames_allow_is_told(models: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"pretrain.units=5000: \d+ frames are too few"):
        pretrain(tmp_path, *models["hubert_base"], "pretrain.units=5000")


def test_a_folder_without_snapshots_is_told(models: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(StrataError, match=r"no folder step_.*it holds: model"):
        execute(tmp_path, "experiment=growth", f"snapshots={tmp_path}", "debug=default")


@pytest.mark.slow
def test_curves_go_to_wandb(
    models: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    done = pretrain(tmp_path, *models["hubert_base"], "tracking=wandb", "tracking.mode=offline")
    logged = offline_run(done.folder)
    printed = capsys.readouterr()
    assert API_KEY not in printed.out + printed.err
    assert files_with(API_KEY, done.folder) == []
    metadata = json.loads((done.folder / "metadata.json").read_text())
    assert metadata["config"]["name"] == "pretrain"
    assert logged.config["pretrain"] == metadata["config"]["pretrain"]
    for key in ("data", "git_commit", "versions"):
        assert logged.config["metadata"][key] == metadata[key]
    assert all(corpus["fingerprint"] for corpus in metadata["data"].values())
    assert any(name.startswith("train/") for name in logged.summary), sorted(logged.summary)
