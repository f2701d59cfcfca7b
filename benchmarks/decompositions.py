"""Scoring by Cholesky and Gram matrices beside scoring by spectra and an SVD: time and agreement.

    python benchmarks/decompositions.py [--columns 192 768 1024] [--targets mel layer phone word]

A layer whose rows sum to a constant, as after a layer norm, against targets of 80 columns, of as
many as its own, and of 39 and 500 labels, in ten folds with intervals, on one core. Prints
processor seconds of both ways, their ratio, and the largest difference between the scores.
"""

import argparse
import sys
from pathlib import Path
from time import process_time

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.metrics.cca import PWCCA, Fit, Projection, held_out_correlations
from analysis.moments import Moments, fold_views

Array = NDArray[np.float64]

RIDGES = ((1e-10, 1e-10),)
FOLDS = 10
ROWS = 20  # for each of the layer's columns
COLUMNS = {"mel": 80, "phone": 39, "word": 500}


class BySVD(PWCCA):
    """Each view whitened by its own spectrum, directions by an SVD, all folds scored alike."""

    def fit(self, train: Moments) -> Fit:
        """Directions, weights and training score."""
        x, y = (view.spectrum.whitening(RIDGES[0][0]) for view in (train.x, train.y))
        whitened = x.matrix @ train.xy @ y.matrix.T
        u, _, vt = scipy.linalg.svd(whitened, full_matrices=False, check_finite=False)
        projection = Projection(u.T @ x.matrix, vt @ y.matrix)
        weights = self.weights(projection, train)
        training = float(weights @ held_out_correlations(projection, train))
        return Fit(projection, weights, training, self.weighted(train))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[192, 384, 768, 1024])
    parser.add_argument("--targets", nargs="+", default=["mel", "layer", "phone", "word"])
    options = parser.parse_args()
    with threadpool_limits(1):
        for columns in options.columns:
            for target in options.targets:
                compare(columns, target)


def compare(columns: int, target: str) -> None:
    x, y, fold = views(columns, target)
    seconds, values = [], []
    for metric in (BySVD(RIDGES), PWCCA(RIDGES)):
        folds = fold_views(x, y, fold, FOLDS)  # anew: nothing is whitened yet
        start = process_time()
        scores = metric.score(folds, with_interval=True)
        seconds.append(process_time() - start)
        limits = [(score.value, score.low, score.high) for score in scores]
        values.append(np.array(limits, dtype=np.float64))
    before, after = seconds
    difference = np.abs(values[0] - values[1]).max()
    print(
        f"{columns:4} x {target:5} ({y.shape[1]:4}): by SVD {before:6.2f} s, now {after:6.2f} s, "
        f"ratio {before / after:4.1f}, scores and limits differ by {difference:.1e}",
        flush=True,
    )


def views(columns: int, target: str) -> tuple[Array, Array, NDArray[np.int64]]:
    """A layer with a decaying spectrum, a target that shares columns with it, and folds of rows."""
    rng = np.random.default_rng(0)
    n = ROWS * columns
    x = rng.normal(size=(n, columns)) * np.arange(1, columns + 1) ** -0.5
    if target in ("phone", "word"):
        label = rng.permutation(np.arange(n) % COLUMNS[target])
        y = np.eye(COLUMNS[target])[label]
        x += 0.3 * rng.normal(size=(COLUMNS[target], columns))[label]
    else:
        shared = rng.normal(size=(n, 40))
        dy = COLUMNS.get(target, columns)
        y = shared @ rng.normal(size=(40, dy)) + rng.normal(size=(n, dy))
        x += 0.1 * shared @ rng.normal(size=(40, columns))
    x -= x.mean(1, keepdims=True)
    x /= x.std(1, keepdims=True)
    return x, y, rng.permutation(np.arange(n) % FOLDS)


if __name__ == "__main__":
    main()
