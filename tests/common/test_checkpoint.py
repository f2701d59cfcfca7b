"""Folders that hold what they should, and the many ways in which they do not."""

import json
import os
import pickle
from pathlib import Path

import models
import pytest
import torch
import transformers
from models import configured, noise
from safetensors.torch import load_file, save_file

from common.encoder.checkpoint import revision_of
from common.encoder.encoder import describe, load_encoder
from common.records import StrataError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    """A complete wav2vec 2.0 model, to be spoilt."""
    return models.save("wav2vec2_base", tmp_path / "model")


def edit(path: Path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def last_layer(config):
    frames = []
    load_encoder(config, "cpu").run([noise(4_000)], lambda *a: frames.append(a[1].clone()), ["T3"])
    return frames[0]


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_revision_follows_the_contents(folder):
    config = configured(folder)
    before = revision_of(config)
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 16
    assert load_encoder(config, "cpu").revision == before == revision_of(config)
    edit(folder / "preprocessor_config.json", do_normalize=False)
    between = revision_of(config)
    change_weights(folder, lambda state: state["encoder.layer_norm.bias"].add_(1))
    assert len({before, between, revision_of(config)}) == 3


def test_the_feature_extractor_is_obeyed(folder):
    normalised = last_layer(configured(folder))
    edit(folder / "preprocessor_config.json", do_normalize=False)
    assert not torch.allclose(last_layer(configured(folder)), normalised, atol=1e-3)


def test_a_key_decides_whether_the_waveform_is_normalised(folder):
    """As fairseq did not for wav2vec2-base and HuBERT-base, whose folders say that it is."""
    normalised = last_layer(configured(folder))
    raw = last_layer(configured(folder, normalise=False))
    assert torch.equal(last_layer(configured(folder, normalise=True)), normalised)
    edit(folder / "preprocessor_config.json", do_normalize=False)
    assert torch.equal(last_layer(configured(folder)), raw)
    revisions = {revision_of(configured(folder, normalise=key)) for key in (None, True, False)}
    assert len(revisions) == 3
    models.save("whisper", folder)
    with pytest.raises(StrataError, match=r"model.normalise=true, but its Whisper.* no waveform"):
        describe(configured(folder, normalise=True))


def test_a_folder_as_those_of_2021(folder):
    """Weights as .bin alone, a preprocessor file that does not say whose it is."""
    expected = last_layer(configured(folder))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"parametrizations.weight.original0": "weight_g"}
    parts |= {"parametrizations.weight.original1": "weight_v"}
    old = {}
    for key, tensor in state.items():
        new = next((part for part in parts if key.endswith(part)), "")
        old[f"wav2vec2.{key.removesuffix(new)}{parts.get(new, '')}"] = tensor
    assert "wav2vec2.encoder.pos_conv_embed.conv.weight_g" in old
    torch.save(old, folder / "pytorch_model.bin")
    file = folder / "preprocessor_config.json"
    content = json.loads(file.read_text())
    del content["feature_extractor_type"]
    file.write_text(json.dumps(content))
    assert torch.equal(last_layer(configured(folder)), expected)


def test_another_toolkits_file_says_what_to_do(tmp_path):
    (tmp_path / "wav2vec_small.pt").write_bytes(b"")
    with pytest.raises(StrataError, match=r"another toolkit, such as fairseq.* docs/models.md"):
        describe(configured(tmp_path / "wav2vec_small.pt"))


def test_a_relative_checkpoint_is_seen_from_the_repository_too(tmp_path, monkeypatch):
    config = models.ModelConfig(
        name="tiny", checkpoint="assets/wav2vec2_tiny", random_init=True, init_seed=3
    )
    here = revision_of(config)
    monkeypatch.chdir(tmp_path)
    assert revision_of(config) == here


def test_no_such_folder(tmp_path):
    with pytest.raises(StrataError, match=r"model.checkpoint=/.*nowhere.*no such folder"):
        describe(configured(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", r"has no config.json; it holds model.safetensors, preprocessor_config"),
        ("preprocessor_config.json", "has no preprocessor_config.json .* fine-tuned model takes"),
    ],
)
def test_a_description_needs_both_small_files(folder, file, message):
    (folder / file).unlink()
    with pytest.raises(StrataError, match=message):
        describe(configured(folder))


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    describe(configured(folder))
    with pytest.raises(StrataError, match=r"no model.safetensors .* model.random_init=true"):
        load_encoder(configured(folder), "cpu")
    load_encoder(configured(folder, random_init=True), "cpu")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_broken_json(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(StrataError, match=file):
        describe(configured(folder))


def test_missing_weights_are_never_random(folder):
    lost = (
        "encoder.layers.1.attention.k_proj.weight",
        "feature_extractor.conv_layers.2.conv.weight",
    )
    change_weights(folder, lambda state: [state.pop(name) for name in lost])
    with pytest.raises(StrataError, match=r"lacks 2 weights of the encoder \(encoder.layers.1.att"):
        load_encoder(configured(folder), "cpu")


def test_what_no_layer_needs_may_be_missing(folder):
    expected = last_layer(configured(folder))
    change_weights(folder, lambda state: state.pop("masked_spec_embed"))
    assert torch.equal(last_layer(configured(folder)), expected)


def test_more_layers_than_the_config_has_are_an_error(folder):
    edit(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(StrataError, match=r"holds \d+ weights .*encoder.layers.2"):
        load_encoder(configured(folder), "cpu")


def test_another_weight_without_use_is_told(folder, caplog):
    change_weights(folder, lambda state: state.update({"encoder.left_over": torch.ones(1)}))
    load_encoder(configured(folder), "cpu")
    assert "1 weights have no use: encoder.left_over" in caplog.text


def test_layer_norms_called_gamma_and_beta(folder):
    expected = last_layer(configured(folder))
    state = load_file(folder / "model.safetensors")
    new = {"norm.weight": "norm.gamma", "norm.bias": "norm.beta"}
    old = {
        next((k.replace(n, o) for n, o in new.items() if k.endswith(n)), k): v
        for k, v in state.items()
    }
    assert sum(name.endswith(("gamma", "beta")) for name in old) == 18
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(last_layer(configured(folder)), expected)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantized_weights_are_refused(folder, kind, pickled):
    name = "encoder.layers.1.attention.k_proj.weight"
    change_weights(folder, lambda state: state.update({name: state[name].mul(100).to(kind)}))
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    with pytest.raises(StrataError, match=rf"1 weights of .* are quantized, .*\({name}\)"):
        load_encoder(configured(folder), "cpu")


def test_a_feature_extractor_saved_with_its_tokenizer(folder):
    expected = last_layer(configured(folder))
    content = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    nested = {"feature_extractor": content, "processor_class": "Wav2Vec2Processor"}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert torch.equal(last_layer(configured(folder)), expected)


def test_weights_of_another_size(folder):
    edit(folder / "config.json", hidden_size=64)
    with pytest.raises(StrataError, match="cannot be read"):
        load_encoder(configured(folder), "cpu")


def test_a_head_is_no_obstacle(folder, tmp_path):
    base = transformers.AutoModel.from_pretrained(folder)
    head = transformers.AutoModelForCTC.from_config(base.config)
    head.base_model.load_state_dict(base.state_dict())
    head.save_pretrained(tmp_path / "ctc")
    (tmp_path / "ctc/preprocessor_config.json").write_bytes(
        (folder / "preprocessor_config.json").read_bytes()
    )
    expected = last_layer(configured(folder))
    assert torch.equal(last_layer(configured(tmp_path / "ctc")), expected)


def test_pickled_weights_are_read_as_weights_only(folder):
    expected = last_layer(configured(folder))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(last_layer(configured(folder)), expected)


def test_pickled_code_is_not_run(folder, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    (folder / "model.safetensors").unlink()
    torch.save({"encoder.layer_norm.bias": Attack()}, folder / "pytorch_model.bin")
    with pytest.raises(StrataError, match="cannot be read"):
        load_encoder(configured(folder), "cpu")
    assert not (tmp_path / "attacked").exists()
    pickle.loads(pickle.dumps(Attack()))
    assert (tmp_path / "attacked").exists()  # It would have worked.


def test_code_of_a_checkpoint_is_not_run(folder, tmp_path):
    marker = tmp_path / "attacked"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: ...\n")
    edit(folder / "config.json", model_type="novel", auto_map={"AutoConfig": "code.Config"})
    with pytest.raises(StrataError, match="never runs code"):
        describe(configured(folder))
    assert not marker.exists()


@pytest.mark.parametrize("spoil", ["cut", "pointer"])
def test_damaged_weights(folder, spoil):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1000] if spoil == "cut" else b"version https://git-lfs.github.com")
    with pytest.raises(StrataError, match=r"model.safetensors \(\d+ bytes\).*Git LFS"):
        load_encoder(configured(folder), "cpu")


def test_weights_in_shards(folder):
    expected = last_layer(configured(folder))
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert torch.equal(last_layer(configured(folder)), expected)
    sorted(folder.glob("model-*.safetensors"))[0].unlink()
    with pytest.raises(StrataError, match="has no model-00001"):
        load_encoder(configured(folder), "cpu")


def test_a_text_model_is_refused(folder):
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
    transformers.BertConfig(**size).save_pretrained(folder)
    with pytest.raises(StrataError, match="`bert` is no speech encoder"):
        describe(configured(folder))
    transformers.BartConfig(d_model=16, vocab_size=8).save_pretrained(folder)
    with pytest.raises(StrataError, match="`bart` is no speech encoder"):
        describe(configured(folder))


def test_another_kind_of_feature_extractor_is_refused(folder):
    edit(folder / "preprocessor_config.json", feature_extractor_type="ClapFeatureExtractor")
    with pytest.raises(StrataError, match="ClapFeatureExtractor"):
        describe(configured(folder))


def test_another_sampling_rate_is_refused(folder):
    edit(folder / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(StrataError, match="takes 8000 Hz"):
        describe(configured(folder))
