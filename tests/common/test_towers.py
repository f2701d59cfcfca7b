"""Encoders inside models that do more than hear, codecs and patches: against transformers' own."""

import json
from functools import cache

import pytest
import soxr
import torch
import towers
import transformers
from layers import alone, heard_shift, layers_of
from marks import slow
from models import configured, noise
from safetensors.torch import load_file, save_file
from towers import KINDS

from common.config import LayersConfig
from common.encoder.encoder import describe, load_encoder
from common.records import SAMPLE_RATE, StrataError

pytestmark = pytest.mark.usefixtures("one_thread")
CODECS = ("encodec", "dac")  # without blocks
# Patches, no convolutional layers, pieces of a window, an encoder behind convolutions of audio.
UNLIKE = ("ast", "parakeet", "qwen2_5_omni", "speecht5")
MASKED = ("qwen2_5_omni", "audio_flamingo_3")  # whose encoders are told what is padding


def unlike_first(names):
    return pytest.mark.parametrize("name", [n if n in UNLIKE else slow(n) for n in names])


every_kind = unlike_first(KINDS)
blocks = unlike_first([name for name in KINDS if name not in CODECS])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a whole model, not to be changed, and its audio tower."""
    root = tmp_path_factory.mktemp("whole")
    return cache(lambda name: (root / name, towers.build(name, root / name)))


@pytest.fixture(scope="module")
def plain(whole):
    """Encoders as they load by default, for tests that leave them as they are."""
    return cache(lambda name: load_encoder(configured(whole(name)[0]), "cpu"))


def inputs_of(folder, waveform):
    """What a checkpoint's feature extractor makes of a waveform, in the way its users call it."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    rate = extractor.sampling_rate
    if rate != SAMPLE_RATE:
        whole = len(waveform) * rate // SAMPLE_RATE
        waveform = soxr.resample(waveform, SAMPLE_RATE, rate)[:whole]
    keys = {"return_attention_mask": True} if folder.name in MASKED else {}
    return dict(extractor(waveform, sampling_rate=rate, return_tensors="pt", **keys))


def expected_states(name, folder, tower, waveform):
    """Hidden states (T, D) that a model itself returns; the mean of patches over frequency."""
    inputs = inputs_of(folder, waveform)
    if name == "qwen2_5_omni":
        features = inputs["input_features"][0][:, inputs["attention_mask"][0].bool()]
        inputs = {
            "input_features": features,
            "feature_lens": torch.tensor([features.shape[1]]),
        }
    if name == "audio_flamingo_3":
        inputs["input_features_mask"] = inputs.pop("attention_mask")
    inputs.pop("padding_mask", None)
    with torch.no_grad():
        states = tower(**inputs, output_hidden_states=True).hidden_states
    if name == "qwen2_5_omni":
        return list(states)
    if name == "ast":
        _, n_times = tower.embeddings.get_shape(tower.config)
        return [h[0, 2:].reshape(-1, n_times, h.shape[-1]).mean(0) for h in states]
    return [h[0] for h in states]


def table(name, tower, n_frames):
    """Absolute positions (T, D) that enter T0."""
    state = dict(tower.named_parameters()) | dict(tower.named_buffers())
    rows = state[KINDS[name].positions]
    if name == "ast":
        _, n_times = tower.embeddings.get_shape(tower.config)
        return rows[0, 2:].reshape(-1, n_times, rows.shape[-1]).mean(0)[:n_frames]
    first = 2 if name == "speech_to_text" else 0  # behind that of padding
    rows = rows[first : first + 100] if name == "qwen2_5_omni" else rows[first:]
    return rows.repeat(-(-n_frames // len(rows)), 1)[:n_frames]


@blocks
@pytest.mark.parametrize("n", [9_001, 33_000])
def test_blocks_are_the_hidden_states_of_transformers(plain, whole, name, n):
    folder, tower = whole(name)
    encoder = plain(name)
    waveform = noise(min(n, encoder.max_samples or n))
    layers = alone(encoder, waveform)
    states = expected_states(name, folder, tower, waveform)
    c, t = KINDS[name].layers
    assert list(layers) == [*(f"C{i + 1}" for i in range(c)), *(f"T{i}" for i in range(t))]
    if KINDS[name].positions:
        states[0] = states[0] - table(name, tower, len(states[0]))
    for i, hidden in enumerate(states[: t - 1]):
        frames = layers[f"T{i}"]
        torch.testing.assert_close(frames, hidden[: len(frames)], rtol=0, atol=2e-5)


@every_kind
def test_frames_are_those_of_real_runs(plain, whole, name):
    encoder = plain(name)
    assert encoder.layers == describe(configured(whole(name)[0])).layers
    for n in (encoder.min_samples, encoder.min_samples + 1, 7_999, 8_000, 20_011):
        found = alone(encoder, noise(n))
        for layer in encoder.layers:
            assert found[layer.name].shape == (layer.geometry.n_frames(n), layer.dim), layer


@every_kind
def test_a_change_of_audio_changes_the_frames_that_see_it(plain, name):
    encoder = plain(name)
    before = [layer for layer in encoder.layers if layer.part == "cnn"] or [encoder.layers[0]]
    # Random weights, of few channels, may hear the one side of what they see better.
    assert abs(heard_shift(encoder, before[-1])) < max(32, before[-1].geometry.hop / 8)


@every_kind
def test_a_batch_gives_what_single_utterances_give(whole, name):
    encoder = load_encoder(configured(whole(name)[0], batch_size=2), "cpu")
    waveforms = [noise(n, seed) for seed, n in enumerate((12_345, 8_000, 7_777, 8_000))]
    for batch in encoder.batches([len(w) for w in waveforms]):
        together = layers_of(encoder, [waveforms[i] for i in batch])
        for place, i in enumerate(batch):
            for layer, frames in alone(encoder, waveforms[i]).items():
                torch.testing.assert_close(together[layer][place], frames, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [slow("encodec"), "dac", slow("mimi")])
def test_convolutional_layers_of_codecs(plain, whole, name):
    folder, tower = whole(name)
    waveform = noise(8_000)
    encoder = plain(name)
    hidden = inputs_of(folder, waveform)["input_values"]
    found = {}
    part = tower.encoder_seanet if name == "mimi" else tower
    parts = part.layers if name != "dac" else [part.conv1, *part.block, part.snake1, part.conv2]
    with torch.no_grad():
        for module in parts:
            before, hidden = hidden.shape[-1], module(hidden)
            first_or_last = module in (parts[0], parts[-1])
            if first_or_last or hidden.shape[-1] < before:
                found[f"C{len(found) + 1}"] = hidden[0].T
    layers = alone(encoder, waveform)
    assert len(found) == 6
    for layer, frames in found.items():
        torch.testing.assert_close(layers[layer], frames, rtol=0, atol=1e-5)


def test_codecs_without_blocks_say_so(plain, whole):
    names = [layer.name for layer in plain("dac").layers]
    with pytest.raises(StrataError, match=r"layers=transformer: this model has none of those.*C6"):
        LayersConfig(select="transformer").choose(names)
    with pytest.raises(StrataError, match="no layer norm after"):
        describe(configured(whole("dac")[0], final_norm=True))


@pytest.mark.parametrize(("name", "prefix"), [("qwen2_audio", ""), ("qwen2_5_omni", "thinker.")])
def test_only_the_audio_towers_weights_are_read(plain, tmp_path, name, prefix):
    """Shards without any of the tower's are not there.

    A whole Qwen2.5-Omni is a thinker, which has the audio tower, and two more models.
    """
    towers.build(name, tmp_path, max_shard_size="40KB")
    index = tmp_path / "model.safetensors.index.json"
    held = json.loads(index.read_text())["weight_map"]
    kept = {file for key, file in held.items() if "audio_tower." in key}
    assert kept < set(held.values())
    for file in set(held.values()):
        if file not in kept:
            (tmp_path / file).unlink()
        elif prefix:
            state = {prefix + key: tensor for key, tensor in load_file(tmp_path / file).items()}
            save_file(state, tmp_path / file, metadata={"format": "pt"})
    whole = {"weight_map": {prefix + key: file for key, file in held.items()}}
    index.write_text(json.dumps(whole))
    if prefix:
        thinker = json.loads((tmp_path / "config.json").read_text())
        transformers.Qwen2_5OmniConfig(thinker_config=thinker).save_pretrained(tmp_path)
    encoder = load_encoder(configured(tmp_path), "cpu")
    assert encoder.revision.startswith("sha256:")
    expected = alone(plain(name), noise(8_000))
    for layer, frames in alone(encoder, noise(8_000)).items():
        torch.testing.assert_close(frames, expected[layer], rtol=0, atol=1e-6)


def test_a_tower_that_lacks_weights_is_not_random(tmp_path):
    towers.build("voxtral", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    lost = next(key for key in state if key.endswith("audio_tower.conv1.weight"))
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StrataError, match=r"lacks 1 weights of the encoder \(conv1.weight\)"):
        load_encoder(configured(tmp_path), "cpu")


def test_random_weights_of_a_tower(whole):
    config = configured(whole("qwen2_audio")[0], random_init=True, init_seed=3)
    one, other = (alone(load_encoder(config, "cpu"), noise(4_000))["T3"] for _ in range(2))
    assert torch.equal(one, other)


def test_what_transformers_cannot_run_here_says_why(tmp_path, whole):
    source, _ = whole("voxtral")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    kind = {"feature_extractor_type": "GraniteSpeechFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kind))
    with pytest.raises(StrataError, match=r"not installed \(Granite.* torchaudio .*does not bring"):
        describe(configured(tmp_path))


def test_frames_of_pieces_laid_end_to_end_are_refused(tmp_path):
    """Qwen3-ASR encodes each second for itself: 13 frames in it, 80 ms apart."""
    tower = {"encoder_layers": 1, "encoder_attention_heads": 4, "d_model": 16, "output_dim": 16}
    tower |= {"encoder_ffn_dim": 16, "downsample_hidden_size": 8}
    config = transformers.Qwen3ASRConfig(audio_config=tower, text_config=towers.TEXT)
    config.save_pretrained(tmp_path)
    transformers.Qwen3ASRFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(StrataError, match=r"`qwen3_asr` is no .* pieces .* at regular times"):
        describe(configured(tmp_path))
