"""Means and centred second moments of views, per group of rows: all that CCA and CKA need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

from common.arrays import (
    Array,
    Index,
    Mask,
    NotPositiveDefinite,
    cholesky,
    eigenvectors,
    inverse_of_triangle,
    like,
    namespace,
    on_device,
    on_host,
)
from common.records import StrataError

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    import torch

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
        squares = namespace(directions).sum(directions**2, axis=1)
        variances: Array = 1 - self.penalty * squares
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
        values = on_host(self.values)
        cumulative = np.cumsum(values) / values.sum()
        r = int(np.searchsorted(cumulative, share * (1 - 1e-12))) + 1
        return Spectrum(self.values[:r], self.vectors[:, :r], self.scale)

    def whitening(self, ridge: float) -> Whitening:
        """Whitening under a ridge relative to the scale."""
        matrix = (self.vectors / (self.values + ridge) ** 0.5).T / self.scale**0.5
        return Whitening(matrix, ridge * self.scale)


@dataclass(frozen=True, slots=True)
class NullSpace:
    """Orthonormal directions `vectors` (d, m) in which a view does not vary.

    Without the columns `spare` (m,), each a function of the others, it has no null direction.
    """

    vectors: Array
    spare: Index


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
        scale = float(namespace(self.scatter).linalg.trace(self.scatter)) / d
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
        values, vectors, m = self._eigenvectors()
        xp = namespace(values)
        return Spectrum(xp.flip(values[m:]), xp.flip(vectors[:, m:], axis=1), self.scale)

    @computed_once
    def null_space(self) -> NullSpace:
        """The null directions; found without an eigendecomposition where there are none."""
        d, _ = self.scatter.shape
        none = NullSpace(like(np.zeros((d, 0)), self.scatter), np.zeros(0, dtype=np.int64))
        if self._triangular_whitening(RELATIVE_CUTOFF, none) is not None:
            return none
        _, vectors, m = self._eigenvectors()
        directions = vectors[:, :m]
        transposed = on_host(directions).T
        _, order = scipy.linalg.qr(transposed, mode="r", pivoting=True, check_finite=False)
        return NullSpace(directions, np.sort(order[:m]))

    def _eigenvectors(self) -> tuple[Array, Array, int]:
        """Eigenvalues (d,), increasing, and vectors (d, d) of scatter / scale.

        And of how many of them, the first ones, the directions are null.
        """
        values, vectors = eigenvectors(self.scatter / self.scale)
        null = values <= RELATIVE_CUTOFF * values[-1]
        return values, vectors, int(null.sum())

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
        m, xp = len(null.spare), namespace(self.scatter)
        scaled = self.scatter / self.scale
        n, along = null.vectors, scaled @ null.vectors
        if xp.sum(n * along) > RELATIVE_CUTOFF * xp.max(xp.linalg.diagonal(scaled)):
            return None
        kept = like(np.delete(np.arange(d), null.spare), scaled)
        ridged = scaled + ridge * like(np.eye(d), scaled)
        if m:
            half = along + ridge * n - n @ (n.T @ along + ridge * like(np.eye(m), n)) / 2
            ridged -= xp.concat([half, n], axis=1) @ xp.concat([n, half], axis=1).T
            ridged = ridged[kept][:, kept]
        try:
            triangle = cholesky(ridged)
        except NotPositiveDefinite:
            return None
        matrix = like(np.zeros((d - m, d)), scaled)
        matrix[:, kept] = inverse_of_triangle(triangle)
        matrix -= matrix @ n @ n.T
        # The smallest eigenvalue is 1 / trace of the inverse or more, the largest the norm or less.
        smallest = 1 / xp.sum(matrix**2) - ridge
        if not smallest > RELATIVE_CUTOFF * xp.sum(scaled**2) ** 0.5:
            return None
        return Whitening(matrix / self.scale**0.5, ridge * self.scale)

    def on(self, device: "torch.device") -> "ViewMoments":
        """The same on a device."""
        return ViewMoments(self.n, on_device(self.mean, device), on_device(self.scatter, device))

    @property
    def live_columns(self) -> int:
        """Number of columns that vary."""
        variances = namespace(self.scatter).linalg.diagonal(self.scatter)
        return int((variances > 0).sum())


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
        """The same moments, known to be of some of the rows of `whole`."""
        x, y = replace(self.x, whole=whole.x), replace(self.y, whole=whole.y)
        return Moments(x, y, self.xy)

    @property
    def swapped(self) -> "Moments":
        """The same rows with the two views exchanged."""
        return Moments(self.y, self.x, self.xy.T)


def merge_views(parts: Sequence[ViewMoments]) -> ViewMoments:
    """Moments of the union of disjoint sets of rows, whatever their order.

    Chan, Golub & LeVeque's pairwise update (1979) taken over all parts at once: scatters within
    parts add, and the means contribute sum_i n_i (m_i - m)(m_i - m)'.
    """
    xp = namespace(parts[0].mean)
    counts = like(_counts([part.n for part in parts]), parts[0].mean)
    means = xp.stack([part.mean for part in parts])
    mean = counts @ means / xp.sum(counts)
    deviations = means - mean
    between = (deviations * counts[:, None]).T @ deviations
    scatter = reduce(add, [part.scatter for part in parts], between)
    return ViewMoments(sum(part.n for part in parts), mean, scatter)


def merge_cross(
    xs: Sequence[ViewMoments], ys: Sequence[ViewMoments], xys: Sequence[Array]
) -> Array:
    """Cross-scatter (dx, dy) of the union of disjoint sets of rows."""
    xp = namespace(xys[0])
    counts = like(_counts([x.n for x in xs]), xys[0])
    mean_x, mean_y = (xp.stack([part.mean for part in side]) for side in (xs, ys))
    mean_x, mean_y = (means - counts @ means / xp.sum(counts) for means in (mean_x, mean_y))
    return reduce(add, xys, (mean_x * counts[:, None]).T @ mean_y)


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


def number_of(folds: Index) -> int:
    """Number of folds that the rows with these fold numbers (n,) were cut into."""
    return int(folds.max(initial=-1)) + 1


def groups_for(folds: int, trials: int) -> int:
    """Number of groups of folds that are kept apart: see `group_of`."""
    return min(folds, trials + 2)


def group_of(folds: Index, trials: int) -> Index:
    """Group of each fold number: fold f <= trials keeps its own; all others share the next.

    Fold t is trial t's test and the next one its dev; the others only ever train.
    """
    return np.minimum(folds, trials + 1)


@dataclass(frozen=True, eq=False)
class FoldedView:
    """One view of a sample, by group: see `group_of`."""

    parts: tuple[ViewMoments, ...]
    trials: int
    _elsewhere: dict["torch.device", "FoldedView"] = field(
        default_factory=dict, init=False, repr=False
    )

    def on(self, device: "torch.device") -> "FoldedView":
        """The same on a device; kept, so that what is computed there is shared as well."""
        if device not in self._elsewhere:
            moved = FoldedView(tuple(part.on(device) for part in self.parts), self.trials)
            self._elsewhere[device] = moved
        return self._elsewhere[device]

    def leave(self, device: "torch.device") -> None:
        """Forget what is kept on a device."""
        self._elsewhere.pop(device, None)

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

    def leave(self, device: "torch.device") -> None:
        """Forget what the views keep on a device."""
        for view in (self.x, self.y):
            view.leave(device)

    def on(self, device: "torch.device") -> "Folds":
        """The same on a device."""
        x, y = self.x.on(device), self.y.on(device)
        return Folds(x, y, tuple(on_device(cross, device) for cross in self.xy))

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
            merge_cross(self.x.parts[half], self.y.parts[half], self.xy[half])
            for half in (slice(middle), slice(middle, end))
        )
        (x, other_x), (y, other_y) = self.x.halves, self.y.halves
        return Moments(x, y, first), Moments(other_x, other_y, second)

    def merged(self) -> Moments:
        """All rows of the sample."""
        xy = merge_cross(self.x.parts, self.y.parts, self.xy)
        return Moments(self.x.merged, self.y.merged, xy)


def rows_of_trial(cuts: Sequence[Index], trial: int) -> tuple[Mask, Mask, Mask]:
    """Which rows (n,) a trial trains on, chooses on and is tested on; `cuts`: folds (n,) each."""
    tests = [cut == trial for cut in cuts]
    devs = [cut == dev_fold(trial, number_of(cut)) for cut in cuts]
    train = ~np.logical_or.reduce([*tests, *devs])
    return train, np.logical_and.reduce(devs), np.logical_and.reduce(tests)


@dataclass(frozen=True, eq=False)
class CrossedFolds(Folds):
    """A pair of views cut in two ways at once; `cells` are (train, dev, test) of each trial.

    `parts`: rows that lie, in both ways, in folds of the first half of the trials, and the second.
    """

    cells: tuple[tuple[Moments, Moments, Moments], ...]
    parts: tuple[Moments, Moments]

    def on(self, device: "torch.device") -> "CrossedFolds":
        """The same on a device."""
        whole = super().on(device)
        rows = whole.merged()

        def moved(one: Moments) -> Moments:
            copied = Moments(one.x.on(device), one.y.on(device), on_device(one.xy, device))
            return copied.within(rows)

        cells = tuple((moved(a), moved(b), moved(c)) for a, b, c in self.cells)
        first, second = self.parts
        return CrossedFolds(whole.x, whole.y, whole.xy, cells, (moved(first), moved(second)))

    def halves(self) -> tuple[Moments, Moments]:
        """The two `parts`: neither cut has a fold in both."""
        return self.parts

    def trial(self, t: int) -> tuple[Moments, Moments, Moments]:
        """(train, dev, test) of trial t: neither cut has a fold in two of them."""
        return self.cells[t]


def crossed_folds(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    cuts: Sequence[Index],
    trials: int,
) -> CrossedFolds:
    """Cut two views, x (n, dx) and y (n, dy), by several folds (n,) of each row at once.

    Trial t is tested on the rows in fold t of every cut, chooses on those in the next fold of every
    cut, and trains on those that lie in neither fold of any cut. It leaves the others out.
    """
    whole = moments_of(x, y)

    def moments(trial: int) -> tuple[Moments, Moments, Moments]:
        train, dev, test = (moments_of(x[rows], y[rows]) for rows in rows_of_trial(cuts, trial))
        return train.within(whole), dev, test

    x_view, y_view = FoldedView((whole.x,), trials), FoldedView((whole.y,), trials)
    middle = trials // 2
    inside = (
        np.logical_and.reduce([(low <= cut) & (cut < high) for cut in cuts])
        for low, high in ((0, middle), (middle, trials))
    )
    first, second = (moments_of(x[rows], y[rows]).within(whole) for rows in inside)
    cells = tuple(moments(t) for t in range(trials))
    return CrossedFolds(x_view, y_view, (whole.xy,), cells, (first, second))


def fold_views(
    x: NDArray[np.floating], y: NDArray[np.floating], folds: Index, trials: int
) -> Folds:
    """Cut two views held in memory, x (n, dx) and y (n, dy), by the fold (n,) of each row."""
    x_view, y_view = (view_folds(view, folds, trials) for view in (x, y))
    return pair_folds((x, y), folds, x_view, y_view)


def view_folds(vectors: NDArray[np.floating], folds: Index, trials: int) -> FoldedView:
    """One view's moments by group, of vectors (n, d) in folds (n,)."""
    groups = group_of(folds, trials)
    count = groups_for(number_of(folds), trials)
    return FoldedView(tuple(view_moments(vectors[groups == g]) for g in range(count)), trials)


def pair_folds(
    vectors: tuple[NDArray[np.floating], NDArray[np.floating]],
    folds: Index,
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
