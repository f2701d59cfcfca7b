"""Vectors of units that a real forward pass keeps, against pooling by hand."""

from pathlib import Path

import models
import numpy as np
import pytest
import torch
from drawn import segments_of
from marks import slow
from passes import (
    WINDOWS,
    Array,
    assert_same,
    collect_frames,
    collect_units,
    crosses_with_mel,
    draw,
    entry_at,
    frames_of,
    on_grid,
    phones,
)

from analysis.forward.collectors import valid_rows
from analysis.forward.consumers import (
    MEL,
    Item,
    MomentConsumer,
    VectorConsumer,
    read_audio_hashes,
)
from analysis.forward.stream import stream
from analysis.targets.mel import mel
from common.encoder.encoder import Encoder
from common.records import Corpus, Interval, Utterance
from common.timing import Stopwatch

pytestmark = pytest.mark.usefixtures("one_thread")


def pooled(rows: Array, start: int, end: int, hop: int, pooling: str, first: int) -> Array:
    """A unit's vector by the rule of docs/metrics.md, from rows (R, d) on its grid.

    `first`: the sample in the middle of the first row; a row stands for a hop around its own.
    """
    centres = first + hop * np.arange(len(rows))
    segment = rows[(centres - hop / 2 < end) & (centres + hop / 2 > start)]
    if pooling == "middle_third":
        cut = (len(segment) + 1) // 3
        inner = segment[cut : len(segment) - cut]
        segment = inner if len(inner) else segment[cut : cut + 1]
    return segment.max(0) if pooling == "max" else segment.mean(0)


def names_of(encoder: Encoder) -> list[str]:
    return [layer.name for layer in encoder.layers]


@pytest.mark.parametrize("pooling", ["middle_third", slow("mean"), slow("max")])
def test_vectors_are_pooled_from_the_frames_of_each_unit(
    pooling: str, corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units = phones(corpus, instances=15)
    entry = entry_at(tmp_path / "entry")
    collect_units(corpus, encoder, units, entry, pooling)
    frames = [frames_of(encoder, u.read()) for u in corpus.utterances]
    valid = valid_rows(entry, names_of(encoder))
    assert 0 < np.count_nonzero(~valid) < len(valid) / 4
    for layer in encoder.layers:
        vectors = entry.open(layer.name)
        hop = 160 if layer.name in WINDOWS else 320
        for row in np.flatnonzero(valid):
            rows = on_grid(layer.name, frames[units.utterance[row]][layer.name])
            start, end = int(units.start[row]), int(units.end[row])
            np.testing.assert_allclose(
                vectors[row], pooled(rows, start, end, hop, pooling, 200), rtol=0, atol=1e-5
            )


def test_mel_frames_are_pooled_like_a_layers(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, entry = phones(corpus, instances=15), entry_at(tmp_path / "entry")
    consumer = VectorConsumer(units, entry, [MEL], "middle_third")
    assert set(consumer.layer_names()) == set()  # so the model need not run
    monkeypatch.setattr(Encoder, "run", None)
    stream(corpus, encoder, [consumer], Stopwatch())
    vectors, valid = entry.open("mel"), valid_rows(entry, ["mel"])
    assert valid.sum() > 0.9 * len(valid)
    for row in np.flatnonzero(valid):
        rows = mel(corpus.utterances[units.utterance[row]].read()).numpy()
        start, end = int(units.start[row]), int(units.end[row])
        expected = pooled(rows, start, end, 160, "middle_third", 0)
        np.testing.assert_allclose(vectors[row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["cnn", "transformer"])
def test_units_at_and_beyond_the_end_are_counted(
    part: str, encoder: Encoder, tmp_path: Path
) -> None:
    n = 6400  # 19 frames of 20 ms, 38 rows of 10 ms
    bounds = [(0, 3000), (3000, 5900), (5900, 6300), (6390, 6400)]
    tier = tuple(Interval(start, end, "ab"[k % 2]) for k, (start, end) in enumerate(bounds))
    read = models.noise
    utterances = tuple(
        Utterance(f"u{i}", "s", "", n, {"phone": tier}, lambda i=i: read(n, i)) for i in range(10)
    )
    corpus = Corpus("toy", "all", "none", utterances, {}, "f")
    units, entry = phones(corpus), entry_at(tmp_path / "entry")
    layers = [layer for layer in encoder.layers if layer.part == part]
    report = stream(corpus, encoder, [VectorConsumer(units, entry, layers, "mean")], Stopwatch())
    assert report.dropped == {
        "phone: clipped to the utterance's frames": 10,
        "phone: beyond the utterance's frames": 10,
    }
    valid = valid_rows(entry, [layer.name for layer in layers])
    np.testing.assert_array_equal(valid, [True, True, True, False] * 10)


def test_units_of_an_utterance_that_cannot_be_used_are_not_valid(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units, entry = phones(corpus), entry_at(tmp_path / "entry")
    short = Utterance("u3", "s", "", 100, corpus.utterances[3].tiers, lambda: models.noise(100))
    broken = Corpus(
        "toy", "all", "none", (*corpus.utterances[:3], short, *corpus.utterances[4:]), {}, "f"
    )
    collect_units(broken, encoder, units, entry, "mean")
    valid = valid_rows(entry, names_of(encoder))
    assert not valid[units.of(3)].any()
    assert valid[units.of(2)].any()


def test_only_missing_layers_of_units_are_computed(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units, entry = phones(corpus), entry_at(tmp_path / "entry")
    some = [layer for layer in encoder.layers if layer.part == "transformer"]
    stream(corpus, encoder, [VectorConsumer(units, entry, some, "mean")], Stopwatch())
    rest = VectorConsumer(units, entry, encoder.layers, "mean")
    assert set(rest.layers) == {"C1", "C2", "C3", "C4", "C5", "C6", "C7"}
    stream(corpus, encoder, [rest], Stopwatch())
    done = VectorConsumer(units, entry, encoder.layers, "mean")
    assert list(done.utterances()) == []
    whole = entry_at(tmp_path / "whole")
    collect_units(corpus, encoder, units, whole, "mean")
    for layer in encoder.layers:
        np.testing.assert_array_equal(entry.open(layer.name), whole.open(layer.name))
        np.testing.assert_array_equal(
            valid_rows(entry, [layer.name]), valid_rows(whole, [layer.name])
        )


def test_frames_and_units_share_one_pass(corpus: Corpus, encoder: Encoder, tmp_path: Path) -> None:
    samples, units = draw(corpus, utterances=2), phones(corpus)
    crosses = crosses_with_mel(encoder)
    shared = {kind: entry_at(tmp_path / f"{kind}-shared") for kind in ("frames", "units")}
    consumers = [
        MomentConsumer(samples, shared["frames"], encoder.layers, crosses, encoder.device),
        VectorConsumer(units, shared["units"], encoder.layers, "mean"),
    ]
    report = stream(corpus, encoder, consumers, Stopwatch())
    assert report.utterances == len(corpus.utterances)  # frames were drawn from six of them
    apart = {kind: entry_at(tmp_path / f"{kind}-apart") for kind in ("frames", "units")}
    collect_frames(corpus, encoder, samples, apart["frames"], crosses)
    collect_units(corpus, encoder, units, apart["units"], "mean")
    assert_same(shared["frames"], apart["frames"], samples, crosses, rtol=1e-12)
    for layer in encoder.layers:
        np.testing.assert_array_equal(
            shared["units"].open(layer.name), apart["units"].open(layer.name)
        )


def test_an_entry_has_its_own_numbers_for_the_utterances_of_the_pass(tmp_path: Path) -> None:
    waves = [models.noise(4000, seed=k) for k in range(3)]
    units = segments_of([(0, 0, 4000, "a"), (2, 0, 4000, "b")])  # of utterances 7 and 3 of the pass
    consumer = VectorConsumer(
        units, entry_at(tmp_path / "own"), [MEL], "mean", (), {7: 0, 5: 1, 3: 2}
    )
    assert sorted(consumer.utterances()) == [3, 7]
    consumer.begin([Item(u, wave) for u, wave in zip((3, 4, 7), waves, strict=True)])
    consumer.end()
    assert consumer.utterances() == []
    consumer.record_unread([4, 5])
    consumer.finish()
    kept, unread = read_audio_hashes(consumer.entry)
    assert (sorted(kept), unread) == ([0, 2], [])
    means = [mel(wave).mean(0) for wave in (waves[2], waves[0])]
    np.testing.assert_allclose(consumer.entry.open("mel"), torch.stack(means), atol=1e-2)
