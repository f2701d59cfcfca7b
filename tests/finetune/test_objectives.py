from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_speech import blueprint_of, prepared, recipe
from marks import slow
from models import one_thread

from common.config import ModelConfig
from common.encoder.architecture import read_blueprint
from common.records import StrataError
from finetune.pretrain.crops import Batch, Crops
from finetune.pretrain.objectives import (
    AcousticCopy,
    Contrastive,
    MaskedUnits,
    Objective,
    build,
    objective_of,
)


def crops_of(folder: Path, name: str, **keys: object) -> tuple[Objective, Crops]:
    blueprint = blueprint_of(name, folder)
    speech = prepared(blueprint, folder)
    settings = recipe(**keys)
    negatives = getattr(blueprint.config, "num_negatives", 1)
    crops = Crops(
        speech,
        settings,
        blueprint.feature_extractor,
        negatives,
        seed=0,
        first=0,
        last=settings.steps,
    )
    return build(blueprint, settings, seed=0), crops


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_lv60"])
def test_the_contrastive_loss_is_hugging_faces(name: str, tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, name)
    batch = crops.batch(0)
    size, n_frames = batch.mask.shape
    # Hugging Face's indices are (B, T, K) into all frames; ours (M, K) into the masked ones.
    masked = torch.nonzero(batch.mask.flatten())[:, 0]
    spread = torch.zeros(size * n_frames, batch.negatives.shape[1], dtype=torch.int64)
    spread[masked] = masked[batch.negatives]
    module.eval()  # no Gumbel noise, no dropout
    with torch.no_grad(), one_thread():
        theirs = module.model(
            batch.waveforms,
            mask_time_indices=batch.mask,
            sampled_negative_indices=spread.view(size, n_frames, -1),
        )
        loss, curves = module.losses(batch)
    count = batch.mask.sum()
    assert curves["contrastive"].item() == pytest.approx(
        theirs.contrastive_loss.item() / count.item(), rel=1e-5
    )
    assert curves["code_perplexity"].item() == pytest.approx(
        theirs.codevector_perplexity.item(), rel=1e-5
    )
    assert loss.item() == pytest.approx(theirs.loss.item() / count.item(), rel=1e-5)


def test_gradients_are_hugging_faces_too(tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, "wav2vec2_base")
    batch = crops.batch(1)
    size, n_frames = batch.mask.shape
    masked = torch.nonzero(batch.mask.flatten())[:, 0]
    spread = torch.zeros(size * n_frames, batch.negatives.shape[1], dtype=torch.int64)
    spread[masked] = masked[batch.negatives]
    module.eval()
    gradients = []
    for ours in (True, False):
        module.zero_grad()
        with one_thread():
            if ours:
                module.losses(batch)[0].backward()
            else:
                theirs = module.model(
                    batch.waveforms,
                    mask_time_indices=batch.mask,
                    sampled_negative_indices=spread.view(size, n_frames, -1),
                )
                (theirs.loss / batch.mask.sum()).backward()
        gradients.append(module.model.project_hid.weight.grad.clone())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["hubert_base", "hubert_large", "wavlm_base"])
def test_the_loss_of_masked_units_is_a_mean_over_masked_frames(name: str, tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, name)
    speech = crops.speech
    units = np.random.default_rng(0).integers(0, 10, len(speech.units)).astype(np.int32)
    batch = Crops(
        speech.with_units(units), crops.recipe, crops.feature_extractor, 1, seed=0, first=0, last=1
    ).batch(0)
    module.eval()
    with torch.no_grad(), one_thread():
        loss, curves = module.losses(batch)
        hidden = module.model(batch.waveforms, mask_time_indices=batch.mask).last_hidden_state
        scores = torch.log_softmax(module.head(hidden), dim=-1)
    total, right, count = 0.0, 0, 0
    for b, t in np.argwhere(batch.mask.numpy()):
        unit = batch.units[b, t]
        total -= scores[b, t, unit].item()
        right += int(scores[b, t].argmax() == unit)
        count += 1
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    assert curves["accuracy"].item() == pytest.approx(right / count)


def test_the_acoustic_loss_sees_what_the_convolutions_give_before_the_mask(tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, "hubert_base", acoustic_weight=3.0)
    batch = crops.batch(0)
    unmasked = Batch(
        batch.waveforms, torch.zeros_like(batch.mask), batch.negatives, batch.units, batch.acoustics
    )
    module.eval()
    with torch.no_grad(), one_thread():
        loss, curves = module._step(batch)
        plain, _ = module.losses(batch)
        features = module.extractor(batch.waveforms).transpose(1, 2)
        expected = (module.acoustics(features) - batch.acoustics).abs().mean()
        module.losses(unmasked)  # fills the hook again, whatever the mask
        assert torch.equal(module._convolved, features)
    assert curves["acoustic"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.item() == pytest.approx(plain.item() + 3 * expected.item(), rel=1e-5)


def test_a_batch_is_a_function_of_its_number_and_lies_where_it_says(tmp_path: Path) -> None:
    _, crops = crops_of(tmp_path, "hubert_base")
    numbered = crops.speech.with_units(np.arange(len(crops.speech.units), dtype=np.int32))
    crops = Crops(numbered, crops.recipe, crops.feature_extractor, 5, seed=0, first=2, last=4)
    again = list(crops)
    assert len(again) == 2
    assert len(crops) == 4  # Lightning's progress counts those before the first as done
    for number, other in zip((2, 3), again, strict=True):
        batch = crops.batch(number)
        for field in vars(batch):
            assert torch.equal(getattr(batch, field), getattr(other, field))
    size, n_frames = batch.mask.shape
    assert batch.waveforms.shape[1] <= 16_000
    assert batch.waveforms.numel() == pytest.approx(4 * 16_000, rel=0.3)
    assert (batch.units.diff(dim=1) == 1).all()  # consecutive frames of one utterance
    assert batch.acoustics.shape == (size, n_frames, 39)
    geometry = numbered.geometry
    for crop, units in zip(batch.waveforms, batch.units.tolist(), strict=True):
        u = int(np.searchsorted(numbered.frame_offsets, units[0], side="right")) - 1
        start = geometry.hop * (units[0] - int(numbered.frame_offsets[u]))
        cut = numbered.crop(u, start, batch.waveforms.shape[1])
        normalised = (cut - cut.mean()) / np.sqrt(cut.var() + 1e-7)
        assert crop.numpy() == pytest.approx(normalised, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "objective"),
    [("wav2vec2_base", Contrastive), ("hubert_base", MaskedUnits), ("wavlm_large", MaskedUnits)],
)
def test_a_model_learns_as_it_was_published(name: str, objective: type, tmp_path: Path) -> None:
    assert objective_of(blueprint_of(name, tmp_path)) is objective


@pytest.mark.parametrize("name", ["data2vec", "whisper"])
def test_other_models_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="cannot be pretrained here"):
        objective_of(blueprint_of(name, tmp_path))


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, "hubert_base")
    with torch.no_grad():
        module.head.weight.fill_(torch.nan)
    with pytest.raises(StrataError, match=r"loss is nan.*learning_rate"):
        module._step(crops.batch(0))


def train(
    module: Objective, batch: Batch, steps: int
) -> Iterator[tuple[float, Mapping[str, torch.Tensor]]]:
    """Updates on one batch: the loss and the curves of each."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], 1e-3)
    with one_thread():
        for _ in range(steps):
            loss, curves = module._step(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item(), curves


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav2vec2_tiny", "hubert_tiny"])
def test_a_batch_can_be_learnt_by_heart(name: str, tmp_path: Path) -> None:
    blueprint = read_blueprint(
        ModelConfig(name=name, checkpoint=f"assets/{name}", random_init=True)
    )
    speech = prepared(blueprint, tmp_path)
    units = np.random.default_rng(0).integers(0, 10, len(speech.units)).astype(np.int32)
    crops = Crops(
        speech.with_units(units), recipe(), blueprint.feature_extractor, 20, seed=0, first=0, last=1
    )
    module = build(blueprint, crops.recipe, seed=0)
    accuracies = [curves["accuracy"].item() for _, curves in train(module, crops.batch(0), 12)]
    assert accuracies[0] < 0.25
    assert accuracies[-1] > 2 * accuracies[0] + 0.05, accuracies


@pytest.mark.parametrize("name", ["wav2vec2_base", "hubert_base", "wavlm_base"])
def test_a_copy_of_acoustics_fills_the_whole_last_block(name: str, tmp_path: Path) -> None:
    module, crops = crops_of(tmp_path, name, objective="acoustic_copy", acoustic_weight=0.0)
    assert isinstance(module, AcousticCopy)
    batch = crops.batch(0)
    module.eval()
    with torch.no_grad(), one_thread():
        loss, _ = module.losses(batch)
        base = module.model.base_model
        out = base(batch.waveforms, mask_time_indices=batch.mask, output_hidden_states=True)
    copied = (batch.acoustics @ module.map).numpy()
    copied = copied - copied.mean(-1, keepdims=True)
    copied /= np.sqrt((copied**2).mean(-1, keepdims=True) + 1e-5)
    away = (out.hidden_states[-1].numpy() - copied) ** 2
    assert away.shape[-1] == base.config.hidden_size
    assert loss.item() == pytest.approx(away.mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["wav2vec2_tiny", slow("hubert_tiny")])
def test_only_the_top_blocks_are_trained(name: str, tmp_path: Path) -> None:
    folder = f"assets/{name}"
    blueprint = read_blueprint(ModelConfig(name=name, checkpoint=folder, random_init=True))
    speech = prepared(blueprint, tmp_path)
    keys = {"objective": "acoustic_copy", "acoustic_weight": 0.0}
    one = recipe(start=folder, train_top=2, **keys)
    crops = Crops(speech, one, blueprint.feature_extractor, 20, seed=0, first=0, last=1)
    module = build(blueprint, one, seed=0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    losses = [loss for loss, _ in train(module, crops.batch(0), 10)]
    assert losses[-1] < 0.8 * losses[0], losses
    changed = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    top = {k for k in before if ".layers.4." in k or ".layers.5." in k or k.startswith("layers.5")}
    assert changed - top == set()
    assert {k for k in top if k.endswith("attention.v_proj.weight")} <= changed


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_top": 2}, r"pretrain.train_top=2 without pretrain.start"),
        ({"train_top": 0, "start": "assets/hubert_tiny"}, r"pretrain.train_top=0"),
        ({"objective": "autoencoder"}, r"pretrain.objective.*published, acoustic_copy"),
    ],
)
def test_impossible_recipes_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        recipe(**keys)


def test_more_blocks_than_there_are_cannot_be_trained(tmp_path: Path) -> None:
    name, folder = "hubert_tiny", "assets/hubert_tiny"
    blueprint = read_blueprint(ModelConfig(name=name, checkpoint=folder, random_init=True))
    with pytest.raises(StrataError, match=r"pretrain.train_top=7: the model has 6 transformer"):
        build(blueprint, recipe(start=folder, train_top=7), seed=0)
