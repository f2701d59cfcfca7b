"""Means and centred second moments of views, per group of rows: all that CCA and CKA need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TypeVar

import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

from common.records import StrataError

Array = NDArray[np.float64]
T = TypeVar("T")

VERSION = 2  # bumped when the meaning of a stored moment changes
RELATIVE_CUTOFF = 1e-10  # of a view's largest eigenvalue; float64 moments resolve about 2e-13


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Eigendecomposition of one view's scaled covariance, null directions dropped.

    values (r,) decreasing; vectors (d, r); scale = mean eigenvalue of the unscaled scatter.
    """

    values: Array
    vectors: Array
    scale: float

    def truncated(self, share: float) -> "Spectrum":
        """The leading directions that hold `share` of the variance."""
        cumulative = np.cumsum(self.values) / self.values.sum()
        r = int(np.searchsorted(cumulative, share * (1 - 1e-12))) + 1
        return Spectrum(self.values[:r], self.vectors[:, :r], self.scale)


@dataclass(frozen=True, eq=False)
class ViewMoments:
    """Moments of a view over n rows: mean (d,), scatter (d, d) = sum of centred outer products."""

    n: int
    mean: Array
    scatter: Array

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigendecomposition of scatter / (trace / d), computed once and shared by every ridge.

        The scale, the mean eigenvalue, does not change under rotation.
        """
        d, _ = self.scatter.shape
        scale = float(np.trace(self.scatter)) / d
        if not np.isfinite(scale):
            raise StrataError(f"a view has NaN or infinite values in its {self.n} rows")
        if scale <= 0:
            raise StrataError(
                f"a view is constant over its {self.n} training rows ({d} columns): its "
                "correlation with anything is undefined; check that labels and frames differ"
            )
        values, vectors = scipy.linalg.eigh(self.scatter / scale, driver="evd", check_finite=False)
        keep = values > RELATIVE_CUTOFF * values[-1]
        return Spectrum(values[keep][::-1], vectors[:, keep][:, ::-1], scale)

    @property
    def live_columns(self) -> int:
        """Number of columns that vary."""
        return int(np.count_nonzero(np.diag(self.scatter) > 0))


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a pair of views over the same rows; xy (dx, dy) is their cross-scatter."""

    x: ViewMoments
    y: ViewMoments
    xy: Array

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.x.n

    @property
    def swapped(self) -> "Moments":
        """The same rows with the two views exchanged."""
        return Moments(self.y, self.x, self.xy.T)

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of the union of two disjoint sets of rows."""
        return merge((self, other))


def merge_views(parts: Sequence[ViewMoments]) -> ViewMoments:
    """Moments of the union of disjoint sets of rows, whatever their order.

    Chan, Golub & LeVeque's pairwise update (1979) taken over all parts at once: scatters within
    parts add, and the means contribute sum_i n_i (m_i - m)(m_i - m)'.
    """
    counts = _counts([part.n for part in parts])
    means = np.stack([part.mean for part in parts])
    mean = counts @ means / counts.sum()
    deviations = means - mean
    between = (deviations * counts[:, None]).T @ deviations
    scatter = reduce(np.add, [part.scatter for part in parts], between)
    return ViewMoments(int(counts.sum()), mean, scatter)


def merge_cross(
    xs: Sequence[ViewMoments], ys: Sequence[ViewMoments], xys: Sequence[Array]
) -> Array:
    """Cross-scatter (dx, dy) of the union of disjoint sets of rows."""
    counts = _counts([x.n for x in xs])
    mean_x, mean_y = (np.stack([part.mean for part in side]) for side in (xs, ys))
    mean_x, mean_y = (means - counts @ means / counts.sum() for means in (mean_x, mean_y))
    return reduce(np.add, xys, (mean_x * counts[:, None]).T @ mean_y)


def merge(parts: Sequence[Moments]) -> Moments:
    """Moments of a pair of views over the union of disjoint sets of rows."""
    xs, ys = [part.x for part in parts], [part.y for part in parts]
    xy = merge_cross(xs, ys, [part.xy for part in parts])
    return Moments(merge_views(xs), merge_views(ys), xy)


def _counts(counts: list[int]) -> Array:
    if sum(counts) == 0:
        raise StrataError(
            f"all {len(counts)} training folds are empty: use more utterances, or fewer "
            "sampling.folds"
        )
    return np.array(counts, dtype=np.float64)


def view_moments(view: NDArray[np.floating]) -> ViewMoments:
    """Moments of a view (n, d) held in memory; n = 0 gives zeros."""
    n, d = view.shape
    view = np.asarray(view, dtype=np.float64)
    mean = view.mean(0) if n else np.zeros(d)
    centred = view - mean
    return ViewMoments(n, mean, centred.T @ centred)


def cross_scatter(
    x: NDArray[np.floating], y: NDArray[np.floating], mean_x: Array, mean_y: Array
) -> Array:
    """Sum over rows of centred products (dx, dy) of x (n, dx) and y (n, dy)."""
    return (np.asarray(x, np.float64) - mean_x).T @ (np.asarray(y, np.float64) - mean_y)


def moments_of(x: NDArray[np.floating], y: NDArray[np.floating]) -> Moments:
    """Moments of two views held in memory: x (n, dx), y (n, dy), rows in the same order."""
    if len(x) != len(y):
        raise StrataError(f"views of {len(x)} and {len(y)} rows: both need one row for each unit")
    view_x, view_y = view_moments(x), view_moments(y)
    return Moments(view_x, view_y, cross_scatter(x, y, view_x.mean, view_y.mean))


def dev_fold(trial: int, folds: int) -> int:
    """The fold that trial t, which is tested on fold t, chooses on: the next one."""
    return (trial + 1) % folds


def number_of(folds: NDArray[np.int64]) -> int:
    """Number of folds that the rows with these fold numbers (n,) were cut into."""
    return int(folds.max(initial=-1)) + 1


def groups_for(folds: int, trials: int) -> int:
    """Number of groups of folds that are kept apart: see `group_of`."""
    return min(folds, trials + 2)


def group_of(folds: NDArray[np.int64], trials: int) -> NDArray[np.int64]:
    """Group of each fold number: fold f <= trials keeps its own; all others share the next.

    Fold t is trial t's test and the next one its dev; the others only ever train.
    """
    return np.minimum(folds, trials + 1)


@dataclass(frozen=True, eq=False)
class FoldedView:
    """One view of a sample, by group: see `group_of`."""

    parts: tuple[ViewMoments, ...]
    trials: int

    @cached_property
    def training(self) -> tuple[ViewMoments, ...]:
        """Training moments of each trial; kept, so that their spectra are shared."""
        return tuple(merge_views(without(self.parts, t)) for t in range(self.trials))

    @cached_property
    def halves(self) -> tuple[ViewMoments, ViewMoments]:
        """The folds that the first half of the trials is tested on, and those of the second."""
        middle = self.trials // 2
        return merge_views(self.parts[:middle]), merge_views(self.parts[middle : self.trials])

    @cached_property
    def merged(self) -> ViewMoments:
        """All rows of the sample."""
        return merge_views(self.parts)


def without(parts: Sequence[T], trial: int) -> list[T]:
    """All groups but the trial's dev and test."""
    return [p for g, p in enumerate(parts) if g not in (trial, dev_fold(trial, len(parts)))]


@dataclass(frozen=True, eq=False)
class Folds:
    """A pair of views of one sample, cut for its trials."""

    x: FoldedView
    y: FoldedView
    xy: tuple[Array, ...]

    @property
    def trials(self) -> int:
        """Number of trials."""
        return self.x.trials

    def trial(self, t: int) -> tuple[Moments, Moments, Moments]:
        """(train, dev, test) of trial t; train is everything but its dev and test."""
        dev, test = (
            Moments(self.x.parts[g], self.y.parts[g], self.xy[g])
            for g in (dev_fold(t, len(self.xy)), t)
        )
        for name, fold in (("dev", dev), ("test", test)):
            if fold.n < 2:
                raise StrataError(
                    f"trial {t}: its {name} fold has {fold.n} units, a correlation needs two or "
                    "more; use more utterances, or fewer sampling.folds"
                )
        xy = merge_cross(without(self.x.parts, t), without(self.y.parts, t), without(self.xy, t))
        return Moments(self.x.training[t], self.y.training[t], xy), dev, test

    def halves(self) -> tuple[Moments, Moments]:
        """The folds that the first half of the trials is tested on, and those of the second."""
        middle, end = self.trials // 2, self.trials
        first, second = (
            merge_cross(self.x.parts[own], self.y.parts[own], self.xy[own])
            for own in (slice(middle), slice(middle, end))
        )
        (x, other_x), (y, other_y) = self.x.halves, self.y.halves
        return Moments(x, y, first), Moments(other_x, other_y, second)

    def merged(self) -> Moments:
        """All rows of the sample."""
        xy = merge_cross(self.x.parts, self.y.parts, self.xy)
        return Moments(self.x.merged, self.y.merged, xy)


def rows_of_trial(
    cuts: Sequence[NDArray[np.int64]], trial: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows (n,) a trial trains on, chooses on and is tested on; `cuts`: folds (n,) each."""
    tests = [cut == trial for cut in cuts]
    devs = [cut == dev_fold(trial, number_of(cut)) for cut in cuts]
    train = ~np.logical_or.reduce([*tests, *devs])
    return train, np.logical_and.reduce(devs), np.logical_and.reduce(tests)


@dataclass(frozen=True, eq=False)
class CrossedFolds(Folds):
    """A pair of views cut in two ways at once; `cells` are (train, dev, test) of each trial.

    `parted`: rows that lie, in both ways, in folds of the first half of the trials, and the second.
    """

    cells: tuple[tuple[Moments, Moments, Moments], ...]
    parted: tuple[Moments, Moments]

    def halves(self) -> tuple[Moments, Moments]:
        """Neither cut has a fold in both."""
        return self.parted

    def trial(self, t: int) -> tuple[Moments, Moments, Moments]:
        """(train, dev, test) of trial t: neither cut has a fold in two of them."""
        return self.cells[t]


def crossed_folds(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    cuts: Sequence[NDArray[np.int64]],
    trials: int,
) -> CrossedFolds:
    """Cut two views, x (n, dx) and y (n, dy), by several folds (n,) of each row at once.

    Trial t is tested on the rows in fold t of every cut, chooses on those in the next fold of every
    cut, and trains on those that lie in neither fold of any cut. It leaves the others out.
    """

    def moments(trial: int) -> tuple[Moments, Moments, Moments]:
        train, dev, test = (moments_of(x[own], y[own]) for own in rows_of_trial(cuts, trial))
        return train, dev, test

    whole = moments_of(x, y)
    x_view, y_view = FoldedView((whole.x,), trials), FoldedView((whole.y,), trials)
    middle = trials // 2
    inside = (
        np.logical_and.reduce([(low <= cut) & (cut < high) for cut in cuts])
        for low, high in ((0, middle), (middle, trials))
    )
    first, second = (moments_of(x[own], y[own]) for own in inside)
    cells = tuple(moments(t) for t in range(trials))
    return CrossedFolds(x_view, y_view, (whole.xy,), cells, (first, second))


def fold_views(
    x: NDArray[np.floating], y: NDArray[np.floating], folds: NDArray[np.int64], trials: int
) -> Folds:
    """Cut two views held in memory, x (n, dx) and y (n, dy), by the fold (n,) of each row."""
    groups = group_of(folds, trials)
    count = groups_for(number_of(folds), trials)
    parts = [moments_of(x[groups == g], y[groups == g]) for g in range(count)]
    return Folds(
        FoldedView(tuple(part.x for part in parts), trials),
        FoldedView(tuple(part.y for part in parts), trials),
        tuple(part.xy for part in parts),
    )
