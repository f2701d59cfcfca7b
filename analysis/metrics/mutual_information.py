"""Mutual information between clusters of units and their labels."""

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import Limits, jackknife, too_few
from analysis.metrics.kmeans import clusterer_of
from analysis.metrics.units import Units
from common.arrays import Index
from common.config.analysis import require_at_least
from common.records import StrataError
from common.seeding import generator

log = logging.getLogger(__name__)

Bounds = Limits | tuple[None, None]

SHARE = 10  # fitted units for each cluster at least, on average; scored ones for an interval


@dataclass(frozen=True)
class MutualInformation(UnitMetric):
    """Information that k-means clusters give about labels, beyond chance: 0 by chance, at most 1.

    Pasad et al. 2021 (arXiv 2107.04734, section 3.2.2; code: k = 500 for phones, 5,000 for
    words). k-means is fitted on some units and its clusters are compared with the labels of
    others: those of fit_partition and score_partition, or, of one partition, the even and the odd
    folds. At most a tenth as many clusters as fitted units.

    Information divided by the entropy of the labels is what the paper reports and what HuBERT's
    authors call PNMI (Hsu et al. 2021, arXiv 2106.07447, section IV-E). It is well above 0 for pure
    noise, the more so the fewer units a cluster has, so the primary figure is (pnmi -
    pnmi_shuffled) / (1 - pnmi_shuffled) (Vinh et al. 2010).

    Secondary figures, each with its chance level where labels are permuted: `pnmi` and
    `pnmi_shuffled` (exact mean over all permutations); `phone_purity` (`word_purity` of words),
    `cluster_purity` and theirs, `…_shuffled` (see `Purity`). Of the units as a code: `bitrate`, in
    bits a second of the units' own time (see `bitrate`), which no labels enter, beside
    `bitrate_labels`, that of the labels themselves. `clusters_in_use`: share of the clusters with a
    fitted unit.

    The primary figure and pnmi have a 95 % interval over scored speakers, by the jackknife, the
    clusters held fixed: an interval of the mean score of as many other speakers, since both depend
    on how many units are scored. (Resampled speakers come several times, and mutual information
    takes that for a relation: of 39 labels in 100 clusters by 20 speakers the bootstrap's standard
    error was 2.5 times too large, and all of 300 intervals held the score.) With fewer than ten
    scored units for each cluster the jackknife too is wide, with four its intervals held 98.5 % of
    the scores (benchmarks/unit_coverage.py), and no interval is given.

    `batch` is for clusterer `minibatch`; `seeds` and `iterations` for `faiss`.
    """

    name: ClassVar[str] = "mutual_information_adjusted"
    family: ClassVar[str] = "clusters"
    held_out: ClassVar[bool] = False

    clusters: int
    clusterer: str
    batch: int
    seeds: int
    iterations: int

    def __post_init__(self) -> None:
        for key, least in (("clusters", 2), ("batch", 1), ("seeds", 1), ("iterations", 1)):
            require_at_least(f"metric.{key}", getattr(self, key), least)
        clusterer_of(self.clusterer, self.batch, self.seeds, self.iterations)

    def check(self, units: Units) -> None:
        """Raise unless there are units for two clusters, and two labels."""
        fit, held = fit_and_held(units)
        if len(fit) < 2 * SHARE:
            raise StrataError(
                f"{len(fit)} units to fit on are too few for {self.clusters} clusters, even for "
                f"two ({SHARE} units for each): use more speech or more sampling.instances"
            )
        if len(np.unique(units.label[held])) < 2:
            raise StrataError(
                f"the {len(held)} units to score have one label, mutual information needs two: "
                "use more speech"
            )

    def no_interval(self, units: Units) -> str:
        """Too few speakers are scored, or too few units for the number of clusters."""
        fit, held = fit_and_held(units)
        k = self.clusters_for(fit)
        if len(held) < SHARE * k:
            return f"{len(held)} units in {k} clusters are scored, {SHARE} for each are needed"
        return too_few(units.tested(held)[1])

    def clusters_for(self, fit: Index) -> int:
        """Number of clusters for this many fitted rows."""
        return min(self.clusters, len(fit) // SHARE)

    def score(self, units: Units) -> list[Score]:
        """Information beyond chance, as published and by chance; purities; bits a second."""
        # scikit-learn takes a second to import: not while the configuration is read.
        from analysis.metrics.agreement import bitrate, figures_of

        fit, held = fit_and_held(units)
        k = self.clusters_for(fit)
        seed = int(generator(units.seed, "clusters").integers(2**31))
        clusterer = clusterer_of(self.clusterer, self.batch, self.seeds, self.iterations)
        # Layers are scored side by side: a thread for each.
        found = clusterer.cluster(units.vectors[fit], units.vectors[held], k, seed, threads=1)
        label = units.label[held]
        detail = {"clusters": str(k), "fitted": str(len(fit)), "scored": str(len(held))}
        normalised: Bounds = (None, None)
        adjusted = normalised
        if not self.no_interval(units):
            normalised, adjusted = intervals(found.held, label, units.tested(held)[0])
        named = units.target.name if units.target else "label"
        figures = figures_of(found.held, label, units.seed, named)
        scores = [
            Score(figures.pop("pnmi_adjusted"), "", detail, *adjusted),
            Score(figures.pop("pnmi"), "pnmi", {}, *normalised),
            *(Score(value, name) for name, value in figures.items()),
            Score(found.in_use, "clusters_in_use"),
        ]
        if units.seconds is not None:
            seconds = float(units.seconds[held].sum())
            scores.append(Score(bitrate(found.held, seconds), "bitrate"))
            scores.append(Score(bitrate(label, seconds), "bitrate_labels"))
        return scores

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How many clusters, on how many units; says where they are fewer than asked for."""
        ways = [score.detail for score in scores if not score.metric]
        used = {
            key: sorted({int(way[key]) for way in ways}) for key in ("clusters", "fitted", "scored")
        }
        if used["clusters"] and used["clusters"][0] < self.clusters:
            log.info(
                "%s: %d clusters instead of %d, a tenth of the %d units fitted on",
                experiment,
                used["clusters"][0],
                self.clusters,
                used["fitted"][0],
            )
        return {**used, "clusterer": self.clusterer}


def fit_and_held(units: Units) -> tuple[Index, Index]:
    """Rows to fit on and rows to score: by partition, or by even and odd folds of the only one."""
    held = units.scored if not units.scored.all() else units.fold % 2 == 1
    return np.flatnonzero(~held), np.flatnonzero(held)


def intervals(clusters: Index, labels: Index, speaker: Index) -> tuple[Bounds, Bounds]:
    """Intervals over the speakers of the normalised and of the adjusted information."""
    from analysis.metrics.agreement import agreement

    whole = agreement(clusters, labels)
    rest = [speaker != code for code in np.unique(speaker)]
    without = [agreement(clusters[others], labels[others]) for others in rest]
    normalised = jackknife(whole.normalised, [one.normalised for one in without])
    adjusted = jackknife(whole.adjusted, [one.adjusted for one in without])
    return normalised or (None, None), adjusted or (None, None)
