"""Which scores can be told apart: differences over the same folds of speakers, tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.05
LEAST_FOLDS = 5  # with fewer there is no test
FEW_DRAWS = 6  # with fewer, every pair of layers counts as a comparison


@dataclass(frozen=True)
class Against:
    """Every layer held against one of them, over the same folds of speakers.

    `differences` (l,): mean of layer minus anchor. `p` (l,): two-sided, corrected for the number of
    layers; NaN where there is nothing to test (the anchor itself, or fewer than five folds).
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


def corrected_p(differences: Array, seeds: Sequence[int] | None = None) -> Array:
    """Two-sided p of a mean difference of 0, for each column of (folds, k) -> (k,).

    Each line is a fold that was tested on speakers of its own: differences that speakers bring are
    then part of what varies between lines. The corrected resampled t-test of Nadeau & Bengio
    (2003), "Inference for the Generalization Error", Machine Learning 52, section 5, as Bouckaert &
    Frank (2004) apply it to repeated cross-validation: trials share most of their training folds,
    so the variance of the mean is taken as (1 / folds + test / train) times that of a fold, with
    folds - 1 degrees of freedom; of n folds one is tested on and n - 2 are fitted on. `seeds`
    (folds,): other cuts of the same speakers, which add no speakers: the variance is that within a
    seed, and folds are counted for one. NaN for fewer than five folds.
    """
    lines, k = differences.shape
    _, cut, sizes = np.unique(
        np.zeros(lines) if seeds is None else seeds, return_inverse=True, return_counts=True
    )
    if not lines or sizes.min() < LEAST_FOLDS:
        return np.full(k, np.nan)
    folds = int(sizes.min())
    means = np.stack([differences[cut == c].mean(0) for c in range(len(sizes))])
    variance = ((differences - means[cut]) ** 2).sum(0) / (lines - len(sizes))
    mean = differences.mean(0)
    error = np.sqrt((1 / folds + 1 / (folds - 2)) * variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / error
    t = np.where(error > 0, t, np.where(np.abs(mean) > 0, np.inf, 0.0))
    return np.asarray(2 * scipy.stats.t.sf(t, folds - 1))


def holm(p: Array, comparisons: int | None = None) -> Array:
    """Holm's (1979) step-down correction of (k,) p values, out of `comparisons` (k if None)."""
    order = np.argsort(p)
    left = (comparisons or len(p)) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * left), 1.0)
    return corrected


def hold_against(scores: Array, anchor: int, seeds: Sequence[int] | None = None) -> Against:
    """Every layer of (folds, l) held against the layer `anchor`, Holm-corrected over the layers.

    The anchor is mostly chosen by the same scores (the best layer, the lowest), which favours
    differences. With six folds or more the corrected test has room for that: where all layers are
    equal, one or more is called different in at most about 5 % of studies, speakers that respond to
    each layer in their own way included (benchmarks/equal_layers.py). With fewer folds it has not,
    so all l (l - 1) / 2 pairs count. `seeds` as in `corrected_p`.
    """
    _, n = scores.shape
    differences = scores - scores[:, [anchor]]
    others = np.arange(n) != anchor
    p = np.full(n, np.nan)
    raw = corrected_p(differences[:, others], seeds)
    if np.isfinite(raw).any():
        folds = len(scores) // len(set(seeds)) if seeds is not None else len(scores)
        comparisons = n - 1 if folds >= FEW_DRAWS else n * (n - 1) // 2
        p[others] = holm(raw, comparisons)
    return Against(anchor, differences.mean(0), p)
