"""Rates of words, characters or phones that are wrong, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import pandas as pd

from common.seeding import generator

UNITS = {"wer": "word", "cer": "character", "per": "phone"}
RESAMPLES = 2_000
FEWEST_SPEAKERS = 5


@dataclass(frozen=True)
class ErrorRate:
    """A rate, how many units it is of, and a 95 % bootstrap interval over what was resampled."""

    value: float
    n: int
    low: float
    high: float
    resampled: str


def count_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Word errors, and words of the reference, which has one or more."""
    out = jiwer.process_words(reference, hypothesis)
    return _errors(out), _units(out)


def count_character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Character errors, and characters of the reference, spaces among them."""
    out = jiwer.process_characters(reference, hypothesis)
    return _errors(out), _units(out)


def _errors(out: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return out.substitutions + out.deletions + out.insertions


def _units(out: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return out.hits + out.substitutions + out.deletions


def count(reference: str, hypothesis: str, figures: Sequence[str]) -> list[tuple[int, int]]:
    """Errors, and units of the reference, for each of some error rates.

    Phones are separated by blanks, as words are. In scripts without spaces between words, where
    only characters are counted, spaces are not.
    """
    if "cer" in figures and "wer" not in figures:
        reference, hypothesis = reference.replace(" ", ""), hypothesis.replace(" ", "")
    return [
        (count_character_errors if figure == "cer" else count_errors)(reference, hypothesis)
        for figure in figures
    ]


def score(
    ids: Sequence[str],
    speakers: Sequence[str],
    references: Sequence[str],
    texts: Sequence[str],
    figures: Sequence[str] = ("wer", "cer"),
) -> pd.DataFrame:
    """A line for each utterance: reference, hypothesis and, for each of some error rates, the
    errors, the units (words, characters or phones) and the rate.
    """
    lines = []
    for id, speaker, reference, text in zip(ids, speakers, references, texts, strict=True):
        line: dict[str, str | float] = {
            "id": id,
            "speaker": speaker,
            "reference": reference,
            "hypothesis": text,
        }
        counts = dict(zip(figures, count(reference, text, figures), strict=True))
        for figure, (errors, units) in counts.items():
            line |= {f"{UNITS[figure]}_errors": errors, f"{UNITS[figure]}s": units}
        line |= {figure: errors / units for figure, (errors, units) in counts.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def error_rate(table: pd.DataFrame, unit: str, seed: int) -> ErrorRate:
    """Rate of a table by `score`, of its "word", "character" or "phone" errors.

    Speakers are resampled, with all their utterances: errors of one voice go together, and over
    utterances the interval would be too narrow. With fewer than five speakers, utterances are.
    """
    errors, units = table[f"{unit}_errors"].to_numpy(), table[f"{unit}s"].to_numpy()
    speakers = table["speaker"].astype("category").cat.codes.to_numpy()
    resampled = "speakers" if speakers.max() + 1 >= FEWEST_SPEAKERS else "utterances"
    groups = speakers if resampled == "speakers" else np.arange(len(table))
    sums = np.stack([np.bincount(groups, errors), np.bincount(groups, units)])  # (2, g)
    _, g = sums.shape
    drawn = generator(seed, "bootstrap").integers(g, size=(RESAMPLES, g))
    rates = np.divide(*sums[:, drawn].sum(-1))
    low, high = np.quantile(rates, [0.025, 0.975])
    return ErrorRate(errors.sum() / units.sum(), int(units.sum()), low, high, resampled)
