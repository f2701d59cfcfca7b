"""Word segmentation's grid search beside one that does as written: every setting, every utterance.

    python benchmarks/segmentation.py [utterances]

Frames of one layer of a base model (about 7 s of speech each) with word boundaries where they
change. Both sides try the same 180 settings on one half of the speakers and report on the other.
The straightforward side follows the published script: for each setting it z-scores all frames,
and for each utterance takes distances, smooths, finds peaks and matches them (here one to one).
Prints both times, their ratio, what the search allocates, and whether the figures agree.
"""

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import find_peaks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.metrics.frames import Frames
from analysis.metrics.word_segmentation import Segmentation, boundaries, tuning_half
from analysis.sampling.segments import whole_utterances
from common.encoder.frames import FrameGeometry
from common.records import Interval, Utterance, Waveform

Array = NDArray[np.float32]
T = TypeVar("T")

DIM = 768
GEOMETRY = FrameGeometry(receptive_field=400, hop=320)
WINDOWS = (1, 2, 4, 6, 8, 16)
PROMINENCES = (0, 1e-5, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 2, 4, 6, 8, 10)
TOLERANCE = 320


def main() -> None:
    frames = generated(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    metric = Segmentation(
        WINDOWS, PROMINENCES, ("cosine", "euclidean"), tolerance_ms=20, chosen_by="f1"
    )
    shared, ours = timed(lambda: [score.value for score in metric.score(frames)][1:4])
    direct, theirs = timed(lambda: straightforward(frames))
    n, d = frames.shape
    print(
        f"{len(frames.utterances)} utterances, {n} x {d} frames, 180 settings: shared "
        f"{shared:.2f} s, straightforward {direct:.1f} s, {direct / shared:.0f} times as long; "
        f"shared allocates {allocated(lambda: metric.score(frames)):.0f} MB beside the frames"
    )
    print(
        f"F1, precision, recall: {ours}; they differ by {np.abs(np.subtract(ours, theirs)).max()}"
    )


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = perf_counter()
    result = work()
    return perf_counter() - start, result


def allocated(work: Callable[[], object]) -> float:
    """Peak of what is allocated on the way, in MB."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def unread() -> Waveform:
    raise RuntimeError("frames are generated, there is no audio")


def generated(utterances: int) -> Frames:
    """Frames that drift within a word and jump at its end."""
    rng = np.random.default_rng(0)
    parts, described = [], []
    for k in range(utterances):
        lengths = rng.integers(6, 30, 20)
        ends = np.cumsum(lengths)
        means = rng.normal(size=(20, DIM))
        noise = np.cumsum(rng.normal(size=(ends[-1], DIM)), axis=0) * 0.05
        parts.append((np.repeat(means, lengths, axis=0) + noise).astype(np.float32))
        edges = [320 * int(e) + int(rng.integers(-300, 300)) for e in (0, *ends)]
        words = tuple(Interval(max(0, a), b, "w") for a, b in pairwise(edges))
        n_samples = 320 * int(ends[-1]) + 80
        described.append(Utterance(f"u{k}", f"s{k % 20}", "", n_samples, {"word": words}, unread))
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    lengths = np.array([u.n_samples for u in described])
    hidden = np.concatenate(parts)
    segments = whole_utterances(described, np.arange(utterances))
    starts, names = offsets[:-1], tuple(described)
    return Frames(hidden, starts, offsets, GEOMETRY, segments, names, lengths, "word", 0)


def straightforward(frames: Frames) -> list[float]:
    """F1, precision and recall on the second half of the speakers."""
    tuning = tuning_half(frames)
    parts = [frames.of(k) for k in range(len(frames.utterances))]
    references = [
        boundaries(u.tiers["word"], int(n))
        for u, n in zip(frames.utterances, frames.n_samples, strict=True)
    ]
    best: tuple[float, tuple[str, int, float]] = (-1.0, ("cosine", 1, 0))
    for setting in product(("cosine", "euclidean"), WINDOWS, PROMINENCES):
        found = segmented(parts, tuning, *setting)
        f1 = figures(found, references, tuning)[0]
        if f1 > best[0]:
            best = f1, setting
    return figures(segmented(parts, tuning, *best[1]), references, ~tuning)


def segmented(
    parts: Sequence[NDArray[np.floating]],
    tuning: NDArray[np.bool_],
    distance: str,
    window: int,
    prominence: float,
) -> list[list[int]]:
    """Boundaries of every utterance, in half samples."""
    chosen = np.concatenate([part for part, inside in zip(parts, tuning, strict=True) if inside])
    mean, std = chosen.mean(0), chosen.std(0)
    found = []
    for part in parts:
        z = (part - mean) / std
        if distance == "euclidean":
            curve = np.linalg.norm(z[1:] - z[:-1], axis=1)
        else:
            lengths = np.linalg.norm(z, axis=1)
            curve = 1 - (z[1:] * z[:-1]).sum(1) / lengths[1:] / lengths[:-1]
        smooth = sliding_window_view(curve, window).mean(1)
        peaks, _ = find_peaks(smooth, prominence=prominence)
        found.append([2 * GEOMETRY.centre(0) + 640 * int(p) + 320 * window for p in peaks])
    return found


def figures(
    found: Sequence[list[int]], references: Sequence[list[int]], chosen: NDArray[np.bool_]
) -> list[float]:
    pairs = [(f, r) for f, r, c in zip(found, references, chosen, strict=True) if c]
    matched = sum(greedy(f, [2 * b for b in r]) for f, r in pairs)
    n_found, n_reference = (sum(len(pair[i]) for pair in pairs) for i in (0, 1))
    f1 = 2 * matched / (n_found + n_reference)
    return [f1, matched / max(n_found, 1), matched / n_reference]


def greedy(found: list[int], reference: list[int]) -> int:
    """From left to right, each takes the first that is free and in reach."""
    free, matched = 0, 0
    for position in found:
        while free < len(reference) and reference[free] < position - 2 * TOLERANCE:
            free += 1
        if free < len(reference) and reference[free] <= position + 2 * TOLERANCE:
            matched, free = matched + 1, free + 1
    return matched


if __name__ == "__main__":
    main()
