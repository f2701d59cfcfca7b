"""Centred kernel alignment from moments."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import MomentMetric, Score
from analysis.moments import Folds
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
