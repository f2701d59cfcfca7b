"""What is said of a topic's best layer, of those like it, and of the controls beside it."""

import numpy as np
import pandas as pd
import pytest
from advice_rows import UP_AND_DOWN, caveats, figures, frame, of, rows

from analysis.report.advice.advise import advise
from analysis.report.advice.curve import curves_of


def test_the_best_layer_and_those_like_it_and_those_below_controls_included() -> None:
    advised = advise(
        frame(
            rows("cca_phone", UP_AND_DOWN),
            rows("cca_phone", [0.1], control="mel"),
            rows("cca_phone", [0.05] * 6, control="random_weights", revision="random:0"),
        )
    )
    advice = of("phonetic content", advised)
    assert advice.headline == "Phones peak at T2 or T3"
    assert advice.claim == "cca_phone is highest at T2 (not told apart from it: T3)."
    assert (advice.model, advice.dataset) == ("m", "corpus (all)")
    (table,) = advice.figures
    assert table.measure == "cca_phone (pwcca, 10 paired scores a layer)"
    assert table.cells["best"].startswith("T2 0.5")
    assert table.cells["not told apart"].startswith("T3 0.")
    assert table.cells["lower"].startswith("T0 0.3")
    assert "the mel filterbank 0.1" in table.cells["controls"]
    assert "random weights T" in table.cells["controls"]
    assert (table.best, table.alike) == (2, (3,))
    np.testing.assert_allclose(table.means, UP_AND_DOWN, atol=0.03)
    assert "does not mean equal" in caveats(advice)
    assert "No controls" not in caveats(advice)


def test_noise_that_the_layers_of_a_draw_share_does_not_hide_a_difference() -> None:
    unpaired = rows("cca_phone", UP_AND_DOWN)
    spread = np.std([row.value for row in unpaired if row.layer == "T2"])
    assert spread > 0.03  # unpaired, T1 (0.1 below) would be within about two of it
    assert "T1" not in of("phonetic content", advise(frame(unpaired))).claim


@pytest.mark.parametrize("control", ["mel", "random_weights", "shuffled_labels"])
def test_a_layer_that_does_not_beat_a_control_knows_no_more_than_it(control: str) -> None:
    level = [0.5] if control == "mel" else [0.5] * 6
    advised = advise(
        frame(rows("cca_phone", UP_AND_DOWN), rows("cca_phone", level, control=control))
    )
    advice = of("phonetic content", advised)
    assert advice.headline == "Phones: no layer is shown to beat its controls"
    words = {"mel": "the mel filterbank"}.get(control, control.replace("_", " "))
    assert advice.claim == f"By cca_phone no layer is shown to know more than {words}."
    assert advice.peak == ""
    assert not any(one.topic == "where content turns back" for one in advised)
    assert of("re-initialisation", advised).claim.startswith(
        "corpus (all) gives no suggestion for m"
    )


def test_mel_is_not_compared_where_the_views_are_weighed_on_different_sides() -> None:
    advice = of(
        "word content",
        advise(
            frame(
                rows("cca_word", UP_AND_DOWN, target="word"),
                rows("cca_word", [0.9], control="mel", target="word"),
                rows("probe_word", UP_AND_DOWN, metric="probe", target="word"),
                rows("probe_word", [0.9], control="mel", metric="probe", target="word"),
            )
        ),
    )
    assert "cca_word: Not held against mel" in caveats(advice)
    assert advice.headline == "Words peak at T2 or T3 by cca_word"
    assert "cca_word is highest at T2" in advice.claim
    assert "; by probe_word no layer is shown to know more than the mel" in advice.claim
    assert advice.peak == ""


@pytest.mark.parametrize(("side", "comparable"), [("layer", False), ("target", True)])
def test_where_the_results_say_which_side_weighs_they_are_believed(
    side: str, comparable: bool
) -> None:
    table = frame(
        rows("cca_word", UP_AND_DOWN, target="word"),
        rows("cca_word", [0.1], control="mel", target="word"),
    )
    mel = table["control"] == "mel"
    advised = advise(table.assign(weighted=np.where(mel, side, "target")))
    advice = of("word content", advised)
    assert ("Not held against mel" in caveats(advice)) != comparable
    assert ("the mel filterbank 0.1" in figures(advice)) == comparable
    mixed = advise(table.assign(weighted=np.where(table["layer"] == "T0", "layer", "target")))
    assert "T0 left out, since CCA weighs" in caveats(of("word content", mixed))


def test_one_score_a_layer() -> None:
    advised = advise(
        frame(
            rows("cca_phone", UP_AND_DOWN, (1, 1), noise=0.001),
            rows("cca_word", UP_AND_DOWN, (1, None)),
        )
    )
    advice = of("phonetic content", advised)
    assert "cca_phone (1 fold of speakers, 6 needed)" in advice.claim
    assert "T2" not in advice.claim
    assert "differences cannot be told from noise" in caveats(advice)
    assert "No controls" in caveats(advice)
    assert "nan" not in f"{advice} {figures(advice)}"
    assert "6 needed" in figures(of("re-initialisation", advised))
    assert not any(one.topic == "where content turns back" for one in advised)


def test_below_six_folds_of_speakers_nothing_is_asserted() -> None:
    """Three samples are the same speakers three times: .42 was not told apart from .65."""
    levels = (0.42, 0.52, 0.65, 0.60, 0.45, 0.30)
    few = rows("mi_phone", levels, (3, None), noise=0.03, metric="mutual_information")
    advised = advise(frame(few, rows("cca_intra", levels[::-1], (3, None), target="T0")))
    advice = of("phonetic content", advised)
    assert advice.headline == "Phones: too little was scored to name a layer"
    assert advice.claim == (
        "Too little was scored to name a best layer: mi_phone (no folds of speakers, 6 needed)."
    )
    assert "nothing is said of the layers' order" in caveats(advice)
    assert "told apart" not in f"{advice.headline} {advice.claim} {figures(advice)}"
    assert advice.figures[0].best == -1
    assert advice.figures[0].alike == ()
    assert "p =" not in figures(advice)
    assert "6 needed" in figures(of("re-initialisation", advised))
    assert not any(one.topic == "where content turns back" for one in advised)
    both = advise(frame(few, rows("cca_phone", UP_AND_DOWN)))
    advice = of("phonetic content", both)
    assert advice.claim == "cca_phone is highest at T2 (not told apart from it: T3)."
    assert "mi_phone: Not scored on 6 folds of speakers or more" in caveats(advice)
    assert "best: not named: no folds of speakers, 6 needed" in figures(advice)
    some = of("phonetic content", advise(frame(rows("cca_phone", UP_AND_DOWN, (3, 5)))))
    assert "cca_phone (5 folds of speakers, 6 needed)" in some.claim


@pytest.mark.parametrize(("pairs", "enough"), [(38, False), (150, True)])
def test_few_pairs_of_words_name_no_best_layer(pairs: int, enough: bool) -> None:
    table = frame(rows("word_similarity", UP_AND_DOWN, metric="word_similarity"))
    advice = of("semantic content", advise(table.assign(pairs=pairs)))
    assert ("word_similarity is highest at T2" in advice.claim) == enough
    assert ("word_similarity (38 pairs, 150 needed)" in advice.claim) != enough
    assert ("With so few pairs another choice" in caveats(advice)) != enough
    assert f"10 paired scores a layer of {pairs} pairs" in figures(advice)


@pytest.mark.parametrize("split", ["frame", "utterance", "type"])
def test_folds_that_do_not_keep_speakers_apart_give_no_advice_and_that_is_said(split: str) -> None:
    (advised,) = advise(frame(rows("cca_phone", UP_AND_DOWN)).assign(split=split))
    assert advised.topic == "no advice"
    assert f"cca_phone (split={split})" in advised.claim
    assert "protocol=held_out" in caveats(advised)


def test_samples_and_seeds_add_no_speakers() -> None:
    """The same folds of speakers again, in other samples or other cuts: p does not fall."""
    once = frame(rows("cca_phone", UP_AND_DOWN, (1, 10)))
    again = pd.concat([once, once.assign(sample=1), once.assign(sample=2)])
    seeds = pd.concat([once.assign(seed=k) for k in range(4)])
    for more in (again, seeds):
        (_, alone), (_, repeated) = (next(curves_of(t.assign(run=""))) for t in (once, more))
        np.testing.assert_allclose(repeated.compared_with_best.p, alone.compared_with_best.p)
