"""How speech is batched must not change what a model computes or learns."""

from pathlib import Path

import pytest
import torch
from finetune_speech import synthetic
from models import configured, save
from running import composed
from test_ctc import SMALL, clips, module_of
from test_reinit import recipe

from common.config import resolve
from common.encoder.architecture import read_blueprint
from finetune.checkpoints import Numbered
from finetune.ctc.batches import Batch, Updates
from finetune.ctc.data import TranscribedSpeech
from finetune.ctc.experiment import Prepared, heldout, probabilities
from finetune.ctc.text import Vocabulary

TEXTS = ["AB", "A", "BBA", "B A B", "AB"]


@pytest.mark.parametrize(("name", "padded"), [("wav2vec2_base", False), ("wav2vec2_lv60", True)])
def test_scored_speech_is_encoded_as_if_alone_in_its_batch(
    name: str, padded: bool, tmp_path: Path
) -> None:
    """Padded to the longest where that changes no frame, and nowhere else."""
    model = save(name, tmp_path / "model")
    module, blueprint, vocabulary = module_of(model, TEXTS)
    torch.nn.init.normal_(module.model.lm_head.weight, std=0.1)
    config = resolve(composed((*SMALL, f"model.checkpoint={model}", "model.batch_size=3")))
    part = TranscribedSpeech("valid", synthetic(), (), {})
    prepared = Prepared(
        part, clips(tmp_path, vocabulary, TEXTS, blueprint.feature_extractor), (0, 1, 3, 4), {}
    )
    sizes = [len(batch) for batch in heldout(config, module, prepared, blueprint).batches]
    assert sizes == ([3, 1] if padded else [1, 1, 1, 1])
    found = probabilities(config, module, prepared, blueprint)
    assert sorted(found) == [0, 1, 3, 4]
    for k, hidden in found.items():
        with torch.inference_mode():
            (alone,), (frames,) = module.log_probabilities(prepared.clips.batch([k], [1.0]))
        assert len(hidden) == frames
        torch.testing.assert_close(hidden, alone, atol=1e-5, rtol=0)


def test_activations_that_are_computed_again_give_the_same_gradients(tmp_path: Path) -> None:
    model = save("wav2vec2_base", tmp_path / "model")
    gradients, passes = [], []
    for again in (False, True):
        keys = {"gradient_checkpointing": again, "mask_time_prob": 0.5, "activation_dropout": 0.5}
        module, blueprint, vocabulary = module_of(model, TEXTS, **keys)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.nn.init.normal_(module.model.lm_head.weight, std=0.1)
        batch = clips(tmp_path, vocabulary, TEXTS, blueprint.feature_extractor).batch(
            range(5), [1.0] * 5
        )
        counted: list[int] = []
        block = module.model.base_model.encoder.layers[1].attention
        block.register_forward_hook(lambda *_, counted=counted: counted.append(1))
        module._trainer = type("T", (), {"global_step": 0, "global_rank": 0})()  # type: ignore[assignment]
        module._log_update = lambda *_: None  # type: ignore[method-assign, assignment]
        module.train().training_step(batch, 0).backward()
        passes.append(len(counted))
        gradients.append({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    assert passes == [1, 2]
    torch.testing.assert_close(*gradients)
    assert any(g.abs().max() > 0 for n, g in gradients[0].items() if "layers.0." in n)


def test_padding_to_a_fixed_length_takes_no_speech_from_an_update(tmp_path: Path) -> None:
    """Five utterances of 4.5 s in all, of which a Whisper of two seconds makes ten."""
    blueprint = read_blueprint(configured(save("whisper", tmp_path / "model")))
    vocabulary = Vocabulary.of_text(TEXTS)
    speech = clips(tmp_path, vocabulary, TEXTS, blueprint.feature_extractor)
    updates = Updates(speech, tuple(range(5)), recipe(batch_seconds=5, max_seconds=2), 0, 0, 1)
    (batch,) = updates
    assert len(batch.numbers) == 5
    assert batch.waveforms.shape[-1] == 200  # frames of a spectrum, 100 a second


def test_batches_that_another_process_assembles_are_the_same(tmp_path: Path) -> None:
    blueprint = read_blueprint(configured(save("wav2vec2_lv60", tmp_path / "model")))
    all_clips = clips(tmp_path, Vocabulary.of_text(TEXTS), TEXTS, blueprint.feature_extractor)
    updates = Updates(all_clips, tuple(range(5)), recipe(batch_seconds=2, max_seconds=2), 0, 1, 5)
    pairs = zip(Numbered[Batch](updates), Numbered[Batch](updates, ahead=True), strict=True)
    for here, ahead in pairs:
        assert here.numbers.tolist() == ahead.numbers.tolist()
        torch.testing.assert_close(here.waveforms, ahead.waveforms, rtol=0, atol=0)
        assert here.mask is None or here.mask.dtype == torch.bool
    there = here.to(torch.device("meta"))
    assert (there.waveforms.device.type, there.samples.device.type) == ("meta", "cpu")
    assert there.recordings == "pcm"
