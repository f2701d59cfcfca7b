"""Blocks that are dropped, unfrozen and frozen: what is trained and exported then."""

from pathlib import Path
from typing import Any

import pytest
import torch
from marks import slow
from models import configured, noise, save
from safetensors.torch import load_file
from test_ctc import finetune
from test_reinit import recipe

from common.encoder.architecture import Blueprint, read_blueprint
from common.encoder.encoder import load_encoder
from common.records import StrataError
from finetune.ctc import recogniser
from finetune.ctc.blocks import Blocks, drop, plan_blocks, shortened
from finetune.ctc.fitting import Plan
from finetune.ctc.text import Vocabulary
from finetune.export import export

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

UNLIKE = ("wav2vec2_base", "wav2vec2_bert", "whisper")
SOME = ["wav2vec2_base", "wav2vec2_lv60", "wavlm_base", "wav2vec2_bert", "whisper", "moonshine"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in SOME}


def planned(folder: Path, **keys: Any) -> tuple[Blocks, Blueprint]:
    config = configured(folder)
    return plan_blocks(recipe(**keys), config, read_blueprint(config)), read_blueprint(config)


@pytest.mark.parametrize("name", [name if name in UNLIKE else slow(name) for name in SOME])
def test_what_is_left_computes_what_the_whole_model_does_so_far(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """And is exported as a model of so many blocks, which an analysis reads without a word."""
    config = configured(folders[name])
    blocks, whole = planned(folders[name], drop_top=1)
    assert blocks.dropped == ("T3",)
    short = shortened(whole, config, blocks)
    assert [layer.name for layer in short.description.layers[-3:]] == ["T0", "T1", "T2"]
    model, _ = recogniser.load(recipe(), Vocabulary.of_text(["A"]), config, whole, True)
    drop(model, blocks)
    export(model, whole.checkpoint, tmp_path / "model")
    exported = load_encoder(configured(tmp_path / "model"))
    kept = {layer.name for layer in exported.layers}
    assert kept == {layer.name for layer in short.description.layers}
    hidden: dict[str, dict[str, torch.Tensor]] = {"whole": {}, "short": {}}
    waveform = noise(16_000)
    for kind, encoder in (("short", exported), ("whole", load_encoder(config))):
        encoder.run([waveform], lambda layer, h, _, kind=kind: hidden[kind].update({layer.name: h}))
    for layer in kept:
        torch.testing.assert_close(hidden["short"][layer], hidden["whole"][layer])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"drop_top": 3},
            r"drop_top=3: .* of which one must stay; use 0 to 2",
        ),
        (
            {"drop_top": 2, "reinit_top": 2},
            r"reinit_top=2: .*, 2 of them dropped; use 0 to 1",
        ),
        ({"unfreeze_top": 4}, r"unfreeze_top=4: .* has 3 transformer blocks; use 0 to 3"),
        ({"drop_top": 1, "freeze_layers": ["T3"]}, r"freeze_layers has T3: .* has T1 … T2"),
        ({"reinit_top": 1, "freeze_layers": ["T3"]}, r"freeze_layers has T3, which"),
        (
            {"unfreeze_top": 2, "freeze_layers": ["T3", "T2"]},
            r"freeze_layers has T2, T3, which .* unfreeze_top is to train",
        ),
    ],
)
def test_what_cannot_be_is_told_from_the_description(
    keys: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(StrataError, match=message):
        planned(folders["wav2vec2_base"], **keys)


def test_names_of_blocks_are_checked_with_the_configuration() -> None:
    with pytest.raises(StrataError, match=r"finetune\.freeze_layers has C1: name blocks"):
        recipe(freeze_layers=["C1"])


def trained(folder: Path, tmp_path: Path, update: int, **keys: Any) -> set[str]:
    """Names of the parameters of the encoder that an update trains."""
    blocks, whole = planned(folder, **keys)
    values = {"finetune": recipe(**keys), "model": configured(folder), "seed": 0}
    config = type("C", (), values | {"precision": "fp32"})()
    plan = Plan(config, whole, blocks, Vocabulary.of_text(["A"]), True, ("A",), tmp_path, {})
    module, _ = plan.build()
    module._trainer = type("T", (), {"global_step": update})()  # type: ignore[assignment]
    module.on_train_batch_start()
    return {n for n, p in module.model.base_model.named_parameters() if p.requires_grad}


def of_blocks(names: set[str], *blocks: int) -> set[str]:
    return {n for n in names if n.startswith(tuple(f"encoder.layers.{k}." for k in blocks))}


def test_the_same_blocks_are_unfrozen_with_their_own_weights_or_with_random_ones(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """The arm that tells re-initialising from training longer."""
    folder, keys = folders["wav2vec2_base"], {"freeze_updates": 3}
    everything = trained(folder, tmp_path, 3, **keys)
    top = of_blocks(everything, 1, 2)
    assert top
    assert trained(folder, tmp_path, 0, **keys) == set()
    assert trained(folder, tmp_path, 0, reinit_top=2, **keys) == top
    assert trained(folder, tmp_path, 0, unfreeze_top=2, **keys) == top
    late = {"reinit_top": 2, "freeze_exclude_reinit": False}
    assert trained(folder, tmp_path, 0, unfreeze_top=1, **late, **keys) == of_blocks(everything, 2)
    for choice in ({"reinit_top": 2}, {"unfreeze_top": 2}, {"unfreeze_top": 2, "reinit_top": 1}):
        assert trained(folder, tmp_path, 3, **choice, **keys) == everything


def test_frozen_blocks_never_train_and_convolutions_do_if_asked(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["wav2vec2_base"]
    everything = trained(folder, tmp_path, 9)
    frozen = trained(folder, tmp_path, 9, freeze_layers=["T3", "T1"], freeze_updates=5)
    assert frozen == everything - of_blocks(everything, 0, 2)
    convolutions = trained(folder, tmp_path, 9, freeze_convolutions=False) - everything
    assert convolutions == {n for n in convolutions if n.startswith("feature_extractor.")} != set()
    waiting = trained(folder, tmp_path, 0, freeze_convolutions=False, freeze_updates=5)
    assert waiting == set()


def test_a_run_without_its_last_block_exports_what_it_trained(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["wav2vec2_base"]
    done = finetune(
        tmp_path,
        folder,
        "finetune.drop_top=1",
        "finetune.unfreeze_top=1",
        "finetune.freeze_updates=9",
        "finetune.updates=2",
        "finetune.valid_every=2",
    )
    assert done.metadata["blocks"] == {"dropped": ["T3"], "unfrozen": ["T2"]}
    before = load_file(folder / "model.safetensors")
    after = load_file(done.folder / "model" / "model.safetensors")
    encoder = {
        n.removeprefix("wav2vec2."): t for n, t in after.items() if n.startswith("wav2vec2.")
    }
    assert set(before) - set(encoder) == of_blocks(set(before), 2)
    moved = {n for n, t in encoder.items() if not torch.equal(t, before[n])}
    # A bias of keys adds the same to all scores of a query: its gradient is rounding alone.
    still = of_blocks(set(before), 1) - moved
    assert moved <= of_blocks(set(before), 1)
    assert still <= {"encoder.layers.1.attention.k_proj.bias"}
    assert read_blueprint(configured(done.folder / "model")).description.layers[-1].name == "T2"
