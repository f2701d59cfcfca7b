"""How labels and speakers lie in a layer's space: in directions apart, and in how many."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score, UnitMetric, is_label
from analysis.metrics.intervals import over_folds
from analysis.metrics.units import Units
from common.arrays import Array, Index, Mask
from common.records import StrataError
from common.target import Target

LEAST = 3  # labels, and speakers: two centroids have one direction


@dataclass(frozen=True)
class Geometry(UnitMetric):
    """Share of the labels' variance left as the speakers' directions are removed. Range [0, 1].

    Orthogonality by Cumulative Residual Variance (Mohamed, Liu, Tang & Goldwater 2024, arXiv
    2406.09200; after Liu, Tang & Goldwater 2023, arXiv 2305.12464): the principal directions of the
    speakers' centroids are removed from the labels' centroids one by one, the largest first, and
    the share of variance that is left is averaged, each step weighing as much as its direction has
    of the speakers' variance. 1: no direction is shared. 0: one direction holds both. Of r equal
    directions that both share it is (1 - 1 / r) / 2.

    Centroids here are the effects of labels and of speakers in an additive model that is fitted to
    all units by least squares. Plain means, as the paper takes of many frames, of unevenly mixed
    units share directions for that alone: a speaker who says more vowels lies nearer to them.

    Secondary figures: `orthogonality_speakers`, the speakers' variance left as the labels'
    directions are removed; `isotropy`, the IsoScore of the units (Rudman et al. 2022, arXiv
    2108.07344): 0 for one direction, 1 for equal variance in all; `isotropy_labels`, the labels'
    variance left as their own directions are removed (the paper's Self-CRV), at most 1/2 with equal
    variance in many; `variance_labels` and `variance_speakers`, the share of the units' variance
    that the centroids have.

    Traps. Unrelated directions of many dimensions are nearly orthogonal: with shuffled labels the
    score is near 1, and that control says what unrelated centroids would give, not a floor.
    Centroids of few units are noisy, and noise lies in directions of its own: more units of each
    label and speaker, `sampling.instances`, or the layers cannot be compared with those of a run
    with more. One dimension of huge variance, as many models have, takes isotropy to 0.

    The 95 % interval is over speakers: the jackknife over folds that keep these apart.
    """

    name: ClassVar[str] = "orthogonality"
    family: ClassVar[str] = "geometry"
    held_out: ClassVar[bool] = False
    interval_over_folds: ClassVar[bool] = True

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes units with labels that are not their speakers."""
        return is_label(target) and target.name != "speaker"

    def check(self, units: Units) -> None:
        """Raise unless there are three labels and three speakers known by name."""
        self.refuse_partitions(units)
        _, speakers = units.tested(np.arange(len(units.label)))
        labels = len(np.unique(units.label))
        if labels < LEAST or speakers < LEAST:
            raise StrataError(
                f"{len(units.label)} units of {labels} labels by {speakers} known speakers: "
                f"directions of centroids need {LEAST} of each; use more speech, or "
                "dataset.speaker= to name the speakers"
            )

    def score(self, units: Units) -> list[Score]:
        """The sample's score, then its secondary figures."""
        vectors = units.vectors.astype(np.float64)
        vectors -= vectors.mean(0)
        sums = Sums.of(vectors, units.label, units.speaker)
        labels, speakers = centroids(sums)
        value = residual_variance(labels, speakers)

        def value_of(rows: Mask) -> float:
            left_out = Sums.of(vectors[~rows], units.label[~rows], units.speaker[~rows])
            return residual_variance(*centroids(sums.without(left_out)))

        low, high = over_folds(units, value, value_of)
        total = float(np.einsum("nd,nd->", vectors, vectors))
        by_label, by_speaker = (
            counts[counts > 0] for counts in (sums.counts.sum(1), sums.counts.sum(0))
        )
        return [
            Score(value, low=low, high=high),
            Score(residual_variance(speakers, labels), "orthogonality_speakers"),
            Score(isoscore(vectors), "isotropy"),
            Score(residual_variance(labels, labels), "isotropy_labels"),
            Score(weighted_variance(labels, by_label) / total, "variance_labels"),
            Score(weighted_variance(speakers, by_speaker) / total, "variance_speakers"),
        ]


class Sums(NamedTuple):
    """Units by label and speaker: counts (l, s), sums by_label (l, d) and by_speaker (s, d).

    Labels and speakers keep their numbers, whether they occur or not.
    """

    counts: Array
    by_label: Array
    by_speaker: Array

    @classmethod
    def of(cls, vectors: Array, label: Index, speaker: Index) -> "Sums":
        """Sums of vectors (n, d)."""
        made = cls(
            np.zeros((label.max() + 1, speaker.max() + 1)),
            np.zeros((label.max() + 1, vectors.shape[1])),
            np.zeros((speaker.max() + 1, vectors.shape[1])),
        )
        np.add.at(made.counts, (label, speaker), 1)
        np.add.at(made.by_label, label, vectors)
        np.add.at(made.by_speaker, speaker, vectors)
        return made

    def without(self, part: "Sums") -> "Sums":
        """Sums of the units that are not in `part`."""
        left = Sums(*(sums.copy() for sums in self))
        for sums, taken in zip(left, part, strict=True):
            sums[tuple(slice(n) for n in taken.shape)] -= taken
        return left


def centroids(sums: Sums) -> tuple[Array, Array]:
    """Effects of labels (l, d) and speakers (s, d) that occur, centred, fitted together.

    The normal equations of least squares on a column for each label and each speaker.
    """
    labelled, speaking = sums.counts.sum(1) > 0, sums.counts.sum(0) > 0
    counts = sums.counts[labelled][:, speaking]
    normal = np.block([[np.diag(counts.sum(1)), counts], [counts.T, np.diag(counts.sum(0))]])
    right = np.concatenate([sums.by_label[labelled], sums.by_speaker[speaking]])
    effects = scipy.linalg.lstsq(normal, right)[0]
    labels, speakers = effects[: len(counts)], effects[len(counts) :]
    return labels - labels.mean(0), speakers - speakers.mean(0)


def weighted_variance(effects: Array, counts: Array) -> float:
    """Sum of squares of centroids (k, d), each as often as it has units (k,), about their mean."""
    centred = effects - counts @ effects / counts.sum()
    return float(counts @ (centred**2).sum(1))


def residual_variance(view: Array, removed: Array) -> float:
    """Mean share of the variance of `view` (k, d) left as directions of `removed` (m, d) go.

    Both are centred. Directions are in the order of decreasing variance, which weights each step.
    """
    _, values, directions = np.linalg.svd(removed, full_matrices=False)
    shares = values**2 / (values**2).sum()
    taken = ((view @ directions.T) ** 2).sum(0) / (view**2).sum()
    return float(np.clip(shares @ (1 - np.cumsum(taken)), 0, 1))


def isoscore(vectors: Array) -> float:
    """IsoScore of centred vectors (n, d), from the eigenvalues v of their covariance.

    (d phi - 1) / (d - 1) with phi = (sum v)^2 / (d sum v^2), to which its definition comes down.
    """
    _, d = vectors.shape
    scatter = vectors.T @ vectors
    phi = np.trace(scatter) ** 2 / (d * (scatter**2).sum())
    return float((d * phi - 1) / (d - 1))
