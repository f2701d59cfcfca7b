"""How much scores depend on a view's width alone: the same signal in views of 64 to 1,024 columns.

    python benchmarks/width.py [repeats]

A layer holds 20 directions of a one-hot target of 39 labels, with noise, in 64 columns; a wider one
has further columns of noise, and all are turned at random: no width knows more than another. PWCCA,
biased and debiased CKA, and a linear probe (accuracy, chance 1/39), each on the d columns as they
are and on a random projection to 64; and both CKA of two views of pure noise. Mean and standard
deviation over repeats.

With three repeats and n = 1,950, from 64 to 1,024 columns: CKA of noise .032 to .344, debiased
-.000 to -.001; PWCCA .435 to .494; debiased CKA .430 to .252, since noise is a part of the wider
view; the probe .965 to .321. A random projection to 64 columns loses more than it mends (PWCCA
.208). So debiasing takes away what chance adds, and nothing here makes levels of views of different
width comparable.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra.utils import instantiate
from omegaconf import OmegaConf

from analysis.metrics.base import MomentMetric
from analysis.metrics.cka import DebiasedCKA, LinearCKA
from analysis.moments import fold_views

Array = NDArray[np.float64]

WIDTHS = (64, 192, 384, 768, 1024)
COMMON = 64
LABELS = 39
METRICS = Path(__file__).resolve().parents[1] / "conf" / "metric"


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    pwcca = instantiate(OmegaConf.load(METRICS / "pwcca.yaml"), _convert_="all")
    metrics = {"pwcca": pwcca, "cka": LinearCKA(), "cka_debiased": DebiasedCKA()}
    for n in (1950, 7800):
        print(f"n = {n}")
        for d in WIDTHS:
            rngs = [np.random.default_rng([d, k]) for k in range(repeats)]
            found = [scores(metrics, n, d, rng) for rng in rngs]
            cells = (
                f"{key} {np.mean([one[key] for one in found]):.3f}"
                f" ± {np.std([one[key] for one in found]):.3f}"
                for key in found[0]
            )
            print(f"  d = {d:4}: {', '.join(cells)}", flush=True)


def scores(
    metrics: dict[str, MomentMetric], n: int, d: int, rng: np.random.Generator
) -> dict[str, float]:
    """Every score of one draw; its name says what of."""
    label = rng.integers(LABELS, size=n)
    signal = np.random.default_rng(0).normal(size=(LABELS, 20))[label]
    layer = np.sqrt(1 / 20) * signal @ rng.normal(size=(20, COMMON)) + rng.normal(size=(n, COMMON))
    layer = np.hstack([layer, rng.normal(size=(n, d - COMMON))])
    layer = layer @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    target = np.eye(LABELS)[label]
    fold = rng.permutation(np.arange(n) % 10)
    narrow = layer @ np.linalg.qr(rng.normal(size=(d, COMMON)))[0]
    found: dict[str, float] = {}
    for name, view in (("", layer), (f" in {COMMON}", narrow)):
        found |= {
            f"{key}{name}": value_of(metric, view, target, fold) for key, metric in metrics.items()
        }
        fit = fold < 8
        probe = RidgeClassifier(alpha=1.0).fit(view[fit], label[fit])
        found[f"probe{name}"] = float(probe.score(view[~fit], label[~fit]))
    noise, other = rng.normal(size=(2, n, d))
    for key in ("cka", "cka_debiased"):
        found[f"{key} of noise"] = value_of(metrics[key], noise, other, fold)
    return found


def value_of(metric: MomentMetric, x: Array, y: Array, fold: NDArray[np.int64]) -> float:
    return float(np.mean([score.value for score in metric.score(fold_views(x, y, fold, 3))]))


if __name__ == "__main__":
    main()
