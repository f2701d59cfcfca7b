"""The models that come with Strata: whole, small, documented, better than their controls."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import ROOT, Finished, execute
from safetensors.torch import load_file

from common.config import ModelConfig
from common.encoder.encoder import load_encoder

MODELS = ("wav2vec2_tiny", "hubert_tiny")
LAST_LAYER = {"wav2vec2_tiny": "T6", "hubert_tiny": "T6", "wav2vec2_deep": "T12"}
LEFT_OUT = re.compile(r"dataset\.only_speakers=\[([^\]]*)\]")


def card(name: str) -> str:
    return (ROOT / "assets" / name / "README.md").read_text(encoding="utf-8")


def left_out(name: str) -> list[str]:
    """The speakers that the card says were left out of the training."""
    return re.findall(r"\d{4}", LEFT_OUT.search(card(name))[1])  # type: ignore[index]


@pytest.mark.parametrize("name", LAST_LAYER)
def test_weights_are_half_precision_finite_and_small(name: str) -> None:
    folder = ROOT / "assets" / name
    most = 8_000_000 if name in MODELS else 16_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) <= most
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("name", LAST_LAYER)
def test_a_card_says_where_the_weights_come_from(name: str) -> None:
    text = card(name)
    for wanted in ("CC BY 4.0", "speechocean762", "espeak-ng", "experiment=pretrain", "| layer |"):
        assert wanted in text, wanted
    assert len(left_out(name)) == 10


@pytest.mark.parametrize("name", LAST_LAYER)
def test_a_model_is_loaded_with_its_weights(name: str) -> None:
    encoder = load_encoder(ModelConfig(name=name, checkpoint=f"assets/{name}"), "cpu")
    assert encoder.revision.startswith("sha256:")
    assert [layer.name for layer in encoder.layers][-1] == LAST_LAYER[name]


def curves(run: Finished, experiment: str) -> pd.DataFrame:
    """Mean and deviation of every layer and control."""
    rows = run.rows[(run.rows["experiment"] == experiment) & run.rows["primary"]]
    return rows.groupby(["control", "layer"])["value"].agg(["mean", "std"])


def check_it_beats_its_controls(run: Finished, experiment: str) -> None:
    found = curves(run, experiment)
    best = found.loc[""].nlargest(1, "mean").iloc[0]
    for control in ("random_weights", "mel"):
        held_against = found.loc[control].nlargest(1, "mean").iloc[0]
        spread = max(best["std"], held_against["std"])
        assert best["mean"] - held_against["mean"] > spread, (experiment, control, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_classifies_phones_and_words_of_unseen_speakers(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    """Real speech; the figures of the card come from more of it."""
    folder = shared_data / "speechocean762"
    for speaker in left_out(name):
        (tmp_path / "audio" / speaker).mkdir(parents=True)
        for file in sorted((folder / "audio" / speaker).glob("*.flac"))[:14]:
            (tmp_path / "audio" / speaker / file.name).symlink_to(file)
    run = execute(
        tmp_path / "run",
        *("experiment=paper", "~experiments.cca_mel", "~experiments.cca_intra", f"model={name}"),
        *("dataset=textgrid", f"dataset.audio_root={tmp_path / 'audio'}", "controls=true"),
        f"dataset.alignment_root={folder / 'alignments'}",
        *("layers.indices=[T3]", "sampling.samples=1", "sampling.instances=30", "cache=off"),
    )
    assert set(run.rows["split"]) == {"speaker"}
    for experiment in ("cca_phone", "cca_word"):
        check_it_beats_its_controls(run, experiment)
