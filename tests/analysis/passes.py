"""A corpus of noise, what is drawn from it, and what a forward pass over it should leave behind."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import models
import numpy as np
import torch
from drawn import analysis
from numpy.typing import NDArray

from analysis.forward.collectors import Pair, load_folds, load_view
from analysis.forward.consumers import MomentConsumer, VectorConsumer
from analysis.forward.stream import PassReport, stream
from analysis.sampling.folds import FrameSamples, draw_frames
from analysis.sampling.segments import Segments, draw_units
from common.cache.cache import Entry
from common.config import SamplingConfig, UnitSampling
from common.encoder.encoder import Encoder, Layer
from common.records import Corpus, Interval, Utterance, Waveform
from common.timing import Stopwatch

Array = NDArray[np.float64]
WINDOWS = {"C1": (79, 32), "C2": (39, 16), "C3": (19, 8), "C4": (9, 4), "C5": (4, 2), "C6": (2, 1)}
RUN = SamplingConfig(samples=3, folds=10, trials=3)
SEED = 5
LENGTHS = [9000, 8000, 16_000, 12_345, 10_001, 7777, 14_400, 11_111]


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


def entry_at(folder: Path) -> Entry:
    folder.mkdir()
    return Entry(folder)


def frames_of(encoder: Encoder, waveform: Waveform) -> dict[str, Array]:
    """Every layer's frames (T, d) of an utterance."""
    frames: dict[str, Array] = {}

    def keep(layer: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
        frames[layer.name] = hidden[0, : lengths[0]].double().numpy()

    encoder.run([waveform], keep)
    return frames


def grid_of(layer: str) -> str:
    return "10ms" if layer in WINDOWS else "20ms"


def on_grid(layer: str, frames: Array) -> Array:
    """Rows of a layer: fast ones averaged over the published windows."""
    if layer not in WINDOWS:
        return frames
    kernel, stride = WINDOWS[layer]
    starts = range(0, len(frames) - kernel + 1, stride)
    return np.stack([frames[s : s + kernel].mean(0) for s in starts])


def crosses_with_mel(encoder: Encoder) -> list[Pair]:
    return [(layer.name, "mel") for layer in encoder.layers]


def draw(corpus: Corpus, split: str = "frame", utterances: int = 5) -> FrameSamples:
    run = RUN if split == "frame" else SamplingConfig(samples=3, folds=5, trials=2)
    return draw_frames(corpus, UnitSampling(utterances=utterances), run, split, SEED)


def collect_frames(
    corpus: Corpus,
    encoder: Encoder,
    samples: FrameSamples,
    entry: Entry,
    crosses: Sequence[Pair],
) -> PassReport:
    consumer = MomentConsumer(samples, entry, encoder.layers, crosses, encoder.device)
    return stream(corpus, encoder, [consumer], Stopwatch())


def phones(corpus: Corpus, **limits: int) -> Segments:
    return draw_units(corpus, analysis(**limits), RUN, "frame", SEED)


def collect_units(
    corpus: Corpus, encoder: Encoder, units: Segments, entry: Entry, pooling: str
) -> PassReport:
    consumer = VectorConsumer(units, entry, encoder.layers, pooling)
    return stream(corpus, encoder, [consumer], Stopwatch())


def assert_same(
    one: Entry, other: Entry, samples: FrameSamples, pairs: Sequence[Pair], rtol: float
) -> None:
    """Two entries hold the same moments."""
    for sample in samples.distinct():
        for x, y in pairs:
            folds = []
            for entry in (one, other):
                name = f"sample{sample}.{grid_of(x)}"
                views = (
                    load_view(entry, name, x, samples.trials),
                    load_view(entry, name, y, samples.trials),
                )
                folds.append(load_folds(entry, name, *views, (x, y)))
            for g in range(samples.groups):
                size = np.abs(folds[1].xy[g]).max()
                np.testing.assert_allclose(folds[0].xy[g], folds[1].xy[g], rtol=0, atol=rtol * size)
                assert folds[0].x.parts[g].n == folds[1].x.parts[g].n
