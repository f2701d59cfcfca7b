"""Moments of frames that a real forward pass keeps, against all frames collected in memory."""

from collections import Counter
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from marks import slow
from passes import (
    SEED,
    WINDOWS,
    Array,
    assert_same,
    collect_frames,
    corpus_of,
    crosses_with_mel,
    draw,
    entry_at,
    frames_of,
    grid_of,
    on_grid,
)

from analysis.forward.collectors import MomentCollector, Pair, load_folds, load_view
from analysis.forward.consumers import MissingMoments, MomentConsumer, prefix
from analysis.forward.stream import stream
from analysis.moments import group_of, moments_of
from analysis.targets.mel import mel
from common.encoder.encoder import Encoder, load_encoder
from common.records import Corpus, Waveform
from common.seeding import hashed_folds
from common.timing import Stopwatch

pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(encoder: Encoder, waveform: Waveform) -> dict[tuple[str, str], Array]:
    """Rows by (grid, view): every view of a grid has as many."""
    frames = frames_of(encoder, waveform)
    rows = {
        ("10ms" if layer in WINDOWS else "20ms", layer): on_grid(layer, hidden)
        for layer, hidden in frames.items()
    }
    target = mel(waveform).double().numpy()
    rows |= {("10ms", "mel"): target, ("20ms", "mel"): target[::2]}
    shortest = {
        g: min(len(r) for (of_group, _), r in rows.items() if of_group == g) for g, _ in rows
    }
    return {(g, view): r[: shortest[g]] for (g, view), r in rows.items()}


def crosses_with_t0(encoder: Encoder) -> list[Pair]:
    return [(layer.name, "T0") for layer in encoder.layers if layer.part == "transformer"]


@pytest.mark.parametrize("split", ["frame", slow("utterance")])
def test_moments_of_overlapping_samples_are_those_of_all_their_frames(
    split: str, corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    samples = draw(corpus, split)
    assert samples.members.sum() > len(corpus.utterances)  # some are shared
    assert len(set(samples.patterns().values())) > 3
    crosses = crosses_with_mel(encoder) + crosses_with_t0(encoder)
    entry = entry_at(tmp_path / "entry")
    collect_frames(corpus, encoder, samples, entry, crosses)

    rows = [rows_of(encoder, u.read()) for u in corpus.utterances]
    for sample in range(3):
        members = np.flatnonzero(samples.members[:, sample])
        for x, y in crosses:
            grid = grid_of(x)
            rtol = 1e-6 if x in WINDOWS else 1e-9  # windows are averaged in float32
            views = [np.concatenate([rows[u][grid, v] for u in members]) for v in (x, y)]
            groups = []
            for u in members:
                n = len(rows[u][grid, x])
                if samples.utterance_folds is None:
                    folds = hashed_folds(SEED, corpus.utterances[u].id, n, 10)
                else:
                    folds = np.full(n, samples.utterance_folds[u])
                groups.append(group_of(folds, samples.trials))
            group = np.concatenate(groups)
            name = prefix(sample, int(grid[:2]) // 10)
            loaded = (
                load_view(entry, name, x, samples.trials),
                load_view(entry, name, y, samples.trials),
            )
            stored = load_folds(entry, name, *loaded, (x, y))
            for g in range(samples.groups):
                expected = moments_of(*(view[group == g] for view in views))
                assert stored.x.parts[g].n == stored.y.parts[g].n == expected.n
                for got, want in (
                    (stored.x.parts[g].scatter, expected.x.scatter),
                    (stored.y.parts[g].scatter, expected.y.scatter),
                ):
                    np.testing.assert_allclose(got, want, rtol=0, atol=rtol * np.abs(want).max())
                size = np.sqrt(np.trace(expected.x.scatter) * np.trace(expected.y.scatter))
                np.testing.assert_allclose(stored.xy[g], expected.xy, rtol=0, atol=rtol * size)


def test_a_frame_that_several_samples_share_is_accumulated_once(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    add = MomentCollector.add

    def counting(self: MomentCollector, view: str, rows: torch.Tensor) -> None:
        counted[view] += len(rows)
        add(self, view, rows)

    monkeypatch.setattr(MomentCollector, "add", counting)
    samples = draw(corpus)
    report = collect_frames(
        corpus, encoder, samples, entry_at(tmp_path / "e"), crosses_with_mel(encoder)
    )
    drawn = np.flatnonzero(samples.members.any(1))
    assert report.utterances == len(drawn) == 8
    n = {
        grid: sum(len(rows_of(encoder, corpus.utterances[u].read())[grid, "mel"]) for u in drawn)
        for grid in ("10ms", "20ms")
    }
    for layer in encoder.layers:
        assert counted[layer.name] == n[grid_of(layer.name)]
    assert counted["mel"] == n["10ms"] + n["20ms"]


def test_a_second_experiment_computes_only_what_is_missing(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    samples = draw(corpus)
    mels, intra = crosses_with_mel(encoder), crosses_with_t0(encoder)
    entry, whole = entry_at(tmp_path / "grown"), entry_at(tmp_path / "whole")
    collect_frames(corpus, encoder, samples, entry, mels)
    before = {path.name: path.stat().st_mtime_ns for path in entry.folder.iterdir()}

    second = MomentConsumer(samples, entry, encoder.layers, mels + intra, encoder.device)
    assert {step: grid.pairs for step, grid in second.grids.items()} == {
        2: (("T1", "T0"), ("T2", "T0"), ("T3", "T0"))
    }
    stream(corpus, encoder, [second], Stopwatch())
    assert all(
        path.stat().st_mtime_ns == before[path.name]
        for path in entry.folder.iterdir()
        if path.name in before
    )
    collect_frames(corpus, encoder, samples, whole, mels + intra)
    assert {p.name for p in entry.folder.iterdir()} == {p.name for p in whole.folder.iterdir()}
    assert_same(entry, whole, samples, mels + intra, rtol=1e-12)

    assert MissingMoments.of(entry, samples, encoder.layers, mels + intra).pairs == {}
    third = MomentConsumer(samples, entry, encoder.layers, mels + intra, encoder.device)
    assert list(third.utterances()) == []  # nothing left to do


@pytest.mark.slow
def test_a_batch_of_four_gives_the_moments_of_four_alone(
    checkpoint: Path, encoder: Encoder, tmp_path: Path
) -> None:
    corpus = corpus_of([9600] * 9 + [12_000] * 3)
    samples = draw(corpus)
    crosses = crosses_with_mel(encoder) + crosses_with_t0(encoder)
    together = load_encoder(models.configured(checkpoint, batch_size=4), "cpu")
    assert together.batches([9600] * 5) == [[0, 1, 2, 3], [4]]
    one, four = entry_at(tmp_path / "one"), entry_at(tmp_path / "four")
    collect_frames(corpus, encoder, samples, one, crosses)
    collect_frames(corpus, together, samples, four, crosses)
    assert_same(four, one, samples, crosses, rtol=1e-5)


def test_identical_samples_are_collected_and_stored_once(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    samples = draw(corpus, utterances=8)
    entry = entry_at(tmp_path / "entry")
    collect_frames(corpus, encoder, samples, entry, [("T1", "T0")])
    assert sorted(entry.names()) == [
        "heard",
        "sample0.20ms.T0",
        "sample0.20ms.T1",
        "sample0.20ms.T1.T0",
    ]


def test_a_samples_sums_are_freed_when_its_last_utterance_has_passed(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    switch_to = MomentConsumer._switch_to

    def watched(self: MomentConsumer, pattern: tuple[int, ...]) -> None:
        switch_to(self, pattern)
        held.append(sum(bool(totals) for totals in self._totals.values()))

    monkeypatch.setattr(MomentConsumer, "_switch_to", watched)
    samples = draw(corpus, utterances=2)  # 3 x 2 of 8: disjoint
    entry = entry_at(tmp_path / "entry")
    collect_frames(corpus, encoder, samples, entry, crosses_with_mel(encoder))
    assert max(held) == 0  # each was written when the next began, or while it was the last
    assert all(entry.has(f"sample{s}.20ms.T0") for s in range(3))


@pytest.mark.parametrize("after", [slow(0), 3, slow(6)])
def test_a_pass_that_broke_off_goes_on_to_the_same_bits(
    after: int,
    corpus: Corpus,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever it broke off: samples share utterances, and blocks wait half filled."""
    monkeypatch.setattr("analysis.forward.stream.SAVE_EVERY", 0.0)
    samples, crosses = draw(corpus, utterances=5), crosses_with_mel(encoder)
    whole, broken = entry_at(tmp_path / "whole"), entry_at(tmp_path / "broken")
    collect_frames(corpus, encoder, samples, whole, crosses)
    given = (samples, broken, encoder.layers, crosses, encoder.device)
    ends = iter(range(100))

    def end(consumer: MomentConsumer) -> None:
        for collector in consumer.grids.values():
            collector.end()
        if next(ends) == after:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(MomentConsumer, "end", end)
        with pytest.raises(RuntimeError, match="killed"):
            stream(corpus, encoder, [MomentConsumer(*given)], Stopwatch())
    assert broken.names() == []
    second = MomentConsumer(*given)
    assert second.collected_before() == after
    stream(corpus, encoder, [second], Stopwatch())
    assert broken.names() == whole.names()
    for name in whole.names():
        one, other = whole.load(name), broken.load(name)
        assert all(np.array_equal(one[key], other[key]) for key in one), name
