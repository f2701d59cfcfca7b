"""How often the 95 % interval of a CCA score holds the score of all speakers there could be.

    python benchmarks/coverage.py [data sets per case]

Draws data sets of speakers from populations whose covariance is known: speakers shift the layer
and respond to the target in their own way, both at random. Fits and scores each as an experiment
does, and counts how often the interval holds the score that the same fits have on the whole
population. Beside ours are plain percentile limits of the same resamples. A share of n data sets
has a standard error of about 0.22 / sqrt(n).
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.bootstrap import RESAMPLES, bootstrap
from analysis.metrics.cca import PWCCA, Fit, resampled_score
from analysis.moments import fold_views
from analysis.units import PairedRows

Array = NDArray[np.float64]

DATA_SETS = 2_000
TRIALS, FOLDS = 3, 7
RIDGES = ((1e-10, 1e-10), (1e-2, 1e-2))


@dataclass(frozen=True)
class Population:
    """x = y (B + B_s) + u_s + e: every speaker s has B_s of `slope`, u_s of `shift`, random.

    y has `dy` columns, x `dx`; each speaker says `units`.
    """

    shift: float
    slope: float
    noise: float = 1.0
    dx: int = 5
    dy: int = 3
    units: int = 30

    def draw(self, speakers: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Views x (n, dx), y (n, dy) and B (dy, dx); a speaker's units come one after another."""
        shape = (speakers, self.units)
        common = 0.7 * rng.normal(size=(self.dy, self.dx))
        own = common + self.slope * rng.normal(size=(speakers, self.dy, self.dx))
        y = rng.normal(size=(*shape, self.dy))
        shift = self.shift * rng.normal(size=(speakers, 1, self.dx))
        x = y @ own + shift + self.noise * rng.normal(size=(*shape, self.dx))
        return x.reshape(-1, self.dx), y.reshape(-1, self.dy), common

    def score(self, fits: Sequence[Fit], common: Array) -> float:
        """Mean of the fits' scores on all speakers: from the covariance, not from data."""
        variance = self.shift**2 + self.noise**2 + self.dy * self.slope**2
        xx = common.T @ common + variance * np.eye(self.dx)
        scores = []
        for fit in fits:
            a, b = fit.projection.a, fit.projection.b
            spread = np.einsum("kd,de,ke->k", a, xx, a) * np.einsum("kd,kd->k", b, b)
            scores.append(fit.weights @ (np.einsum("kd,de,ke->k", a, common.T, b) / spread**0.5))
        return float(np.mean(scores))


@dataclass(frozen=True)
class Case:
    """A population, how many speakers are tested on in all, and how folds are cut."""

    name: str
    population: Population
    tested: int
    split: str

    def folds(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Fold of each unit: of 7, three are tested on."""
        units = self.population.units
        if self.split == "frame":  # every speaker is in every fold
            return rng.permutation(self.tested * units) % FOLDS
        speakers = next(s for s in range(self.tested, 9 * self.tested) if tested(s) == self.tested)
        return np.repeat(rng.permutation(np.arange(speakers) % FOLDS), units)


def tested(speakers: int) -> int:
    """How many of so many speakers are in the test folds."""
    return int(np.isin(np.arange(speakers) % FOLDS, [1, 3, 5]).sum())


CASES = (
    Case("speakers alike", Population(shift=0.1, slope=0.05), 20, "speaker"),
    Case("speakers differ", Population(shift=0.6, slope=0.3), 20, "speaker"),
    Case("speakers differ", Population(shift=0.6, slope=0.3), 40, "speaker"),
    Case("speakers differ", Population(shift=0.6, slope=0.3), 20, "frame"),
    Case("layer mostly speaker", Population(shift=0.6, slope=0.1, noise=0.2), 20, "speaker"),
    Case("layer mostly speaker", Population(shift=0.6, slope=0.1, noise=0.2), 40, "speaker"),
)


def simulate(case: Case, data_sets: int, seed: int = 0) -> Iterator[tuple[float, Array, Array]]:
    """For each data set the population's score, our limits (2,) and the percentile ones (2,)."""
    metric = PWCCA(RIDGES)
    for k in range(data_sets):
        rng = np.random.default_rng((seed, k))
        fold = case.folds(rng)
        speaker = np.arange(len(fold)) // case.population.units
        x, y, common = case.population.draw(int(speaker[-1]) + 1, rng)
        folds = fold_views(x, y, fold, TRIALS)
        fits = [metric.fit(*folds.trial(t)[:2]) for t in range(TRIALS)]
        score_of, speakers = resampled_score(fits, PairedRows(x, y, fold, speaker, k))
        if speakers != case.tested:
            raise ValueError(f"{speakers} speakers are tested on, not {case.tested}")
        limits = bootstrap(score_of, speakers, k)
        counts = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES)
        percentile = np.nanquantile(score_of(counts.astype(np.float64)), [0.025, 0.975])
        yield case.population.score(fits, common), np.array(limits), percentile


def coverage(truth: Array, limits: Array) -> tuple[float, float, float]:
    """Shares of intervals (n, 2) that hold the truth (n,), that lie above it, and below it."""
    above, below = truth < limits[:, 0], truth > limits[:, 1]
    return float(1 - (above | below).mean()), float(above.mean()), float(below.mean())


def main() -> None:
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    print(f"{data_sets} data sets a case; percentile limits in brackets")
    for case in CASES:
        start = perf_counter()
        truth, ours, percentile = map(np.array, zip(*simulate(case, data_sets), strict=True))
        cells = zip(coverage(truth, ours), coverage(truth, percentile), strict=True)
        covered, above, below = (f"{one:.3f} ({other:.3f})" for one, other in cells)
        width, plain = (np.diff(limits).mean() for limits in (ours, percentile))
        print(
            f"{case.name:20} {case.tested} test speakers, split {case.split:7}: covered {covered}, "
            f"too high {above}, too low {below}, width {width:.3f} ({plain:.3f}), "
            f"{perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
