"""Linear discriminant analysis with a shrinkage of the covariance that is chosen on dev."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.covariance import empirical_covariance, shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from common.arrays import Array, Index, Vectors
from common.records import StrataError


@dataclass
class FixedCovariance:
    """A known covariance (d, d), as one of scikit-learn's estimators."""

    covariance_: Array

    def fit(self, _: Array) -> Self:
        """Nothing: the covariance is known."""
        return self


def fit_discriminants(
    rows: Vectors, labels: Index, shrinkages: Sequence[float]
) -> tuple[Pipeline, ...]:
    """scikit-learn's classifier of rows (n, d) with labels (n,), for each shrinkage.

    On standardised columns; the covariance within labels S becomes (1 - s) S + s (trace S / d) I
    (Friedman 1989, Regularized Discriminant Analysis). scikit-learn's own way, to shrink that of
    each label and sum them, gives the same but takes longest, again for every shrinkage.
    StrataError where S is 0: labels could not be separated by it.
    """
    scaler = StandardScaler().fit(rows.astype(np.float64))
    standard = scaler.transform(rows.astype(np.float64))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), standard.shape[1]))
    np.add.at(sums, codes, standard)
    centred = standard - (sums / counts[:, None])[codes]
    within = empirical_covariance(centred, assume_centered=True)
    if not np.trace(within) > 0:
        raise StrataError(
            f"{len(rows)} training units of {len(counts)} labels do not vary within a label: a "
            "probe needs more than one unit of a label; use more speech"
        )
    shrunk = (FixedCovariance(shrunk_covariance(within, shrinkage)) for shrinkage in shrinkages)
    models = (
        LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=covariance)
        for covariance in shrunk
    )
    return tuple(make_pipeline(scaler, model.fit(standard, labels)) for model in models)


def fit_best(
    vectors: Vectors, labels: Index, train: Index, dev: Index, shrinkages: Sequence[float]
) -> tuple[Pipeline, float]:
    """The fit on the rows `train` with the most hits on `dev`, and its shrinkage.

    Among equals, the one with the largest shrinkage.
    """
    grid = sorted(shrinkages)
    models = fit_discriminants(vectors[train], labels[train], grid)
    hits = [model.score(vectors[dev], labels[dev]) for model in models]
    best = max(range(len(grid)), key=lambda i: (hits[i], i))
    return models[best], grid[best]
