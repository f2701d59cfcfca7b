"""Adapters, a weighted sum of layers and rates by depth: what trains, and what is exported."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from marks import slow
from models import configured, noise, save
from running import Finished
from safetensors.torch import load_file
from test_blocks import trained
from test_ctc import finetune, module_of
from test_linear_head import read_as_told
from test_reinit import recipe
from transformers import AutoModel, Wav2Vec2ForCTC

from common.config.finetune import AdaptersConfig
from common.encoder.architecture import read_blueprint
from common.encoder.encoder import load_encoder
from common.records import StrataError
from finetune.ctc import recogniser
from finetune.ctc.adapters import BOTTLENECK, adapt, merged
from finetune.ctc.blocks import plan_blocks, rates_of
from finetune.ctc.recogniser import check_recipe
from finetune.ctc.text import Vocabulary, read_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

NAMES = ["wav2vec2_base", "wav2vec2_lv60", "wavlm_base", "wav2vec2_bert", "whisper"]
LORA = AdaptersConfig(method="lora", rank=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in NAMES}


def check(folder: Path, **keys: Any) -> None:
    check_recipe(recipe(**keys), read_blueprint(configured(folder)))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("wav2vec2_base", ["q_proj", "v_proj"]),
        ("whisper", ["q_proj", "v_proj", "fc1"]),
        slow("wav2vec2_bert", ["linear_q", "linear_v"]),
        slow("wavlm_base", ["intermediate_dense", "output_dense"]),
    ],
)
def test_loras_maps_begin_with_nothing_and_are_added_into_the_weights(
    name: str, targets: list[str], folders: dict[str, Path]
) -> None:
    adapters = AdaptersConfig(method="lora", rank=2, targets=targets)
    check(folders[name], adapters=adapters)
    config = configured(folders[name])
    blueprint = read_blueprint(config)
    model, _ = recogniser.load(recipe(), Vocabulary.of_text(["A"]), config, blueprint, True)
    model.eval()
    inputs = next(iter(blueprint.feature_extractor([noise(16_000)]).values()))
    torch.nn.init.normal_(model.lm_head.weight)
    names = set(model.state_dict())
    with torch.no_grad():
        before = model(inputs).logits
        added = adapt(model, (), [], adapters, 0)
        torch.testing.assert_close(model(inputs).logits, before)
        assert {n.split(".")[-4] for n in added} == set(targets)
        for tensor_name, p in model.named_parameters():
            if "lora_B" in tensor_name:
                torch.nn.init.normal_(p)
        changed = model(inputs).logits
        assert not torch.allclose(changed, before)
        whole = merged(model, adapters)
        assert set(whole.state_dict()) == names
        torch.testing.assert_close(whole(inputs).logits, changed, atol=1e-4, rtol=1e-4)


def test_what_has_no_place_for_adapters_is_told(folders: dict[str, Path]) -> None:
    with pytest.raises(
        StrataError, match=r"never calls its q_proj, v_proj .* Others are .*out_proj"
    ):
        check(folders["wavlm_base"], adapters=LORA)
    with pytest.raises(StrataError, match=r"targets=\['q'\]: .* are called .*q_proj"):
        check(folders["whisper"], adapters=AdaptersConfig(method="lora", targets=["q"]))
    mms = AdaptersConfig(method="mms")
    for name in ("wav2vec2_base", "whisper", "wavlm_base"):
        with pytest.raises(StrataError, match=r"method=mms: transformers has no such adapters"):
            check(folders[name], adapters=mms)
    with pytest.raises(
        StrataError, match=r"adapters\.method=lora: the encoder's own weights are frozen"
    ):
        recipe(adapters=LORA, unfreeze_top=1)


def test_adapters_and_fresh_blocks_train_and_nothing_else(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["wav2vec2_base"]
    changed = trained(folder, tmp_path, 9, adapters=LORA, reinit_top=1, freeze_layers=["T1"])
    assert {n for n in changed if "layers.0." in n} == set()
    assert {n for n in changed if "layers.1." in n} == {
        n for n in changed if "layers.1." in n and "lora" in n
    }
    fresh = {n for n in changed if "layers.2." in n and "lora" not in n}
    assert len(fresh) == 16
    assert changed == {n for n in changed if "layers." in n}


@pytest.fixture(scope="module")
def lora(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finetune(
        tmp_path_factory.mktemp("lora"),
        folders["wav2vec2_base"],
        "finetune.adapters.method=lora",
        "finetune.adapters.rank=2",
        "finetune.updates=4",
        "finetune.valid_every=2",
        "finetune.freeze_updates=0",
        "finetune.learning_rate=0.01",
    )


@pytest.mark.slow
def test_a_run_with_lora_exports_a_model_of_the_usual_kind(
    lora: Finished, folders: dict[str, Path]
) -> None:
    assert len(lora.metadata["reinit"]["adapters"]) == 3 * 2 * 2
    folder = lora.folder / "model"
    assert not (folder / "adapter_config.json").exists()
    before = load_file(folders["wav2vec2_base"] / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    encoder = {n.removeprefix("wav2vec2."): t for n, t in after.items() if "lm_head" not in n}
    moved = {n for n, t in encoder.items() if not torch.equal(t, before[n])}
    assert moved == {
        f"encoder.layers.{k}.attention.{p}_proj.weight" for k in range(3) for p in "qv"
    }
    for name in moved:
        assert torch.linalg.matrix_rank(encoder[name] - before[name]) <= 2
    assert Wav2Vec2ForCTC.from_pretrained(folder).config.num_hidden_layers == 3


@pytest.mark.slow
def test_mms_adapters_are_trained_kept_and_gone_on_with(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["wav2vec2_lv60"]
    keys = ("finetune.updates=2", "finetune.valid_every=1", "finetune.freeze_updates=0")
    options = (*keys, "finetune.adapters.method=mms", "finetune.adapters.rank=4")
    done = finetune(tmp_path / "one", folder, *options)
    before = load_file(folder / "model.safetensors")
    after = load_file(done.folder / "model" / "model.safetensors")
    new = {n for n in after if BOTTLENECK in n}
    assert len(new) == 3 * 6 == len(done.metadata["reinit"]["adapters"])
    assert all(torch.equal(after[f"wav2vec2.{n}"], t) for n, t in before.items())
    assert AutoModel.from_pretrained(done.folder / "model").config.adapter_attn_dim == 4
    again = finetune(
        tmp_path / "two",
        done.folder / "model",
        *options,
        "finetune.characters=checkpoint",
        "finetune.learning_rate=1e-9",
    )
    kept = load_file(again.folder / "model" / "model.safetensors")
    torch.testing.assert_close(kept, after, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_head_on_a_weighted_sum_is_trained_kept_and_read_again(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """On a model that has a CTC class, without its last block; as its README says."""
    options = ("finetune.weighted_sum=true", "finetune.updates=2", "finetune.valid_every=1")
    more = ("finetune.drop_top=1", "finetune.freeze_updates=9", "finetune.learning_rate=0.01")
    done = finetune(tmp_path / "one", folders["wav2vec2_base"], *options, *more)
    folder = done.folder / "model"
    head = load_file(folder / "head.safetensors")
    assert head["layer_weights"].shape == (3,)  # T0, T1, T2
    assert head["layer_weights"].abs().min() > 0
    config = configured(folder)
    blueprint = read_blueprint(config)
    vocabulary = Vocabulary.of_tokenizer(read_tokenizer(blueprint.checkpoint))
    assert list(vocabulary.tokens) == done.metadata["characters"]
    model, _ = recogniser.load(recipe(), vocabulary, config, blueprint, fresh_head=False)
    waveform = noise(16_000)
    with torch.inference_mode():
        logits = model.eval()(blueprint.feature_extractor([waveform])["input_values"]).logits
    torch.testing.assert_close(read_as_told(folder, waveform)["logits"], logits)
    hidden_states: dict[str, torch.Tensor] = {}
    load_encoder(config).run(
        [waveform], lambda layer, h, _: hidden_states.update({layer.name: h.clone()})
    )
    summed = sum(
        weight * hidden_states[f"T{k}"] for k, weight in enumerate(head["layer_weights"].softmax(0))
    )
    torch.testing.assert_close(summed @ head["weight"].T + head["bias"], logits)
    again = finetune(
        tmp_path / "two",
        folder,
        "finetune.characters=checkpoint",
        "finetune.updates=1",
        "finetune.valid_every=1",
        "finetune.freeze_updates=9",
        "finetune.learning_rate=1e-9",
    )
    one, two = (
        pd.read_csv(run.folder / "hypotheses.csv", keep_default_na=False)["hypothesis"]
        for run in (done, again)
    )
    assert one.tolist() == two.tolist()


def test_a_layer_that_is_dropped_has_no_place_in_a_sum() -> None:
    with pytest.raises(StrataError, match=r"weighted_sum=true and finetune\.layerdrop=0\.1"):
        recipe(weighted_sum=True, layerdrop=0.1)


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_lv60"])
def test_rates_fall_with_depth(name: str, folders: dict[str, Path]) -> None:
    keys = {"layer_decay": 0.5, "learning_rate": 0.1, "head_factor": 3.0}
    module, blueprint, _ = module_of(folders[name], ["A"], **keys)
    settings = recipe(**keys)
    blocks = plan_blocks(settings, configured(folders[name]), blueprint)
    module.rates = rates_of(module.model, blocks, settings.layer_decay)
    names = {id(p): n for n, p in module.model.named_parameters()}
    rates = {
        names[id(p)]: group["initial_lr"]
        for group in module.configure_optimizers()["optimizer"].param_groups
        for p in group["params"]
    }
    for part, rate in (
        ("lm_head.bias", 0.3),
        ("wav2vec2.encoder.layers.2.attention.k_proj.bias", 0.1),
        ("wav2vec2.encoder.layers.0.layer_norm.bias", 0.025),
        ("wav2vec2.feature_projection.projection.bias", 0.0125),
        ("wav2vec2.encoder.layer_norm.bias", 0.1 if name == "wav2vec2_lv60" else 0.0125),
    ):
        assert rates[part] == pytest.approx(rate), part
