"""Means and centred second moments of views, per group of rows: all that CCA and CKA need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

from common.records import StrataError

Array = NDArray[np.float64]
T = TypeVar("T")

VERSION = 2  # bumped when the meaning of a stored moment changes
RELATIVE_CUTOFF = 1e-10  # of a view's largest eigenvalue; float64 moments resolve about 2e-13


class computed_once(Generic[T]):  # noqa: N801  # used as functools.cached_property is
    """A property that is computed when it is first asked for, and kept.

    `functools.cached_property` of Python 3.11 holds one lock for all instances while it computes:
    layers that are scored side by side would wait for each other.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Self | T:
        if instance is None:
            return self
        value = self._compute(instance)
        instance.__dict__[self._compute.__name__] = value  # from now on found before this property
        return value


@dataclass(frozen=True, slots=True)
class Whitening:
    """Directions W (r, d) in which a view's scatter S is white: W (S + penalty I) W' = I.

    They span all but the null directions. `penalty`: the ridge, in the units of S.
    """

    matrix: Array
    penalty: float

    def variances(self, directions: Array) -> Array:
        """A S a' of directions (k, d) that are orthonormal combinations of the rows of W."""
        variances: Array = 1 - self.penalty * np.square(directions).sum(1)
        return variances


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

    def whitening(self, ridge: float) -> Whitening:
        """Whitening under a ridge relative to the scale."""
        matrix = (self.vectors / np.sqrt(self.values + ridge)).T / np.sqrt(self.scale)
        return Whitening(matrix, ridge * self.scale)


@dataclass(frozen=True, slots=True)
class NullSpace:
    """Orthonormal directions `vectors` (d, m) in which a view does not vary.

    Without the columns `spare` (m,), each a function of the others, it has no null direction.
    """

    vectors: Array
    spare: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ViewMoments:
    """Moments of a view over n rows: mean (d,), scatter (d, d) = sum of centred outer products.

    `whole`: moments of more rows, these among them. What does not vary there does not vary here.
    """

    n: int
    mean: Array
    scatter: Array
    whole: "ViewMoments | None" = None
    _whitenings: dict[float, Whitening] = field(default_factory=dict, init=False, repr=False)

    @computed_once
    def scale(self) -> float:
        """The mean eigenvalue, trace / d: it does not change under rotation."""
        d, _ = self.scatter.shape
        scale = float(np.trace(self.scatter)) / d
        if not np.isfinite(scale):
            raise StrataError(f"a view has NaN or infinite values in its {self.n} rows")
        if scale <= 0:
            raise StrataError(
                f"a view is constant over its {self.n} training rows ({d} columns): its "
                "correlation with anything is undefined; check that labels and frames differ"
            )
        return scale

    @computed_once
    def spectrum(self) -> Spectrum:
        """Eigendecomposition of scatter / scale, null directions dropped."""
        values, vectors, null = self._eigenvectors()
        return Spectrum(values[~null][::-1], vectors[:, ~null][:, ::-1], self.scale)

    @computed_once
    def null_space(self) -> NullSpace:
        """The null directions; found without an eigendecomposition where there are none."""
        d, _ = self.scatter.shape
        none = NullSpace(np.zeros((d, 0)), np.zeros(0, dtype=np.int64))
        if self._triangular_whitening(RELATIVE_CUTOFF, none) is not None:
            return none
        _, vectors, null = self._eigenvectors()
        directions = vectors[:, null]
        _, order = scipy.linalg.qr(directions.T, mode="r", pivoting=True, check_finite=False)
        return NullSpace(directions, np.sort(order[: directions.shape[1]]))

    def _eigenvectors(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Eigenvalues (d,), increasing, and vectors (d, d) of scatter / scale; which are null."""
        scaled = self.scatter / self.scale
        values, vectors = scipy.linalg.eigh(scaled, driver="evd", check_finite=False)
        return values, vectors, values <= RELATIVE_CUTOFF * values[-1]

    def whitening(self, ridge: float) -> Whitening:
        """Whitening under a ridge relative to the scale; kept, so that every target shares it.

        From a Cholesky decomposition where that is sure to leave out the same directions as the
        spectrum: a tenth of the time of an eigendecomposition.
        """
        if ridge not in self._whitenings:
            null = (self.whole or self).null_space
            quick = self._triangular_whitening(ridge, null)
            self._whitenings[ridge] = quick or self.spectrum.whitening(ridge)
        return self._whitenings[ridge]

    def _triangular_whitening(self, ridge: float, null: NullSpace) -> Whitening | None:
        """None where there may be other null directions than these.

        With P = I - N N' the projection that leaves out the null directions N, P (S + ridge) P has
        no null direction in the columns that are not spare.
        """
        d, _ = self.scatter.shape
        scaled = self.scatter / self.scale
        n, along = null.vectors, scaled @ null.vectors
        if np.vdot(n, along) > RELATIVE_CUTOFF * scaled.diagonal().max():
            return None
        kept = np.delete(np.arange(d), null.spare)
        ridged = scaled.copy()
        ridged[np.diag_indices(d)] += ridge
        if len(null.spare):
            half = along + ridge * n - n @ (n.T @ along + ridge * np.eye(len(null.spare))) / 2
            ridged -= np.hstack([half, n]) @ np.hstack([n, half]).T
            ridged = ridged[np.ix_(kept, kept)]
        try:
            triangle = np.linalg.cholesky(ridged)
        except np.linalg.LinAlgError:
            return None
        matrix = np.zeros((len(kept), d))
        matrix[:, kept], _ = scipy.linalg.lapack.dtrtri(triangle, lower=1)
        matrix -= matrix @ n @ n.T
        # The smallest eigenvalue is 1 / trace of the inverse or more, the largest the norm or less.
        smallest = 1 / np.square(matrix).sum() - ridge
        if not smallest > RELATIVE_CUTOFF * np.linalg.norm(scaled):
            return None
        return Whitening(matrix / np.sqrt(self.scale), ridge * self.scale)

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

    def within(self, whole: "Moments") -> "Moments":
        """The same, known to be of some of the rows of others."""
        x, y = replace(self.x, whole=whole.x), replace(self.y, whole=whole.y)
        return Moments(x, y, self.xy)

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

    @computed_once
    def training(self) -> tuple[ViewMoments, ...]:
        """Training moments of each trial; kept, so that their whitenings are shared."""
        merged = (merge_views(without(self.parts, t)) for t in range(self.trials))
        return tuple(replace(one, whole=self.merged) for one in merged)

    @computed_once
    def halves(self) -> tuple[ViewMoments, ViewMoments]:
        """The folds that the first half of the trials is tested on, and those of the second."""
        middle = self.trials // 2
        first, second = self.parts[:middle], self.parts[middle : self.trials]
        return (
            replace(merge_views(first), whole=self.merged),
            replace(merge_views(second), whole=self.merged),
        )

    @computed_once
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
    whole = moments_of(x, y)

    def moments(trial: int) -> tuple[Moments, Moments, Moments]:
        train, dev, test = (moments_of(x[own], y[own]) for own in rows_of_trial(cuts, trial))
        return train.within(whole), dev, test

    x_view, y_view = FoldedView((whole.x,), trials), FoldedView((whole.y,), trials)
    middle = trials // 2
    inside = (
        np.logical_and.reduce([(low <= cut) & (cut < high) for cut in cuts])
        for low, high in ((0, middle), (middle, trials))
    )
    first, second = (moments_of(x[own], y[own]).within(whole) for own in inside)
    cells = tuple(moments(t) for t in range(trials))
    return CrossedFolds(x_view, y_view, (whole.xy,), cells, (first, second))


def fold_views(
    x: NDArray[np.floating], y: NDArray[np.floating], folds: NDArray[np.int64], trials: int
) -> Folds:
    """Cut two views held in memory, x (n, dx) and y (n, dy), by the fold (n,) of each row."""
    x_view, y_view = (view_folds(view, folds, trials) for view in (x, y))
    return pair_folds((x, y), folds, x_view, y_view)


def view_folds(vectors: NDArray[np.floating], folds: NDArray[np.int64], trials: int) -> FoldedView:
    """One view's moments by group, of vectors (n, d) in folds (n,)."""
    groups = group_of(folds, trials)
    count = groups_for(number_of(folds), trials)
    return FoldedView(tuple(view_moments(vectors[groups == g]) for g in range(count)), trials)


def pair_folds(
    vectors: tuple[NDArray[np.floating], NDArray[np.floating]],
    folds: NDArray[np.int64],
    x: FoldedView,
    y: FoldedView,
) -> Folds:
    """Moments of a pair of views, vectors (n, dx) and (n, dy), whose own moments are x and y."""
    groups = group_of(folds, x.trials)
    one, other = vectors
    crosses = [
        cross_scatter(one[groups == g], other[groups == g], part.mean, y.parts[g].mean)
        for g, part in enumerate(x.parts)
    ]
    return Folds(x, y, tuple(crosses))
