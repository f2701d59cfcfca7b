"""Draws of labelled units by speaker, utterance and partition."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from analysis.unit_sampling import UnitSamples, draw_units
from common.config import AnalysisConfig, SamplingConfig, TargetConfig, UnitSampling
from common.records import Corpus, Interval, Utterance

RUN = SamplingConfig(samples=2, folds=4, trials=1)


def corpus(speakers: int, each: int = 8, words: Sequence[str] = ("a", "b")) -> Corpus:
    """Utterances of 20 words; the last speaker says nothing but "rare"."""
    made = []
    for index in range(speakers * each):
        speaker = index // each
        spoken = ["rare"] * 2 if speaker == speakers - 1 else [*words] * 10
        tier = tuple(Interval(100 * k, 100 * k + 100, word) for k, word in enumerate(spoken))
        made.append(Utterance(f"u{index}", f"s{speaker}", "", 16_000, {"word": tier}, None))
    return Corpus("toy", "all", "none", tuple(made), {}, "fingerprint")


def draw(
    speech: Corpus, split: str, unit: str = "word", target: str = "word", **more: Any
) -> UnitSamples:
    limits = UnitSampling(labels=2 if target == "word" else None, **more.pop("limits", {}))
    analysis = AnalysisConfig(
        unit=unit, target=TargetConfig(kind=target), metric=None, sampling=limits, pooling="mean"
    )
    return draw_units(speech, analysis, RUN, split, 0, **more)


@pytest.mark.parametrize(("speakers", "split"), [(5, "speaker"), (4, "utterance")])
def test_enough_speakers_are_those_of_the_units_drawn(speakers: int, split: str) -> None:
    """One of them has no unit of the two labels: three are too few for four folds."""
    drawn = draw(corpus(speakers), "speaker_else_utterance")
    assert (drawn.split, drawn.labels) == (split, ("a", "b"))


def test_folds_of_utterances_are_even_within_each_speaker() -> None:
    drawn = draw(corpus(5), "utterance", unit="utterance", target="speaker")
    assert drawn.split == "utterance"
    for folds in drawn.folds:
        for speaker in range(5):
            assert Counter(folds[drawn.label == speaker].tolist()) == dict.fromkeys(range(4), 2)


@pytest.mark.parametrize(("fit", "fitted"), [(None, 6), (40, 40), (999, 160)])
def test_a_partition_to_fit_on_has_instances_of_its_own(fit: int | None, fitted: int) -> None:
    speech = corpus(5)
    scored = np.array([u.speaker in ("s2", "s3") for u in speech.utterances])
    limits = {"instances": 6, "fit_instances": fit}
    drawn = draw(speech, "speaker_else_utterance", scored=scored, limits=limits)
    assert drawn.split == "partition"
    for folds in drawn.folds:
        rows = np.flatnonzero(folds >= 0)
        parts = Counter(zip(drawn.label[rows], scored[drawn.utterance[rows]], strict=True))
        assert parts == {(0, True): 6, (1, True): 6, (0, False): fitted, (1, False): fitted}
