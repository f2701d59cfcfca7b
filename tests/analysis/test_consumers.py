"""What the consumers keep of a real forward pass, against everything collected in memory."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from analysis.collectors import MomentCollector, Pair, load_folds, load_view
from analysis.consumers import FrameConsumer, UnitConsumer, missing_pairs, prefix
from analysis.moments import moments_of
from analysis.sampling import FrameSamples, draw_frames
from analysis.stream import PassReport, stream
from analysis.targets import MEL, mel
from analysis.unit_sampling import UnitSamples, draw_units
from common.cache import Entry
from common.config import AnalysisConfig, SamplingConfig, TargetConfig, UnitSampling
from common.encoder import Encoder, Layer, load_encoder
from common.records import Corpus, Interval, Utterance, Waveform
from common.seeding import hashed_folds
from common.timing import Stopwatch

Array = NDArray[np.float64]

WINDOWS = {"C1": (79, 32), "C2": (39, 16), "C3": (19, 8), "C4": (9, 4), "C5": (4, 2), "C6": (2, 1)}
RUN = SamplingConfig(samples=3, folds=10, trials=3)
SEED = 5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with models.one_thread():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> Encoder:
    return load_encoder(models.configured(checkpoint), "cpu")


def entry_at(folder: Path) -> Entry:
    folder.mkdir()
    return Entry(folder)


def corpus_of(lengths: Sequence[int], seed: int = 0) -> Corpus:
    """Noise in memory, cut into phones; the last phone of the first utterance ends beyond it."""
    utterances = []
    for index, n in enumerate(lengths):
        rng = np.random.default_rng([seed, index])
        cuts = np.sort(rng.choice(np.arange(200, n), size=n // 1000, replace=False))
        bounds = [0, *cuts.tolist(), n + (500 if index == 0 else 0)]
        units = tuple(
            Interval(start, end, f"p{rng.integers(4)}") for start, end in pairwise(bounds)
        )
        waveform = models.noise(n, seed=100 * seed + index)
        utterances.append(
            Utterance(f"u{index}", "s", "", n, {"phone": units}, lambda w=waveform: w)
        )
    return Corpus("toy", "all", "none", tuple(utterances), {}, "fingerprint")


LENGTHS = [9000, 8000, 16_000, 12_345, 10_001, 7777, 14_400, 11_111]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of(LENGTHS)


def frames_of(encoder: Encoder, waveform: Waveform) -> dict[str, Array]:
    """Every layer's frames (T, d) of an utterance."""
    frames: dict[str, Array] = {}

    def keep(layer: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
        frames[layer.name] = hidden[0, : lengths[0]].double().numpy()

    encoder.run([waveform], keep)
    return frames


def on_grid(layer: str, frames: Array) -> Array:
    """Rows of a layer: fast ones averaged over the published windows."""
    if layer not in WINDOWS:
        return frames
    kernel, stride = WINDOWS[layer]
    starts = range(0, len(frames) - kernel + 1, stride)
    return np.stack([frames[s : s + kernel].mean(0) for s in starts])


def rows_of(encoder: Encoder, waveform: Waveform) -> dict[tuple[str, str], Array]:
    """Rows by (grid, view): every view of a grid has as many."""
    frames = frames_of(encoder, waveform)
    rows = {
        ("10ms" if layer in WINDOWS else "20ms", layer): on_grid(layer, hidden)
        for layer, hidden in frames.items()
    }
    target = mel(waveform).double().numpy()
    rows |= {("10ms", "mel"): target, ("20ms", "mel"): target[::2]}
    shortest = {g: min(len(r) for (own, _), r in rows.items() if own == g) for g, _ in rows}
    return {(g, view): r[: shortest[g]] for (g, view), r in rows.items()}


def crosses_with_mel(encoder: Encoder) -> list[Pair]:
    return [(layer.name, "mel") for layer in encoder.layers]


def crosses_with_t0(encoder: Encoder) -> list[Pair]:
    return [(layer.name, "T0") for layer in encoder.layers if layer.part == "transformer"]


def collect_frames(
    corpus: Corpus,
    encoder: Encoder,
    samples: FrameSamples,
    entry: Entry,
    crosses: Sequence[Pair],
    batch_size: int = 1,
) -> PassReport:
    consumer = FrameConsumer(samples, entry, encoder.layers, crosses, encoder.device)
    return stream(corpus, encoder, [consumer], Stopwatch(), batch_size)


def draw(corpus: Corpus, split: str = "frame", utterances: int = 5) -> FrameSamples:
    run = RUN if split == "frame" else SamplingConfig(samples=3, folds=5, trials=2)
    return draw_frames(corpus, UnitSampling(utterances=utterances), run, split, SEED)


def grid_of(layer: str) -> str:
    return "10ms" if layer in WINDOWS else "20ms"


def assert_same(
    one: Entry, other: Entry, samples: FrameSamples, pairs: Sequence[Pair], rtol: float
) -> None:
    """Two entries hold the same moments."""
    for sample in samples.distinct():
        for x, y in pairs:
            folds = []
            for entry in (one, other):
                own = f"sample{sample}.{grid_of(x)}"
                views = load_view(entry, own, x), load_view(entry, own, y)
                folds.append(load_folds(entry, own, *views, (x, y)))
            for g in range(samples.groups):
                size = np.abs(folds[1].xy[g]).max()
                np.testing.assert_allclose(folds[0].xy[g], folds[1].xy[g], rtol=0, atol=rtol * size)
                assert folds[0].x.parts[g].n == folds[1].x.parts[g].n


# Frames


@pytest.mark.parametrize("split", ["frame", "utterance"])
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
                    groups.append(np.minimum(folds, 6))
                else:
                    groups.append(np.full(n, min(samples.utterance_folds[u], 4)))
            group = np.concatenate(groups)
            own = prefix(sample, int(grid[:2]) // 10)
            loaded = load_view(entry, own, x), load_view(entry, own, y)
            stored = load_folds(entry, own, *loaded, (x, y))
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

    second = FrameConsumer(samples, entry, encoder.layers, mels + intra, encoder.device)
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

    assert missing_pairs(entry, samples, encoder.layers, mels + intra) == {}
    third = FrameConsumer(samples, entry, encoder.layers, mels + intra, encoder.device)
    assert list(third.utterances()) == []  # nothing left to do


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
    collect_frames(corpus, together, samples, four, crosses, batch_size=4)
    assert_same(four, one, samples, crosses, rtol=1e-5)


def test_identical_samples_are_collected_and_stored_once(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    samples = draw(corpus, utterances=8)
    entry = entry_at(tmp_path / "entry")
    collect_frames(corpus, encoder, samples, entry, [("T1", "T0")])
    assert sorted(path.name for path in entry.folder.iterdir()) == [
        "sample0.20ms.T0.npz",
        "sample0.20ms.T1.T0.npz",
        "sample0.20ms.T1.npz",
    ]


def test_a_samples_sums_are_freed_when_its_last_utterance_has_passed(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    turn_to = FrameConsumer._turn_to

    def watched(self: FrameConsumer, pattern: tuple[int, ...]) -> None:
        turn_to(self, pattern)
        held.append(sum(bool(totals) for totals in self._totals.values()))

    monkeypatch.setattr(FrameConsumer, "_turn_to", watched)
    samples = draw(corpus, utterances=2)  # 3 x 2 of 8: disjoint
    entry = entry_at(tmp_path / "entry")
    collect_frames(corpus, encoder, samples, entry, crosses_with_mel(encoder))
    assert max(held) == 0  # each was written when the next began, or while it was the last
    assert all(entry.has(f"sample{s}.20ms.T0") for s in range(3))


# Units


def phones(corpus: Corpus, **limits: int) -> UnitSamples:
    analysis = AnalysisConfig(
        unit="phone",
        target=TargetConfig(kind="phone"),
        metric=None,
        sampling=UnitSampling(**limits),
        pooling="mean",
    )
    return draw_units(corpus, analysis, RUN, "frame", SEED)


def collect_units(
    corpus: Corpus, encoder: Encoder, units: UnitSamples, entry: Entry, pooling: str
) -> PassReport:
    consumer = UnitConsumer(units, entry, encoder.layers, pooling)
    return stream(corpus, encoder, [consumer], Stopwatch())


def pooled(rows: Array, start: int, end: int, hop: int, pooling: str) -> Array:
    """A unit's vector by the design's rule, from rows (R, d) on its grid."""
    segment = rows[start // hop : -(-end // hop)]
    if pooling == "middle_third":
        cut = (len(segment) + 1) // 3
        inner = segment[cut : len(segment) - cut]
        segment = inner if len(inner) else segment[cut : cut + 1]
    return segment.max(0) if pooling == "max" else segment.mean(0)


@pytest.mark.parametrize("pooling", ["mean", "middle_third", "max"])
def test_vectors_are_pooled_from_the_frames_of_each_unit(
    pooling: str, corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units = phones(corpus, instances=15)
    entry = entry_at(tmp_path / "entry")
    collect_units(corpus, encoder, units, entry, pooling)
    frames = [frames_of(encoder, u.read()) for u in corpus.utterances]
    valid = entry.load("valid")["valid"]
    assert 0 < np.count_nonzero(~valid) < len(valid) / 4
    for layer in encoder.layers:
        vectors = entry.open(layer.name)
        hop = 160 if layer.name in WINDOWS else 320
        for row in np.flatnonzero(valid):
            rows = on_grid(layer.name, frames[units.utterance[row]][layer.name])
            start, end = int(units.start[row]), int(units.end[row])
            np.testing.assert_allclose(
                vectors[row], pooled(rows, start, end, hop, pooling), rtol=0, atol=1e-5
            )


def test_mel_frames_are_pooled_like_a_layers(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, entry = phones(corpus, instances=15), entry_at(tmp_path / "entry")
    consumer = UnitConsumer(units, entry, [MEL], "middle_third")
    assert set(consumer.layer_names()) == set()  # so the model need not run
    monkeypatch.setattr(Encoder, "run", None)
    stream(corpus, encoder, [consumer], Stopwatch())
    vectors, valid = entry.open("mel"), entry.load("valid")["valid"]
    assert valid.sum() > 0.9 * len(valid)
    for row in np.flatnonzero(valid):
        rows = mel(corpus.utterances[units.utterance[row]].read()).numpy()
        start, end = int(units.start[row]), int(units.end[row])
        expected = pooled(rows, start, end, 160, "middle_third")
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
    report = stream(corpus, encoder, [UnitConsumer(units, entry, layers, "mean")], Stopwatch())
    assert report.dropped == {
        "phone: clipped to the utterance's frames": 10,
        "phone: beyond the utterance's frames": 10,
    }
    np.testing.assert_array_equal(entry.load("valid")["valid"], [True, True, True, False] * 10)


def test_units_of_an_utterance_that_cannot_be_used_are_not_valid(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units, entry = phones(corpus), entry_at(tmp_path / "entry")
    short = Utterance("u3", "s", "", 100, corpus.utterances[3].tiers, lambda: models.noise(100))
    broken = Corpus(
        "toy", "all", "none", (*corpus.utterances[:3], short, *corpus.utterances[4:]), {}, "f"
    )
    collect_units(broken, encoder, units, entry, "mean")
    valid = entry.load("valid")["valid"]
    assert not valid[units.of(3)].any()
    assert valid[units.of(2)].any()


def test_only_missing_layers_of_units_are_computed(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    units, entry = phones(corpus), entry_at(tmp_path / "entry")
    some = [layer for layer in encoder.layers if layer.part == "transformer"]
    stream(corpus, encoder, [UnitConsumer(units, entry, some, "mean")], Stopwatch())
    rest = UnitConsumer(units, entry, encoder.layers, "mean")
    assert set(rest.layers) == {"C1", "C2", "C3", "C4", "C5", "C6", "C7"}
    stream(corpus, encoder, [rest], Stopwatch())
    done = UnitConsumer(units, entry, encoder.layers, "mean")
    assert list(done.utterances()) == []
    whole = entry_at(tmp_path / "whole")
    collect_units(corpus, encoder, units, whole, "mean")
    for layer in encoder.layers:
        np.testing.assert_array_equal(entry.open(layer.name), whole.open(layer.name))
    np.testing.assert_array_equal(entry.load("valid")["valid"], whole.load("valid")["valid"])


def test_frames_and_units_share_one_pass(corpus: Corpus, encoder: Encoder, tmp_path: Path) -> None:
    samples, units = draw(corpus, utterances=2), phones(corpus)
    crosses = crosses_with_mel(encoder)
    shared = {kind: entry_at(tmp_path / f"{kind}-shared") for kind in ("frames", "units")}
    consumers = [
        FrameConsumer(samples, shared["frames"], encoder.layers, crosses, encoder.device),
        UnitConsumer(units, shared["units"], encoder.layers, "mean"),
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
