"""Which rows the advice takes for one curve, what it leaves out, and its sentences."""

import pandas as pd
from advice_rows import FALLING, UP_AND_DOWN, caveats, ctc, figures, frame, of, rows

from analysis.report.advice.advise import advise, lines_of, summary
from analysis.report.advice.wording import HEADLINE
from common.results.results import to_frame


def test_samples_that_are_the_same_data_count_once() -> None:
    one = rows("word_discrimination", UP_AND_DOWN, (1, None), 0.0, metric="average_precision")
    once = frame(one)
    shuffled = rows("word_discrimination", [0.1] * 6, (3, None), control="shuffled_labels")
    other = frame(shuffled).assign(metric="average_precision")
    same = pd.concat([*(once.assign(sample=k) for k in range(3)), other])
    advice = of("word content", advise(same))
    assert advice.claim == (
        "Too little was scored to name a best layer: word_discrimination (no folds of speakers, 6 "
        "needed)."
    )
    assert "2 scores are to the last digit those of another sample" in caveats(advice)
    assert "differences cannot be told from noise" in caveats(advice)


def test_one_layer_and_no_rows() -> None:
    advised = advise(frame(rows("cca_phone", [0.5])))
    assert (
        "cca_phone is highest at T0 (the only layer scored)"
        in of("phonetic content", advised).claim
    )
    assert advise(frame()) == []
    assert advise(to_frame([])) == []


def test_missing_scores_are_counted() -> None:
    table = frame(rows("cca_phone", UP_AND_DOWN))
    lost = table[~((table["layer"] == "T1") & (table["sample"] == 0))]
    assert "cca_phone: 10 scores lack a layer" in caveats(of("phonetic content", advise(lost)))


def test_a_run_on_other_data_under_the_same_name_is_left_out_and_told() -> None:
    first, second = frame(FALLING), frame(rows("cca_phone", UP_AND_DOWN[::-1], n=900))
    both = pd.concat([first, second.assign(run="second")])
    assert "cca_phone: Left out second" in caveats(of("phonetic content", advise(both)))
    parts = [first[first["layer"] != "T5"], second[second["layer"] == "T5"].assign(run="second")]
    mixed = of("phonetic content", advise(pd.concat(parts)))
    assert "cca_phone: Left out second" in caveats(mixed)
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
    advised = advise(
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
    assert {one.topic for one in advised} >= {
        "acoustic content",
        "semantic content",
        "word content",
    }
    for one in advised:
        for text in (one.claim, *(caveat.text for caveat in one.caveats)):
            assert text.endswith(".")
            assert ".." not in text
        for text in (one.headline, one.claim, caveats(one), figures(one)):
            assert text
            assert "nan" not in text
            assert "  " not in text
        assert len(one.headline.split()) <= HEADLINE
        assert not one.headline.endswith(".")


def test_the_summary_names_what_measures_agree_on() -> None:
    words = rows("cca_word", (0.3, 0.3, 0.3, 0.3, 0.5, 0.3), target="word")
    advised = advise(frame(rows("cca_phone", (0.3, 0.3, 0.3, 0.5, 0.3, 0.3)), words))
    assert summary(advised) == "Phones peak at T3, words at T4"
    other = rows("probe_word", (0.3, 0.5, 0.3, 0.3, 0.3, 0.3), metric="probe", target="word")
    advised = advise(frame(rows("cca_phone", UP_AND_DOWN), words, other))
    assert summary(advised) == "Phones peak at T2 or T3"
    headline = of("word content", advised).headline
    assert headline == "Words peak at T4 by cca_word, at T1 by probe_word"
    assert summary(advise(frame())) == ""


def test_the_place_of_acoustics_is_said_to_be_that_among_transformer_layers() -> None:
    """Convolutions, which the table may mark as best, are not held against them."""
    levels = (0.3, 0.3, 0.6, 0.3, 0.3, 0.3)
    blocks = frame(rows("cca_mel", levels, target="mel"))
    first = blocks["layer"] == "T0"
    convolution = blocks[first].assign(
        layer="C7", part="cnn", layer_index=7, value=blocks.loc[first, "value"] + 0.5
    )
    advised = advise(pd.concat([convolution, blocks]))
    acoustic = of("acoustic content", advised)
    assert acoustic.headline == "Acoustics in the transformer peak at T2"
    assert (
        "cca_mel is highest at T2 (told apart from every other transformer layer)" in acoustic.claim
    )
    assert summary(advised) == acoustic.headline


def test_a_headline_gives_the_range_where_the_measures_places_do_not_fit() -> None:
    level = {"metric": "probe", "target": "word"}
    advised = advise(
        frame(
            rows("cca_word", (0.3, 0.5, 0.3, 0.3, 0.3, 0.3), target="word"),
            rows("probe_word", (0.3, 0.3, 0.5, 0.3, 0.3, 0.3), **level),
            rows("mi_word", (0.3, 0.3, 0.3, 0.3, 0.5, 0.3), **level),
        )
    )
    headline = of("word content", advised).headline
    assert headline == "Words peak between T1 and T4, depending on the measure"
    flat = advise(frame(rows("cca_word", [0.5] * 6, target="word")))
    assert of("word content", flat).headline == "Words: no layer stands out"
    assert summary(flat) == ""


def test_a_run_ends_with_a_line_for_each_conclusion_and_says_why_there_is_none() -> None:
    few = rows("mi_phone", UP_AND_DOWN, (3, None), metric="mutual_information")
    lines = lines_of(advise(frame(few, rows("cca_word", UP_AND_DOWN, target="word"))))
    assert lines[0] == "Words peak at T2 or T3."
    assert lines[1] == (
        "Words peak at T2 or T3. cca_word is highest at T2 (not told apart from it: T3)."
    )
    (phones,) = (line for line in lines if "mi_phone" in line)
    assert phones == (
        "Phonetic content: Too little was scored to name a best layer: mi_phone (no folds of "
        "speakers, 6 needed)."
    )
    both = pd.concat([frame(FALLING), frame(rows("cca_phone", UP_AND_DOWN, model="other"))])
    assert {line.partition(":")[0] for line in lines_of(advise(both))} == {
        "m on corpus (all)",
        "other on corpus (all)",
    }
