"""Frames that a forward pass writes to disk, against the encoder's own, one utterance at a time."""

from pathlib import Path

import models
import numpy as np
import pytest
import torch
from drawn import segments_of
from geometries import after_convolutions

from analysis.forward.consumers import FrameConsumer, Item
from analysis.forward.pooling import grid_geometry, to_grid
from analysis.forward.stream import stream
from analysis.metrics.frames import Frames, load_frames
from analysis.sampling.segments import Segments, whole_utterances
from common.cache.cache import Entry, GrowingArray
from common.encoder.architecture import Layer
from common.encoder.encoder import Encoder
from common.encoder.frames import FrameGeometry
from common.records import Corpus, StrataError, Utterance
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
    folder: Path, encoder: Encoder, corpus: Corpus, segments: Segments, stored: str
) -> tuple[Entry, dict[str, int]]:
    entry = Entry(folder)
    layers = [layer for layer in encoder.layers if layer.name in ("C6", "T0", "T3")]
    writer = FrameConsumer(segments, entry, layers, stored)
    passed = stream(corpus, encoder, [writer], Stopwatch())
    assert all(entry.has(layer.name) for layer in layers)
    return entry, passed.dropped


def loaded(
    entry: Entry, layer: Layer, segments: Segments, corpus: Corpus, chosen: list[int]
) -> Frames:
    geometry = grid_geometry(layer.geometry)
    utterances = corpus.utterances
    return load_frames(
        entry, layer.name, geometry, segments, np.array(chosen), utterances, "word", 7
    )


@pytest.mark.parametrize(("stored", "atol"), [("float32", 1e-5), ("float16", 2e-3)])
def test_whole_utterances_come_back_with_their_own_frames(
    stored: str, atol: float, tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    segments = whole_utterances(corpus.utterances, np.arange(len(LENGTHS)))
    entry, dropped = collected(tmp_path, encoder, corpus, segments, stored)
    assert dropped["utterance: too short or too long for the model"] == 1
    for layer in encoder.layers:
        if not entry.has(layer.name):
            continue
        frames = loaded(entry, layer, segments, corpus, [4, 2, 0])
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
def test_a_segment_that_ends_after_the_last_frame_is_counted(
    end: int, clipped: int, tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    segments = segments_of([(0, 8000, end, "one")])  # u0 has 27 frames
    _, dropped = collected(tmp_path, encoder, corpus, segments, "float32")
    assert dropped["segments clipped to the utterance's frames"] == clipped
    assert dropped["segments without a frame"] == 0


def test_segments_have_the_frames_that_pooling_would_take(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    rows = [(0, 0, 3201), (0, 3000, 5000), (0, 8900, 9500), (3, 4000, 4001)]
    segments = segments_of([(*row, "one") for row in rows])
    entry, dropped = collected(tmp_path, encoder, corpus, segments, "float32")
    assert dropped["segments without a frame"] == 1  # 8900 to 9500: past u0's last frame
    (layer,) = (layer for layer in encoder.layers if layer.name == "T3")
    frames = loaded(entry, layer, segments, corpus, [0, 1, 2, 3])
    hidden = {k: hidden_of(encoder, corpus.utterances[k])["T3"].numpy() for k in (0, 3)}
    expected = [hidden[0][0:10], hidden[0][9:16], hidden[3][12:13]]
    assert len(frames.utterances) == 3
    for k, rows in enumerate(expected):
        np.testing.assert_allclose(frames.of(k), rows, atol=1e-5)


def test_values_that_the_type_cannot_hold_are_an_error(tmp_path: Path) -> None:
    layer = Layer("T0", "transformer", 0, 2, FrameGeometry(hop=320, receptive_field=400))
    segments = segments_of([(0, 0, 720, "one")])
    for stored, value, message in (
        ("float16", 7e4, "values up to 7e.04, more than float16 holds"),
        ("float32", np.inf, "NaN or infinite"),
    ):
        writer = FrameConsumer(segments, Entry(tmp_path), [layer], stored)
        writer.begin([Item(0, models.noise(720))])
        with pytest.raises(StrataError, match=message):
            writer.add(layer, [torch.tensor([[0.0, 1.0], [value, 2.0]])])


def test_layers_that_the_entry_has_are_not_computed_again(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    segments = whole_utterances(corpus.utterances, np.arange(2))
    entry, _ = collected(tmp_path, encoder, corpus, segments, "float32")
    layers = [layer for layer in encoder.layers if layer.name in ("T0", "T3")]
    assert not list(FrameConsumer(segments, entry, layers, "float32").utterances())


def test_an_array_grows_on_disk_and_reads_as_one(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    parts = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate([2, 0, 12_000])]
    array = GrowingArray(path, 3, np.float32)
    for part in parts:
        array.append(part)
    with pytest.raises(ValueError, match="2 columns for an array of 3"):
        array.append(np.zeros((1, 2)))
    array.close()
    found = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(found, np.concatenate(parts).astype(np.float32))


def test_the_grid_of_a_fast_layer_has_the_geometry_of_its_windows() -> None:
    fast = after_convolutions((10, 3), (5, 2))
    rows = grid_geometry(fast)
    assert (rows.hop, rows.receptive_field) == (160, 400 - (400 - fast.receptive_field) % fast.hop)
    slow = FrameGeometry(receptive_field=400, hop=320)
    assert grid_geometry(slow) == slow


def test_labels_stay_with_their_segments_and_move_alone_when_they_are_shuffled(
    tmp_path: Path, encoder: Encoder, corpus: Corpus
) -> None:
    words = [f"w{k}" for k in range(6)]
    rows = [(0, 1400 * k, 1400 * (k + 1), word) for k, word in enumerate(words)]
    segments = segments_of([*rows, (2, 0, 900, "lost"), (3, 3200, 6400, "two")])
    entry, _ = collected(tmp_path, encoder, corpus, segments, "float32")
    (layer,) = (layer for layer in encoder.layers if layer.name == "T0")
    frames = loaded(entry, layer, segments, corpus, list(range(8)))
    assert labels_of(frames) == [*words, "two"]
    assert [u.id for u in frames.utterances] == ["u0"] * 6 + ["u3"]
    assert frames.segments.start.tolist() == [row[1] for row in rows] + [3200]
    moved = frames.shuffled()
    assert labels_of(moved) != labels_of(frames)
    assert sorted(labels_of(moved)) == sorted(labels_of(frames))
    np.testing.assert_array_equal(moved.segments.start, frames.segments.start)
    np.testing.assert_array_equal(moved.segments.place, frames.segments.place)
    assert moved.utterances == frames.utterances


def labels_of(frames: Frames) -> list[str]:
    return [frames.segments.labels[code] for code in frames.segments.label]
