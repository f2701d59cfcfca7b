"""Linear probes: can a label be read off the vectors of speakers or utterances never seen?"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import SHARE, Limits, around, too_few
from analysis.metrics.units import Units
from analysis.moments import dev_fold, number_of
from common.arrays import Index, Mask
from common.records import StrataError

log = logging.getLogger(__name__)

Found = tuple[Index, Mask]  # test rows of a trial, and which were found


@dataclass(frozen=True)
class LinearProbe(UnitMetric):
    """Accuracy of a linear classifier on held-out folds. Range [0, 1].

    scikit-learn's linear discriminant analysis on standardised vectors, its covariance shrunk by
    what does best on dev (`shrinkages`); trial t trains on all folds but t (test) and the next one
    (dev). It needs no iterations, so it always converges, and was within two points of
    multinomial logistic regression on mel frames of phones (ridge regression on one-hot labels was
    five below: with few dimensions some labels hide behind others, which would belittle the mel
    baseline).

    Phones and words are tested on speakers who are not in training, speakers on other utterances.
    A test unit whose label is not in training counts as an error. Chance: about the share of the
    most frequent label. `probe_balanced`, the mean over labels of the share of their test units
    found, has the chance 1 / labels.

    Every trial carries the 95 % interval of the trials' mean accuracy, over test speakers with the
    fits held fixed: it leaves out what training on other speakers would change.
    """

    name: ClassVar[str] = "probe"
    family: ClassVar[str] = "probe"
    held_out: ClassVar[bool] = True

    shrinkages: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shrinkages", tuple(self.shrinkages))
        if not self.shrinkages or not all(0 < s <= 1 for s in self.shrinkages):
            raise StrataError(
                f"metric.shrinkages={list(self.shrinkages)}: give one or more numbers above 0 and "
                "up to 1"
            )

    def check(self, units: Units) -> None:
        """Raise unless each trial trains on two labels, and tests and chooses on units of those."""
        self.refuse_partitions(units)
        for trial, (train, dev, test) in enumerate(trials_of(units)):
            known = np.unique(units.label[train])
            if len(known) < 2 or len(train) <= len(known):
                raise StrataError(
                    f"trial {trial} trains a probe on {len(train)} units of {len(known)} label(s): "
                    "it needs two labels, and more units than labels; use more speech or lower "
                    "sampling.trials"
                )
            for what, rows in (("chooses", dev), ("tests", test)):
                if not np.isin(units.label[rows], known).any():
                    raise StrataError(
                        f"trial {trial} {what} on {len(rows)} units, none with a label that it "
                        "trains on: every label has one instance, or one speaker? Use more "
                        "speech, or split=utterance where the labels are speakers"
                    )

    def no_interval(self, units: Units) -> str:
        """Why there is none: too few speakers, or speakers are the labels."""
        if units.target is not None and units.target.name == "speaker":
            return "the labels are the speakers, and this fit knows no others"
        tests = np.concatenate([test for _, _, test in trials_of(units)])
        return too_few(units.tested(tests)[1])

    def score(self, units: Units) -> list[Score]:
        """Accuracy of every trial, then balanced accuracy of every trial."""
        # scikit-learn takes a second to import: not while the configuration is read.
        from sklearn.metrics import recall_score

        from analysis.metrics.discriminant import fit_best

        details, balanced, tests = [], [], []
        for train, dev, test in trials_of(units):
            model, best = fit_best(units.vectors, units.label, train, dev, self.shrinkages)
            truth = units.label[test]
            found = model.predict(units.vectors[test])
            recall = recall_score(truth, found, labels=np.unique(truth), average="macro")
            unseen = int((~np.isin(truth, model.classes_)).sum())
            details.append(
                {"shrinkage": f"{best:g}", "tested": str(len(test)), "unseen": str(unseen)}
            )
            tests.append((test, found == truth))
            balanced.append(Score(float(recall), f"{self.name}_balanced"))
        low, high = (None, None) if self.no_interval(units) else interval(units, tests)
        accuracies = (
            Score(float(right.mean()), detail=detail, low=low, high=high)
            for (_, right), detail in zip(tests, details, strict=True)
        )
        return [*accuracies, *balanced]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How often each shrinkage was chosen, and test units of labels unknown in training."""
        details = [score.detail for score in scores if not score.metric]
        chosen = Counter(detail["shrinkage"] for detail in details)
        log_edges(experiment, "shrinkage", "shrinkages", chosen, self.shrinkages)
        return {
            "shrinkages": dict(chosen),
            "tested": sum(int(detail["tested"]) for detail in details),
            "tested_of_labels_not_trained_on": sum(int(detail["unseen"]) for detail in details),
        }


def log_edges(
    experiment: str, name: str, key: str, chosen: Counter[str], grid: Sequence[float]
) -> None:
    """Log how many values of a setting, as `chosen` on dev, are at the edges of its grid."""
    edges = {f"{edge:g}" for edge in (min(grid), max(grid))}
    at_edge = sum(chosen[edge] for edge in edges)
    if at_edge:
        log.info(
            "%s: %d of %d choices of a %s are at the edge of the grid (%s); "
            "experiments.%s.metric.%s widens it",
            *(experiment, at_edge, chosen.total(), name, ", ".join(sorted(edges))),
            *(experiment, key),
        )


def trials_of(units: Units) -> Iterator[tuple[Index, Index, Index]]:
    """Rows to train on, to choose on and to test on, of each trial."""
    for trial in range(units.trials):
        dev, test = units.fold == dev_fold(trial, number_of(units.fold)), units.fold == trial
        yield np.flatnonzero(~(dev | test)), np.flatnonzero(dev), np.flatnonzero(test)


def interval(units: Units, tests: Sequence[Found]) -> Limits:
    """95 % interval of the mean of the trials' accuracies, by the jackknife within each trial.

    Each speaker is left out of each trial that tests it; what that moves the mean by, times the
    root of (m - 1) / m for a trial of m speakers (Efron & Tibshirani 1993, section 11.5), adds up
    over the speaker's trials, and its squares over speakers. Trials of a single speaker are
    compared with each other. Student's limits have as many degrees of freedom as speakers less
    trials, or speakers less one where every trial tests all of them. A bootstrap of all speakers
    is too narrow: ten folds may test two speakers each, of whom it often draws one twice.
    """
    names = np.unique(units.speaker[np.concatenate([rows for rows, _ in tests])])
    accuracy = np.array([right.mean() for _, right in tests])
    tested = np.zeros((len(tests), len(names)), dtype=bool)
    moves = np.zeros(len(names))
    for trial, (rows, right) in enumerate(tests):
        codes = np.searchsorted(names, units.speaker[rows])
        units_of, right_of = np.bincount(codes), np.bincount(codes, right)
        (present,) = units_of.nonzero()
        tested[trial, present] = True
        if (among := len(present)) > 1:
            left = (right.sum() - right_of[present]) / (len(rows) - units_of[present])
            moves[present] += np.sqrt((among - 1) / among) * (left - left.mean())
    (single,) = (tested.sum(1) == 1).nonzero()
    if (among := len(single)) > 1:
        apart = np.sqrt(among / (among - 1)) * (accuracy[single] - accuracy[single].mean())
        np.add.at(moves, tested[single].argmax(1), apart)
    mean = accuracy.mean()
    on_scale = SHARE.to(mean + moves / len(tests)) - SHARE.to(mean)
    strata = len(tests) - max(among - 1, 0)
    degrees = len(names) * (1 - strata / tested.sum())
    return around(float(SHARE.to(mean)), float(np.linalg.norm(on_scale)), degrees, SHARE)
