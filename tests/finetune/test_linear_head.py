"""Encoders without a CTC model in transformers: a linear head, and how it is kept and read."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from models import WHISPER, configured, noise, one_thread
from safetensors.torch import load_file
from test_ctc import finetune, sung
from test_reinit import recipe

from common.encoder.architecture import read_blueprint
from common.encoder.encoder import load_encoder
from common.records import StrataError
from common.windows import CUT
from finetune.ctc import recogniser
from finetune.ctc.recogniser import check_recipe
from finetune.ctc.text import Vocabulary, read_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

SECONDS = 4  # that this Whisper takes; two of the utterances are longer: in windows
MOONSHINE = {
    "hidden_size": 32,
    "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 1,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 8,
}


def saved(folder: Path, config: Any, extractor: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf.AutoModel.from_config(config).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = hf.WhisperConfig(**WHISPER | {"max_source_positions": 50 * SECONDS})
    extractor = hf.WhisperFeatureExtractor(chunk_length=SECONDS)
    return saved(tmp_path_factory.mktemp("whisper"), config, extractor)


@pytest.fixture(scope="module")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    extractor = hf.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    return saved(tmp_path_factory.mktemp("moon"), hf.MoonshineConfig(**MOONSHINE), extractor)


def loaded(folder: Path, vocabulary: Vocabulary, fresh: bool) -> Any:
    blueprint = read_blueprint(configured(folder))
    return recogniser.load(recipe(), vocabulary, configured(folder), blueprint, fresh)[0].eval()


def read_as_told(folder: Path, waveform: np.ndarray) -> dict[str, Any]:
    """Run the code of the folder's own README."""
    text = (folder / "README.md").read_text()
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    names: dict[str, Any] = {"FOLDER": str(folder), "waveform": waveform}
    with torch.inference_mode():
        exec(code, names)
    return names


def test_whisper_is_fine_tuned_kept_and_read_again(
    whisper: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = finetune(
        tmp_path,
        whisper,
        "finetune.reinit_top=1",
        "finetune.layerdrop=0.1",
        "finetune.hidden_dropout=0.1",
        "finetune.feat_proj_dropout=0.1",
        "finetune.updates=2",
        "finetune.valid_every=2",
        "finetune.freeze_updates=2",
        "finetune.final_dropout=0.1",
        "finetune.gradient_checkpointing=true",
    )
    unused = ["feat_proj_dropout", "mask_time_prob", "mask_feature_prob"]
    assert done.metadata["does_not_apply"] == [f"finetune.{key}" for key in unused]
    message = "finetune.feat_proj_dropout=0.1, finetune.mask_time_prob=0.1, finetune.mask"
    assert message in caplog.text
    cut = {part["corpus"]["dropped"][CUT] for part in done.metadata["data"].values()}
    assert cut == {2}
    folder = done.folder / "model"
    before = load_file(whisper / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == set(done.metadata["reinit"]["tensors"])
    assert all(name.startswith("encoder.layers.2.") for name in moved)
    assert set(after) == {name for name in before if name.startswith("encoder.")}
    # The folder's own words, the recogniser loaded again and the analysis of it agree.
    vocabulary = Vocabulary.of_tokenizer(
        read_tokenizer(read_blueprint(configured(folder)).checkpoint)
    )
    assert list(vocabulary.tokens) == done.metadata["characters"]
    model = loaded(folder, vocabulary, fresh=False)
    waveform = noise(33_333)
    inputs = read_blueprint(configured(folder)).feature_extractor([waveform])["input_features"]
    with torch.inference_mode():
        logits = model(inputs).logits[0, :105]  # 209 mel frames, every second one
    capsys.readouterr()
    message = read_as_told(folder, waveform)
    assert "MISSING" not in "".join(capsys.readouterr())  # no decoder is asked for
    torch.testing.assert_close(message["logits"][0], logits)
    assert isinstance(message["text"][0], str)
    encoder = load_encoder(configured(folder))
    kept: dict[str, torch.Tensor] = {}
    encoder.run([waveform], lambda layer, hidden, _: kept.update({layer.name: hidden.clone()}))
    with torch.inference_mode():
        last = model.lm_head(model.encoder.layer_norm(kept["T3"]))
    torch.testing.assert_close(last[0], logits)


@pytest.mark.slow
def test_an_update_trains_all_but_the_convolutions(moonshine: Path, tmp_path: Path) -> None:
    """Raw audio with a mask, and a head that is fine-tuned on."""
    options = ["finetune.updates=2", "finetune.valid_every=2", "finetune.freeze_updates=0"]
    done = finetune(tmp_path / "one", moonshine, *options)
    before = load_file(moonshine / "model.safetensors")
    after = load_file(done.folder / "model" / "model.safetensors")
    still = {name for name in after if torch.equal(before[name], after[name])}
    assert still
    assert all(re.match(r"encoder\.conv\d\.", name) for name in still)
    assert isinstance(read_as_told(done.folder / "model", noise(16_000))["text"][0], str)
    more = ["finetune.characters=checkpoint", "finetune.learning_rate=1e-9"]
    again = finetune(tmp_path / "two", done.folder / "model", *options, *more)
    one, two = (load_file(run.folder / "model" / "head.safetensors") for run in (done, again))
    torch.testing.assert_close(one, two, atol=1e-7, rtol=0)
    assert not torch.equal(one["weight"], two["weight"])
    columns = ["id", "hypothesis"]
    first, second = (
        pd.read_csv(run.folder / "hypotheses.csv", keep_default_na=False)[columns]
        for run in (done, again)
    )
    pd.testing.assert_frame_equal(first, second)


def test_what_a_head_cannot_stand_on_is_told_before_weights_are_read(
    whisper: Path, tmp_path: Path
) -> None:
    sizes = {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
    }
    config = hf.Qwen2AudioEncoderConfig(**sizes, num_mel_bins=80, max_source_positions=100)
    config.save_pretrained(tmp_path)
    hf.WhisperFeatureExtractor(chunk_length=2).save_pretrained(tmp_path)
    with pytest.raises(StrataError, match=r"last hidden state has 50 frames where .* has 100"):
        check_recipe(recipe(), read_blueprint(configured(tmp_path)))
    with pytest.raises(StrataError, match=r"characters=checkpoint: .*has no head\.safetensors"):
        check_recipe(recipe(characters="checkpoint"), read_blueprint(configured(whisper)))


@pytest.mark.slow
def test_a_whisper_learns_utterances_by_heart(whisper: Path, caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    vocabulary = Vocabulary.of_text(["AB"])
    blueprint = read_blueprint(configured(whisper))
    with one_thread():
        model = loaded(whisper, vocabulary, fresh=True).train()
        torch.nn.init.normal_(model.lm_head.weight)  # from zero it takes five times as long
        waveforms = [sung(text).astype(np.float32) for text in ("AB", "BA")]
        targets = torch.tensor([vocabulary.encode(text) for text in ("AB", "BA")])
        inputs = blueprint.feature_extractor(waveforms)["input_features"]
        frames = blueprint.description.layers[-1].geometry.n_frames(len(waveforms[0]))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        sizes = torch.full((2,), frames), torch.full((2,), 2)
        for _ in range(60):
            log_p = model(inputs).logits[:, :frames].log_softmax(-1)
            loss = torch.nn.functional.ctc_loss(log_p.transpose(0, 1), targets, *sizes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    texts = [vocabulary.decode(p.argmax(-1).tolist()) for p in log_p]
    assert texts == ["AB", "BA"]


def test_a_random_model_is_the_one_that_is_analysed(whisper: Path) -> None:
    """So that before and after fine-tuning are the same model."""
    config = configured(whisper, random_init=True, init_seed=3)
    vocabulary = Vocabulary.of_text(["AB"])
    model, _ = recogniser.load(recipe(), vocabulary, config, read_blueprint(config), True)
    analysed = load_encoder(config).model.state_dict()
    assert all(torch.equal(t, analysed[n]) for n, t in model.base_model.state_dict().items())
