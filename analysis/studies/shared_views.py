"""Moments of views that many layers are compared with: taken once, let go after the last use."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from analysis.moments import (
    FoldedView,
    Folds,
    cross_scatter,
    group_of,
    groups_for,
    number_of,
    view_moments,
)


@dataclass(frozen=True, eq=False)
class PairedRows:
    """Two views of one sample's units, row by row: x (n, dx), y (n, dy), in folds (n,)."""

    x: NDArray[np.floating]
    y: NDArray[np.floating]
    folds: NDArray[np.int64]


class SharedViews:
    """Views by name; `uses`: how often each will be asked for. Its last use forgets a view."""

    def __init__(self, uses: Counter[Hashable]) -> None:
        self._uses = uses
        self._views: dict[Hashable, FoldedView] = {}
        self._lock = Lock()

    @contextmanager
    def view(self, name: Hashable, make: Callable[[], FoldedView]) -> Iterator[FoldedView]:
        """The view of this name; two jobs may make it at once, and then share one of the two."""
        held = self._views.get(name) or make()
        if self._uses[name] > 1:
            held = self._views.setdefault(name, held)
        try:
            yield held
        finally:
            with self._lock:
                self._uses[name] -= 1
                if self._uses[name] <= 0:
                    self._views.pop(name, None)


def view_folds(vectors: NDArray[np.floating], folds: NDArray[np.int64], trials: int) -> FoldedView:
    """One view's moments by group, of vectors (n, d) in folds (n,)."""
    groups = group_of(folds, trials)
    count = groups_for(number_of(folds), trials)
    return FoldedView(tuple(view_moments(vectors[groups == g]) for g in range(count)), trials)


def pair_folds(rows: PairedRows, x: FoldedView, y: FoldedView) -> Folds:
    """The moments of a pair of views whose own moments are there."""
    groups = group_of(rows.folds, x.trials)
    crosses = [
        cross_scatter(rows.x[groups == g], rows.y[groups == g], part.mean, other.mean)
        for g, (part, other) in enumerate(zip(x.parts, y.parts, strict=True))
    ]
    return Folds(x, y, tuple(crosses))
