"""Encoders that are a part of a model that does more, and SEW-D: fine-tuned, or refused early."""

from pathlib import Path

import pytest
import torch
from marks import slow
from models import configured, noise
from test_ctc import clips
from test_linear_head import read_as_told
from test_reinit import recipe
from towers import build
from transformers import AutoModelForCTC

from common.encoder.architecture import read_blueprint
from common.records import StrataError
from common.seeding import generator
from finetune.ctc import recogniser
from finetune.ctc.module import Recogniser
from finetune.ctc.recogniser import check_recipe
from finetune.ctc.text import Vocabulary
from finetune.export import export

TEXTS = ["AB", "BBA"]
LENGTHS = "lengths of its inputs"
REFUSED = {
    "parakeet": "ParakeetForCTC the encoder is not separate from the head",
    "lasr": "LasrForCTC the encoder is not separate from the head",
    "seamless_m4t_v2": "last hidden state has 7 frames where its last layer has 49",
    "qwen2_audio": "last hidden state has 50 frames where its last layer has 100",
    "qwen2_5_omni": LENGTHS,
    "audio_flamingo_3": LENGTHS,
    "mimi": "is a codec",
}


@pytest.mark.parametrize(
    "name", ["voxtral", "speecht5", *map(slow, ("glm_asr", "speech_to_text", "sew_d"))]
)
def test_a_tower_learns_to_write_and_is_read_again(name: str, tmp_path: Path) -> None:
    build(name, tmp_path / "model")
    asked, vocabulary = configured(tmp_path / "model"), Vocabulary.of_text(TEXTS)
    blueprint, settings = read_blueprint(asked), recipe(mask_time_prob=0.5, mask_time_length=2)
    check_recipe(settings, blueprint)
    model, _ = recogniser.load(settings, vocabulary, asked, blueprint, True)
    torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(0), std=0.1)
    module = Recogniser(model, [], blueprint, vocabulary, settings, TEXTS, 0).train()
    batch = clips(tmp_path, vocabulary, TEXTS, blueprint.feature_extractor).batch([0, 1], [1, 1])
    with torch.random.fork_rng(devices=[]):
        module.training_loss(batch, generator(0)).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert any(p.grad.abs().max() > 0 for p in model.base_model.parameters() if p.grad is not None)
    torch.optim.SGD(trained, lr=0.01).step()
    tokenizer = vocabulary.tokenizer(tmp_path)
    export(model, blueprint.checkpoint, tmp_path / "out", tokenizer=tokenizer)
    again = configured(tmp_path / "out")
    kept, _ = recogniser.load(settings, vocabulary, again, read_blueprint(again), False)
    with torch.inference_mode():
        logits, read = (m.eval()(batch.waveforms).logits for m in (model, kept))
    torch.testing.assert_close(logits, read, rtol=1e-5, atol=1e-6)
    if recogniser.has_ctc_model(blueprint.config):  # read by transformers alone
        own, inputs = AutoModelForCTC.from_pretrained(tmp_path / "out").eval(), batch.waveforms
        with torch.inference_mode():
            read = own(inputs).logits
    else:
        told = read_as_told(tmp_path / "out", noise(16_000))
        inputs, read = next(iter(told["inputs"].values())), told["logits"]
    with torch.inference_mode():
        logits = model(inputs).logits[:, : read.shape[1]]
    torch.testing.assert_close(read, logits, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*layer_idx")
@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_by_name(name: str, tmp_path: Path) -> None:
    build(name, tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()  # it is known without
    with pytest.raises(StrataError, match=f"cannot be fine-tuned for recognition.*{REFUSED[name]}"):
        check_recipe(recipe(), read_blueprint(configured(tmp_path / "model")))
