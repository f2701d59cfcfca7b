"""ABX against fastabx, against loops over triples, planted phones, and hostile input."""

from collections import defaultdict
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from abx_items import GEOMETRY, spoken
from frames_in_memory import frames_of, utterance
from marks import slow
from numpy.typing import NDArray

from analysis.metrics.abx import Abx, Item, span_of
from analysis.metrics.alignment import angles, mean_costs
from analysis.metrics.frames import Frames
from analysis.metrics.intervals import SHARE, fold_jackknife
from common.encoder.frames import FrameGeometry
from common.metric import Score
from common.records import Interval, StrataError

Array = NDArray[np.float64]

ALL = 10**6
# By fastabx 0.9.0 and torchdtw 0.4.2: see abx_items.py.
GOLDEN = {
    ("phone", "within", "within"): 0.28276748210191727,
    ("phone", "within", "any"): 0.29967644313971203,
    ("phone", "across", "within"): 0.2512258260200421,
    ("phone", "across", "any"): 0.31660902003447217,
    ("triphone", "within", "within"): 0.39911265174547833,
    ("triphone", "across", "within"): 0.4446004132429759,
}


def value_of(scores: list[Score], metric: str = "") -> float:
    (score,) = (s for s in scores if s.metric == metric)
    return score.value


@pytest.mark.parametrize(("segment", "speaker", "context"), GOLDEN)
def test_error_rates_are_those_of_fastabx(segment: str, speaker: str, context: str) -> None:
    scores = Abx(speaker, context, segment, ALL, ALL).score(spoken())
    expected = GOLDEN[segment, speaker, context]
    assert 1 - value_of(scores) == pytest.approx(expected, abs=2e-8)  # it counts in float32
    assert value_of(scores, f"abx_error_{speaker}") == pytest.approx(expected, abs=2e-8)
    other = "across" if speaker == "within" else "within"
    beside = GOLDEN[segment, other, context]
    assert value_of(scores, f"abx_error_{other}") == pytest.approx(beside, abs=2e-8)


def naive_distance(x: Array, y: Array) -> float:
    """Cell by cell, and back from the end."""
    x, y = (
        v.astype(float) / np.linalg.norm(v.astype(float), axis=1, keepdims=True) for v in (x, y)
    )
    cost = np.arccos(np.clip(x @ y.T, -1, 1)) / np.pi
    total = np.full((len(x) + 1, len(y) + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(*cost.shape):
        total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    i, j, steps = len(x), len(y), 1
    while (i, j) != (1, 1):
        back = [(i - 1, j - 1), (i, j - 1), (i - 1, j)]
        i, j = min(back, key=lambda cell: total[cell])
        steps += 1
    return float(total[-1, -1] / steps)


def naive_error(frames: Frames, across: bool, keep_context: bool) -> float:
    """Triple by triple, cell by cell, then the means one after another."""
    items = []
    for k, recording in enumerate(frames.utterances):
        tier = recording.tiers["phone"]
        for n, phone in enumerate(tier):
            context = (tier[n - 1].label, tier[n + 1].label) if 0 < n < len(tier) - 1 else None
            if context or not keep_context:
                part = frames.of(k)[phone.start // 320 : phone.end // 320]
                items.append(
                    (phone.label, context if keep_context else None, recording.speaker, part)
                )
    wrong: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for (i, a), b, (k, x) in product(enumerate(items), items, enumerate(items)):
        same = a[0] == x[0] != b[0] and a[1] == b[1] == x[1] and a[2] == b[2] and i != k
        if same and (a[2] != x[2]) == across:
            to_a, to_b = naive_distance(x[3], a[3]), naive_distance(x[3], b[3])
            wrong[a[0], b[0], a[2], a[1], x[2]].append((1 + np.sign(to_a - to_b)) / 2)
    means = {cell: float(np.mean(rates)) for cell, rates in wrong.items()}
    for length in (3, 2) if keep_context else (2,):
        merged: dict[tuple[object, ...], list[float]] = defaultdict(list)
        for cell, mean in means.items():
            merged[cell[:length]].append(mean)
        means = {cell: float(np.mean(rates)) for cell, rates in merged.items()}
    return float(np.mean(list(means.values())))


@pytest.mark.parametrize("context", ["within", "any"])
def test_error_rates_are_those_of_a_loop_over_triples(context: str) -> None:
    frames = spoken(seed=3, speakers=2, utterances=2, phones=7)
    scores = Abx("within", context, "phone", ALL, ALL).score(frames)
    for across in (False, True):
        expected = naive_error(frames, across, context == "within")
        found = value_of(scores, "abx_error_across" if across else "abx_error_within")
        assert found == pytest.approx(expected, abs=1e-12)


def test_costs_are_means_along_the_cheapest_path_and_of_a_tie_the_diagonal_counts() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(t, 4)) for t in (1, 2, 3, 7, 12)]
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    x = y = np.concatenate(units)
    lengths = np.array([len(part) for part in parts])
    starts, n = np.cumsum(lengths) - lengths, len(x)
    first = np.add.outer(starts * n, starts).ravel()
    rows, columns = np.repeat(lengths, 5), np.tile(lengths, 5)
    found = mean_costs(angles(x, y).ravel(), first, np.full(25, n), rows, columns)
    expected = [naive_distance(a, b) for a in parts for b in parts]
    np.testing.assert_allclose(found, expected, atol=1e-7)
    flat = mean_costs(np.ones(6), np.zeros(1, int), np.array([3]), np.array([2]), np.array([3]))
    assert flat == pytest.approx(1)


def test_what_tells_phones_apart_scores_1_and_noise_a_half() -> None:
    metric = Abx("within", "any", "phone", ALL, ALL)
    clear = metric.score(spoken(noise=0.01))
    assert value_of(clear) == 1
    noise = metric.score(spoken(noise=1e3, utterances=8, phones=20))
    assert value_of(noise) == pytest.approx(0.5, abs=0.03)
    silent = spoken()
    same = metric.score(replace(silent, hidden=np.ones_like(silent.hidden)))
    zero = metric.score(replace(silent, hidden=np.zeros_like(silent.hidden)))
    assert value_of(same) == value_of(zero) == 0.5  # every triple is a tie


def test_scale_rotation_and_the_order_of_utterances_change_nothing() -> None:
    frames = spoken()
    metric = Abx("across", "any", "phone", ALL, ALL)
    expected = [s.value for s in metric.score(frames)]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    turned = replace(frames, hidden=7 * frames.hidden.astype(float) @ rotation)
    assert [s.value for s in metric.score(turned)] == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(1).permutation(len(frames.utterances))
    parts = [frames.of(k) for k in order]
    moved = frames_of(parts, [frames.utterances[k] for k in order], "phone")
    moved = replace(moved, geometry=GEOMETRY)
    assert [s.value for s in metric.score(moved)] == pytest.approx(expected, abs=1e-12)


def test_limits_bound_the_cells_and_the_sample_draws_within_them() -> None:
    frames = spoken(speakers=4, utterances=6)
    few = Abx("within", "any", "phone", 3, 2)
    limited = few.score(frames)
    assert limited[0].detail["within"] == "24 cells of 6 pairs of phones"
    assert limited[0].detail["across"] == "48 cells of 6 pairs of phones"  # of 72 without limit
    again = few.score(frames)
    other = few.score(replace(frames, seed=1))
    assert [s.value for s in limited] == [s.value for s in again]
    assert [s.value for s in limited] != [s.value for s in other]


def test_a_context_needs_neighbours_that_abut() -> None:
    frames = spoken()
    paused = [
        replace(u, tiers={"phone": (*u.tiers["phone"][:5], *u.tiers["phone"][6:])})
        for u in frames.utterances
    ]
    metric = Abx("within", "within", "phone", ALL, ALL)
    detail = metric.score(replace(frames, utterances=tuple(paused)))[0].detail
    assert detail["without_context"] == str(12 * 4)  # at the ends, and beside the pause
    assert detail["items"] == str(12 * 7)


def test_frames_of_an_item_are_those_whose_centre_lies_in_it() -> None:
    """And the nearest one where none does, and none beyond the utterance's last."""
    geometry = FrameGeometry(receptive_field=400, hop=320)  # centred on 200, 520, 840, …
    spans = {(0, 200): (0, 1), (0, 201): (0, 1), (200, 520): (0, 1), (201, 521): (1, 2)}
    spans |= {(300, 500): (1, 2), (201, 300): (0, 1), (500, 2000): (1, 4), (3000, 3100): (3, 4)}
    for (start, end), expected in spans.items():
        item = Item("a", ("", ""), "s", 0, start, end)
        assert span_of(item, geometry, 4) == expected, (start, end)


def test_one_speaker_has_no_figure_across(caplog: pytest.LogCaptureFixture) -> None:
    frames = spoken(speakers=1, utterances=8)
    metric = Abx("within", "any", "phone", ALL, ALL)
    metric.check(frames)
    assert "no figure abx_error_across" in caplog.text
    assert {s.metric for s in metric.score(frames)} == {"", "abx_error_within"}
    with pytest.raises(StrataError, match="no ABX triple across speakers among 96 items of 1 sp"):
        replace(metric, speaker="across").check(frames)


@pytest.mark.parametrize("context", ["within", slow("any")])
def test_intervals_leave_out_each_speaker_in_turn(context: str) -> None:
    frames = spoken(speakers=20, utterances=1, phones=5 if context == "any" else 9)
    metric = Abx("across", context, "phone", ALL, ALL)
    assert metric.no_interval(frames) == ""
    scores = metric.score(frames)
    places = np.array([u.speaker for u in frames.utterances])
    without: dict[str, list[float]] = defaultdict(list)
    for speaker in np.unique(places):
        kept = np.flatnonzero(places != speaker)
        parts = [frames.of(k) for k in kept]
        left = replace(
            frames_of(parts, [frames.utterances[k] for k in kept], "phone"), geometry=GEOMETRY
        )
        for score in metric.score(left):
            assert score.low is None  # of 19 speakers
            without[score.metric].append(score.value)
    for score in scores:
        assert (score.low, score.high) == pytest.approx(
            fold_jackknife(score.value, without[score.metric], SHARE), abs=1e-9
        )


def test_too_few_speakers_have_no_interval() -> None:
    frames = spoken(speakers=3)
    metric = Abx("within", "any", "phone", ALL, ALL)
    assert metric.no_interval(frames) == "a sample is tested on 3 known speakers, 20 are needed"
    assert {score.low for score in metric.score(frames)} == {None}


def test_too_little_speech_is_told_with_what_helps() -> None:
    tier = [Interval(0, 640, "a"), Interval(640, 1280, "b"), Interval(1280, 1920, "c")]
    one = utterance("u", "s", 1920, {"phone": tier})
    frames = frames_of([np.ones((6, 2), np.float32)], [one], "phone")
    with pytest.raises(StrataError, match=r"1 items of 1 .*2 phones do not.*metric.context=any"):
        Abx("within", "within", "phone", 10, 5).check(frames)
    with pytest.raises(StrataError, match="3 items of 1 speakers: use more speech"):
        Abx("within", "any", "phone", 10, 5).check(frames)
    nameless = replace(frames, utterances=(replace(one, speaker=""),))
    with pytest.raises(StrataError, match=r"1 of 1 utterances have no speaker .*is u\)"):
        Abx("within", "any", "phone", 10, 5).check(nameless)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("both", "any", "phone", 10, 5), "metric.speaker=both: choose one of within, across"),
        (("within", "kept", "phone", 10, 5), "metric.context=kept: choose"),
        (("within", "any", "word", 10, 5), "metric.segment=word: choose one of phone, triphone"),
        (("within", "any", "triphone", 10, 5), "triphones of other neighbours differ"),
        (("within", "any", "phone", 1, 5), "metric.max_size_group=1: it must be at least 2"),
        (("within", "any", "phone", 10, 0), "metric.max_x_across=0: it must be at least 1"),
    ],
)
def test_settings_are_checked(settings: tuple[str, str, str, int, int], message: str) -> None:
    with pytest.raises(StrataError, match=message):
        Abx(*settings)
