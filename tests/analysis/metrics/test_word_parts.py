"""Parts of words: planted places, the mean against CCA of means, short words, hostile input."""

from dataclasses import replace

import numpy as np
import pytest
from frames_in_memory import frames_of, utterance
from numpy.typing import NDArray

from analysis.metrics.cca import PWCCA
from analysis.metrics.frames import Frames
from analysis.metrics.word_parts import WordParts, places
from analysis.moments import fold_views
from common.metric import Score
from common.records import Interval, StrataError

RIDGES = ((1e-10, 1e-10),)
METRIC = WordParts(4, RIDGES)
TYPES = 5


def planted(where: slice, n: int = 1500, speakers: int = 25, seed: int = 0) -> Frames:
    """Words of eight frames whose type is told by the frames `where`, with noise in all of them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(TYPES, 6))
    label = rng.integers(TYPES, size=n)
    parts = rng.normal(size=(n, 8, 6))
    parts[:, where] += centres[label][:, None]
    spoken = [utterance(f"u{k}", f"s{k % speakers}", 2560, {}) for k in range(n)]
    words = [Interval(0, 2560, f"w{code}") for code in label]
    frames = frames_of([part.astype(np.float32) for part in parts], spoken, intervals=words)
    folds = (np.arange(n) % speakers % 10)[None]
    segments = replace(frames.segments, folds=folds, split="speaker")
    return replace(frames, segments=segments, trials=10)


def mean_of(scores: list[Score]) -> dict[str, float]:
    """Mean over the trials of every figure."""
    names = dict.fromkeys(score.metric for score in scores)
    return {name: float(np.mean([s.value for s in scores if s.metric == name])) for name in names}


@pytest.mark.parametrize(
    ("where", "high", "low"),
    [
        (slice(2, 6), ("", "part_2", "part_3"), ("first_frame", "last_frame", "part_1", "part_4")),
        (slice(0, 1), ("first_frame", "part_1"), ("", "last_frame", "part_2", "part_3", "part_4")),
        (slice(7, 8), ("last_frame", "part_4"), ("", "first_frame", "part_1", "part_2", "part_3")),
    ],
)
def test_the_places_that_tell_the_word_are_found(
    where: slice, high: tuple[str, ...], low: tuple[str, ...]
) -> None:
    found = mean_of(METRIC.score(planted(where)))
    names = {place: f"pwcca_{place}" if place else "" for place in (*high, *low)}
    assert min(found[names[place]] for place in high) > 0.45
    assert max(found[names[place]] for place in low) < 0.1
    assert max(found[names[place]] for place in low) < found["pwcca_all_frames"]


def test_the_mean_over_a_word_has_the_scores_and_the_interval_of_pwcca() -> None:
    frames = planted(slice(2, 6), n=400)
    means = np.stack([frames.of(k).mean(0) for k in range(400)])
    labels = np.eye(TYPES)[frames.segments.label]
    expected = PWCCA(RIDGES).score(fold_views(means, labels, frames.fold, 10), with_interval=True)
    found = [s for s in METRIC.score(frames) if s.metric == "pwcca_all_frames"]
    for score, other in zip(found, expected, strict=True):
        assert score.value == pytest.approx(other.value, abs=1e-6)
        assert (score.low, score.high) == pytest.approx((other.low, other.high), abs=1e-6)
    assert expected[0].low is not None


def test_shuffled_labels_have_no_place() -> None:
    found = mean_of(METRIC.score(planted(slice(0, 8)).shuffled()))
    assert len(found) == 8
    assert max(map(abs, found.values())) < 0.1


def test_every_part_of_a_short_word_has_a_frame() -> None:
    for n in range(1, 12):
        found = places(n, 4)
        assert all(0 <= first < last <= n for first, last in found.values())
        covered = {t for p in range(1, 5) for t in range(*found[f"part_{p}"])}
        assert covered == set(range(n))
    assert places(3, 4)["centre_frame"] == (1, 2)
    assert [places(2, 4)[f"part_{p}"] for p in (1, 2, 3, 4)] == [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert [places(8, 4)[f"part_{p}"] for p in (1, 4)] == [(0, 2), (6, 8)]


def test_few_speakers_have_no_interval_and_too_few_words_are_refused() -> None:
    frames = planted(slice(2, 6), n=400, speakers=12)
    assert "12 known speakers" in METRIC.no_interval(frames)
    assert {s.low for s in METRIC.score(frames)} == {None}
    assert METRIC.no_interval(planted(slice(2, 6), n=400)) == ""
    alike: NDArray[np.int64] = np.zeros(400, dtype=np.int64)
    one_type = replace(frames, segments=replace(frames.segments, label=alike))
    with pytest.raises(StrataError, match=r"trial 0 is tested on .* words of 1 types"):
        METRIC.check(one_type)
    with pytest.raises(StrataError, match=r"metric\.parts=1: it must be at least 2"):
        WordParts(1, RIDGES)
    with pytest.raises(StrataError, match="takes one"):
        WordParts(4, ((0, 0), (1, 1)))
