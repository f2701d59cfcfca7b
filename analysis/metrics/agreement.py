"""How much a clustering tells of labels: mutual information, and what chance alone would give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.metrics.cluster import (
    contingency_matrix,
    expected_mutual_information,
    mutual_info_score,
)

from common.records import StrataError

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Of clusters with labels, in nats: `information`, the labels' `entropy`, and `chance`.

    `chance` is the exact mean of the information over all permutations of the labels (Vinh et al.
    2010, section 3): no single permutation adds its noise. With few units for each cluster it is
    high: a thousand clusters of a thousand units know every label.
    """

    information: float
    entropy: float
    chance: float

    @property
    def normalised(self) -> float:
        """Information / entropy of the labels: [0, 1], what the papers report."""
        return self.information / self.entropy

    @property
    def by_chance(self) -> float:
        """What `normalised` is on average when labels are shuffled."""
        return self.chance / self.entropy

    @property
    def adjusted(self) -> float:
        """(information - chance) / (entropy - chance): 0 by chance, 1 if clusters tell all."""
        return (self.information - self.chance) / (self.entropy - self.chance)


def agreement(clusters: Codes, labels: Codes) -> Agreement:
    """Of clusters (n,) with labels (n,); both any integers."""
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
