"""95 % intervals over speakers: what a score would be for other speakers of the same kind."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from common.seeding import generator

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Index = NDArray[np.int64]
ScoreOf = Callable[[Array], Array]  # how often each speaker counts (b, s) -> b scores (b,)

RESAMPLES = 1_000
LEAST_SPEAKERS = 20
LEVEL = 0.95
UNDEFINED = 0.01  # share of resamples that may have no score
NEAR_ONE = 1 - 1e-12  # where Fisher's z of a correlation is still finite


@dataclass(frozen=True)
class Scale:
    """A scale on which a score's error is about normal and as wide for every value."""

    to: Callable[[Array], Array]
    back: Callable[[Array], Array]


CORRELATION = Scale(lambda r: np.arctanh(np.clip(r, -NEAR_ONE, NEAR_ONE)), np.tanh)
SHARE = Scale(
    lambda p: np.arcsin(np.sqrt(np.clip(p, 0, 1))),
    lambda x: np.sin(np.clip(x, 0, np.pi / 2)) ** 2,
)


def bootstrap(
    score_of: ScoreOf,
    speakers: int,
    seed: int,
    scale: Scale = CORRELATION,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """A 95 % interval (low, high) of a score over the `speakers` that it was tested on.

    Whole speakers are drawn with replacement, since units of one speaker are not independent.
    `score_of` takes counts (b, s), a resample in each row, and gives each one's score: from sums
    per speaker it is one matrix product. An accuracy, with `right` and `all` (s,) per speaker:

        bootstrap(lambda counts: counts @ right / (counts @ all), len(all), units.seed, SHARE)

    A score of ranks or thresholds can loop over the rows. `score_of` must hold whatever was fitted
    fixed: the interval tells of other test speakers, not of other training data, so it leaves out
    the variance that fitting anew would add. Where training and test units share speakers
    (`split: frame`), it is the score of such a leaky fit. It belongs to one sample's score.

    None with fewer than 20 speakers, or where resamples have no score (NaN).
    """
    if speakers < LEAST_SPEAKERS:
        return None
    rng = generator(seed, "bootstrap", speakers)
    counts = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=resamples)
    values = score_of(counts.astype(np.float64))
    (own,) = score_of(np.ones((1, speakers)))
    defined = np.isfinite(values)
    if defined.mean() < 1 - UNDEFINED or not np.isfinite(own):
        log.warning(
            "no interval: %d of %d resamples of %d speakers have no score",
            np.count_nonzero(~defined),
            resamples,
            speakers,
        )
        return None
    return limits(scale.to(values[defined]), float(scale.to(own)), speakers, scale)


def limits(values: Array, own: float, speakers: int, scale: Scale) -> tuple[float, float]:
    """Bias-corrected t limits from scores of resamples (b,) and of the sample, on the scale.

    Percentile limits cover too little with few speakers (benchmarks/coverage.py), for three
    reasons, each of which is mended here. The spread of a resampled mean of s speakers is that of
    the sample with s, not s - 1, below. It takes normal quantiles for those of Student's t with
    s - 1 degrees of freedom. And a correlation on few speakers is biased: each fold is centred by
    its own speakers' mean, which takes a share of the variance between speakers away, so that
    layers which hold the speaker score too high. A resample repeats speakers, has fewer different
    ones and the same bias once more: percentile limits double it, these subtract it (Efron &
    Tibshirani 1993, section 10.6). BCa mends the median only by half, where the bias is large.
    """
    centre = 2 * own - values.mean()
    spread = values.std(ddof=1) * np.sqrt(speakers / (speakers - 1))
    t = scipy.stats.t.ppf((1 + LEVEL) / 2, speakers - 1)
    low, high = scale.back(centre + np.array([-1, 1]) * t * spread)
    return float(low), float(high)


def tell_none(name: str, metric: str, with_interval: bool, speakers: Sequence[int]) -> None:
    """Log why an experiment has no intervals; `speakers`: on how many each sample is tested."""
    if not with_interval:
        log.info("%s: %s has no 95 %% intervals", name, metric)
    elif min(speakers) < LEAST_SPEAKERS:
        log.info(
            "%s: no 95 %% intervals: a sample is tested on %d known speakers, %d are needed",
            name,
            min(speakers),
            LEAST_SPEAKERS,
        )


def speakers_tested(folds: Index, speaker: Index, known: NDArray[np.bool_], trials: int) -> int:
    """How many known speakers are in the test folds; folds, speaker (n,), known (speakers,)."""
    present = np.unique(speaker[np.isin(folds, [2 * t + 1 for t in range(trials)])])
    return int(np.count_nonzero(known[present]))
