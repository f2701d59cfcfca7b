"""Which rows the advice takes for one curve, what it leaves out, and its sentences."""

import pandas as pd
from advice_rows import FALLING, UP_AND_DOWN, ctc, frame, of, rows

from analysis.report.advice.advise import advise
from common.results.results import to_frame


def test_samples_that_are_the_same_data_count_once() -> None:
    one = rows("word_discrimination", UP_AND_DOWN, (1, None), 0.0, metric="average_precision")
    once = frame(one)
    shuffled = rows("word_discrimination", [0.1] * 6, (3, None), control="shuffled_labels")
    other = frame(shuffled).assign(metric="average_precision")
    same = pd.concat([*(once.assign(sample=k) for k in range(3)), other])
    own = of("word content", advise(same))
    assert own.claim == (
        "Too little was scored to say where word content of m on corpus (all) is highest: "
        "word_discrimination (no folds of speakers, 6 needed)."
    )
    assert "2 draws scored to the last digit as another one did" in own.caveat
    assert "nothing tells differences from noise" in own.caveat


def test_one_layer_and_no_rows() -> None:
    told = advise(frame(rows("cca_phone", [0.5])))
    assert "at T0 by cca_phone (the only layer scored)" in of("phonetic content", told).claim
    assert advise(frame()) == []
    assert advise(to_frame([])) == []


def test_missing_scores_are_counted() -> None:
    table = frame(rows("cca_phone", UP_AND_DOWN))
    lost = table[~((table["layer"] == "T1") & (table["sample"] == 0))]
    assert "cca_phone: 10 draws lack a layer" in of("phonetic content", advise(lost)).caveat


def test_a_run_on_other_data_under_the_same_name_is_left_out_and_told() -> None:
    first, second = frame(FALLING), frame(rows("cca_phone", UP_AND_DOWN[::-1], n=900))
    both = pd.concat([first, second.assign(run="second")])
    assert "cca_phone: left out second" in of("phonetic content", advise(both)).caveat
    parts = [first[first["layer"] != "T5"], second[second["layer"] == "T5"].assign(run="second")]
    assert "cca_phone: left out second" in of("phonetic content", advise(pd.concat(parts))).caveat
    again = pd.concat([first, first.assign(run="again")])
    assert of("phonetic content", advise(again)) == of("phonetic content", advise(first))


def test_layers_of_one_model_from_several_runs_make_one_curve() -> None:
    whole = frame(FALLING)
    parts = [whole[whole["layer"] == layer].assign(run=layer) for layer in whole["layer"].unique()]
    assert advise(pd.concat(parts)) == advise(whole)


def test_models_with_other_weights_are_told_apart_by_their_runs() -> None:
    other = frame(rows("cca_phone", UP_AND_DOWN, revision="r2")).assign(run="step_2")
    names = {one.model for one in advise(pd.concat([frame(FALLING), other]))}
    assert names == {"m [run]", "m [step_2]"}


def test_random_weights_are_no_model_to_advise_on() -> None:
    untrained = frame(rows("cca_phone", UP_AND_DOWN, model="untrained", revision="random:0:abc"))
    assert advise(untrained) == []
    assert {one.model for one in advise(pd.concat([untrained, frame(FALLING)]))} == {"m"}


def test_every_sentence_is_one() -> None:
    told = advise(
        pd.concat(
            [
                frame(
                    FALLING,
                    rows("cca_mel", (1.0, 0.8, 0.5, 0.4, 0.6, 0.7), target="mel"),
                    rows("cca_word", UP_AND_DOWN, target="word"),
                    rows("cca_word", [0.9], control="mel", target="word"),
                    rows("cca_glove", UP_AND_DOWN, target="embedding:glove"),
                ),
                ctc({0: (0.5, 0.4), 2: (0.6, 0.6)}),
            ]
        )
    )
    assert {one.topic for one in told} >= {"acoustic content", "semantic content", "word content"}
    for one in told:
        for text in (one.claim, one.numbers, one.caveat):
            assert text.endswith(".")
            assert ".." not in text
            assert "nan" not in text
            assert "  " not in text
