"""What the labels of units stand for: themselves, or what a file says of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.embeddings import read_table
from analysis.labelling import labelled
from analysis.metrics.base import UnitMetric
from analysis.study import metric_of
from analysis.targets import one_hot
from analysis.unit_sampling import Known
from common.config import AnalysisConfig
from common.records import Corpus

Index = NDArray[np.int64]


class Vectors(Protocol):
    """A table of word vectors: `index` gives a word's row of `vectors` (v, d)."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(v, d)."""

    @property
    def index(self) -> Mapping[str, int]:
        """Row of each word."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Lines left out, by reason."""


@dataclass(frozen=True, eq=False)
class LabelTarget:
    """`known`: those labels of the corpus that can be drawn; None for all.

    `view` gives the other view (n, d) of units with these labels; `counts` what its file lacks.
    """

    known: Known | None
    view: Callable[[Index, tuple[str, ...]], NDArray[np.floating]]
    counts: Mapping[str, int]


def label_target(corpus: Corpus, analysis: AnalysisConfig) -> LabelTarget:
    """Read the target's file, if it has one."""
    target, metric = analysis.target, metric_of(analysis)
    if target.kind == "embedding":
        words = frozenset(interval.label for _, interval in labelled(corpus, analysis))
        path = Path(str(target.path)).expanduser()
        table = vectors_of(path, path.stat().st_mtime_ns, words)
        return LabelTarget(table.index.keys().__and__, partial(rows_of, table), table.counts)
    if target.path is not None and isinstance(metric, UnitMetric):
        return LabelTarget(partial(metric.known, target=target), one_hot_view, {})
    return LabelTarget(None, one_hot_view, {})


@lru_cache(maxsize=4)
def vectors_of(path: Path, changed: int, words: frozenset[str]) -> Vectors:  # noqa: ARG001
    """The words' vectors; kept, because a run with controls asks twice and a file may be 5 GB."""
    return read_table(path, words)


def rows_of(table: Vectors, label: Index, labels: tuple[str, ...]) -> NDArray[np.floating]:
    """The vector (n, d) of each unit's label, in the columns that differ among these labels.

    As a one-hot view has no column for a label that does not occur: it would only change the mean
    eigenvalue that ridges are relative to.
    """
    present, codes = np.unique(label, return_inverse=True)
    vectors = table.vectors[[table.index[labels[code]] for code in present]]
    live = (vectors != vectors[0]).any(0)
    return (vectors[:, live] if live.any() else vectors)[codes]


def one_hot_view(label: Index, labels: tuple[str, ...]) -> NDArray[np.floating]:  # noqa: ARG001
    """One column for each label that occurs: (n, labels)."""
    codes = np.unique(label, return_inverse=True)[1]
    return one_hot(codes, int(codes.max()) + 1)
