"""A table of word vectors is scored on word types, and speakers, that it was not fitted on."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import analysis, corpus_of, utterance
from numpy.typing import NDArray
from units import planted

from analysis.metrics.cca import PWCCA
from analysis.moments import crossed_folds, fold_views, moments_of
from analysis.sampling.segments import LEAST_CELL, Segments, draw_units, hold_out_types
from common.config import SamplingConfig
from common.config.analysis import SPEAKERS_AND_TYPES
from common.records import Corpus, StrataError

RUN = SamplingConfig(samples=1)
TYPES, SPEAKERS, TIMES = 400, 20, 1
METRIC = PWCCA(((1e-10, 1e-10),))
Array = NDArray[np.float64]


def corpus(speakers: int = SPEAKERS, types: int = TYPES, times: int = TIMES) -> Corpus:
    """Each speaker says each type so many times."""
    labels = [f"p{code:03}" for code in range(types)]
    speaker_of = [f"s{s}" for s in range(speakers) for _ in range(times)]
    return corpus_of([utterance(u, labels, speaker) for u, speaker in enumerate(speaker_of)])


def drawn(split: str = "speaker", **more: int) -> Segments:
    return draw_units(corpus(**more), analysis(), RUN, split, 0)


def identity_code(samples: Segments, seed: int) -> tuple[Array, Array]:
    """A layer that holds which type it is and nothing of the table, and the table's rows."""
    rng = np.random.default_rng(seed)
    code, table = rng.normal(size=(2, TYPES, 16))
    x = code[samples.label] + 0.3 * rng.normal(size=(len(samples.label), 16))
    return x, table[samples.label]


def mean_score(samples: Segments, crossed: bool) -> float:
    """Over five layers and tables: one has a deviation of 0.026, and chance is a little below 0."""
    found = []
    for seed in range(5):
        x, y = identity_code(samples, seed)
        (fold,) = samples.folds
        if crossed:
            folds = crossed_folds(x, y, (fold, samples.type_folds), RUN.folds)
        else:
            folds = fold_views(x, y, fold, RUN.folds)
        found += [score.value for score in METRIC.score(folds)]
    return float(np.mean(found))


def test_a_code_of_which_word_it_is_scores_nothing_against_a_random_table() -> None:
    by_speaker = drawn()
    assert mean_score(by_speaker, crossed=False) > 0.15  # as published: types in training and test
    both = hold_out_types(by_speaker, RUN, 0)
    assert both.split == SPEAKERS_AND_TYPES
    assert -0.04 < mean_score(both, crossed=True) <= 0.01
    alone = hold_out_types(drawn("frame"), RUN, 0)
    assert (alone.split, alone.type_folds) == ("type", None)
    assert -0.04 < mean_score(alone, crossed=False) <= 0.01


def test_a_table_that_the_layer_holds_is_found_on_new_words_of_new_speakers() -> None:
    both = hold_out_types(drawn(), RUN, 0)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(TYPES, 6))
    y = table[both.label]
    x = y @ rng.normal(size=(6, 16)) + rng.normal(size=(len(y), 16))
    folds = crossed_folds(x, y, (both.folds[0], both.type_folds), RUN.folds)
    scores = METRIC.score(folds, with_interval=True)
    mean = np.mean([score.value for score in scores])
    assert mean > 0.7
    assert scores[0].low < mean < scores[0].high


def test_a_trial_shares_neither_types_nor_speakers_between_training_and_test() -> None:
    both = hold_out_types(drawn(), RUN, 0)
    (speakers,), types = both.folds, both.type_folds
    x = np.stack([both.label, both.utterance // TIMES], axis=1).astype(float)
    folds = crossed_folds(x, x, (speakers, types), RUN.folds)
    for t in range(RUN.folds):
        after = (t + 1) % RUN.folds
        train = ~np.isin(speakers, (t, after)) & ~np.isin(types, (t, after))
        test = (speakers == t) & (types == t)
        assert test.sum() >= LEAST_CELL
        for column in x.T:
            assert not set(column[train]) & set(column[test])
        for seen, rows in zip(folds.trial(t), (train, None, test), strict=True):
            if rows is not None:
                assert seen.n == rows.sum()
                expected = moments_of(x[rows], x[rows]).xy
                np.testing.assert_allclose(seen.xy, expected, rtol=1e-9, atol=1e-6)


def test_where_too_little_is_left_types_alone_are_kept_apart_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    few = hold_out_types(drawn(types=100, times=1), RUN, 0)
    assert few.split == "type"
    assert "20 units of 10 types, 30 units of 3 types are needed" in caplog.text
    for f in range(RUN.folds):
        inside = few.folds[0] == f
        assert not set(few.label[inside]) & set(few.label[~inside])


@pytest.mark.parametrize(("types", "fewer"), [(29, r"sampling\.folds=9, "), (8, "")])
def test_too_few_types_for_the_folds_are_refused_with_the_number_that_would_do(
    types: int, fewer: str
) -> None:
    with pytest.raises(StrataError, match=rf"there are {types} phone types: use .*{fewer}more sp"):
        hold_out_types(drawn(types=types), RUN, 0)


def test_frequent_types_do_not_fill_a_fold_alone() -> None:
    """Ten words are said 20 times and twenty once: every fold has one of those and two of these."""
    often, once = [f"p{code}" for code in range(10)], [f"q{code}" for code in range(20)]
    spoken = [utterance(u, often, f"s{u}") for u in range(20)]
    few = draw_units(
        corpus_of([*spoken, utterance(20, once, "s0")]), analysis(), RUN, "utterance", 0
    )
    held_out = hold_out_types(few, RUN, 0)
    for f in range(RUN.folds):
        labels = {few.labels[code] for code in few.label[held_out.folds[0] == f]}
        assert len(labels) == 3
        assert len(labels & set(often)) == 1


def test_a_fold_without_types_enough_among_the_units_drawn_is_refused() -> None:
    run = SamplingConfig(samples=2, instances=1)  # a sample draws one of two of each of 30 types
    lone = [utterance(u, [f"p{code:02}" for code in range(30)], f"s{u}") for u in range(2)]
    samples = hold_out_types(draw_units(corpus_of(lone), analysis(), run, "frame", 0), run, 0)
    gone = samples.label < 29
    dropped = replace(samples, folds=np.where(gone, samples.folds, -1))
    with pytest.raises(StrataError, match=r"units of 2 in one of them, 3 are needed"):
        hold_out_types(dropped, run, 0)


def test_a_permuted_table_moves_all_units_of_a_type_together() -> None:
    units = planted(n=600, labels=40)
    moved = units.with_permuted_types()
    pairs = set(zip(units.label.tolist(), moved.label.tolist(), strict=True))
    assert len(pairs) == len(np.unique(units.label))
    assert (moved.label != units.label).mean() > 0.8
    assert set(moved.label) == set(units.label)
    again = replace(units).with_permuted_types()
    np.testing.assert_array_equal(again.label, moved.label)
