"""The advice says what was planted, and nothing of what was not."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from analysis.advice.advise import advise
from analysis.advice.wording import Advice
from common.results import Row, to_frame

Levels = Sequence[float]
UP_AND_DOWN = (0.30, 0.40, 0.50, 0.495, 0.40, 0.30)


def rows(
    experiment: str,
    levels: Levels,
    draws: tuple[int, int | None] = (3, 3),
    noise: float = 0.005,
    control: str = "",
    metric: str = "pwcca",
    target: str = "phone",
    revision: str = "r1",
    model: str = "m",
    n: int = 500,
) -> list[Row]:
    """Layers T0, T1, … at `levels`, with noise that a draw's layers share and some of their own."""
    rng = np.random.default_rng(len(experiment + control))
    samples, trials = draws
    found = []
    for sample in range(samples):
        for trial in range(trials or 1):
            shared = rng.normal() * 0.05
            found += [
                Row(
                    model=model, dataset="corpus", partition="all", experiment=experiment,
                    unit="phone", target=target, metric=metric, split="frame",
                    layer="mel" if control == "mel" else f"T{k}", layer_index=k,
                    part="mel" if control == "mel" else "transformer", sample=sample,
                    trial=trial if trials else None,
                    value=level + shared + noise * rng.normal(), n=n, dim=64, seed=0,
                    revision=revision, config_key="k", git_commit="c", control=control,
                )
                for k, level in enumerate(levels)
            ]  # fmt: skip
    return found


def ctc(wer: dict[int, Levels], subset: str = "10m", revision: str = "r1") -> pd.DataFrame:
    """Rows of a sweep: WER by number of blocks, a figure for each seed."""
    own = [
        asdict(rows("ctc", [value], (1, None), metric="wer", target="text", revision=revision)[0])
        | {"value": value, "layer": "", "part": "", "seed": seed, "reinit_top": n}
        for n, values in wer.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(own).assign(subset=subset, train_dataset="corpus", run="ctc")


def frame(*parts: list[Row]) -> pd.DataFrame:
    return to_frame([row for part in parts for row in part]).assign(
        run="run", reinit_top=pd.NA, subset="", train_dataset="", depth=0.5
    )


def of(topic: str, advice: list[Advice]) -> Advice:
    (found,) = (one for one in advice if one.topic == topic)
    return found


def test_the_best_layer_and_those_like_it_and_those_below_controls_included() -> None:
    told = advise(
        frame(
            rows("cca_phone", UP_AND_DOWN),
            rows("cca_phone", [0.1], control="mel"),
            rows("cca_phone", [0.05] * 6, control="random_weights", revision="random:0"),
        )
    )
    own = of("phonetic content", told)
    assert own.claim == (
        "Phonetic content of m on corpus (all) is highest at T2 by cca_phone "
        "(T3 cannot be told apart from it)."
    )
    assert "9 paired scores" in own.numbers
    assert "lower T0" in own.numbers
    assert "the mel filterbank 0.1" in own.numbers
    assert "random weights T" in own.numbers
    assert "does not mean equal" in own.caveat
    assert "no controls" not in own.caveat


def test_noise_that_the_layers_of_a_draw_share_does_not_hide_a_difference() -> None:
    unpaired = rows("cca_phone", UP_AND_DOWN)
    spread = np.std([row.value for row in unpaired if row.layer == "T2"])
    assert spread > 0.03  # unpaired, T1 (0.1 below) would be within about two of it
    assert "T1 and T3" not in of("phonetic content", advise(frame(unpaired))).claim


@pytest.mark.parametrize("control", ["mel", "random_weights", "shuffled_labels"])
def test_a_layer_that_does_not_beat_a_control_knows_no_more_than_it(control: str) -> None:
    level = [0.5] if control == "mel" else [0.5] * 6
    told = advise(frame(rows("cca_phone", UP_AND_DOWN), rows("cca_phone", level, control=control)))
    said = of("phonetic content", told)
    assert said.claim.startswith("No layer of m is shown to hold phonetic content on corpus (all)")
    words = {"mel": "the mel filterbank"}.get(control, control.replace("_", " "))
    assert f"not shown to know more than {words}." in said.claim
    assert not any(one.topic == "where content turns back" for one in told)
    assert of("re-initialisation", told).claim.startswith("corpus (all) gives no suggestion for m")


def test_mel_is_not_compared_where_the_views_are_weighed_on_different_sides() -> None:
    told = of("word content", advise(frame(
        rows("cca_word", UP_AND_DOWN, target="word"),
        rows("cca_word", [0.9], control="mel", target="word"),
        rows("probe_word", UP_AND_DOWN, metric="probe", target="word"),
        rows("probe_word", [0.9], control="mel", metric="probe", target="word"),
    )))  # fmt: skip
    assert "Not held against mel: cca_word" in told.caveat
    assert "highest at T2 by cca_word" in told.claim
    assert "by probe_word its best layer, T2, is not shown to know more than the mel" in told.claim


@pytest.mark.parametrize(("side", "comparable"), [("layer", False), ("target", True)])
def test_where_the_results_say_which_side_weighs_they_are_believed(
    side: str, comparable: bool
) -> None:
    table = frame(
        rows("cca_word", UP_AND_DOWN, target="word"),
        rows("cca_word", [0.1], control="mel", target="word"),
    )
    mel = table["control"] == "mel"
    told = advise(table.assign(weighted=np.where(mel, side, "target")))
    own = of("word content", told)
    assert ("Not held against mel" in own.caveat) != comparable
    assert ("the mel filterbank 0.1" in own.numbers) == comparable
    mixed = advise(table.assign(weighted=np.where(table["layer"] == "T0", "layer", "target")))
    assert "not to be trusted" in of("word content", mixed).caveat


def test_the_autoencoder_shape() -> None:
    shape = (1.0, 0.8, 0.5, 0.4, 0.6, 0.7)
    told = of("where content turns back", advise(frame(rows("cca_intra", shape, target="T0"))))
    assert told.claim == (
        "The layers of m on corpus (all) move away from their input T0 up to T3 and come closer "
        "again at T5, as in an autoencoder."
    )
    other = advise(frame(rows("cca_intra", shape, target="T3")))
    assert not other


@pytest.mark.parametrize(
    "shape", [(0.5,) * 6, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), (0.9, 0.7, 0.5, 0.501, 0.5, 0.501)]
)
@pytest.mark.parametrize("experiment", ["cca_intra", "cca_mel"])
def test_no_turn_is_told_where_there_is_none(experiment: str, shape: Levels) -> None:
    target = "T0" if experiment == "cca_intra" else "mel"
    topics = {one.topic for one in advise(frame(rows(experiment, shape, target=target)))}
    assert "where content turns back" not in topics


def test_content_that_falls_at_the_top_and_the_blocks_that_follow_from_it() -> None:
    told = advise(frame(
        rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.5, 0.4)),
        rows("cca_word", UP_AND_DOWN, target="word"),
    ))  # fmt: skip
    turns = [one.claim for one in told if one.topic == "where content turns back"]
    assert "T5 is below T2 by cca_word (so is every layer from T4 up)" in turns[1]
    suggested = of("re-initialisation", told)
    assert suggested.claim == (
        "Re-initialise the top block of m (T5): on corpus (all) they have fallen below the best "
        "layer by cca_phone and cca_word."
    ).replace("they have", "it has")


def test_no_reason_to_re_initialise_where_either_kind_of_content_is_kept() -> None:
    told = advise(frame(
        rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.5, 0.5)),
        rows("cca_word", UP_AND_DOWN, target="word"),
    ))  # fmt: skip
    assert "gives no reason to re-initialise any block of m" in of("re-initialisation", told).claim
    assert "cannot be told apart from the best by cca_phone." in of("re-initialisation", told).claim


FALLING = rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.4, 0.3))  # N = 2


NOTHING = "re-initialising nothing; the sweep's best is"
UNSURE = "not provably better (lower WER, within what seeds change) than"


@pytest.mark.parametrize(
    ("wer", "words"),
    [
        (
            {0: (0.5, 0.51, 0.49), 2: (0.4, 0.41, 0.392)},
            "N = 2, did better than re-initialising nothing; it is the sweep's best.",
        ),
        ({0: (0.4, 0.41, 0.392), 2: (0.5, 0.51, 0.49)}, f"did worse than {NOTHING} N = 0."),
        ({0: (0.4, 0.41, 0.40), 2: (0.41, 0.40, 0.41)}, f"did no better than {NOTHING} N = 0."),
        (
            {0: (0.41, 0.40, 0.41), 1: (0.3, 0.3, 0.31), 2: (0.4, 0.41, 0.39)},
            f"did {UNSURE} {NOTHING} N = 1.",
        ),
        ({0: (0.5,), 2: (0.4,)}, UNSURE),
        ({0: (0.5, 0.4), 1: (0.6, 0.6)}, "was not tried; of what was, N = 0 is best."),
        ({1: (0.5, 0.4), 2: (0.6, 0.6)}, "since N = 0 was not run; N = 1 is best."),
    ],
)
def test_how_the_suggestion_did_is_told_plainly(wer: dict[int, Levels], words: str) -> None:
    told = advise(pd.concat([frame(FALLING), ctc(wer)]))
    tried = of("re-initialisation, tried", told)
    assert words in tried.claim
    assert tried.claim.startswith("m, fine-tuned on 10m of corpus and tested on corpus: ")
    assert "picked on the scores" in tried.caveat
    assert ("With one seed" in tried.caveat) == (len(next(iter(wer.values()))) == 1)


def test_a_suggestion_of_none_is_held_against_the_sweep_too() -> None:
    flat = rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.5, 0.5))
    sweep = ctc({0: (0.5, 0.51, 0.49), 1: (0.4, 0.41, 0.392)})
    told = of("re-initialisation, tried", advise(pd.concat([frame(flat), sweep])))
    assert "N = 0, did worse than N = 1, the sweep's best." in told.claim
    assert "N = 0: WER 50.0 % (49.0 to 51.0 over 3 seeds)" in told.numbers
    assert "N = 0 less N = 1: +9.9 points, lower in 0 of 3 paired seeds (p < 0.001)" in told.numbers


def test_a_sweep_that_learnt_nothing_is_not_compared() -> None:
    for lowest, silent in ((0.95, False), (0.5, True)):
        sweep = ctc({0: (lowest, lowest), 2: (0.99, 0.99)})
        tried = of("re-initialisation, tried", advise(pd.concat([frame(FALLING), sweep])))
        assert ("do not compare" not in tried.caveat) == silent
        assert "N = 2: WER 99.0 %" in tried.numbers


def test_where_hardly_a_word_is_right_characters_tell() -> None:
    words, characters = {0: (0.99, 0.98), 2: (0.97, 1.0)}, {0: (0.75, 0.74), 2: (0.8, 0.81)}
    sweep = pd.concat([ctc(words), ctc(characters).assign(metric="cer")])
    tried = of("re-initialisation, tried", advise(pd.concat([frame(FALLING), sweep])))
    assert "N = 2, did no better than" in tried.claim or "N = 2, did worse than" in tried.claim
    assert "N = 0: CER 74.5 % (74.0 to 75.0 over 2 seeds)" in tried.numbers
    assert "WER" not in tried.numbers
    assert "by characters, since hardly a word is right: the lowest WER is 97.0 %" in tried.caveat
    sweep = pd.concat([ctc({0: (0.5,), 2: (0.6,)}), ctc(characters).assign(metric="cer")])
    assert "WER 50.0 %" in of("re-initialisation, tried", advise(sweep)).numbers


def test_a_sweep_of_other_weights_or_without_an_analysis() -> None:
    wer = {0: (0.5, 0.5), 1: (0.4, 0.4)}
    other = advise(pd.concat([frame(FALLING), ctc(wer, revision="r2")]))
    assert "different revisions" in of("re-initialisation, tried", other).caveat
    renamed = frame(FALLING).assign(model="m [500 utterances]")  # the same weights
    same = of("re-initialisation, tried", advise(pd.concat([renamed, ctc(wer)])))
    assert "N = 2, was not tried" in same.claim
    (alone,) = advise(ctc(wer))
    assert "N = 1 is best; there is no suggestion" in alone.claim
    assert advise(ctc({0: (0.5, 0.5)})) == []


def test_one_score_a_layer() -> None:
    told = advise(
        frame(rows("cca_phone", UP_AND_DOWN, (1, 1)), rows("cca_word", UP_AND_DOWN, (1, None)))
    )
    own = of("phonetic content", told)
    assert "at T2 by cca_phone (untested)" in own.claim
    assert "nothing says which differences" in own.caveat
    assert "no controls" in own.caveat
    assert "nan" not in " ".join(asdict(own).values())
    assert "6 needed" in of("re-initialisation", told).numbers
    assert not any(one.topic == "where content turns back" for one in told)


def test_few_scores_a_layer_say_so() -> None:
    told = advise(frame(rows("mi_phone", UP_AND_DOWN, (3, None), metric="mutual_information")))
    assert "so few paired scores" in of("phonetic content", told).caveat
    assert "6 needed" in of("re-initialisation", told).numbers


def test_samples_that_are_the_same_data_count_once() -> None:
    one = rows("word_discrimination", UP_AND_DOWN, (1, None), 0.0, metric="average_precision")
    once = frame(one)
    shuffled = rows("word_discrimination", [0.1] * 6, (3, None), control="shuffled_labels")
    other = frame(shuffled).assign(metric="average_precision")
    same = pd.concat([*(once.assign(sample=k) for k in range(3)), other])
    own = of("word content", advise(same))
    assert "at T2 by word_discrimination (untested)" in own.claim
    assert "2 draws scored to the last digit as another one did" in own.caveat
    assert "nothing says which differences" in own.caveat


def test_one_layer_and_no_rows() -> None:
    told = advise(frame(rows("cca_phone", [0.5])))
    assert "at T0 by cca_phone (the only layer scored)" in of("phonetic content", told).claim
    assert advise(frame()) == []
    assert advise(to_frame([])) == []


def test_missing_scores_are_counted() -> None:
    table = frame(rows("cca_phone", UP_AND_DOWN))
    lost = table[~((table["layer"] == "T1") & (table["sample"] == 0))]
    assert "cca_phone: 3 draws lack a layer" in of("phonetic content", advise(lost)).caveat


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
    told = advise(pd.concat([
        frame(
            FALLING,
            rows("cca_mel", (1.0, 0.8, 0.5, 0.4, 0.6, 0.7), target="mel"),
            rows("cca_word", UP_AND_DOWN, target="word"),
            rows("cca_word", [0.9], control="mel", target="word"),
            rows("cca_glove", UP_AND_DOWN, target="embedding:glove"),
        ),
        ctc({0: (0.5, 0.4), 2: (0.6, 0.6)}),
    ]))  # fmt: skip
    assert {one.topic for one in told} >= {"acoustic content", "semantic content", "word content"}
    for one in told:
        for text in (one.claim, one.numbers, one.caveat):
            assert text.endswith(".")
            assert ".." not in text
            assert "nan" not in text
            assert "  " not in text
