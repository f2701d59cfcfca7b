"""Kept output of convolutions must be what they would compute."""

from pathlib import Path
from typing import Any

import pytest
import torch
from marks import slow
from models import configured, save
from test_ctc import clips, module_of
from test_reinit import recipe

from common.encoder.architecture import read_blueprint
from finetune.ctc import features, recogniser
from finetune.ctc.module import Recogniser
from finetune.ctc.text import Vocabulary

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # WavLM's

TEXTS = ["AB", "A", "BBA", "B A B", "AB"]
FAMILY = (
    *("wav2vec2_base", "wav2vec2_lv60"),
    *map(slow, ("wavlm_base", "data2vec", "wav2vec2_conformer", "sew")),
)
GROUP_NORM = ("wav2vec2_base", "wavlm_base", "wav2vec2_conformer")


def updated(folder: Path, name: str, keep: str, **keys: Any) -> tuple[list[torch.Tensor], Any]:
    """Losses and gradients of batches that come again, differently composed; and the module."""
    module, blueprint, vocabulary = module_of(
        folder / "model", TEXTS, keep_features=keep, mask_time_prob=0.5, mask_time_length=2, **keys
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(module.model.lm_head.weight, std=0.1)
    speech = clips(folder, vocabulary, TEXTS, blueprint.feature_extractor)
    module._trainer = type("T", (), {"global_step": 0, "global_rank": 0})()  # type: ignore[assignment]
    module._log_update = lambda *_: None  # type: ignore[method-assign, assignment]
    with torch.inference_mode():  # as validation is, by Lightning
        found = [module.eval().losses(speech.batch([k], [1.0]))[0] for k in range(5)]
    module.train()
    for numbers in ([0, 1, 2], [3, 4], [0, 1], [2, 3, 4], [0, 1, 2], [4]):
        loss = module.training_step(speech.batch(numbers, [1.0] * len(numbers)), 0)
        loss.backward()
        found.append(loss.detach())
    found += [p.grad for p in module.parameters() if p.grad is not None]
    return found, module


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_kept_is_what_the_convolutions_would_compute(name: str, tmp_path: Path) -> None:
    save(name, tmp_path / "model")
    samples = [16_000 - 900 * k for k in range(5)]
    plain, _ = updated(tmp_path, name, "never")
    kept, module = updated(tmp_path, name, "auto")
    # A kernel may add up in another order for one utterance than for three.
    for a, b in zip(plain, kept, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm() + 1e-6
    # Each utterance alone; 1, 2, 3 and 4 beside longer ones, too, where that changes them.
    padded = sum(length != samples[number] for _, number, length in module.features.kept)
    assert len(module.features.kept) == 5 + padded
    assert padded == (5 if module.features._depends_on_padding(torch.device("cpu")) else 0)
    if name in GROUP_NORM:
        assert padded


def test_an_utterance_is_convolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("wav2vec2_lv60", tmp_path / "model")
    counted: list[torch.Size] = []
    alone = features.KeptFeatures._alone

    def count(self: Any, waveform: torch.Tensor) -> torch.Tensor:
        counted.append(waveform.shape)
        return alone(self, waveform)

    monkeypatch.setattr(features.KeptFeatures, "_alone", count)
    _, module = updated(tmp_path, "wav2vec2_lv60", "auto")
    assert len(counted) == 2 + len(module.features.kept)  # two ask whether padding is felt
    monkeypatch.setattr(features, "free_memory", lambda _: 0)
    counted.clear()
    _, module = updated(tmp_path, "wav2vec2_lv60", "auto")
    assert len(counted) == 2 + 5 + 14  # validation, then the six batches
    assert not module.features.kept
    module.features.close()
    assert module.model.base_model.feature_extractor.forward.__self__ is not module.features


@pytest.mark.parametrize(
    ("name", "keys"),
    [("wav2vec2_base", {"freeze_convolutions": False}), ("whisper", {}), ("wav2vec2_bert", {})],
)
def test_nothing_is_kept_where_convolutions_train_or_hear_no_samples(
    name: str, keys: Any, tmp_path: Path
) -> None:
    save(name, tmp_path / "model")
    blueprint = read_blueprint(configured(tmp_path / "model"))
    model, _ = recogniser.load(
        recipe(**keys), Vocabulary.of_text(TEXTS), configured(tmp_path / "model"), blueprint, True
    )
    module = Recogniser(model, [], blueprint, Vocabulary.of_text(TEXTS), recipe(**keys), TEXTS, 0)
    assert module.features is None
