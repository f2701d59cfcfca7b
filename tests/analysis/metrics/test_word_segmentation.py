"""Segmentation by peaks: an oracle by the letter, planted boundaries, hostile input."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from frames_in_memory import frames_of, utterance
from geometries import WAV2VEC2
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from analysis.metrics.frames import Frames
from analysis.metrics.word_segmentation import Segmentation, boundaries, tuning_half
from common.metric import Score
from common.records import Interval, StrataError

WINDOWS, PROMINENCES = (1, 2, 3), (0.0, 0.05, 0.5, 2.0)
METRIC = Segmentation(
    WINDOWS, PROMINENCES, ("cosine", "euclidean"), tolerance_ms=20, chosen_by="r_value"
)


def planted(
    utterances: int = 8, words: int = 9, noise: float = 0.3, d: int = 12, seed: int = 0
) -> Frames:
    """Frames that keep to one mean per word; words end halfway between two frames' centres."""
    rng = np.random.default_rng(seed)
    parts, described = [], []
    for k in range(utterances):
        lengths = rng.integers(4, 15, words)
        ends = np.cumsum(lengths)
        means = rng.normal(size=(words, d))
        part = np.repeat(means, lengths, axis=0) + noise * rng.normal(size=(ends[-1], d))
        cuts = [(WAV2VEC2.centre(int(e) - 1) + WAV2VEC2.centre(int(e))) // 2 for e in ends]
        edges = [0, *cuts[:-1], 320 * int(ends[-1]) + 80]
        units = [Interval(a, b, "w") for a, b in pairwise(edges)]
        parts.append(part.astype(np.float32))
        described.append(utterance(f"u{k}", f"s{k % 4}", edges[-1], {"word": units}))
    return frames_of(parts, described)


def value_of(scores: list[Score], metric: str = "") -> float:
    (score,) = (s for s in scores if s.metric == metric)
    return score.value


def by_the_letter(frames: Frames, chosen_by: str, tolerance: int = 320) -> dict[str, float]:
    """Every setting and utterance by itself, matched by Hopcroft and Karp's algorithm."""
    tuning = tuning_half(frames)
    parts = [frames.of(k).astype(np.float64) for k in range(len(frames.utterances))]
    chosen = np.concatenate([part for part, inside in zip(parts, tuning, strict=True) if inside])
    z = [(part - chosen.mean(0)) / chosen.std(0) for part in parts]

    def counts(distance: str, window: int, prominence: float, half: NDArray[np.bool_]) -> list[int]:
        totals = np.zeros(3, dtype=int)
        for rows, described in ((z[k], frames.utterances[k]) for k in np.flatnonzero(half)):
            curve = np.linalg.norm(np.diff(rows, axis=0), axis=1)
            if distance == "cosine":
                unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
                curve = 1 - (unit[1:] * unit[:-1]).sum(1)
            smooth = np.convolve(curve, np.full(window, 1 / window), "valid")
            found, _ = find_peaks(smooth, prominence=prominence)
            at = [WAV2VEC2.centre(0) + 320 * p + 160 * window for p in found]
            edges = {t for i in described.tiers["word"] for t in (i.start, i.end)}
            reference = sorted(edges - {0, described.n_samples})
            near = np.abs(np.subtract.outer(at, reference)) <= tolerance
            matched = maximum_bipartite_matching(csr_array(near.astype(int))) >= 0
            totals += [len(at), len(reference), matched.sum()]
        return totals.tolist()

    def f1(found: int, reference: int, matched: int) -> float:
        return 2 * matched / (found + reference)

    def r_value(found: int, reference: int, matched: int) -> float:
        """Räsänen et al. 2009, equations 5 to 7, in shares of 1."""
        hits, over = matched / reference, found / reference - 1
        r1 = np.sqrt((1 - hits) ** 2 + over**2)
        r2 = (-over + hits - 1) / np.sqrt(2)
        return float(1 - (abs(r1) + abs(r2)) / 2)

    criterion = f1 if chosen_by == "f1" else r_value
    grid = [(d, w, p) for d in ("cosine", "euclidean") for w in WINDOWS for p in PROMINENCES]
    best = max(grid, key=lambda setting: criterion(*counts(*setting, tuning)))
    found, reference, matched = counts(*best, ~tuning)
    return {
        "": r_value(found, reference, matched),
        "boundary_f1": f1(found, reference, matched),
        "boundary_precision": matched / found,
        "boundary_recall": matched / reference,
        "over_segmentation": found / reference - 1,
    }


@pytest.mark.parametrize(("noise", "chosen_by"), [(0.3, "r_value"), (1.5, "r_value"), (1.5, "f1")])
def test_figures_are_those_of_a_search_by_the_letter(noise: float, chosen_by: str) -> None:
    frames = planted(noise=noise, seed=2)
    found = replace(METRIC, chosen_by=chosen_by).score(frames)
    for metric, expected in by_the_letter(frames, chosen_by).items():
        assert value_of(found, metric) == pytest.approx(expected, rel=1e-12)
    assert value_of(found) < (1 if noise == 0.3 else 0.8)


def test_planted_boundaries_are_found_and_noise_finds_few() -> None:
    clear = METRIC.score(planted(noise=0.05, utterances=12))
    assert value_of(clear) > 0.97
    assert value_of(clear, "boundary_f1") > 0.97
    assert abs(value_of(clear, "over_segmentation")) < 0.05
    nothing = METRIC.score(planted(noise=50, utterances=12))
    assert value_of(nothing) < 0.5


def test_a_comb_needs_no_frames_and_is_not_rewarded() -> None:
    """Words of 180 ms on average: an F1 of .28 from boundaries that know nothing, R below 0."""
    frames = planted(noise=0.05, utterances=20, seed=4)
    found = METRIC.baseline(frames)
    silent = replace(frames, hidden=np.zeros_like(frames.hidden))
    assert METRIC.baseline(silent) == found
    assert "every" in found[0].detail["setting"]
    assert value_of(found) < 0.5 * value_of(METRIC.score(frames))
    greedy = replace(METRIC, chosen_by="f1").baseline(frames)
    assert value_of(greedy, "boundary_f1") > 0.25
    assert value_of(greedy) < 0.05


def test_a_comb_finds_boundaries_at_equal_distances() -> None:
    """And its figures are those of the spacing that is planted, chosen on the tuning half."""
    described = []
    for k in range(6):
        edges = list(range(0, 16000 + 1600 * k, 1600))
        units = {"word": [Interval(a, b, "w") for a, b in pairwise(edges)]}
        described.append(utterance(f"u{k}", f"s{k % 4}", edges[-1], units))
    parts = [np.zeros((u.n_samples // 320, 2), np.float32) for u in described]
    found = METRIC.baseline(frames_of(parts, described))
    assert found[0].detail["setting"] == "every 100 ms"
    assert [value_of(found, m) for m in ("", "boundary_f1", "over_segmentation")] == [1, 1, 0]


def moved(frames: Frames, samples: int) -> Frames:
    """The same frames beside a reference whose boundaries lie later."""
    utterances = []
    for u in frames.utterances:
        units = tuple(Interval(i.start + samples, i.end + samples, "w") for i in u.tiers["word"])
        utterances.append(replace(u, tiers={"word": units}))
    return replace(frames, utterances=tuple(utterances))


@pytest.mark.parametrize("shift", [320, -320])
def test_the_tolerance_is_exact_in_samples(shift: int) -> None:
    frames = planted(noise=0.0, utterances=6)
    metric = Segmentation((1,), (0.5,), ("euclidean",), tolerance_ms=20, chosen_by="r_value")
    # The recordings' edges move inside or outside and are no planted boundaries: recall tells.
    within = value_of(metric.score(moved(frames, shift)), "boundary_precision")
    beyond = metric.score(moved(frames, shift + np.sign(shift)))
    assert within == 1
    assert value_of(beyond, "boundary_recall") == 0


def test_order_scale_shift_and_other_samples_frames_change_nothing() -> None:
    frames = planted(noise=0.8, seed=3)
    expected = [s.value for s in METRIC.score(frames)]
    parts = [frames.of(k) for k in range(8)]
    order = np.random.default_rng(0).permutation(8)
    shuffled = frames_of([parts[k] for k in order], [frames.utterances[k] for k in order])
    # The halves are drawn by name and size: with equal sizes the order decides nothing.
    assert [s.value for s in METRIC.score(shuffled)] == pytest.approx(expected)
    scale = np.linspace(0.1, 30, 12)
    scaled = frames_of([part * scale + 5 for part in parts], frames.utterances)
    assert [s.value for s in METRIC.score(scaled)] == pytest.approx(expected)


def test_short_and_unmatched_utterances_keep_the_others_aligned() -> None:
    frames = planted(noise=0.05, utterances=8)
    parts = [frames.of(k) for k in range(8)]
    utterances = list(frames.utterances)
    for k in (0, 3):  # no peak can be found in one frame: its boundaries count as missed
        parts[k] = parts[k][:1]
    found = METRIC.score(frames_of(parts, utterances))
    complete = METRIC.score(frames)
    short = frames_of(parts, utterances)
    missed = sum(len(boundaries(u.tiers["word"], u.n_samples)) for u in short.utterances)
    assert missed == sum(len(boundaries(u.tiers["word"], u.n_samples)) for u in frames.utterances)
    assert value_of(found, "boundary_precision") > 0.97
    assert value_of(found, "boundary_recall") < value_of(complete, "boundary_recall")


def test_halves_are_of_speakers_and_the_sample_draws_them() -> None:
    frames = planted(utterances=12)
    halves = []
    for seed in range(20):
        tuning = tuning_half(replace(frames, seed=seed))
        chosen = {u.speaker for u, t in zip(frames.utterances, tuning, strict=True) if t}
        other = {u.speaker for u, t in zip(frames.utterances, tuning, strict=True) if not t}
        assert not chosen & other
        assert len(chosen) == len(other) == 2
        halves.append(frozenset(chosen))
    assert len(set(halves)) > 3


def test_statistics_and_settings_never_see_the_other_half() -> None:
    frames = planted(noise=0.6, seed=5)
    tuning = tuning_half(frames)
    rng = np.random.default_rng(1)
    parts = [
        frames.of(k) if tuned else rng.normal(size=frames.of(k).shape) * 1e3
        for k, tuned in enumerate(tuning)
    ]
    spoilt = METRIC.score(frames_of(parts, frames.utterances))
    clean = METRIC.score(frames)
    for key in ("setting", "tuning_score"):
        assert spoilt[0].detail[key] == clean[0].detail[key]


def test_boundaries_are_moments_inside_the_recording_once() -> None:
    units = (Interval(0, 800, "a"), Interval(800, 900, "b"), Interval(1000, 2000, "c"))
    assert boundaries(units, 2000) == [800, 900, 1000]
    assert boundaries(units, 1500) == [800, 900, 1000]
    assert boundaries((), 1500) == []


def test_one_speaker_is_an_error() -> None:
    frames = planted(utterances=3)
    alone = tuple(replace(u, speaker="s") for u in frames.utterances)
    with pytest.raises(StrataError, match="3 utterances of 1 speaker"):
        METRIC.score(replace(frames, utterances=alone))


def test_a_half_without_boundaries_is_an_error() -> None:
    frames = planted(utterances=4)
    empty = tuple(replace(u, tiers={"word": ()}) for u in frames.utterances)
    with pytest.raises(StrataError, match="no word boundary inside a recording"):
        METRIC.score(replace(frames, utterances=empty))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windows": ()}, "metric.windows is empty"),
        ({"windows": (0,)}, r"metric.windows=\[0\]"),
        ({"prominences": (-1.0,)}, r"metric.prominences=\[-1"),
        ({"distances": ("manhattan",)}, "use cosine, euclidean"),
        ({"tolerance_ms": 0}, "metric.tolerance_ms=0"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        replace(METRIC, **change)
