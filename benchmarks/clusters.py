"""k-means of the published size: scikit-learn's mini-batches beside faiss on all rows.

    python benchmarks/clusters.py [phone word]

Rows (n, 768) of seeded Gaussian mixtures: each label has several components, as a phone has
contexts and speakers, in a common low-dimensional space with noise in all dimensions. Both sides
fit on the same rows and are scored on the same held-out rows. Prints time (on the wall and of
the processors: on a busy machine only the second says much), mutual information with the labels
over their entropy, what chance alone would give, the share of clusters in use, and the ratios.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.metrics.agreement import agreement
from analysis.metrics.kmeans import Clusterer, Lloyd, MiniBatch
from common.cores import usable_cores

DIM = 768
LATENT = 64
SPREAD = 2  # of a component, where the labels' centres have 1: neighbours overlap


@dataclass(frozen=True)
class Size:
    """Rows to fit on and to score, clusters, labels, components of a label, rows of a batch."""

    fit: int
    held: int
    k: int
    labels: int
    components: int
    batch: int


SIZES = {
    "phone": Size(fit=190_000, held=7_800, k=500, labels=39, components=12, batch=1_500),
    "word": Size(fit=60_000, held=7_500, k=5_000, labels=500, components=4, batch=4_000),
}


def main() -> None:
    threads = {pool["num_threads"] for pool in threadpool_info()}
    print(f"{usable_cores()} cores, threads {sorted(threads)}")
    for name in sys.argv[1:] or SIZES:
        size = SIZES[name]
        rows, labels = mixture(size)
        print(f"{name}: {size.fit} x {DIM}, k = {size.k}, {size.held} rows scored")
        sides: dict[str, Clusterer] = {
            "minibatch": MiniBatch(size.batch),
            "faiss, 1 seed": Lloyd(seeds=1, iterations=25),
        }
        times = [run(side, clusterer, size, rows, labels) for side, clusterer in sides.items()]
        wall, processor = (first / second for first, second in zip(*times, strict=True))
        print(f"  time of minibatch / faiss: wall {wall:.2f}, processors {processor:.2f}")


def mixture(size: Size) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows (fit + held, 768), and their labels."""
    rng = np.random.default_rng(0)
    n = size.fit + size.held
    labels = rng.integers(size.labels, size=n)
    component = labels * size.components + rng.integers(size.components, size=n)
    words = rng.normal(size=(size.labels, 1, LATENT))
    components = rng.normal(size=(size.labels, size.components, LATENT))
    centres = (words + 0.8 * components).reshape(-1, LATENT).astype(np.float32)
    latent = centres[component] + SPREAD * rng.standard_normal((n, LATENT), dtype=np.float32)
    rows = latent @ rng.standard_normal((LATENT, DIM), dtype=np.float32)
    return rows + 2 * rng.standard_normal((n, DIM), dtype=np.float32), labels


def run(
    name: str,
    clusterer: Clusterer,
    size: Size,
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> tuple[float, float]:
    """Seconds that clustering took, on the wall and of the processors."""
    start, used = perf_counter(), process_time()
    found = clusterer.cluster(rows[: size.fit], rows[size.fit :], size.k, seed=0)
    seconds, used = perf_counter() - start, process_time() - used
    score = agreement(found.held, labels[size.fit :])
    inertia = ((rows[: size.fit] - found.centres[found.fitted]) ** 2).sum(1).mean()
    print(
        f"  {name:14} {seconds:6.1f} s (processors {used:.1f} s), inertia {inertia:.1f}, "
        f"mutual information {score.normalised:.3f} (by chance {score.by_chance:.3f}, "
        f"adjusted {score.adjusted:.3f}), clusters in use {found.in_use:.1%}",
        flush=True,
    )
    return seconds, used


if __name__ == "__main__":
    main()
