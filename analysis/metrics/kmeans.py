"""k-means by scikit-learn, on mini-batches as published, or by faiss, on all rows."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from common.arrays import Index, Vectors
from common.records import StrataError

CLUSTERERS = ("minibatch", "faiss")


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters 0 … k - 1 of the rows fitted on, `fitted` (n,), and of held-out rows, `held` (m,).

    `centres` (k, d).
    """

    fitted: Index
    held: Index
    centres: Vectors

    @property
    def in_use(self) -> float:
        """Share of the clusters that some fitted row is in."""
        return len(np.unique(self.fitted)) / len(self.centres)


@dataclass(frozen=True)
class MiniBatch:
    """scikit-learn's MiniBatchKMeans (Sculley 2010) with the settings of Pasad et al. 2021's code.

    k-means++ (the best of three tries), at most 500 epochs, until ten batches bring no improvement;
    batches of 1,500 phones or 4,000 words.
    """

    batch: int

    def cluster(
        self, fit: Vectors, held: Vectors, k: int, seed: int, threads: int | None = None
    ) -> Clustering:
        """Fit k centres on `fit` (n, d), n >= k; assign it and `held` (m, d). `seed` below 2^31.

        `threads`: OpenMP's; None for all. A limit set by the caller holds for the caller's thread
        only.
        """
        from sklearn.cluster import MiniBatchKMeans

        model = MiniBatchKMeans(
            n_clusters=k, batch_size=self.batch, max_iter=500, n_init=3, random_state=seed
        )
        with threadpool_limits(threads, user_api="openmp"):
            fitted = model.fit(fit).labels_
            predicted = model.predict(held)
        centres = model.cluster_centers_.astype(np.float32)
        return Clustering(fitted.astype(np.int64), predicted.astype(np.int64), centres)


@dataclass(frozen=True)
class Lloyd:
    """faiss: `iterations` of Lloyd's algorithm on all rows, from each of `seeds` draws of centres.

    The try of least inertia is kept. A cluster that runs empty takes half of a large one.
    """

    seeds: int
    iterations: int

    def __post_init__(self) -> None:
        if find_spec("faiss") is None:
            raise StrataError(
                "clusterer=faiss: faiss is not installed; pip install 'strata[faiss]', or use "
                "clusterer=minibatch"
            )

    def cluster(
        self, fit: Vectors, held: Vectors, k: int, seed: int, threads: int | None = None
    ) -> Clustering:
        """As `MiniBatch.cluster`, on all rows: by default faiss takes at most 256 for a centre."""
        import faiss

        model = faiss.Kmeans(
            fit.shape[1],
            k,
            niter=self.iterations,
            nredo=self.seeds,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=len(fit),
        )
        with threadpool_limits(threads, user_api="openmp"):
            model.train(fit)
            fitted, predicted = (
                model.index.search(np.ascontiguousarray(rows), 1)[1][:, 0] for rows in (fit, held)
            )
        return Clustering(fitted, predicted, np.asarray(model.centroids, dtype=np.float32))


Clusterer = MiniBatch | Lloyd


def nearest(rows: NDArray[np.floating], centres: Vectors) -> Index:
    """Number (n,) of the centre (k, d) nearest to each row (n, d)."""
    x, c = np.asarray(rows, dtype=np.float64), centres.astype(np.float64)
    return np.argmin((c**2).sum(1) / 2 - x @ c.T, axis=1).astype(np.int64)


def clusterer_of(name: str, batch: int, seeds: int, iterations: int) -> Clusterer:
    """The clusterer by its name in the configuration."""
    if name not in CLUSTERERS:
        raise StrataError(f"clusterer={name}: choose one of {', '.join(CLUSTERERS)}")
    return MiniBatch(batch) if name == "minibatch" else Lloyd(seeds, iterations)
