"""Linear discriminant analysis with as much shrinkage of the covariance as does best on dev."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from common.records import StrataError

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]


def fit_discriminant(rows: Vectors, labels: Codes, shrinkage: float) -> Pipeline:
    """scikit-learn's classifier of rows (n, d) with labels (n,), on standardised columns.

    The covariance within labels S becomes (1 - s) S + s (trace S / d) I (Friedman 1989, Regularized
    Discriminant Analysis). StrataError where it is 0: nothing could be told from it.
    """
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    model = make_pipeline(StandardScaler(), discriminant)
    with warnings.catch_warnings():  # of a label that has one row, whose covariance is 0
        warnings.filterwarnings("ignore", "Only one sample available")
        model.fit(rows.astype(np.float64), labels)
    if not np.trace(discriminant.covariance_) > 0:
        raise StrataError(
            f"{len(rows)} training units of {len(model.classes_)} labels do not vary within a "
            "label: a probe needs more than one unit of a label; use more speech"
        )
    return model


def fit_best(
    vectors: Vectors, labels: Codes, train: Codes, dev: Codes, shrinkages: Sequence[float]
) -> tuple[Pipeline, float]:
    """Of fits on the rows `train`, the one with the most hits on `dev`, and its shrinkage.

    Of equals the one with the largest shrinkage.
    """
    fits = [(fit_discriminant(vectors[train], labels[train], s), s) for s in sorted(shrinkages)]
    hits = [model.score(vectors[dev], labels[dev]) for model, _ in fits]
    return fits[max(range(len(fits)), key=lambda i: (hits[i], i))]
