"""Moments of views that many pairs share: taken once, and let go when the last pair is scored."""

from collections.abc import Callable, Iterator
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
    """Views by name for `users` jobs; the last of them to end forgets the views."""

    def __init__(self, users: int) -> None:
        self._users = users
        self._views: dict[str, FoldedView] = {}
        self._lock = Lock()

    def view(self, name: str, make: Callable[[], FoldedView]) -> FoldedView:
        """The view of this name; two jobs may make it at once, and then share one of the two."""
        held = self._views.get(name)
        return held or self._views.setdefault(name, make())

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a job uses the views."""
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._views.clear()


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
