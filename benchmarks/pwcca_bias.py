"""How far estimators of PWCCA are from the population's value, on spectra of real layers.

    python benchmarks/pwcca_bias.py --layer T6 --rows 2000 8000 --repeats 3 -- model=hubert_tiny

Measures the joint covariance of a layer with mel and with T0, and the covariance of phone and word
segments within and between their labels, on the model and the speech that the overrides name (by
default `experiment=paper model=wav2vec2_tiny dataset=synthetic`, which need no download). Takes
these for populations, whose exact PWCCA follows from the covariance, draws from them, and prints
for each number of rows n the mean error of every estimator and its standard deviation.

- Gaussian views: every fold's mean and scatter are drawn directly (Wishart, by Bartlett's
  decomposition), so that 150,000 rows cost as little as 2,000.
- one-hot labels: equally frequent; their means are drawn once from a Gaussian with the covariance
  between the measured labels' means, less what the sampling of those means adds to it.
- `--wider f` makes a layer f times as wide, and T0 beside it: variances along principal axes and
  canonical correlations are interpolated, and how much of each canonical direction lies along each
  principal axis is as measured, with random signs. As in real layers no two correlations are equal:
  among such pairs any rotation is as canonical as another, and the weights are not defined. For
  the same reason labels' means differ a little in the directions where no difference was measured:
  of each less than of the one before.
- `unrelated`: the layer against Gaussian columns that have nothing to do with it; exactly 0.

Eight tenths of the rows train, one is dev and one test, as in a trial of an experiment.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analysis.metrics.cca import (  # noqa: E402
    PWCCA,
    Projection,
    about,
    canonical_directions,
    held_out_correlations,
)
from analysis.moments import Moments, ViewMoments  # noqa: E402
from common.config import Config, register, resolve  # noqa: E402

Array = NDArray[np.float64]
Ridges = tuple[float, float]

TINY = 1e-10
METRIC = PWCCA(((TINY, TINY),))
GRID = (1e-10, 1e-3, 1e-2, 1e-1)
SHARES = (0.8, 0.1, 0.1)  # train, dev, test
MANY = 10**9  # rows of a sample that stands for the population
ROWS = (2_000, 4_000, 8_000, 40_000, 150_000)
CLASSES = (39, 500)


def scatter_of(factor: Array, degrees: int, rng: np.random.Generator) -> Array:
    """Wishart scatter (d, d) of covariance F F', F (d, d) lower triangular (Bartlett 1933)."""
    d, _ = factor.shape
    r = min(d, degrees)
    draw = np.tril(rng.normal(size=(d, r)), -1)
    draw[np.arange(r), np.arange(r)] = np.sqrt(rng.chisquare(degrees - np.arange(r)))
    columns = factor @ draw
    scatter: Array = columns @ columns.T
    return scatter


def root_of(covariance: Array) -> Array:
    """Lower triangular F with F F' = covariance, up to 1e-12 of its mean eigenvalue."""
    d, _ = covariance.shape
    slack = 1e-12 * np.trace(covariance) / d
    factor: Array = scipy.linalg.cholesky(covariance + slack * np.eye(d), lower=True)
    return factor


def cut(n: int, mean: Array, scatter: Array, dx: int) -> Moments:
    """Moments of a pair of views from those of their columns side by side."""
    x, y = slice(None, dx), slice(dx, None)
    first, second = (ViewMoments(n, mean[side], scatter[side, side]) for side in (x, y))
    return Moments(first, second, scatter[x, y])


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Two Gaussian views; `covariance` (dx + dy, dx + dy) of their columns side by side."""

    name: str
    covariance: Array
    dx: int

    @property
    def dy(self) -> int:
        """Columns of the target."""
        return len(self.covariance) - self.dx

    @cached_property
    def root(self) -> Array:
        """Factor of the covariance."""
        return root_of(self.covariance)

    def whole(self) -> Moments:
        """Without an error of sampling."""
        return cut(MANY, np.zeros(len(self.covariance)), MANY * self.covariance, self.dx)

    def draw(self, n: int, rng: np.random.Generator) -> Moments:
        """Mean and scatter are independent."""
        mean = self.root @ rng.normal(size=len(self.root)) / np.sqrt(n)
        return cut(n, mean, scatter_of(self.root, n - 1, rng), self.dx)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A layer against one-hot labels: `means` (c, dx) of equally frequent labels, and `within`."""

    name: str
    means: Array
    within: Array

    @property
    def dx(self) -> int:
        """Columns of the layer."""
        return self.means.shape[1]

    @property
    def dy(self) -> int:
        """One for each label."""
        return len(self.means)

    @cached_property
    def root(self) -> Array:
        """Factor of the covariance within labels."""
        return root_of(self.within)

    def whole(self) -> Moments:
        """Every label equally often."""
        counts = np.full(self.dy, MANY / self.dy)
        return self._moments(counts, self.means, MANY * self.within)

    def draw(self, n: int, rng: np.random.Generator) -> Moments:
        """Labels are multinomial; a label's mean and the scatter within labels independent."""
        counts = rng.multinomial(n, np.full(self.dy, 1 / self.dy)).astype(np.float64)
        noise = rng.normal(size=self.means.shape) @ self.root.T
        means = self.means + noise / np.sqrt(np.maximum(counts, 1))[:, None]
        degrees = n - int(np.count_nonzero(counts))
        return self._moments(counts, means, scatter_of(self.root, degrees, rng))

    def _moments(self, counts: Array, means: Array, within: Array) -> Moments:
        n = counts.sum()
        share, mean = counts / n, counts @ means / n
        centred = means - mean
        x = ViewMoments(int(n), mean, within + (centred.T * counts) @ centred)
        y = ViewMoments(int(n), share, np.diag(counts) - np.outer(counts, share))
        return Moments(x, y, centred.T * counts)


Population = Gaussian | Labelled


def exact_score(population: Population) -> float:
    """The population's PWCCA: that of the fit to it, on itself."""
    return METRIC.fit(population.whole()).training


def stretched(values: Array, times: int) -> Array:
    """Positive values (n,) in their order, interpolated to `times` as many, on a log scale."""
    n = len(values)
    places = np.linspace(0, n - 1, n * times)
    found: Array = np.exp(np.interp(places, np.arange(n), np.log(values)))
    return found


def spread_out(columns: Array, rows: int, times: int, rng: np.random.Generator) -> Array:
    """Orthonormal columns (n * rows, k * times) like those given (n, k), in energy.

    Each entry stands for a block of entries with its energy and random signs and sizes; the columns
    are then made orthonormal by the nearest such matrix.
    """
    if rows == times == 1:
        return columns
    drawn = rng.normal(size=(columns.shape[0] * rows, columns.shape[1] * times))
    u, _, vt = np.linalg.svd(np.kron(np.abs(columns), np.ones((rows, times))) * drawn, False)
    found: Array = u @ vt
    return found


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes (d, d) of a view in columns, and the variances (d,) along them."""

    vectors: Array
    variances: Array

    @classmethod
    def of(cls, covariance: Array) -> "Axes":
        """By decreasing variance; at least 1e-10 of the largest."""
        values, vectors = np.linalg.eigh(covariance)
        return cls(vectors[:, ::-1], np.maximum(values[::-1], 1e-10 * values[-1]))

    def wider(self, times: int, rng: np.random.Generator) -> "Axes":
        """Of a view that is so many times as wide."""
        vectors = spread_out(self.vectors, times, times, rng)
        return Axes(vectors, stretched(self.variances, times))

    @property
    def root(self) -> Array:
        """R (d, d) with R R' = covariance: from whitened to plain columns."""
        return self.vectors * np.sqrt(self.variances)

    @property
    def whitener(self) -> Array:
        """From plain rows of the covariance to whitened ones: R^-1."""
        return self.vectors.T / np.sqrt(self.variances)[:, None]


def widened(covariance: Array, dx: int, times: int, target_too: bool) -> tuple[Array, int]:
    """Joint covariance of a layer `times` as wide, beside a target as it is or as much wider."""
    rng = np.random.default_rng(0)
    x, y = Axes.of(covariance[:dx, :dx]), Axes.of(covariance[dx:, dx:])
    cross = x.whitener @ covariance[:dx, dx:] @ y.whitener.T
    u, correlations, vt = np.linalg.svd(cross, full_matrices=False)
    more = times if target_too else 1
    x, y = x.wider(times, rng), y.wider(more, rng)
    correlations = stretched(np.clip(correlations, 1e-6, 1 - 1e-9), more)
    cross = spread_out(u, times, more, rng) * correlations @ spread_out(vt.T, more, more, rng).T
    joint = x.root @ cross @ y.root.T
    wide_x, wide_y = x.root @ x.root.T, y.root @ y.root.T
    return np.block([[wide_x, joint], [joint.T, wide_y]]), dx * times


def labelled_population(
    name: str, vectors: Array, label: NDArray[np.int64], classes: int, times: int
) -> Labelled:
    """Labels whose means differ as those of the vectors (n, d) with these labels (n,) do."""
    n, d = vectors.shape
    _, codes, counts = np.unique(label, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), d))
    np.add.at(means, codes, vectors)
    means /= counts[:, None]
    rest = vectors - means[codes]
    within = rest.T @ rest / (n - len(counts))
    between = np.cov(means.T) - within * (1 / counts).mean()
    axes, rng = Axes.of(within), np.random.default_rng(0)
    ratios, u = np.linalg.eigh(axes.whitener @ between @ axes.whitener.T)
    ratios, u = ratios[::-1].copy(), u[:, ::-1]
    measured = int(np.count_nonzero(ratios > 0.01))
    ratios[measured:] = ratios[measured - 1] * 0.98 ** np.arange(1, d - measured + 1)
    axes, u, ratios = (
        axes.wider(times, rng),
        spread_out(u, times, times, rng),
        stretched(ratios, times),
    )
    root = axes.root @ (u * np.sqrt(ratios))
    drawn = rng.normal(size=(classes, d * times)) @ root.T
    return Labelled(name, drawn, axes.root @ axes.root.T)


def measured_populations(layer: str, times: int, overrides: list[str]) -> Iterator[Population]:
    """A layer against T0, mel, 39 and 500 labels, and against nothing."""
    from analysis.forward.collectors import load_folds, load_view
    from analysis.forward.consumers import prefix, step_of
    from analysis.measure import statistics_key
    from analysis.sampling.speech import read_speech
    from analysis.studies.moments import MomentStudy
    from analysis.studies.provide import build_studies, collect
    from analysis.studies.study import Setting
    from analysis.studies.vectors import VectorStudy
    from common.cache.cache import Cache, cache_root
    from common.encoder.architecture import describe
    from common.encoder.checkpoint import revision_of
    from common.timing import Stopwatch

    config = configure(overrides)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(cache_root(config) if config.cache != "off" else Path(scratch))
        speech, layers = read_speech(config), describe(config.model).layers
        key = statistics_key(config, speech.corpus, revision_of(config.model))
        studies, *_ = build_studies(Setting(config, speech, layers, cache, key))
        collect(config, speech.whole, studies, Stopwatch(), {})
        (chosen,) = (one for one in layers if one.name == layer)
        for study in studies:
            for name, analysis in study.experiments.items():
                if isinstance(study, MomentStudy):
                    target, place = analysis.target.name, prefix(0, step_of(chosen))
                    view, other = (
                        load_view(study.entry, place, side, study.samples.trials)
                        for side in (layer, target)
                    )
                    m = load_folds(study.entry, place, view, other, (layer, target)).merged()
                    joint = np.block([[m.x.scatter, m.xy], [m.xy.T, m.y.scatter]]) / m.n
                    dx, _ = m.xy.shape
                    wide, dx = widened(joint, dx, times, target_too=target != "mel")
                    yield Gaussian(f"{layer} | {target}", wide, dx)
                    if target == "mel":
                        apart = scipy.linalg.block_diag(wide[:dx, :dx], wide[dx:, dx:])
                        yield Gaussian("unrelated", apart, dx)
                elif isinstance(study, VectorStudy):
                    units = study.units(name, 0, layer)
                    classes = CLASSES[name == "cca_word"]
                    title = f"{layer} | {classes} {analysis.unit}s"
                    vectors = np.asarray(units.vectors, np.float64)
                    yield labelled_population(title, vectors, units.label, classes, times)


def configure(overrides: list[str]) -> Config:
    """The configuration of a run of the four CCA experiments."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        defaults = ["experiment=paper", "model=wav2vec2_tiny", "dataset=synthetic"]
        named = {one.split("=")[0] for one in overrides}
        kept = [one for one in defaults if one.split("=")[0] not in named]
        composed = compose("config", overrides=[*kept, *overrides])
        OmegaConf.resolve(composed)
        return resolve(composed)


@dataclass(eq=False)
class Trial:
    """Moments of a trial's folds, and what fits with a pair of ridges give on them."""

    train: Moments
    dev: Moments
    test: Moments

    def __post_init__(self) -> None:
        self._projections: dict[Ridges, tuple[Projection, Array]] = {}

    def fit(self, ridges: Ridges) -> tuple[Projection, Array]:
        """Directions and weights."""
        if ridges not in self._projections:
            x, y = (
                view.spectrum.whitening(ridge)
                for view, ridge in zip((self.train.x, self.train.y), ridges, strict=True)
            )
            projection, _ = canonical_directions(self.train.xy, x, y)
            self._projections[ridges] = projection, METRIC.weights(projection, self.train)
        return self._projections[ridges]

    def value(self, ridges: Ridges, fold: Moments) -> float:
        """Weighted mean of a fold's correlations."""
        projection, weights = self.fit(ridges)
        return float(weights @ held_out_correlations(projection, fold))

    def mean(self, ridges: Ridges, fold: Moments) -> float:
        """Plain mean of a fold's correlations."""
        return float(held_out_correlations(self.fit(ridges)[0], fold).mean())


def best(criterion: Callable[[Ridges], float]) -> Ridges:
    """The pair of the grid with the highest criterion."""
    return max(((ridge, ridge) for ridge in GRID), key=criterion)


def shrinkage(view: ViewMoments, oracle: bool) -> float:
    """Ridge, of the mean eigenvalue, that is equal to shrinking towards it.

    `oracle`: Chen et al. 2010 (arXiv 0907.4698), equation 23; else their equation 17, which is the
    estimator of Ledoit & Wolf (2004) given that the view is Gaussian.
    """
    n, d = view.n, len(view.mean)
    total, squares = np.trace(view.scatter) ** 2, float((view.scatter**2).sum())
    if oracle:
        share = ((1 - 2 / d) * squares + total) / ((n + 1 - 2 / d) * (squares - total / d))
    else:
        share = ((n - 2) / n * squares + total) / ((n + 2) * (squares - total / d))
    share = min(float(share), 0.999)
    return share / (1 - share)


def predictive(trial: Trial) -> Ridges:
    """For each view the ridge with which it predicts the other's columns best on dev."""
    train, dev = trial.train, trial.dev
    return best_predictor(train, dev), best_predictor(train.swapped, dev.swapped)


def best_predictor(train: Moments, dev: Moments) -> float:
    """The ridge of the grid with which x predicts y best."""
    return min(GRID, key=lambda ridge: prediction_error(train, dev, ridge))


def prediction_error(train: Moments, held: Moments, ridge: float) -> float:
    """Squared error on a fold of the regression of y on x, as a share of y's variance."""
    spectrum = train.x.spectrum
    inverse = spectrum.vectors / (spectrum.scale * (spectrum.values + ridge))
    slopes = inverse @ (spectrum.vectors.T @ train.xy)
    explained = 2 * np.sum(slopes * held.xy) - np.sum(slopes * (held.x.scatter @ slopes))
    return float(1 - explained / np.trace(held.y.scatter))


def ours(trial: Trial) -> dict[str, float]:
    """The metric's own score of a trial, and what the same fit has on the test fold alone."""
    fit = METRIC.fit(trial.train)
    return {"held out": fit.held_out(trial.test), "strata": fit.value(trial.test)}


def estimates(trial: Trial) -> dict[str, float]:
    """Every candidate's score of a trial."""
    tiny, test = (TINY, TINY), trial.test
    training, held_out = trial.value(tiny, trial.train), trial.value(tiny, test)
    views = trial.train.x, trial.train.y
    by_score = best(lambda r: trial.value(r, trial.dev))
    by_mean = best(lambda r: trial.mean(r, trial.dev))
    oas, rblw = (tuple(shrinkage(view, oracle) for view in views) for oracle in (True, False))
    return {
        "dev score": trial.value(by_score, test),
        "dev mean": trial.value(by_mean, test),
        "predictive": trial.value(predictive(trial), test),
        "OAS": trial.value((oas[0], oas[1]), test),
        "RBLW": trial.value((rblw[0], rblw[1]), test),
        "midpoint": (training + held_out) / 2,
        **ours(trial),
    }


def errors(
    population: Population,
    n: int,
    repeats: int,
    scores_of: Callable[[Trial], dict[str, float]] = estimates,
) -> tuple[float, dict[str, Array]]:
    """The exact value, and for every estimator its errors (repeats,)."""
    exact = exact_score(population)
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng((n, repeat))
        train, dev, test = (population.draw(round(n * share), rng) for share in SHARES)
        trial = Trial(train, dev, about(test, train))
        for name, value in scores_of(trial).items():
            found.setdefault(name, []).append(value - exact)
    return exact, {name: np.array(values) for name, values in found.items()}


def table(populations: Iterable[Population], rows: Iterable[int], repeats: int) -> None:
    """Print the errors, in thousandths."""
    for population in populations:
        d = max(population.dx, population.dy)
        for n in rows:
            exact, found = errors(population, n, repeats)
            cells = [
                f"{name} {1e3 * values.mean():+5.0f} ±{1e3 * values.std(ddof=1):3.0f}"
                for name, values in found.items()
            ]
            print(
                f"{population.name:13} {population.dx:4} x {population.dy:<4} exact {exact:.3f} "
                f"n {n:6} = {n / d:5.1f} d: " + ", ".join(cells),
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", default="T6")
    parser.add_argument("--wider", type=int, default=1, help="times as wide as measured")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="populations whose name contains this")
    parser.add_argument("overrides", nargs="*", help="model, dataset and others, after --")
    options = parser.parse_args()
    populations = measured_populations(options.layer, options.wider, options.overrides)
    print("mean error ± standard deviation, in thousandths")
    chosen = (one for one in populations if options.only in one.name)
    table(chosen, options.rows, options.repeats)


if __name__ == "__main__":
    main()
