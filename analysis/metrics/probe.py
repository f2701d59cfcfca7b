"""Linear probes: can a label be read off the vectors of speakers or utterances never seen?"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.base import Score, UnitMetric
from analysis.units import Units
from common.records import StrataError

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LinearProbe(UnitMetric):
    """Accuracy of a linear classifier on held-out folds. Range [0, 1].

    Linear discriminant analysis on standardised vectors, its covariance shrunk by what does best
    on dev (`shrinkages`); trial t trains on all folds but 2t (dev) and 2t + 1 (test). It needs no
    iterations, so it always converges, and was within two points of multinomial logistic
    regression on mel frames of phones (ridge regression on one-hot labels was five below: with
    few dimensions some labels hide behind others, which would belittle the mel baseline).

    Phones and words are tested on speakers who are not in training, speakers on other utterances.
    A test unit whose label is not in training counts as an error. Chance: about the share of the
    most frequent label. `probe_balanced`, the mean over labels of the share of their test units
    found, has the chance 1 / labels.
    """

    name: ClassVar[str] = "probe"
    family: ClassVar[str] = "probe"
    held_out: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("phone", "word", "speaker")

    shrinkages: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shrinkages", tuple(self.shrinkages))
        if not self.shrinkages or not all(0 < s <= 1 for s in self.shrinkages):
            raise StrataError(
                f"metric.shrinkages={list(self.shrinkages)}: give one or more numbers above 0 and "
                "up to 1"
            )

    def check(self, units: Units) -> None:
        """Each trial trains on two labels and tests and chooses on some unit of a known label."""
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
                        "trains on: every label has one instance, or one speaker? Use more speech"
                    )

    def score(self, units: Units) -> list[Score]:
        """Accuracy of every trial, then balanced accuracy of every trial."""
        # scikit-learn takes a second to import: not while the configuration is read.
        from sklearn.metrics import accuracy_score, recall_score

        from analysis.metrics.discriminant import choose_shrinkage, fit_discriminant

        own, balanced = [], []
        for train, dev, test in trials_of(units):
            model = fit_discriminant(units.vectors[train], units.label[train])
            best = choose_shrinkage(
                model, units.vectors[dev], units.label[dev], sorted(self.shrinkages)
            )
            truth = units.label[test]
            found = model.predict(model.rotated(units.vectors[test]), best)
            recall = recall_score(truth, found, labels=np.unique(truth), average="macro")
            unseen = int((~np.isin(truth, model.present)).sum())
            detail = {"shrinkage": f"{best:g}", "tested": str(len(test)), "unseen": str(unseen)}
            own.append(Score(float(accuracy_score(truth, found)), detail=detail))
            balanced.append(Score(float(recall), f"{self.name}_balanced"))
        return own + balanced

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How often each shrinkage was chosen, and test units of labels unknown in training."""
        own = [score.detail for score in scores if not score.metric]
        chosen = Counter(way["shrinkage"] for way in own)
        edges = {f"{edge:g}" for edge in (min(self.shrinkages), max(self.shrinkages))}
        at_edge = sum(chosen[edge] for edge in edges)
        if at_edge:
            log.info(
                "%s: %d of %d choices of a shrinkage are at the edge of the grid (%s)",
                experiment,
                at_edge,
                len(own),
                ", ".join(sorted(edges)),
            )
        return {
            "shrinkages": dict(chosen),
            "tested": sum(int(way["tested"]) for way in own),
            "tested_of_labels_not_trained_on": sum(int(way["unseen"]) for way in own),
        }


def trials_of(units: Units) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Rows to train on, to choose on and to test on, of each trial."""
    for trial in range(units.trials):
        dev, test = units.fold == 2 * trial, units.fold == 2 * trial + 1
        yield np.flatnonzero(~(dev | test)), np.flatnonzero(dev), np.flatnonzero(test)
