"""How many blocks to re-initialise, and how that did in a sweep."""

import pandas as pd
import pytest
from advice_rows import FALLING, UP_AND_DOWN, Levels, caveats, ctc, figures, frame, of, rows

from analysis.report.advice.advise import advise


def test_no_reason_to_re_initialise_where_either_kind_of_content_is_kept() -> None:
    advised = advise(
        frame(
            rows("cca_phone", (0.3, 0.4, 0.5, 0.505, 0.5, 0.5)),
            rows("cca_word", UP_AND_DOWN, target="word"),
        )
    )
    assert (
        "gives no reason to re-initialise any block of m" in of("re-initialisation", advised).claim
    )
    assert (
        "cannot be told apart from the best by cca_phone." in of("re-initialisation", advised).claim
    )


def test_a_top_layer_that_is_the_best_is_said_to_be() -> None:
    rising = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    alike = (0.3, 0.4, 0.5, 0.6, 0.601, 0.6)
    advised = advise(frame(rows("cca_word", rising, target="word"), rows("cca_phone", alike)))
    claim = of("re-initialisation", advised).claim
    assert claim.endswith(
        "its top layer, T5, is the best by cca_word and cannot be told apart from the best by "
        "cca_phone."
    )


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
    advised = advise(pd.concat([frame(FALLING), ctc(wer)]))
    tried = of("re-initialisation, tried", advised)
    assert words in tried.claim
    assert tried.claim.startswith("m, fine-tuned on 10m of corpus and tested on corpus: ")
    assert "picked on the scores" in caveats(tried)
    assert ("With one seed" in caveats(tried)) == (len(next(iter(wer.values()))) == 1)


def test_a_suggestion_of_none_is_held_against_the_sweep_too() -> None:
    flat = rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.5, 0.5))
    sweep = ctc({0: (0.5, 0.51, 0.49), 1: (0.4, 0.41, 0.392)})
    advice = of("re-initialisation, tried", advise(pd.concat([frame(flat), sweep])))
    assert "N = 0, did worse than N = 1, the sweep's best." in advice.claim
    assert advice.headline == "Re-initialising no blocks did worse than 1 block"
    (table,) = advice.figures
    assert table.cells == {
        "N = 0": "WER 50.0 % (49.0 to 51.0 over 3 seeds)",
        "N = 1": "WER 40.1 % (39.2 to 41.0 over 3 seeds)",
        "N = 0 less N = 1": "+9.9 points, lower in 0 of 3 paired seeds (p < 0.001)",
    }
    assert (table.layers, table.best) == (("N = 0", "N = 1"), 1)


def test_a_sweep_that_learnt_nothing_is_not_compared() -> None:
    for lowest, silent in ((0.95, False), (0.5, True)):
        sweep = ctc({0: (lowest, lowest), 2: (0.99, 0.99)})
        tried = of("re-initialisation, tried", advise(pd.concat([frame(FALLING), sweep])))
        assert ("do not compare" not in caveats(tried)) == silent
        assert "N = 2: WER 99.0 %" in figures(tried)


def test_where_hardly_a_word_is_right_characters_tell() -> None:
    words, characters = {0: (0.99, 0.98), 2: (0.97, 1.0)}, {0: (0.75, 0.74), 2: (0.8, 0.81)}
    sweep = pd.concat([ctc(words), ctc(characters).assign(metric="cer")])
    tried = of("re-initialisation, tried", advise(pd.concat([frame(FALLING), sweep])))
    assert "N = 2, did no better than re-initialising nothing" in tried.claim
    assert "N = 0: CER 74.5 % (74.0 to 75.0 over 2 seeds)" in figures(tried)
    assert "WER" not in figures(tried)
    assert "By characters, since hardly a word is right: the lowest WER is 97.0 %" in caveats(tried)
    sweep = pd.concat([ctc({0: (0.5,), 2: (0.6,)}), ctc(characters).assign(metric="cer")])
    assert "WER 50.0 %" in figures(of("re-initialisation, tried", advise(sweep)))


def test_a_sweep_of_other_weights_or_without_an_analysis() -> None:
    wer = {0: (0.5, 0.5), 1: (0.4, 0.4)}
    other = advise(pd.concat([frame(FALLING), ctc(wer, revision="r2")]))
    assert "different revisions" in caveats(of("re-initialisation, tried", other))
    renamed = frame(FALLING).assign(model="m [500 utterances]")  # the same weights
    same = of("re-initialisation, tried", advise(pd.concat([renamed, ctc(wer)])))
    assert "N = 2, was not tried" in same.claim
    (alone,) = advise(ctc(wer))
    assert "N = 1 is best; there is no suggestion" in alone.claim
    assert advise(ctc({0: (0.5, 0.5)})) == []
