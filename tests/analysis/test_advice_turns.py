"""Where content turns back: told where it was planted, and nowhere else."""

import pytest
from advice_rows import UP_AND_DOWN, Levels, frame, of, rows

from analysis.report.advice.advise import advise


def test_the_autoencoder_shape() -> None:
    shape = (1.0, 0.8, 0.5, 0.4, 0.6, 0.7)
    advice = of("where content turns back", advise(frame(rows("cca_intra", shape, target="T0"))))
    assert advice.claim == (
        "By cca_intra layers move away from their input T0 up to T3 and come closer again at T5, "
        "as in an autoencoder."
    )
    assert advice.headline == "Layers leave their input T0, and turn back at T3"
    assert (advice.figures[0].best, advice.figures[0].alike) == (3, ())
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
    advised = advise(
        frame(
            rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.5, 0.4)),
            rows("cca_word", UP_AND_DOWN, target="word"),
        )
    )
    phones, words = (one for one in advised if one.topic == "where content turns back")
    assert phones.headline == "Phones fall off at the top layer, T5"
    assert words.headline == "Words fall off from T4 to the top"
    assert words.claim == "By cca_word T5 is below T2 (so is every layer from T4 up)."
    suggested = of("re-initialisation", advised)
    assert suggested.headline == "Re-initialise the top block"
    assert suggested.claim == (
        "Re-initialise the top block of m (T5): on corpus (all) they have fallen below the best "
        "layer by cca_phone and cca_word."
    ).replace("they have", "it has")
