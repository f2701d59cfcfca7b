"""Layers of small random models of every architecture, against transformers' own and by hand."""

import gc
import weakref
from functools import cache, partial

import models
import numpy as np
import pytest
import torch
from layers import alone, heard_shift, inputs_of, layers_of, reference
from marks import slow
from models import ARCHITECTURES, configured, noise
from torch.nn import functional

from common.config import ModelConfig
from common.encoder.encoder import batch_limits, describe, load_encoder
from common.records import StrataError

pytestmark = pytest.mark.usefixtures("one_thread")
POSITIONS = {"whisper": "embed_positions", "voxtral": "embed_positions"}  # added tables
every_architecture = pytest.mark.parametrize("name", list(ARCHITECTURES))
# Norms over groups and over layers, frames made of mel bands, a window of fixed length.
UNLIKE = ("wav2vec2_base", "wavlm_large", "wav2vec2_bert", "whisper")
unlike_first = pytest.mark.parametrize(
    "name", [name if name in UNLIKE else slow(name) for name in ARCHITECTURES]
)
pre_norm = [
    name if name in UNLIKE else slow(name) for name, a in ARCHITECTURES.items() if a.final_norm
]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder by architecture, not to be changed."""
    return models.save_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def plain(checkpoints):
    """Encoders by architecture as they load by default, for tests that leave them as they are."""
    return cache(lambda name: load_encoder(configured(checkpoints[name]), "cpu"))


@every_architecture
def test_blocks_are_the_hidden_states_of_transformers(plain, checkpoints, name):
    waveform = noise(9_001)
    model, extractor = reference(checkpoints[name])
    with torch.no_grad():
        out = model(**inputs_of(extractor, waveform), output_hidden_states=True)
    layers = alone(plain(name), waveform)
    blocks = {n: frames for n, frames in layers.items() if n.startswith("T")}
    entrance, *_ = out.hidden_states
    if name in POSITIONS:
        entrance = entrance - model.get_submodule(POSITIONS[name]).weight
    *rest, last = blocks.values()
    assert list(blocks) == [f"T{i}" for i in range(len(out.hidden_states))]
    states = (entrance, *out.hidden_states[1:-1])
    for frames, hidden in zip(rest, states, strict=True):
        torch.testing.assert_close(frames, hidden[0, : len(frames)], rtol=0, atol=1e-5)
    if name == "sew":  # Whose output is brought back to the rate before the blocks.
        return
    if ARCHITECTURES[name].final_norm:
        norm = getattr(model, "encoder", model).layer_norm
        assert not torch.allclose(last, out.last_hidden_state[0, : len(last)], atol=1e-3)
        last = norm(last.clone()).detach()
    torch.testing.assert_close(last, out.last_hidden_state[0, : len(last)], rtol=0, atol=1e-5)


def convolved(waveform, state, config, normalise):
    """(D, T) after each convolutional layer of the wav2vec 2.0 family, written out."""
    x = torch.from_numpy(waveform)[None, None]
    if normalise:
        x = (x - x.mean()) / (x.var(correction=0) + 1e-7).sqrt()
    for i, stride in enumerate(config.conv_stride):
        part = f"feature_extractor.conv_layers.{i}."
        x = functional.conv1d(x, state[f"{part}conv.weight"], state.get(f"{part}conv.bias"), stride)
        weight, bias = state.get(f"{part}layer_norm.weight"), state.get(f"{part}layer_norm.bias")
        if weight is not None and f"{part[:-2]}1.layer_norm.weight" not in state:
            x = functional.group_norm(x, len(weight), weight, bias)
        elif weight is not None:
            x = functional.layer_norm(x.mT, weight.shape, weight, bias).mT
        x = functional.gelu(x)
        yield x[0]


@pytest.mark.parametrize(
    "name", [n for n in ARCHITECTURES if n not in ("wav2vec2_bert", "moonshine", *POSITIONS)]
)
def test_convolutional_layers_by_hand(plain, checkpoints, name):
    waveform = noise(4_000)
    model, extractor = reference(checkpoints[name])
    layers = alone(plain(name), waveform)
    by_hand = list(convolved(waveform, model.state_dict(), model.config, extractor.do_normalize))
    assert [n for n in layers if n.startswith("C")] == [f"C{i + 1}" for i in range(len(by_hand))]
    for i, expected in enumerate(by_hand, start=1):
        torch.testing.assert_close(layers[f"C{i}"], expected.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", POSITIONS)
def test_convolutions_of_mel_models_by_hand(plain, checkpoints, name):
    waveform = noise(9_001)
    model, extractor = reference(checkpoints[name])
    x = inputs_of(extractor, waveform).input_features
    state = model.state_dict()
    layers = alone(plain(name), waveform)
    for i, stride in ((1, 1), (2, 2)):
        weight, bias = state[f"conv{i}.weight"], state[f"conv{i}.bias"]
        x = functional.gelu(functional.conv1d(x, weight, bias, stride=stride, padding=1))
        frames = layers[f"C{i}"]
        assert len(frames) == -(-len(waveform) // (160 * i))
        torch.testing.assert_close(frames, x[0, :, : len(frames)].T, rtol=0, atol=1e-5)
    torch.testing.assert_close(layers["T0"], frames, rtol=0, atol=1e-5)


def test_moonshine_convolutions_by_hand(plain, checkpoints):
    waveform = noise(9_001)
    model, extractor = reference(checkpoints["moonshine"])
    layers = alone(plain("moonshine"), waveform)
    x = inputs_of(extractor, waveform).input_values[:, None]
    x = model.groupnorm(torch.tanh(model.conv1(x))).detach()
    torch.testing.assert_close(layers["C1"], x[0].T, rtol=0, atol=1e-5)
    for i in (2, 3):
        x = functional.gelu(model.get_submodule(f"conv{i}")(x)).detach()
        torch.testing.assert_close(layers[f"C{i}"], x[0].T, rtol=0, atol=1e-5)


@every_architecture
def test_only_added_tables_of_positions_are_taken_out_of_t0(plain, checkpoints, name):
    model, _ = reference(checkpoints[name])
    positions = plain(name)._positions_of(16_000)
    if name not in POSITIONS:
        assert positions is None
        return
    table = model.get_submodule(POSITIONS[name]).weight
    torch.testing.assert_close(positions, table, rtol=0, atol=1e-5)
    torch.testing.assert_close(  # the blocks still have it
        plain(name).model.get_submodule(POSITIONS[name]).weight, table, rtol=0, atol=0
    )


@unlike_first
def test_a_batch_gives_what_single_utterances_give(checkpoints, name):
    encoder = load_encoder(configured(checkpoints[name], batch_size=2), "cpu")
    waveforms = [noise(n, seed) for seed, n in enumerate((12_345, 5_000, 8_000, 7_777, 8_000))]
    batches = encoder.batches([len(w) for w in waveforms])
    assert sorted(i for batch in batches for i in batch) == list(range(len(waveforms)))
    assert max(map(len, batches)) == 2
    for batch in batches:
        together = layers_of(encoder, [waveforms[i] for i in batch])
        for place, i in enumerate(batch):
            for layer, frames in alone(encoder, waveforms[i]).items():
                torch.testing.assert_close(together[layer][place], frames, rtol=0, atol=1e-5)


@every_architecture
def test_the_probe_tells_which_models_may_be_padded(checkpoints, name):
    encoder = load_encoder(configured(checkpoints[name], batch_size=2), "cpu")
    assert encoder.padding_safe is ARCHITECTURES[name].safe
    pairs = [[1, 3], [0, 2]] if encoder.padding_safe else [[1, 3], [0], [2]]
    assert encoder.batches([7_000, 5_000, 8_000, 5_000]) == pairs


def test_batches_of_one_keep_the_order_and_need_no_probe(checkpoints):
    encoder = load_encoder(configured(checkpoints["wav2vec2_base"]), "cpu")
    encoder.model = None
    assert encoder.batches([3, 1, 2]) == [[0], [1], [2]]


def test_batches_hold_so_many_seconds_with_their_padding(checkpoints):
    lengths = [4_000, 32_000, 8_000, 16_000, 8_000, 20_000]
    short = load_encoder(
        configured(checkpoints["wav2vec2_lv60"], batch_seconds=2, batch_size=3), "cpu"
    )
    assert short.padding_safe
    assert short.batches(lengths) == [[0, 2, 4], [3], [5], [1]]
    longer = load_encoder(
        configured(checkpoints["wav2vec2_lv60"], batch_seconds=3, batch_size=3), "cpu"
    )
    assert longer.batches(lengths) == [[0, 2, 4], [3, 5], [1]]
    unsafe = load_encoder(configured(checkpoints["wav2vec2_base"], batch_seconds=20), "cpu")
    assert unsafe.batches(lengths) == [[0], [2, 4], [3], [5], [1]]


def test_batches_are_long_on_a_gpu_and_single_on_a_cpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    model = partial(ModelConfig, name="small", checkpoint="nowhere")
    assert batch_limits(model(), cpu) == (1, None)
    assert batch_limits(model(), gpu) == (30, 60.0)
    assert batch_limits(model(batch_size=4), cpu) == batch_limits(model(batch_size=4), gpu)
    assert batch_limits(model(batch_size=4), gpu) == (4, None)
    assert batch_limits(model(batch_seconds=10), cpu) == (5, 10)
    assert batch_limits(model(batch_seconds=1), cpu) == (2, 1)
    with pytest.raises(StrataError, match=r"model\.batch_seconds=none: auto, or seconds"):
        model(batch_seconds="none")


@unlike_first
def test_geometry_gives_the_frames_of_real_runs(plain, checkpoints, name):
    config = configured(checkpoints[name])
    encoder = plain(name)
    assert encoder.layers == describe(config).layers
    for n in (encoder.min_samples, encoder.min_samples + 1, 3_999, 4_000):
        frames_of = alone(encoder, noise(n))
        for layer in encoder.layers:
            frames = frames_of[layer.name]
            assert frames.shape == (layer.geometry.n_frames(n), layer.dim)


@every_architecture
def test_too_short_audio_names_its_length(plain, name):
    encoder = plain(name)
    n = encoder.min_samples - 1
    with pytest.raises(StrataError, match=f"utterance of {n} samples is too short"):
        encoder.run([noise(n)], lambda *_: None)


def test_whisper_refuses_audio_beyond_its_window(plain):
    encoder = plain("whisper")
    assert encoder.max_samples == 32_000
    with pytest.raises(StrataError, match=r"32001 samples \(2.0 s\) is too long"):
        encoder.run([noise(32_001)], lambda *_: None)


@pytest.mark.parametrize("name", pre_norm)
def test_final_norm_gives_the_last_hidden_state(plain, checkpoints, name):
    waveform = noise(6_000)
    model, extractor = reference(checkpoints[name])
    with torch.no_grad():
        expected = model(**inputs_of(extractor, waveform)).last_hidden_state[0]
    raw = alone(plain(name), waveform)
    normed = alone(load_encoder(configured(checkpoints[name], final_norm=True), "cpu"), waveform)
    assert list(raw) == list(normed)
    torch.testing.assert_close(normed["T3"], expected[: len(normed["T3"])], rtol=0, atol=1e-5)
    for layer in raw.keys() - {"T3"}:
        assert torch.equal(raw[layer], normed[layer])


def test_random_weights_depend_on_their_seed_alone(checkpoints):
    def frames(seed):
        config = configured(checkpoints["wav2vec2_base"], random_init=True, init_seed=seed)
        encoder = load_encoder(config, "cpu")
        return encoder.revision, alone(encoder, noise(4_000))["T3"]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, first = frames(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, second = frames(0)
    other, third = frames(1)
    assert one == again != other
    assert one.startswith("random:0:")
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)


def test_only_the_layers_asked_for_come(plain):
    encoder = plain("hubert_base")
    assert list(layers_of(encoder, [noise(4_000)], only={"T2", "C1"})) == ["C1", "T2"]
    with pytest.raises(StrataError, match=r"no layer T4: it has C1, .*, T3"):
        encoder.run([noise(4_000)], lambda *_: None, only=["T4"])


@pytest.mark.parametrize("name", ["hubert_base", "wavlm_large", "whisper", "moonshine"])
def test_layers_above_the_last_one_wanted_are_not_computed(plain, name):
    """And those that are wanted hold the same bits as in a whole pass."""
    encoder = plain(name)
    calls = []
    top, below = encoder.layers[-1].name, encoder.layers[-2].name
    (hook,) = [hook for hook in encoder._layer_hooks if hook.name == top]
    handle = encoder.model.get_submodule(hook.module).register_forward_pre_hook(
        lambda *_: calls.append(1)
    )
    whole = layers_of(encoder, [noise(8_000)])
    assert len(calls) == 1
    part = layers_of(encoder, [noise(8_000)], only={"T1", below})
    handle.remove()
    assert len(calls) == 1
    assert sorted(part) == sorted({"T1", below})
    for layer, (frames,) in part.items():
        assert torch.equal(frames, whole[layer][0])


def test_nothing_is_kept(plain):
    encoder = plain("wavlm_large")
    seen = {}

    def watch(layer, hidden, n_frames):
        if layer.name == "T2":
            assert seen["C1"]() is None
            assert seen["C7"]() is None
        seen[layer.name] = weakref.ref(hidden.untyped_storage())

    encoder.run([noise(4_000)], watch)
    gc.collect()
    assert len(seen) == 11
    assert all(hidden() is None for hidden in seen.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.model.modules())


def test_hooks_go_when_the_receiver_fails(plain):
    encoder = plain("hubert_base")

    def fail(*_):
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        encoder.run([noise(4_000)], fail)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.model.modules())


def test_train_mode_changes_nothing(checkpoints):
    encoder = load_encoder(configured(checkpoints["wav2vec2_lv60"]), "cpu")
    expected = alone(encoder, noise(4_000))
    encoder.model.train()
    for layer, frames in alone(encoder, noise(4_000)).items():
        assert torch.equal(frames, expected[layer])


def test_fp16_is_closer_to_fp32_than_bf16(plain, checkpoints):
    config = configured(checkpoints["wav2vec2_base"])
    exact = alone(plain("wav2vec2_base"), noise(8_000))
    for layer, frames in alone(load_encoder(config, "cpu", "fp16"), noise(8_000)).items():
        distance = (frames.float() - exact[layer]).norm() / exact[layer].norm()
        assert 0 < distance < 0.01


@unlike_first
def test_bf16_is_close_to_fp32(plain, checkpoints, name):
    config = configured(checkpoints[name])
    exact = alone(plain(name), noise(8_000))
    for layer, frames in alone(load_encoder(config, "cpu", "bf16"), noise(8_000)).items():
        assert frames.dtype in (torch.float32, torch.bfloat16)
        distance = (frames.float() - exact[layer]).norm() / exact[layer].norm()
        assert 0 < distance < 0.06


def test_not_a_number_names_the_layer(checkpoints):
    encoder = load_encoder(configured(checkpoints["wav2vec2_base"]), "cpu")
    with pytest.raises(StrataError, match=r"layer C1 of wav2vec2 .* NaN or infinity"):
        encoder.run([np.full(4_000, np.nan, np.float32)], lambda *_: None)
    with torch.no_grad():
        encoder.model.encoder.layers[1].final_layer_norm.bias.fill_(torch.inf)
    with pytest.raises(StrataError, match="layer T2 "):
        encoder.run([noise(4_000)], lambda *_: None)


def test_a_device_that_is_not_there_is_an_error(checkpoints, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StrataError, match=r"device=cuda: torch sees none here.*cpu.*device=auto"):
        load_encoder(configured(checkpoints["wav2vec2_base"]), "cuda")
    with pytest.raises(StrataError, match=r"precision=tf32 .* runs on cpu: use fp32"):
        load_encoder(configured(checkpoints["wav2vec2_base"]), "auto", "tf32")


@unlike_first
def test_a_change_of_audio_changes_the_frames_that_see_it(plain, name):
    """5 ms with their sign turned: the frames of the last layer before attention that change most.

    On average over where it is they are centred within 2 ms of it.
    """
    encoder = plain(name)
    before = [layer for layer in encoder.layers if layer.part == "cnn"] or [encoder.layers[0]]
    assert abs(heard_shift(encoder, before[-1])) < 32
