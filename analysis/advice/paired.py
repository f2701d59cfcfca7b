"""Which scores can be told apart: differences over the same draws of the data, tested."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.05
TEST_TO_TRAIN = 1 / 8  # a trial is tested on one of ten folds and fitted on eight
FEW_DRAWS = 6  # with fewer, every pair of layers counts as a comparison


@dataclass(frozen=True)
class Against:
    """Every layer held against one of them, over the same draws.

    `differences` (l,): mean of layer minus anchor. `p` (l,): two-sided, corrected for the number of
    layers; NaN where there is nothing to test (the anchor itself, or fewer than two draws).
    """

    anchor: int
    differences: Array
    p: Array

    @property
    def told_apart(self) -> NDArray[np.bool_]:
        """(l,): layers whose difference is beyond the noise."""
        return self.p < LEVEL

    @property
    def tested(self) -> bool:
        """Whether any layer could be held against the anchor."""
        return bool(np.isfinite(self.p).any())


def corrected_p(differences: Array) -> Array:
    """Two-sided p of a mean difference of 0, for each column of (draws, k) -> (k,).

    The corrected resampled t-test of Nadeau & Bengio (2003), "Inference for the Generalization
    Error", Machine Learning 52, section 5, as Bouckaert & Frank (2004) apply it to repeated
    cross-validation: the trials of a sample share most of their training folds, so the variance
    of the mean is taken as (1 / draws + test / train) times that of a draw, with draws - 1 degrees
    of freedom. Here test / train is 1 / 8 (ten folds, the default). Scores without trials (one per
    sample) keep the term: samples of one corpus overlap too. NaN for fewer than two draws.
    """
    draws, k = differences.shape
    if draws < 2:
        return np.full(k, np.nan)
    mean, variance = differences.mean(0), differences.var(0, ddof=1)
    error = np.sqrt((1 / draws + TEST_TO_TRAIN) * variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / error
    t = np.where(error > 0, t, np.where(np.abs(mean) > 0, np.inf, 0.0))
    return np.asarray(2 * scipy.stats.t.sf(t, draws - 1))


def holm(p: Array, comparisons: int | None = None) -> Array:
    """Holm's (1979) step-down correction of (k,) p values, out of `comparisons` (k if None)."""
    order = np.argsort(p)
    left = (comparisons or len(p)) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * left), 1.0)
    return corrected


def hold_against(scores: Array, anchor: int) -> Against:
    """Every layer of (draws, l) held against the layer `anchor`, Holm-corrected over the layers.

    The anchor is mostly chosen by the same scores (the best layer, the lowest), which favours
    differences. With six draws or more the corrected test has room for that: where all layers are
    equal, one or more is called different in at most about 5 % of studies (tests/analysis/
    test_paired.py simulates it). With fewer draws it has not, so all l (l - 1) / 2 pairs count.
    """
    draws, n = scores.shape
    differences = scores - scores[:, [anchor]]
    others = np.arange(n) != anchor
    p = np.full(n, np.nan)
    if draws >= 2 and n > 1:
        pairs = n * (n - 1) // 2
        comparisons = n - 1 if draws >= FEW_DRAWS else pairs
        p[others] = holm(corrected_p(differences[:, others]), comparisons)
    return Against(anchor, differences.mean(0), p)
