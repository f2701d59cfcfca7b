"""A linear probe of numbers: how well are ages or ratings predicted for held-out speakers?"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import Limits, Scale, fold_jackknife, too_few
from analysis.metrics.probe import log_edges, trials_of
from analysis.metrics.units import Units
from analysis.targets.base import LabelTarget
from common.arrays import Array, Index
from common.narrowing import narrowed
from common.records import StrataError
from common.target import Target

log = logging.getLogger(__name__)

# Rows of a test fold, their squared errors by the fit, and by the training units' mean.
Errors = tuple[Index, Array, Array]

# Minus the logarithm of the unexplained share.
EXPLAINED = Scale(
    lambda r: -np.log(np.maximum(1 - np.asarray(r), 1e-12)), lambda x: -np.expm1(-np.asarray(x))
)


@dataclass(frozen=True)
class RidgeProbe(UnitMetric):
    """R2 of a linear regression of numbers on the vectors of held-out folds. Range (-inf, 1].

    scikit-learn's ridge regression on standardised vectors; the penalty, one of `penalties` times
    the number of training units, is the one with the smallest squared error on dev. Trial t trains
    on all folds but t (test) and the next one (dev). R2 = 1 - (squared error of the fit) / (squared
    error of the training units' mean): 0 for a fit that knows no more than that mean, below 0 for
    one that is misled. scikit-learn's `r2_score` takes the test fold's own mean, which no fit can
    know; of few speakers that differ it punishes even the best guess.

    Folds keep speakers apart. Where all units of a speaker have one number (an age), only the
    number of speakers counts, not that of their units: with 60 speakers a fit of 768 columns sees
    48 numbers. Expect R2 below 0 then, and look at the interval.

    Every trial carries the 95 % interval of the trials' mean R2, over test speakers with the fits
    held fixed: it leaves out what training on other speakers would change. Of twenty or forty
    speakers in ten folds, some of them much noisier than others, it held that of all speakers in
    .94 to .98 of data sets; in three folds in .92 to .93 where units differ in their number
    (benchmarks/unit_coverage.py).
    """

    name: ClassVar[str] = "r2"
    family: ClassVar[str] = "regression"
    held_out: ClassVar[bool] = True

    penalties: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", tuple(map(float, self.penalties)))
        if not self.penalties or not all(p > 0 for p in self.penalties):
            raise StrataError(
                f"metric.penalties={list(self.penalties)}: give one or more numbers above 0"
            )

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes units of any kind, with numbers."""
        return isinstance(target, LabelTarget) and target.numeric

    def check(self, units: Units) -> None:
        """Raise unless each trial trains on two different numbers, tests and chooses."""
        self.refuse_partitions(units)
        for trial, (train, dev, test) in enumerate(trials_of(units)):
            if len(np.unique(units.label[train])) < 2 or not len(dev) or not len(test):
                raise StrataError(
                    f"trial {trial} trains on {len(train)} units of "
                    f"{len(np.unique(units.label[train]))} number(s), chooses on {len(dev)} and "
                    f"tests on {len(test)}: use more speech, or fewer sampling.folds"
                )

    def no_interval(self, units: Units) -> str:
        """Too few speakers are tested."""
        tests = np.concatenate([test for _, _, test in trials_of(units)])
        return too_few(units.tested(tests)[1])

    def score(self, units: Units) -> list[Score]:
        """R2 of every trial."""
        view = narrowed(units.target, LabelTarget).view(units.label, units.labels)
        numbers = np.asarray(view, np.float64)[:, 0]
        found = [self._fit(units, numbers, *trial) for trial in trials_of(units)]
        errors = [squared for squared, _ in found]
        low, high = (None, None) if self.no_interval(units) else interval(units, errors)
        return [
            Score(
                1 - float(squared.sum() / mean.sum()),
                detail={"penalty": f"{penalty:g}", "tested": str(len(rows))},
                low=low,
                high=high,
            )
            for (rows, squared, mean), penalty in found
        ]

    def _fit(
        self, units: Units, numbers: Array, train: Index, dev: Index, test: Index
    ) -> tuple[Errors, float]:
        """Errors on a trial's test fold, and the penalty that did best on dev."""
        # scikit-learn takes a second to import: not while the configuration is read.
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        grid = np.array(sorted(self.penalties))
        scaler = StandardScaler().fit(units.vectors[train].astype(np.float64))
        x, choosing, held = (
            scaler.transform(units.vectors[rows].astype(np.float64)) for rows in (train, dev, test)
        )
        model = Ridge(alpha=grid * len(train), solver="cholesky")
        model.fit(x, np.repeat(numbers[train, None], len(grid), 1))
        chosen, found = (
            model.predict(standardised).reshape(len(standardised), -1)
            for standardised in (choosing, held)
        )
        errors = ((chosen - numbers[dev, None]) ** 2).mean(0)
        best = len(grid) - 1 - int(np.argmin(errors[::-1]))  # of equals the largest penalty
        squared = (found[:, best] - numbers[test]) ** 2
        return (test, squared, (numbers[train].mean() - numbers[test]) ** 2), float(grid[best])

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How often each penalty was chosen."""
        chosen = Counter(score.detail["penalty"] for score in scores)
        log_edges(experiment, "penalty", "penalties", chosen, self.penalties)
        return {"penalties": dict(chosen), "tested": sum(int(s.detail["tested"]) for s in scores)}


def interval(units: Units, errors: Sequence[Errors]) -> Limits | tuple[None, None]:
    """95 % interval of the mean of the trials' R2, from leaving out each of their speakers in turn.

    Ten folds may test two speakers each. A bootstrap that draws one of the two twice says too
    little of how much they differ; and the fewer speakers a trial tests, the lower is R2 on
    average, a bias that the jackknife estimates and takes off.
    """
    speaker = units.speaker[np.concatenate([rows for rows, _, _ in errors])]
    names = np.unique(speaker)
    kept = np.vstack([np.ones(len(names)), 1 - np.eye(len(names))])  # all, and all but each
    trials = []
    for rows, squared, mean in errors:
        codes = np.searchsorted(names, units.speaker[rows])
        sums = (np.bincount(codes, weights, minlength=len(names)) for weights in (squared, mean))
        with np.errstate(invalid="ignore", divide="ignore"):  # without its only speaker: no number
            trials.append(1 - np.divide(*(kept @ each for each in sums)))
    scores: Array = np.nanmean(trials, axis=0)
    if not np.isfinite(scores).all():
        log.warning("no interval: R2 is not a number without one of %d speakers", len(names))
        return None, None
    return fold_jackknife(float(scores[0]), scores[1:].tolist(), EXPLAINED, corrected=True)
