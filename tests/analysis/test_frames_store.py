"""Frames that a forward pass writes to disk, against the encoder's own, one utterance at a time."""

from pathlib import Path

import models
import numpy as np
import pytest
import torch

from analysis.forward.consumers import Item
from analysis.forward.frame_writer import FrameWriter
from analysis.forward.pooling import grid_geometry, to_grid
from analysis.forward.stream import stream
from analysis.metrics.frames import Frames, load_frames
from analysis.sampling.segments import Stretches
from common.cache.cache import Entry
from common.cache.growing import GrowingArray
from common.encoder.architecture import Layer
from common.encoder.encoder import Encoder
from common.encoder.frames import FrameGeometry
from common.records import Corpus, Interval, StrataError, Utterance
from common.timing import Stopwatch

LENGTHS = [9000, 8000, 100, 16_000, 12_345]  # the third is too short for a frame

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    waves = [models.noise(n, seed=k) for k, n in enumerate(LENGTHS)]
    utterances = [
        Utterance(f"u{k}", f"s{k % 2}", "", len(wave), {}, lambda wave=wave: wave)
        for k, wave in enumerate(waves)
    ]
    return Corpus("toy", "all", "none", tuple(utterances), {}, "print")


def hidden_of(encoder: Encoder, utterance: Utterance) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}

    def keep(layer: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
        out[layer.name] = to_grid(hidden[0, : lengths[0]], layer.geometry).clone()

    encoder.run([utterance.read()], keep)
    return out


def collected(
    folder: Path, encoder: Encoder, corpus: Corpus, stretches: Stretches, stored: str
) -> tuple[Entry, dict[str, int]]:
    entry = Entry(folder)
    layers = [layer for layer in encoder.layers if layer.name in ("C6", "T0", "T3")]
    writer = FrameWriter(stretches, entry, layers, stored)
    passed = stream(corpus, encoder, [writer], Stopwatch(), batch_size=2)
    assert all(entry.has(layer.name) for layer in layers)
    return entry, passed.dropped


def loaded(
    entry: Entry, layer: Layer, stretches: Stretches, corpus: Corpus, chosen: list[int]
) -> Frames:
    geometry = grid_geometry(layer.geometry)
    utterances = corpus.utterances
    return load_frames(
        entry, layer.name, geometry, stretches, np.array(chosen), utterances, (), "word", 7
    )


@pytest.mark.parametrize(("stored", "atol"), [("float32", 1e-5), ("float16", 2e-3)])
def test_whole_utterances_come_back_with_their_own_frames(
    stored: str, atol: float, tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    stretches = Stretches(np.arange(len(LENGTHS)))
    entry, dropped = collected(tmp_path, encoder, corpus, stretches, stored)
    assert dropped["utterance: too short or too long for the model"] == 1
    for layer in encoder.layers:
        if not entry.has(layer.name):
            continue
        frames = loaded(entry, layer, stretches, corpus, [4, 2, 0])
        assert [u.id for u in frames.utterances] == [
            "u4",
            "u0",
        ]  # u2 has no frame, nobody its place
        assert frames.hidden.dtype == stored
        assert isinstance(frames.hidden, np.memmap)
        assert frames.n_samples.tolist() == [12_345, 9000]
        for k, utterance in enumerate(frames.utterances):
            expected = hidden_of(encoder, utterance)[layer.name].numpy()
            np.testing.assert_allclose(frames.of(k), expected, atol=atol, rtol=atol)
        assert frames.shape == (sum(len(frames.of(k)) for k in range(2)), layer.dim)


@pytest.mark.parametrize(("end", "clipped"), [(8680, 0), (8681, 1), (9000, 1)])
def test_a_stretch_that_ends_after_the_last_frame_is_counted(
    end: int, clipped: int, tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    stretches = Stretches(np.array([0]), np.array([8000]), np.array([end]))  # u0 has 27 frames
    _, dropped = collected(tmp_path, encoder, corpus, stretches, "float32")
    assert dropped["stretches clipped to the utterance's frames"] == clipped
    assert dropped["stretches without a frame"] == 0


def test_stretches_have_the_frames_that_pooling_would_take(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    start, end = np.array([0, 3000, 8900, 4000]), np.array([3201, 5000, 9500, 4001])
    stretches = Stretches(np.array([0, 0, 0, 3]), start, end)
    entry, dropped = collected(tmp_path, encoder, corpus, stretches, "float32")
    assert dropped["stretches without a frame"] == 1  # 8900 to 9500: past u0's last frame
    (layer,) = (layer for layer in encoder.layers if layer.name == "T3")
    frames = loaded(entry, layer, stretches, corpus, [0, 1, 2, 3])
    hidden = {k: hidden_of(encoder, corpus.utterances[k])["T3"].numpy() for k in (0, 3)}
    expected = [hidden[0][0:10], hidden[0][9:16], hidden[3][12:13]]
    assert len(frames.utterances) == 3
    for k, rows in enumerate(expected):
        np.testing.assert_allclose(frames.of(k), rows, atol=1e-5)


def test_values_that_the_type_cannot_hold_are_an_error(tmp_path: Path) -> None:
    layer = Layer("T0", "transformer", 0, 2, FrameGeometry(hop=320, receptive_field=400))
    corpus_part = Stretches(np.array([0]))
    for stored, value, message in (
        ("float16", 7e4, "values up to 7e.04, more than float16 holds"),
        ("float32", np.inf, "NaN or infinite"),
    ):
        writer = FrameWriter(corpus_part, Entry(tmp_path), [layer], stored)
        writer.begin([Item(0, models.noise(720))])
        with pytest.raises(StrataError, match=message):
            writer.add(layer, [torch.tensor([[0.0, 1.0], [value, 2.0]])])


def test_layers_that_the_entry_has_are_not_computed_again(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    stretches = Stretches(np.arange(2))
    entry, _ = collected(tmp_path, encoder, corpus, stretches, "float32")
    layers = [layer for layer in encoder.layers if layer.name in ("T0", "T3")]
    assert not list(FrameWriter(stretches, entry, layers, "float32").utterances())


def test_an_array_grows_on_disk_and_reads_as_one(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    parts = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate([2, 0, 12_000])]
    with GrowingArray(path, 3, np.float32) as array:
        for part in parts:
            array.append(part)
        with pytest.raises(ValueError, match="2 columns for an array of 3"):
            array.append(np.zeros((1, 2)))
    found = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(found, np.concatenate(parts).astype(np.float32))


def test_the_grid_of_a_fast_layer_has_the_geometry_of_its_windows() -> None:
    fast = FrameGeometry.from_convolutions((10, 3), (5, 2))
    rows = grid_geometry(fast)
    assert (rows.hop, rows.receptive_field) == (160, 400 - (400 - fast.receptive_field) % fast.hop)
    slow = FrameGeometry(receptive_field=400, hop=320)
    assert grid_geometry(slow) == slow


def test_intervals_stay_with_their_stretches(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    units = [Interval(0, 3200, "one"), Interval(0, 900, "lost"), Interval(3200, 6400, "two")]
    stretches = Stretches(
        np.array([0, 2, 3]), np.array([u.start for u in units]), np.array([u.end for u in units])
    )
    entry, _ = collected(tmp_path, encoder, corpus, stretches, "float32")
    (layer,) = (layer for layer in encoder.layers if layer.name == "T0")
    frames = load_frames(
        entry, "T0", layer.geometry, stretches, np.arange(3), corpus.utterances, units, "word", 0
    )
    assert [(i.label, u.id) for i, u in zip(frames.intervals, frames.utterances, strict=True)] == [
        ("one", "u0"),
        ("two", "u3"),
    ]
