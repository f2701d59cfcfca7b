"""Intervals of metrics of units: what a resample scores, when there is none, what they cover."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.stats
from marks import slow
from scipy.stats import binom
from units import planted

from analysis.metrics.agreement import agreement
from analysis.metrics.intervals import SHARE, fold_jackknife, jackknife
from analysis.metrics.mutual_information import MutualInformation, intervals
from analysis.metrics.probe import LinearProbe, interval
from analysis.metrics.units import Units
from analysis.metrics.word_discrimination import PooledDiscrimination
from analysis.metrics.word_similarity import WordSimilarity, correlate, resampled_score
from analysis.targets.labels import Attribute
from analysis.targets.word_pairs import Benchmark, Pair, WordPairs
from benchmarks.unit_coverage import CASES, Clustered, covered, information

GRID = (1e-3, 1e-1)


def many() -> Units:
    """Folds of seven speakers each: three trials test on 21."""
    return planted(n=1400, speakers=70, noise=2.0)


def times(counts: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """Rows (m,) with each speaker's written out as often as he counts."""
    return np.repeat(np.arange(len(speaker)), counts[speaker])


def test_the_interval_of_a_probe_is_the_jackknifes_of_strata() -> None:
    """Each trial has its own speakers; near one half the scale is straight."""
    units = planted(n=2400, speakers=24)
    rng = np.random.default_rng(0)
    fold = units.speaker % 10  # two or three speakers each
    tests = [(np.flatnonzero(fold == t), rng.random((fold == t).sum()) < 0.5) for t in range(10)]
    variance = 0.0
    for rows, right in tests:
        members = np.unique(units.speaker[rows])
        without = [right[units.speaker[rows] != s].mean() for s in members]
        variance += (len(members) - 1) * np.var(without) / len(tests) ** 2
    half = scipy.stats.t.ppf(0.975, 24 - 10) * variance**0.5
    middle = np.mean([right.mean() for _, right in tests])
    assert interval(units, tests) == pytest.approx((middle - half, middle + half), abs=0.01 * half)


def test_the_interval_of_a_probe_adds_up_what_a_speaker_moves_in_every_trial() -> None:
    """Trials that test all speakers on the same units are one trial."""
    units = planted(n=2400, speakers=24)
    rows = np.arange(len(units.speaker))
    right = np.random.default_rng(0).random(len(rows)) < 0.6
    without = [float(right[units.speaker != s].mean()) for s in range(24)]
    expected = fold_jackknife(float(right.mean()), without, SHARE)
    assert interval(units, [(rows, right)] * 3) == pytest.approx(expected, abs=2e-3)
    assert interval(units, [(rows, right)]) == pytest.approx(interval(units, [(rows, right)] * 3))


def test_trials_of_one_speaker_are_compared_with_each_other() -> None:
    units = planted(n=2400, speakers=24)
    right = np.random.default_rng(0).random(len(units.speaker)) < 0.5
    members = [np.flatnonzero(units.speaker == s) for s in range(24)]
    each = [float(right[rows].mean()) for rows in members]
    half = scipy.stats.t.ppf(0.975, 23) * scipy.stats.sem(each)
    found = interval(units, [(rows, right[rows]) for rows in members])
    assert found == pytest.approx((np.mean(each) - half, np.mean(each) + half), abs=0.01 * half)


def test_every_trial_of_a_probe_carries_the_interval_of_their_mean() -> None:
    units = many()
    primary = [score for score in LinearProbe(GRID).score(units) if not score.metric]
    ((low, high),) = {(score.low, score.high) for score in primary}
    assert low is not None
    assert low < np.mean([score.value for score in primary]) < high
    balanced = [score for score in LinearProbe(GRID).score(units) if score.metric]
    assert {(score.low, score.high) for score in balanced} == {(None, None)}


def test_probes_have_none_of_few_speakers_or_of_speakers_as_labels() -> None:
    probe, units = LinearProbe(GRID), many()
    assert probe.no_interval(units) == ""
    nameless = replace(units, speakers=tuple("" if k in (1, 2) else f"s{k}" for k in range(70)))
    assert "tested on 19 known speakers, 20 are needed" in probe.no_interval(nameless)
    few = planted(noise=2.0)
    assert "tested on 5 known speakers, 20 are needed" in probe.no_interval(few)
    assert probe.score(few)[0].low is None
    speakers = replace(units, target=Attribute(attribute="speaker"))
    assert "labels are the speakers" in probe.no_interval(speakers)
    assert probe.score(speakers)[0].low is None


def test_information_is_taken_without_each_speaker_in_turn() -> None:
    rng = np.random.default_rng(0)
    label, speaker = rng.integers(5, size=900), np.repeat(np.arange(30), 30)
    clusters = np.where(rng.random(900) < 0.5, label, rng.integers(8, size=900))
    normalised, adjusted = intervals(clusters, label, speaker)
    without = [agreement(clusters[speaker != s], label[speaker != s]) for s in range(30)]
    score = agreement(clusters, label)
    assert normalised == jackknife(score.normalised, [one.normalised for one in without])
    assert adjusted == jackknife(score.adjusted, [one.adjusted for one in without])
    assert normalised[0] < score.normalised < normalised[1]


def test_information_has_an_interval_where_clusters_are_well_filled() -> None:
    metric = MutualInformation(20, "minibatch", batch=500, seeds=1, iterations=5)
    units = planted(n=1200, speakers=40, noise=2.0)
    assert metric.no_interval(units) == ""
    scores = {score.metric: score for score in metric.score(units)}
    for figure in ("", "pnmi"):
        one = scores[figure]
        assert one.low < one.value < one.high
    assert scores["pnmi_shuffled"].low is None
    sparse = replace(metric, clusters=400)
    assert "10 for each are needed" in sparse.no_interval(
        replace(units, scored=np.arange(1200) >= 1000)
    )
    assert "known speakers" in metric.no_interval(planted(n=1200))


def words() -> tuple[Units, tuple[Benchmark, ...]]:
    units = planted(n=300, labels=12, speakers=24, noise=3.0)
    rng = np.random.default_rng(0)
    pairs = tuple(Pair(f"l{a}", f"l{b}", float(rng.normal())) for a in range(12) for b in range(a))
    halves = pairs[:40], pairs[40:]
    return units, tuple(Benchmark(f"b{k}", half, len(half), 0, 0) for k, half in enumerate(halves))


def test_a_resampled_rho_is_that_of_the_instances_it_repeats() -> None:
    units, benchmarks = words()
    score_of, speakers = resampled_score(units, benchmarks, 5)
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=3)
    drawn = np.concatenate([drawn, 9 * (np.arange(24) < 2)[None]])  # some words are not said
    for value, counts in zip(score_of(drawn.astype(float)), drawn, strict=True):
        rows = times(counts, units.speaker)
        label, vectors = units.label[rows], units.vectors[rows].astype(np.float64)
        known = {f"l{k}": k for k in range(12) if (label == k).any()}
        means = np.stack(
            [vectors[label == k].mean(0) if f"l{k}" in known else vectors[0] for k in range(12)]
        )
        each = []
        for benchmark in benchmarks:
            pairs = [p for p in benchmark.pairs if p.first in known and p.second in known]
            common_mean = means[sorted(known.values())].mean(0)
            each.append((correlate(means - common_mean, known, pairs), len(pairs)))
        expected = sum(rho * n for rho, n in each) / sum(n for _, n in each)
        assert value == pytest.approx(expected, abs=1e-6)
    assert len(known) < 12


def test_a_resample_without_enough_pairs_has_no_rho() -> None:
    units, benchmarks = words()
    score_of, speakers = resampled_score(units, benchmarks, 30)
    alone = 24.0 * (np.arange(speakers) == 0)
    assert np.isnan(score_of(alone[None])).all()


def test_word_similarity_has_an_interval_of_its_own_figure(tmp_path) -> None:
    units, benchmarks = words()
    lines = [f"{p.first},{p.second},{p.score}" for b in benchmarks for p in b.pairs]
    (tmp_path / "b.csv").write_text("\n".join(["word1,word2,similarity", *lines]))
    units = replace(units, target=WordPairs(path=str(tmp_path)))
    primary, *others = WordSimilarity(5).score(units)
    assert primary.low < primary.value < primary.high
    assert all(score.low is None for score in others)
    nameless = replace(units, speakers=("", *units.speakers[:19], *("",) * 4))
    assert "19 known" in WordSimilarity(5).no_interval(nameless)
    assert WordSimilarity(5).score(nameless)[0].low is None


def test_other_metrics_say_that_they_have_none() -> None:
    assert (
        PooledDiscrimination().no_interval(planted())
        == "average_precision_centred has none over speakers"
    )


SMALL = Clustered(labels=10, clusters=12, units=40)
SIMULATED = {
    "probe": (CASES["probe, speakers differ"], 200),
    "R2": (CASES["R2 of a number of each unit, low"], 800),
    "information": (partial(information, SMALL, False), 30),
}


@pytest.mark.parametrize("case", ["R2", slow("probe"), slow("information")])
def test_nineteen_of_twenty_intervals_hold_what_they_are_of(case: str) -> None:
    """Bounds that an interval with 95 % passes in 99.9 % of simulations of this size."""
    simulate, n = SIMULATED[case]
    low, high = binom.ppf([0.0005, 0.9995], n, 0.95) / n
    assert low <= covered(simulate(n))[1] <= high
