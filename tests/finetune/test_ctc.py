"""CTC: its loss, what trains when, and whole runs."""

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from models import configured, noise, one_thread, save
from running import Finished, command, execute
from safetensors.torch import load_file
from test_reinit import recipe
from transformers import Wav2Vec2ForCTC, pipeline
from wandb_files import API_KEY, files_with, offline_run

from common.encoder.architecture import read_blueprint
from common.records import StrataError
from finetune.ctc import recogniser
from finetune.ctc.batches import Clips, Updates, plan_epoch
from finetune.ctc.module import Recogniser
from finetune.ctc.recordings import Recordings
from finetune.ctc.scoring import count_errors
from finetune.ctc.text import Vocabulary
from finetune.schedule import tri_stage

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

SMALL = [
    *("experiment=ctc", "debug=default", "dataset.minutes=0.8", "dataset.speakers=5", "model=hf"),
    *("finetune.mask_feature_length=4", "finetune.batch_seconds=30", "finetune.updates=6"),
    *("finetune.valid_every=3", "finetune.valid.speaker_share=0.2"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in ("wav2vec2_base", "wav2vec2_lv60")}


def finetune(folder: Path, model: Path, *overrides: str) -> Finished:
    with one_thread():
        return execute(folder, *SMALL, f"model.checkpoint={model}", *overrides)


def clips(folder: Path, vocabulary: Vocabulary, texts: list[str], feature_extractor: Any) -> Clips:
    lengths = [16_000 - 900 * k for k in range(len(texts))]
    pcm = np.concatenate([noise(n, k) for k, n in enumerate(lengths)]) * 2**15
    path = folder / "pcm"
    path.write_bytes(pcm.astype(np.int16).tobytes())
    spelt = tuple(tuple(vocabulary.encode(text)) for text in texts)
    return Clips(Recordings(path, tuple(lengths)), spelt, feature_extractor)


def module_of(model: Path, texts: list[str], **keys: Any) -> tuple[Recogniser, Any, Vocabulary]:
    blueprint = read_blueprint(configured(model))
    vocabulary = Vocabulary.of_text(texts)
    settings = recipe(**keys)
    loaded, _ = recogniser.load(settings, vocabulary, configured(model), blueprint, True)
    fresh = [loaded.base_model.encoder.layers[2]]
    return (
        Recogniser(loaded, fresh, blueprint, vocabulary, settings, texts, 0),
        blueprint,
        vocabulary,
    )


def over_alignments(log_p: np.ndarray, target: list[int], blank: int) -> float:
    """Negative log of the summed probability of every path (T,) that collapses to the target."""
    t, v = log_p.shape
    total = -np.inf
    for path in itertools.product(range(v), repeat=t):
        collapsed = [n for n, _ in itertools.groupby(path) if n != blank]
        if collapsed == target:
            total = np.logaddexp(total, sum(log_p[k, n] for k, n in enumerate(path)))
    return -total


def test_the_loss_of_a_padded_batch_is_a_sum_over_alignments(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Six and four frames; three tokens matter, the rest get no probability."""
    texts = ["AAA", "A"]
    module, blueprint, vocabulary = module_of(models["wav2vec2_lv60"], texts)
    speech = clips(tmp_path, vocabulary, texts, blueprint.feature_extractor)
    speech = replace(speech, recordings=replace(speech.recordings, lengths=(2000, 1400)))
    batch = speech.batch([0, 1], [1.0, 1.0])
    assert batch.mask is not None
    module.eval()
    with torch.inference_mode():
        losses, log_p, frames = module.losses(batch)
    assert frames.tolist() == [6, 4]
    keep = [vocabulary.blank, *vocabulary.encode("A")]  # other paths cannot collapse to "A…"
    for k, text in enumerate(texts):
        own_frames = log_p[k, : frames[k], keep].double().numpy()
        expected = over_alignments(own_frames, [1] * len(text), 0)
        assert losses[k].item() == pytest.approx(expected, abs=1e-4)
        alone = speech.batch([k], [1.0])
        with torch.inference_mode():
            assert module.losses(alone)[0].item() == pytest.approx(losses[k].item(), abs=1e-3)
    with torch.inference_mode():  # three frames are too few for A, blank, A, blank, A
        short = replace(batch, samples=torch.tensor([1100, 1400]))
        assert module.losses(short)[0][0] == 0


def test_re_initialised_blocks_train_while_the_rest_stands_still(models: dict[str, Path]) -> None:
    module, _, _ = module_of(models["wav2vec2_base"], ["A"], freeze_updates=1)
    module._trainer = type("T", (), {"global_step": 0})()  # type: ignore[assignment]
    steps = {}
    for step in (0, 1):
        module._trainer.global_step = step  # type: ignore[union-attr]
        module.on_train_batch_start()
        steps[step] = {n for n, p in module.model.named_parameters() if p.requires_grad}
    block = {n for n, _ in module.model.named_parameters() if "encoder.layers.2." in n}
    head = {"lm_head.weight", "lm_head.bias"}
    assert steps[0] == block | head
    convolutions = {n for n, _ in module.model.named_parameters() if "feature_extractor" in n}
    assert steps[1] == {n for n, _ in module.model.named_parameters()} - convolutions


def test_an_update_weighs_its_characters_alike_however_it_is_cut(
    models: dict[str, Path], tmp_path: Path
) -> None:
    texts = ["AB", "A", "BBA", "B A B", "AB"]
    module, blueprint, vocabulary = module_of(models["wav2vec2_lv60"], texts)
    speech = clips(tmp_path, vocabulary, texts, blueprint.feature_extractor)
    module.eval()
    totals = []
    for accumulate in (1, 2, 4, 7):
        cut = recipe(accumulate=accumulate)
        updates = Updates(speech, tuple(range(5)), cut, 0, 0, 1)
        batches = updates.parts(*next(updates._updates()))
        assert len(batches) == accumulate
        with torch.inference_mode():
            means = [float((module.losses(b)[0] * b.weights).sum()) for b in batches]
        totals.append(np.mean(means))
    assert totals == pytest.approx([totals[0]] * 4, rel=1e-5)


def test_batches_hold_similar_lengths_and_an_epoch_everything_once() -> None:
    lengths = np.random.default_rng(0).integers(8_000, 160_000, 300)
    plans = [plan_epoch(lengths, range(300), 480_000, 0, epoch) for epoch in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    for plan in plans:
        assert sorted(itertools.chain(*plan)) == list(range(300))
        padded = [len(b) * lengths[b].max() for b in plan]
        assert max(padded) <= 480_000
        assert lengths.sum() / sum(padded) > 0.9


def test_the_rate_has_three_stages() -> None:
    rates = [tri_stage(s, 100, [0.1, 0.4, 0.5], 0.05) for s in (0, 5, 10, 49, 50, 75, 100, 200)]
    expected = [0.01, 0.505, 1, 1, 1, 0.05**0.5, 0.05, 0.05]
    assert rates == pytest.approx(expected)


PITCH = {"A": 250, "B": 900, "C": 2500, " ": 0}  # Hz


def sung(text: str) -> np.ndarray:
    """A tone of 0.12 s for each character."""
    time = np.arange(1920) / 16_000
    return np.concatenate([0.3 * np.sin(2 * np.pi * PITCH[c] * time) for c in text])


def test_the_map_to_characters_has_a_rate_of_its_own(models: dict[str, Path]) -> None:
    keys = {"learning_rate": 3e-4, "head_factor": 20}
    module, _, _ = module_of(models["wav2vec2_base"], ["SO IT GOES"], **keys)
    encoder, head = module.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for p in head["params"]} == {id(p) for p in module.model.lm_head.parameters()}
    assert (encoder["initial_lr"], head["initial_lr"]) == pytest.approx((3e-4, 6e-3))
    assert len(encoder["params"]) + 2 == sum(p.requires_grad for p in module.parameters())


@pytest.mark.slow
def test_ten_utterances_are_learnt_by_heart(models: dict[str, Path], tmp_path: Path) -> None:
    texts = ["A B", "BA", "ABBA", "B", "AB A", "C A B", "CAB", "BAC", "C", "A C"]
    module, blueprint, vocabulary = module_of(
        models["wav2vec2_lv60"], texts, learning_rate=1e-2, updates=200, activation_dropout=0.0
    )
    audio = [sung(text) for text in texts]
    (tmp_path / "pcm").write_bytes(np.int16(2**15 * np.concatenate(audio)).tobytes())
    spelt = tuple(tuple(vocabulary.encode(text)) for text in texts)
    recordings = Recordings(tmp_path / "pcm", tuple(map(len, audio)))
    speech = Clips(recordings, spelt, blueprint.feature_extractor)
    batch = speech.batch(range(10), [1 / sum(map(len, texts))] * 10)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    module.train()
    with one_thread():
        for _ in range(200):
            optimizer.zero_grad()
            (module.losses(batch)[0] * batch.weights).sum().backward()
            optimizer.step()
            schedule.step()
    module.eval()
    with torch.inference_mode():
        _, log_p, frames = module.losses(batch)
    found = [vocabulary.decode(p[:n].argmax(-1).tolist()) for p, n in zip(log_p, frames)]  # noqa: B905
    assert sum(count_errors(*pair)[0] for pair in zip(texts, found, strict=True)) == 0, found


def assert_tracked(done: Finished) -> None:
    """The run that W&B would be sent holds what the folder does."""
    logged, wer = offline_run(done.folder), done.rows.set_index("metric")["value"]["wer"]
    assert logged.run.display_name.endswith("ctc reinit_top=2 seed=0")
    assert (logged.summary["reinit_top"], logged.steps["test/wer"]) == (2, "reinit_top")
    assert logged.summary["test/wer"] == pytest.approx(wer)
    metadata = logged.config["metadata"]
    assert metadata["git_commit"] == done.metadata["git_commit"]
    for part in ("train", "valid", "test"):
        assert metadata["data"][part]["corpus"] == done.metadata["data"][part]["corpus"]
    assert metadata["data"]["train"]["corpus"]["fingerprint"]
    assert logged.config["finetune"]["reinit_top"] == 2
    assert logged.rows["value"].tolist() == pytest.approx(done.rows["value"].tolist())


def test_a_run_writes_a_recogniser_that_transformers_reads(
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    done = finetune(
        tmp_path,
        models["wav2vec2_base"],
        "finetune.reinit_top=2",
        "finetune.accumulate=2",
        "finetune.freeze_updates=6",
        "finetune.gradient_checkpointing=true",
        "tracking=wandb",
        "tracking.mode=offline",
    )
    printed = capsys.readouterr().out
    for wanted in ("wer", "hypotheses.csv", "results.csv", "curves.png", "model"):
        assert wanted in printed
    rows = done.rows.set_index("metric")
    assert set(rows.index) == {"wer", "cer"}
    assert set(rows["experiment"]) == {"ctc"}
    assert rows["low"]["wer"] <= rows["value"]["wer"] <= rows["high"]["wer"]
    assert rows["layer"].tolist() == ["", ""]
    reinit = done.metadata["reinit"]
    assert reinit["layers"] == ["T2", "T3"]
    assert done.metadata["config"]["finetune"]["reinit_top"] == 2
    table = pd.read_csv(done.folder / "hypotheses.csv", keep_default_na=False)
    assert table["word_errors"].sum() / table["words"].sum() == pytest.approx(rows["value"]["wer"])
    assert_tracked(done)
    assert API_KEY not in printed
    assert files_with(API_KEY, tmp_path) == []
    # Updates without the encoder: only the fresh blocks and the head moved.
    before = load_file(models["wav2vec2_base"] / "model.safetensors")
    after = load_file(done.folder / "model" / "model.safetensors")
    moved = {n for n, t in before.items() if not torch.equal(t, after[f"wav2vec2.{n}"])}
    assert moved == {n.removeprefix("wav2vec2.") for n in reinit["tensors"]}
    model = Wav2Vec2ForCTC.from_pretrained(done.folder / "model")
    assert model.config.vocab_size == len(done.metadata["characters"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own pipeline
        recognise = pipeline("automatic-speech-recognition", model=str(done.folder / "model"))
        assert isinstance(recognise(noise(16_000))["text"], str)


def test_too_many_blocks_are_told_before_weights_or_audio_are_read(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.datasets.base import Dataset

    monkeypatch.setattr(Dataset, "read", lambda _: pytest.fail("audio was listed"))
    monkeypatch.setattr(recogniser, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(StrataError, match=r"finetune\.reinit_top=13: .* has 3 transformer blocks"):
        finetune(tmp_path, models["wav2vec2_base"], "finetune.reinit_top=13")
    with pytest.raises(StrataError, match=r"mask_feature_length=64: .* has 32 channels"):
        finetune(tmp_path, models["wav2vec2_base"], "finetune.mask_feature_length=64")


@pytest.mark.slow
def test_layers_are_scored_before_and_after_and_against_each_other(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """The encoder is frozen but for the blocks that are drawn anew: those alone may differ."""
    done = command(
        "-m",
        "experiment=ctc_then_analyse",
        *SMALL[1:],
        "finetune.reinit_top=0,2",
        "finetune.freeze_updates=99",
        f"model.checkpoint={models['wav2vec2_base']}",
        "cache=off",
        "layers.indices=[C7,T0,T1,T2,T3]",
        "experiments.cca_inter.parts=[cnn,transformer]",
        "sampling.utterances=8",
        "~experiments.cca_intra",
        "~experiments.cca_phone",
        "~experiments.cca_word",
        "finetune.updates=2",
        "finetune.valid_every=2",
        f"hydra.sweep.dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    for job, changed in (("0", set()), ("1", {"T2", "T3"})):
        before, after = (Finished(tmp_path / job / name) for name in ("before", "after"))
        assert set(after.rows["model"]) == {"hf_ctc"}
        assert before.rows["revision"].iloc[0] != after.rows["revision"].iloc[0]
        assert set(before.metadata["left_out"]) == {"cca_inter"}
        assert after.metadata["left_out"] == {}
        compared = after.rows[after.rows["experiment"] == "cca_inter"]
        targets = {name.split(":")[1] for name in compared["target"] if name.startswith("hf@")}
        assert targets == {"C7", "T0", "T1", "T2", "T3"}
        alike = {layer: value > 1 - 1e-6 for layer, value in after.curve("cca_inter").items()}
        assert {layer for layer, same in alike.items() if not same} == changed, (job, alike)
        one, other = before.curve("cca_mel"), after.curve("cca_mel")
        assert {layer for layer in one if abs(one[layer] - other[layer]) > 1e-9} == changed
        config = after.metadata["config"]
        assert config["model"]["checkpoint"] == str(tmp_path / job / "ctc" / "model")
        assert config["other"] == before.metadata["config"]["model"]
