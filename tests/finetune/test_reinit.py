import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from models import configured, save
from transformers import AutoModelForCTC

from common.config import FinetuneConfig
from common.encoder.architecture import read_blueprint
from common.records import StrataError
from finetune.ctc.blocks import modules_of, plan_blocks
from finetune.ctc.reinit import reinitialise

RECIPE: dict[str, Any] = {
    "freeze_updates": 0,
    "updates": 4,
    "learning_rate": 1e-3,
    "batch_seconds": 30,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "valid_every": 2,
}
NAMES = ["wav2vec2_base", "wav2vec2_lv60", "hubert_base", "wavlm_base", "wavlm_large", "data2vec"]


def recipe(**keys: Any) -> FinetuneConfig:
    return FinetuneConfig(**RECIPE | keys)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in NAMES}


def perturbed(folder: Path) -> Any:
    """A model as from_pretrained gives it, every tensor of it moved away from any initial value."""
    model = AutoModelForCTC.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1 + 0.1 * torch.rand_like(parameter)
    return model


def touched(folder: Path, seed: int = 0, **keys: Any) -> tuple[Any, set[str], list[str]]:
    """The model, the names of tensors that changed, and those that were said to."""
    model = perturbed(folder)
    config = configured(folder)
    plan = plan_blocks(recipe(**keys), config, read_blueprint(config))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    named = reinitialise(model, modules_of(model, plan.fresh), seed)
    after = model.state_dict()
    return model, {n for n, tensor in before.items() if not torch.equal(tensor, after[n])}, named


def block_of(model: Any, index: int) -> dict[str, torch.Tensor]:
    prefix = f"{model.base_model_prefix}.encoder.layers.{index}."
    return {n: t for n, t in model.state_dict().items() if n.startswith(prefix)}


@pytest.mark.parametrize("name", NAMES)
def test_all_of_the_top_blocks_and_nothing_else_is_drawn_anew(
    name: str, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model, changed, named = touched(folders[name], reinit_top=2)
    assert changed == set(named) == {*block_of(model, 1), *block_of(model, 2)}
    where = ", ".join(f"{model.base_model_prefix}.encoder.layers.{k}" for k in (1, 2))
    assert f"re-initialised: {where}; metadata.json lists the {len(named)} tensors" in caplog.text
    spread = model.config.initializer_range
    for tensor_name, tensor in {**block_of(model, 1), **block_of(model, 2)}.items():
        if tensor_name.endswith(("layer_norm.weight", "rel_pos_const")):
            assert (tensor == 1).all(), tensor_name
        elif tensor_name.endswith("bias"):
            assert (tensor == 0).all(), tensor_name
        else:
            n = tensor.numel()
            assert tensor.mean().abs() < 5 * spread / n**0.5, tensor_name
            assert abs(tensor.std() / spread - 1) < 5 / (2 * n) ** 0.5, tensor_name


@pytest.mark.parametrize("name", ["wavlm_base", "wavlm_large"])
def test_wavlms_relative_positions_go_with_its_first_block(
    name: str, folders: dict[str, Path]
) -> None:
    model, changed, _ = touched(folders[name], reinit_top=3)
    relative = f"{model.base_model_prefix}.encoder.layers.0.attention.rel_attn_embed.weight"
    assert relative in changed
    values = model.state_dict()[relative]
    assert abs(values.std() / model.config.initializer_range - 1) < 0.1
    assert relative not in touched(folders[name], reinit_top=2)[1]


def test_none_all_and_chosen_blocks(folders: dict[str, Path]) -> None:
    folder = folders["wav2vec2_lv60"]
    assert touched(folder)[1:] == (set(), [])
    model, changed, _ = touched(folder, reinit_top=3)
    assert changed == {n for i in range(3) for n in block_of(model, i)}
    model, changed, _ = touched(folder, reinit_layers=["T3", "T1"])
    assert changed == {*block_of(model, 0), *block_of(model, 2)}
    _, changed, _ = touched(folder, reinit_include_final_norm=True)
    assert changed == {f"wav2vec2.encoder.layer_norm.{part}" for part in ("weight", "bias")}


def test_the_seed_alone_decides(folders: dict[str, Path]) -> None:
    folder = folders["hubert_base"]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, two, other = (touched(folder, seed, reinit_top=1)[0] for seed in (3, 3, 4))
    assert all(torch.equal(block_of(two, 2)[n], t) for n, t in block_of(one, 2).items())
    assert not all(torch.equal(block_of(other, 2)[n], t) for n, t in block_of(one, 2).items())
    torch.manual_seed(7)
    model = perturbed(folder)
    torch.set_rng_state(state)
    reinitialise(model, [model.base_model.encoder.layers[0]], 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_model_lacks_is_told_from_its_description(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Without weights: the folder holds the two small files alone."""
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folders["wav2vec2_base"] / name).read_bytes())
    config = configured(tmp_path)
    for keys, message in (
        ({"reinit_top": 4}, r"finetune\.reinit_top=4.*has 3 transformer blocks; use 0 to 3"),
        ({"reinit_layers": ["T4"]}, r"finetune\.reinit_layers has T4.*T1 … T3"),
        ({"reinit_include_final_norm": True}, r"include_final_norm=true.*has no layer norm"),
    ):
        with pytest.raises(StrataError, match=message):
            plan_blocks(recipe(**keys), config, read_blueprint(config))
