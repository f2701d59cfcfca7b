"""Representational similarity analysis: do two views put the same units far apart?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

from analysis.metrics.base import Score, ViewMetric
from common.arrays import Array
from common.config.analysis import require, require_at_least
from common.records import StrataError

DISTANCES = ("euclidean", "cosine", "correlation")


@dataclass(frozen=True)
class RepresentationalSimilarity(ViewMetric):
    """Spearman's rho between the distances of all pairs of units in both views. Range [-1, 1].

    Kriegeskorte, Mur & Bandettini 2008 (Frontiers in Systems Neuroscience 2:4); the dissimilarity
    matrices are compared by rank, without their diagonal. `distance`: `euclidean`, `cosine`, or
    `correlation` (1 - Pearson's r of the columns, which needs two columns or more). Chance: 0.
    Nothing is fitted, so there are no trials. Invariant to one common scale of either view and to
    rotation; to shift under `euclidean` only.

    At most `rows` units of a sample are compared, drawn with its seed: n units have n (n - 1) / 2
    pairs, 4.5 million for 3,000.
    """

    name: ClassVar[str] = "rsa"

    distance: str
    rows: int

    def __post_init__(self) -> None:
        require("metric.distance", self.distance, DISTANCES)
        require_at_least("metric.rows", self.rows, 3)

    def score_views(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> list[Score]:
        """One score of x (n, dx) and y (n, dy)."""
        ranks = []
        for what, view in (("layer", x), ("target", y)):
            distances = self.distances(view, what)
            if np.ptp(distances) == 0:
                raise StrataError(
                    f"all pairs of {len(view)} units are equally far apart in the {what}: the "
                    "correlation of distances is undefined; check that the units differ"
                )
            ranks.append(scipy.stats.rankdata(distances))
        rho = float(np.corrcoef(*ranks)[0, 1])
        return [Score(rho, detail={"units": str(len(x))})]

    def distances(self, view: NDArray[np.floating], what: str) -> Array:
        """Distances (n (n - 1) / 2,) of all pairs of rows of a view (n, d)."""
        view = np.asarray(view, dtype=np.float64)
        if self.distance == "correlation" and view.shape[1] < 2:
            raise StrataError(
                f"metric.distance=correlation: the {what} has one column, a correlation of columns "
                "needs two; use metric.distance=euclidean"
            )
        distances: Array = scipy.spatial.distance.pdist(view, self.distance)
        if not np.isfinite(distances).all():
            raise StrataError(
                f"metric.distance={self.distance}: some unit's vector in the {what} has no "
                "direction (all its columns are zero, or equal); use metric.distance=euclidean"
            )
        return distances
