"""How alike word segments are: pooled vectors by their cosine, frames by dynamic time warping."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.alignment import dtw_distances
from common.arrays import Array, Index, Vectors

Scores = NDArray[np.int32]

# Steps of a score. Equal pairs must tie, whatever block they are multiplied in: a step is well
# above the rounding of float64 (cosines of vectors) and of float32 (those of frames).
COSINE_STEPS = 2**30
DTW_STEPS = 2**20


class Similarity(ABC):
    """How alike two items are, as whole numbers: equal pairs tie, in whatever block they come."""

    @abstractmethod
    def scores(self, rows: Index, columns: Index) -> Scores:
        """Scores (r, c) of every item of `rows` with every one of `columns`; higher: more alike."""

    @abstractmethod
    def blocks(self) -> list[Index]:
        """All items, in the parts whose pairs are best scored together."""


@dataclass(frozen=True, eq=False)
class Cosine(Similarity):
    """Cosine of vectors (n, d); that of a zero vector is 0."""

    vectors: NDArray[np.floating]

    def scores(self, rows: Index, columns: Index) -> Scores:
        """Cosines (r, c) in steps of 2^-30."""
        x = self._unit(rows)
        y = x if rows is columns else self._unit(columns)
        return np.rint(x @ y.T * COSINE_STEPS).astype(np.int32)

    def blocks(self) -> list[Index]:
        """Whole matrix products of 1,024 by 1,024."""
        return np.array_split(np.arange(len(self.vectors)), -(-len(self.vectors) // 1024))

    def _unit(self, rows: Index) -> Array:
        vectors = np.asarray(self.vectors[rows], dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True, eq=False)
class Warping(Similarity):
    """Minus the DTW distance of segments of unit frames (t, d)."""

    segments: Sequence[Vectors]

    def scores(self, rows: Index, columns: Index) -> Scores:
        """Minus the distances (r, c) in steps of 2^-20."""
        x, y = ([self.segments[i] for i in items] for items in (rows, columns))
        return np.rint(-DTW_STEPS * dtw_distances(x, y)).astype(np.int32)

    def blocks(self) -> list[Index]:
        """Segments of about one length together, so that little of a matrix product is padding."""
        order = np.argsort([len(segment) for segment in self.segments], kind="stable")
        return np.array_split(order, -(-len(order) // 64))
