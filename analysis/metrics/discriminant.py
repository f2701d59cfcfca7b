"""Linear discriminant analysis for many amounts of shrinkage at the cost of one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.records import StrataError

Matrix = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Discriminant:
    """What training rows (n, d) of labels 0 … c - 1 say; `present` (c',): labels with a row.

    Columns are standardised by `shift` and `scale` (d,). In the axes (d, d) of the covariance
    within labels: its eigenvalues `within` (d,) and the labels' `means` (c', d). `prior` (c',).
    """

    shift: Matrix
    scale: Matrix
    axes: Matrix
    within: Matrix
    means: Matrix
    prior: Matrix
    present: Codes

    def rotated(self, rows: NDArray[np.float32]) -> Matrix:
        """Rows (m, d), standardised, in the axes of the covariance."""
        rotated: Matrix = ((rows - self.shift) / self.scale) @ self.axes
        return rotated

    def predict(self, rotated: Matrix, shrinkage: float) -> Codes:
        """Label (m,) of rotated rows (m, d) under (1 - s) S + s (trace S / d) I."""
        spread = (1 - shrinkage) * self.within + shrinkage * self.within.mean()
        slopes = self.means / spread
        bias = np.log(self.prior) - (slopes * self.means).sum(1) / 2
        return self.present[np.argmax(rotated @ slopes.T + bias, axis=1)]


def fit_discriminant(rows: NDArray[np.float32], labels: Codes) -> Discriminant:
    """Fit on rows (n, d) with labels (n,). One eigendecomposition serves every shrinkage.

    Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 4.3; scikit-learn's
    LinearDiscriminantAnalysis gives the same numbers, but decomposes anew for every shrinkage and
    sums a (d, d) covariance for each label, which 500 words make slow.
    """
    n, _ = rows.shape
    present, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shift = rows.mean(0, dtype=np.float64)
    scale = rows.std(0, dtype=np.float64)
    scale = np.where(scale > 0, scale, 1)  # a constant column stays 0
    standard = (rows - shift) / scale
    sums = np.zeros((len(present), standard.shape[1]))
    np.add.at(sums, codes, standard)
    means = sums / counts[:, None]
    standard -= means[codes]
    within, axes = np.linalg.eigh(standard.T @ standard / n)
    if len(present) < 2 or not within[-1] > 0:
        raise StrataError(
            f"{n} training units of {len(present)} label(s) that do not vary within a label: a "
            "probe needs two labels and more than one unit of them; use more speech"
        )
    return Discriminant(
        shift, scale, axes, np.maximum(within, 0), means @ axes, counts / n, present
    )


def choose_shrinkage(
    model: Discriminant, rows: NDArray[np.float32], labels: Codes, grid: Sequence[float]
) -> float:
    """The shrinkage of the grid with the most hits on dev rows (m, d); of equals the largest."""
    rotated = model.rotated(rows)
    hits = [np.mean(model.predict(rotated, shrinkage) == labels) for shrinkage in grid]
    return max(zip(hits, grid, strict=True))[1]
