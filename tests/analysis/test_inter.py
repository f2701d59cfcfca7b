"""Two models side by side: planted answers, an oracle, one pass, and what cannot be paired."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import models
import numpy as np
import pytest
import reference
import torch
import transformers as hf
from marks import slow
from numpy.typing import NDArray
from PIL import Image
from running import Finished, composed, execute, textgrids, write_corpus
from safetensors.torch import load_file, save_file

from analysis.plots import colour_limits
from analysis.studies.second_model import find_other
from common.config import resolve
from common.encoder.encoder import load_encoder
from common.encoder.pair import EncoderPair
from common.records import StrataError
from common.seeding import hashed_folds

Array = NDArray[np.float64]
LAYERS = ["T0", "T1", "T2", "T3"]
RIDGES = (1e-10, 1e-10)
SPEAKERS = 24
BY_SPEAKER = ("split=speaker", "sampling.folds=5", "sampling.trials=null")


@pytest.fixture(scope="module")
def common(cache: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that every run here shares; one cache for all of them."""
    folder = tmp_path_factory.mktemp("speech")
    write_corpus(folder, minutes=1.2, speakers=SPEAKERS)
    return [
        *("experiment=cca_inter", "debug=default", "dataset.limit=null", "sampling.utterances=99"),
        *(*textgrids(folder), cache, "split=frame"),
    ]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of one architecture, one of the first with its last layer scaled, a slower one."""
    root = tmp_path_factory.mktemp("models")
    folders = {name: models.save("wav2vec2_base", root / name, k) for k, name in enumerate("ab")}
    folders["scaled"] = models.save("wav2vec2_base", root / "scaled", 0)
    weights = load_file(folders["scaled"] / "model.safetensors")
    rng = torch.Generator().manual_seed(0)
    for side in ("weight", "bias"):
        name = f"encoder.layers.2.final_layer_norm.{side}"
        scale = torch.rand(len(weights[name]), generator=rng) + 0.5
        weights[name] = weights[name] * scale * (3 if side == "weight" else 1)
    save_file(weights, folders["scaled"] / "model.safetensors", {"format": "pt"})
    folders["slow"] = save_slow(root / "slow")
    return folders


def save_slow(folder: Path) -> Path:
    """A model with a frame every 40 ms."""
    config = hf.Wav2Vec2Config(**models.FAMILY, conv_stride=(5, 2, 2, 2, 2, 2, 4))
    hf.AutoModel.from_config(config).save_pretrained(folder)
    models.raw(True, False)().save_pretrained(folder)
    return folder


def pair(saved: dict[str, Path], first: str, second: str) -> list[str]:
    chosen = ["model=hf", f"model.name={first}", f"model.checkpoint={saved[first]}"]
    other = ["model@other=hf", f"other.name={second}", f"other.checkpoint={saved[second]}"]
    return chosen + other


def matrix(run: Finished) -> dict[tuple[str, str], float]:
    means = run.rows.groupby(["layer", "target"])["value"].mean()
    return {(layer, target.split(":")[1]): v for (layer, target), v in means.items()}


@pytest.fixture(scope="module")
def same(common: list[str], saved: dict[str, Path], tmp_path_factory) -> Finished:
    return execute(tmp_path_factory.mktemp("same"), *common, *pair(saved, "a", "b"))


@pytest.fixture(scope="module")
def every(common: list[str], saved: dict[str, Path], tmp_path_factory) -> Finished:
    more = ["target.pairs=all", "sampling.frames=1000000"]
    run = [*common, *pair(saved, "a", "b"), *more]
    return execute(tmp_path_factory.mktemp("every"), *run, pictures=True)


def frames(common: list[str], overrides: list[str], layer: str) -> tuple[Array, Array, Array]:
    """A layer's frames of both models held in memory, and each frame's fold."""
    config = resolve(composed((*common, *overrides)))
    encoders = [load_encoder(config.model), load_encoder(config.other)]
    corpus = config.dataset.read()
    views: tuple[list[Array], list[Array]] = ([], [])
    folds = []
    for utterance in corpus.utterances:
        for encoder, view in zip(encoders, views, strict=True):
            keep = partial(lambda v, _, h, __: v.append(h[0].double().numpy()), view)
            encoder.run([utterance.read()], keep, [layer])
        folds.append(hashed_folds(config.seed, utterance.id, len(views[0][-1]), 3))
    return np.concatenate(views[0]), np.concatenate(views[1]), np.concatenate(folds)


def test_frames_held_in_memory_give_the_same_score(
    common: list[str], saved: dict[str, Path], same: Finished
) -> None:
    x, y, fold = frames(common, pair(saved, "a", "b"), "T2")
    rows = same.rows[same.rows["layer"] == "T2"]
    assert rows["n"].tolist() == [len(x)]
    expected = reference.score("pwcca", x, y, fold, 0, RIDGES)
    assert rows["value"].iloc[0] == pytest.approx(expected, abs=1e-6)


def test_each_utterance_is_read_once_and_both_models_are_named(same: Finished) -> None:
    (study,) = same.metadata["studies"]
    assert same.metadata["forward_pass"]["utterances"] == sum(study["utterances_per_sample"])
    short = study["other_model"]["revision"].removeprefix("sha256:")[:8]
    assert len(set(same.rows["target"])) == len(LAYERS)
    assert (same.rows["target"] == f"b@{short}:" + same.rows["layer"]).all()
    assert set(same.rows["weighted"]) == {"layer"}
    assert set(same.rows["model"]) == {"a"}
    assert study["other_model"]["revision"] != same.rows["revision"].iloc[0]


def test_a_target_tells_models_of_one_name_apart(common: list[str], saved: dict[str, Path]) -> None:
    config = resolve(composed((*common, *pair(saved, "a", "b"))))
    other = find_other(config)
    revisions = (other.revision, "9f" * 20, "9e" * 20, "random:1:ab", "random:10:ab", "random:1:cd")
    labels = [replace(other, revision=one).label(other.layers[-1]) for one in revisions]
    assert len(set(labels)) == len(revisions)
    assert labels[1] == f"b@9f9f9f9f:{LAYERS[-1]}"
    assert labels[3] == f"b@random:1:ab:{LAYERS[-1]}"
    assert {label.rpartition(":")[2] for label in labels} == {LAYERS[-1]}


def test_kept_frames_of_every_pair_agree_with_moments_of_the_same_layer(
    same: Finished, every: Finished
) -> None:
    pairs = matrix(every)
    assert len(pairs) == 16
    assert {x: pairs[x, x] for x in LAYERS} == pytest.approx(same.curve("cca_inter"), abs=1e-6)


@pytest.mark.parametrize("second", [slow("a"), "scaled"])
def test_a_model_is_fully_like_itself_and_like_itself_scaled(
    second: str,
    common: list[str],
    saved: dict[str, Path],
    same: Finished,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = execute(tmp_path, *common, *pair(saved, "a", second))
    assert run.passed  # the cache holds the first model with another one
    assert run.curve("cca_inter") == pytest.approx(dict.fromkeys(LAYERS, 1.0), abs=1e-6)
    assert ("are the same model" in caplog.text) == (second == "a")


def test_two_independent_models_are_less_alike(same: Finished) -> None:
    assert all(value < 0.9 for value in same.curve("cca_inter").values())


@pytest.mark.slow
def test_either_model_may_come_first(
    common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    """Of pwcca the weighted view is the first on a tie; the plain mean has no first view."""
    more = ["target.pairs=all", "sampling.frames=1000000", "metric=mean_cca"]
    there = execute(tmp_path / "there", *common, *pair(saved, "a", "b"), *more)
    back = execute(tmp_path / "back", *common, *pair(saved, "b", "a"), *more)
    assert {(y, x): v for (x, y), v in matrix(back).items()} == pytest.approx(
        matrix(there), abs=1e-6
    )


def test_the_cache_holds_a_pair_of_models(
    common: list[str], saved: dict[str, Path], same: Finished, every: Finished, tmp_path: Path
) -> None:
    again = execute(tmp_path / "again", *common, *pair(saved, "a", "b"), "metric=cka")
    assert same.passed
    assert not again.passed
    more = ["target.pairs=all", "sampling.frames=1000000"]
    kept = execute(tmp_path / "kept", *common, *pair(saved, "a", "b"), *more, "layers.index=2")
    assert not kept.passed
    assert matrix(kept) == {k: v for k, v in matrix(every).items() if k[0] == "T2"}


@pytest.mark.slow
def test_kept_frames_have_intervals_over_speakers(
    every: Finished, common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    assert every.rows["low"].isna().all()
    assert "split=frame" in every.metadata["no_intervals"]["cca_inter"]
    one = (*common, *pair(saved, "a", "b"), *BY_SPEAKER, "layers.index=1")
    more = ["target.pairs=all", "sampling.frames=1000000"]
    for name, pairs in (("kept", more), ("moments", [])):
        rows = execute(tmp_path / name, *one, *pairs).rows
        assert (rows["low"] <= rows["high"]).all()
        assert (rows["high"] - rows["low"]).between(0.001, 0.3).all()
    phones = execute(tmp_path / "phones", *one, "experiments.cca_inter.unit=phone")
    assert phones.rows["low"].notna().all()
    assert set(phones.rows["unit"]) == {"phone"}


def test_every_pair_is_drawn_and_printed(every: Finished, capsys: pytest.CaptureFixture) -> None:
    with Image.open(every.folder / "inter.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 400
    svg = (every.folder / "inter.svg").read_text()
    for value in matrix(every).values():
        assert f"{value:.2f}" in svg
    assert not (every.folder / "layers.png").exists()


@pytest.mark.parametrize(
    ("values", "limits"),
    [([0.2, 0.7], (0.2, 0.7)), ([0.31, 0.33], (0.27, 0.37)), ([0.99, 1.0], (0.9, 1.0))],
)
def test_colours_never_make_a_finding_of_noise(
    values: list[float], limits: tuple[float, float]
) -> None:
    assert colour_limits(np.array(values)) == pytest.approx(limits)


@pytest.mark.slow
def test_the_table_of_pairs_names_both_models(
    common: list[str], saved: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ["target.pairs=all", "sampling.frames=1000000", "layers.indices=[T1,T3]"]
    run = execute(tmp_path, *common, *pair(saved, "a", "b"), *more, *BY_SPEAKER)
    lines = capsys.readouterr().out.splitlines()
    assert "against b@" in " ".join(" ".join(lines[:3]).split())
    (row,) = (line for line in lines if line.startswith("│ T3"))
    for layer in LAYERS:
        assert f"{matrix(run)['T3', layer]:.3f}" in row
    assert row.count("*") == 1
    assert any("95 % interval" in line for line in lines)


def test_frames_of_two_rates_are_refused_before_the_pass(
    common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    both = pair(saved, "a", "slow")
    with pytest.raises(StrataError, match=r"a has a frame of T0 every 20 ms, slow .* every 40 ms"):
        execute(tmp_path, *common, *both)
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.slow
def test_phones_of_two_rates_are_compared(
    common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    both = pair(saved, "a", "slow")
    run = execute(tmp_path, *common, *both, "experiments.cca_inter.unit=phone")
    assert run.curve("cca_inter").keys() == set(LAYERS)


def test_an_other_model_that_is_not_there_is_named(
    common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    both = [*pair(saved, "a", "b")[:-1], f"other.checkpoint={tmp_path}/absent"]
    with pytest.raises(StrataError, match=r"second model .* no such folder"):
        execute(tmp_path, *common, *both)


@pytest.mark.slow
def test_random_weights_are_a_control_of_the_first_model(
    common: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    more = ["controls=true", "layers.index=3"]
    run = execute(tmp_path, *common, *pair(saved, "a", "scaled"), *more)
    levels = run.rows.groupby("control")["value"].mean()
    assert levels[""] == pytest.approx(1, abs=1e-6)
    assert levels["random_weights"] < 0.9
    assert set(run.metadata["controls"]["without"]["cca_inter"]) == {"mel", "shuffled_labels"}


def test_a_batch_suits_both_models(saved: dict[str, Path]) -> None:
    """One takes two seconds at most and takes any lengths together, the other only equal ones."""
    first = load_encoder(models.configured(saved["a"], batch_size=3))
    second = load_encoder(models.configured(saved["b"], batch_size=2))
    lengths = [8000, 9000, 8000, 8000, 9000]
    both = EncoderPair(first, second)
    assert sorted(map(sorted, both.batches(lengths))) == [[0, 2], [1, 4], [3]]
    emitted: list[str] = []
    both.run(
        [models.noise(8000)] * 2,
        lambda layer, frames, _: emitted.append(f"{layer.name} {len(frames)}"),
        {"T1", "other-T1", "other-T3"},
    )
    assert emitted == ["T1 2", "other-T1 2", "other-T3 2"]
