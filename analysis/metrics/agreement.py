"""How much clusters tell about labels: information and purity, with their chance levels."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import entropy
from sklearn.metrics.cluster import (
    contingency_matrix,
    expected_mutual_information,
    mutual_info_score,
)

from common.arrays import Index
from common.records import StrataError
from common.seeding import generator

PERMUTATIONS = 20  # that a purity by chance is the mean of: known to 0.002 at 2,000 units


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters with labels in nats: `information`, the labels' `entropy`, `chance`.

    `chance` is the exact mean of the information over all permutations of the labels (Vinh et al.
    2010, section 3): no single permutation adds its noise. With few units for each cluster it is
    high: a thousand clusters of a thousand units know every label.
    """

    information: float
    entropy: float
    chance: float

    @property
    def normalised(self) -> float:
        """Information / entropy of the labels: [0, 1], HuBERT's PNMI (Hsu et al. 2021)."""
        return self.information / self.entropy

    @property
    def by_chance(self) -> float:
        """What `normalised` is on average when labels are shuffled."""
        return self.chance / self.entropy

    @property
    def adjusted(self) -> float:
        """(information - chance) / (entropy - chance): 0 by chance, 1 for the same."""
        return (self.information - self.chance) / (self.entropy - self.chance)


def agreement(clusters: Index, labels: Index) -> Agreement:
    """Agreement of clusters (n,) with labels (n,), any integers."""
    table = contingency_matrix(labels, clusters, sparse=True)
    if table.shape[0] < 2:
        raise StrataError(
            f"mutual information with one label is undefined ({len(labels)} units): score on "
            "units of at least two"
        )
    information = float(mutual_info_score(labels, clusters, contingency=table))
    chance = float(expected_mutual_information(table, len(labels)))
    most = float(entropy(np.asarray(table.sum(1)).ravel()))
    if chance > (1 - 1e-9) * most:
        raise StrataError(
            f"{len(labels)} units are in {table.shape[1]} clusters, nearly one each: mutual "
            "information then is that of chance; score on more units or use fewer clusters"
        )
    return Agreement(information, most, chance)


@dataclass(frozen=True)
class Purity:
    """Purities of clusters with labels; each in (0, 1].

    Hsu et al. 2021 (HuBERT, arXiv 2106.07447, section IV-E): `label` (there "phone purity") is the
    share of units that have the commonest label of their cluster, the accuracy of a rule that names
    each cluster once; it rises with the number of clusters, to 1 where every unit has its own.
    `cluster` ("cluster purity") is the share of units in the commonest cluster of their label; it
    falls with the number of clusters, and is 1 where all units are in one.
    """

    label: float
    cluster: float


def purity(clusters: Index, labels: Index) -> Purity:
    """Purities of clusters (n,) with labels (n,), any integers."""
    table = contingency_matrix(labels, clusters, sparse=True)
    return Purity(
        label=float(table.max(axis=0).sum() / len(labels)),
        cluster=float(table.max(axis=1).sum() / len(labels)),
    )


def purity_by_chance(clusters: Index, labels: Index, seed: int) -> Purity:
    """Mean over `PERMUTATIONS` permutations of the labels; no formula is known."""
    rng = generator(seed, "purity by chance")
    found = [purity(clusters, rng.permutation(labels)) for _ in range(PERMUTATIONS)]
    return Purity(
        label=float(np.mean([one.label for one in found])),
        cluster=float(np.mean([one.cluster for one in found])),
    )


def figures_of(clusters: Index, labels: Index, seed: int, named: str) -> dict[str, float]:
    """Information and purities of clusters (n,) with labels (n,), which are called `named`.

    Each stands beside its mean over permutations of the labels; `pnmi_adjusted` is beyond chance.
    """
    found, pure = agreement(clusters, labels), purity(clusters, labels)
    chance = purity_by_chance(clusters, labels, seed)
    return {
        "pnmi": found.normalised,
        "pnmi_shuffled": found.by_chance,
        "pnmi_adjusted": found.adjusted,
        f"{named}_purity": pure.label,
        f"{named}_purity_shuffled": chance.label,
        "cluster_purity": pure.cluster,
        "cluster_purity_shuffled": chance.cluster,
    }


def bitrate(codes: Index, seconds: float) -> float:
    """Bits a second that a sequence of symbols (n,) takes in `seconds` of speech.

    Dunbar et al. 2019 (ZeroSpeech 2019, arXiv 1904.11469, evaluation metrics): n / seconds times
    the entropy of the symbols in bits. Where boundaries are given, as here, they cost nothing.
    """
    counts = np.unique(codes, return_counts=True)[1]
    return float(entropy(counts, base=2) * len(codes) / seconds)
