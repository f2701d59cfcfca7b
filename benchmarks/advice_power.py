"""How much must be scored before the advice may say which layer is better.

    python benchmarks/advice_power.py

Two simulations, each of 4,000 studies.

Pairs: two layers whose similarities of word (or sentence) pairs rank-correlate with people's scores
by 0.3 and 0.4, as layers of real encoders do, and with each other's by 0.8. All samples of a run
share the pairs, so that no test over samples sees which pairs there happened to be. Told: how often
the better layer comes out ahead.

Folds: layers of which one is better by twice the deviation of a paired difference, among 12 others
that are all alike. Told: how often the better one is told apart from the layer that is best of the
others by the test that the advice uses, for a number of folds of speakers.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.stats
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.report.advice.curve import compare_with

STUDIES = 4_000
RHO = (0.3, 0.4)
ALIKE = 0.8
LAYERS = 13
GAIN = 2.0  # in deviations of a paired difference


def ahead(pairs: int, rng: np.random.Generator) -> float:
    """Share of studies in which the layer that is better by 0.1 scores higher."""
    # Spearman's rho of normal variates is 6 / pi asin(r / 2).
    low, high, alike = (2 * np.sin(np.pi * rho / 6) for rho in (*RHO, ALIKE))
    covariance = np.array([[1, low, high], [low, 1, alike], [high, alike, 1]])
    drawn = rng.multivariate_normal(np.zeros(3), covariance, size=(STUDIES, pairs))
    ranks = scipy.stats.rankdata(drawn, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    worse, better = ((ranks[..., 0] * ranks[..., k]).sum(1) for k in (1, 2))
    return float((better > worse).mean())


def told_apart(folds: int, rng: np.random.Generator) -> tuple[float, float]:
    """Power, and the share of studies of layers that are all alike in which one is told apart."""
    found = np.zeros((2, STUDIES), dtype=bool)
    for study in range(STUDIES):
        for k, gain in enumerate((GAIN, 0.0)):
            scores = rng.normal(size=(folds, LAYERS)) / np.sqrt(2)
            scores[:, 0] += gain
            found[k, study] = _different(scores, gain)
    return float(found[0].mean()), float(found[1].mean())


def _different(scores: NDArray[np.float64], gain: float) -> bool:
    best = int(scores.mean(0).argmax())
    apart = compare_with(scores, best).told_apart
    others = scores.mean(0).copy()
    others[best] = -np.inf
    return bool(apart[int(others.argmax())]) if gain else bool(apart.any())


def main() -> None:
    """Print both tables."""
    rng = np.random.default_rng(0)
    print("pairs  better layer ahead")
    for pairs in (20, 38, 75, 100, 150, 250, 500):
        print(f"{pairs:5d}  {ahead(pairs, rng):.3f}")
    print("folds  told apart  told apart where all are alike")
    for folds in (4, 5, 6, 8, 10, 20):
        power, false = told_apart(folds, rng)
        print(f"{folds:5d}  {power:.3f}       {false:.3f}")


if __name__ == "__main__":
    main()
