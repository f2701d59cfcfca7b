"""Centred kernel alignment from moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import MomentMetric, Score
from analysis.moments import Folds
from common.arrays import Array
from common.records import StrataError


@dataclass(frozen=True)
class LinearCKA(MomentMetric):
    """Linear, biased CKA on all rows of a sample: ||Sxy||^2 / (||Sxx|| ||Syy||). Range [0, 1].

    Kornblith et al. 2019 (arXiv 1905.00414, section 3); Frobenius norms of centred scatter
    matrices. There is nothing to fit, hence no trials. Invariant to shift, rotation and one
    common scale of either view.
    """

    name: ClassVar[str] = "cka"
    held_out: ClassVar[bool] = False

    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:  # noqa: ARG002
        """One score for the merged sample."""
        moments = folds.merged()
        scale = np.linalg.norm(moments.x.scatter) * np.linalg.norm(moments.y.scatter)
        if not scale > 0:
            raise StrataError(
                f"CKA of a constant view is undefined ({moments.n} units): check that layer and "
                "target vary"
            )
        return [Score(float(np.linalg.norm(moments.xy) ** 2 / scale))]


@dataclass(frozen=True)
class DebiasedCKA(MomentMetric):
    """Linear CKA without the bias of few rows and many columns. At most about 1; of noise 0.

    The biased one rises with columns / rows, on noise from 0 towards 1, so models of different
    width have different levels by it. Murphy et al. 2024 (arXiv 2405.01012) take the unbiased HSIC
    of Song et al. 2012, which leaves out each row's product with itself. Here moments are kept, not
    rows: each ||S||^2 is the mean inner product of the covariances of two different folds, weighted
    by their rows. That is unbiased too, and stays so where neighbouring frames or units of one
    speaker are alike, as long as the folds keep these together (benchmarks/width.py).

    May be a little below 0. Nothing is fitted, hence no trials. Invariant to shift, rotation and
    one common scale of either view.
    """

    name: ClassVar[str] = "cka_debiased"
    held_out: ClassVar[bool] = False

    def score(self, folds: Folds, with_interval: bool = False) -> list[Score]:  # noqa: ARG002
        """One score for the merged sample."""
        parts = [g for g, part in enumerate(folds.x.parts) if part.n > 1]
        counts = np.array([folds.x.parts[g].n for g in parts], dtype=np.float64)
        if len(parts) < 2:
            raise StrataError(
                f"debiased CKA needs two folds with two units each, there are {len(parts)} of "
                f"{folds.merged().n} units: use more speech"
            )
        xy = between_folds([folds.xy[g] for g in parts], counts)
        xx = between_folds([folds.x.parts[g].scatter for g in parts], counts)
        yy = between_folds([folds.y.parts[g].scatter for g in parts], counts)
        if not (xx > 0 and yy > 0):
            raise StrataError(
                f"debiased CKA is undefined: of {folds.merged().n} units a view has no variance "
                "that two folds share; use more speech"
            )
        return [Score(float(xy / np.sqrt(xx * yy)))]


def between_folds(scatters: Sequence[Array], counts: Array) -> float:
    """Mean inner product of the covariances of two different folds, weighted by their rows.

    scatters: centred sums of products (dx, dy) of each fold; counts (folds,): its rows.
    """
    flat = np.stack([one.ravel() / (n - 1) for one, n in zip(scatters, counts, strict=True)])
    weights = np.outer(counts, counts)
    np.fill_diagonal(weights, 0)
    return float((flat @ flat.T * weights).sum() / weights.sum())
