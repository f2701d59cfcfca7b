"""How often the 95 % interval of a CCA score holds the score of all speakers there could be.

    python benchmarks/coverage.py [data sets per case]

Draws data sets of speakers from populations whose covariance is known: speakers shift the layer
and respond to the target in their own way, both at random. Fits and scores each as an experiment
does, in folds that keep speakers apart and are each tested on once, and counts how often the
interval holds the score that the same fits have on the whole population. Beside ours are Student's
limits of the folds' scores, each centred by its own mean. A share of n data sets has a standard
error of about 0.22 / sqrt(n). The sizes of the effects are chosen, not measured:
`benchmarks/speaker_effects.py` is to tell which of these populations real speech is like.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import scipy.stats

from analysis.metrics.cca import PWCCA, Fit, interval
from analysis.moments import fold_views

Array = NDArray[np.float64]

DATA_SETS = 2_000
RIDGES = ((1e-10, 1e-10),)


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
            scores.append(fit.score_of(np.einsum("kd,de,ke->k", a, common.T, b) / spread**0.5))
        return float(np.mean(scores))


@dataclass(frozen=True)
class Case:
    """A population, how many speakers there are, and how many folds they are cut into."""

    name: str
    population: Population
    speakers: int
    folds: int = 10


ALIKE = Population(shift=0.1, slope=0.05)
DIFFER = Population(shift=0.6, slope=0.3)
MOSTLY = Population(shift=0.6, slope=0.1, noise=0.2)
CASES = (
    Case("speakers alike", ALIKE, 20),
    Case("speakers alike", ALIKE, 40),
    Case("speakers differ", DIFFER, 20),
    Case("speakers differ", DIFFER, 40),
    Case("speakers differ", DIFFER, 67),
    Case("speakers differ", DIFFER, 40, folds=5),
    Case("layer mostly speaker", MOSTLY, 20),
    Case("layer mostly speaker", MOSTLY, 40),
)


def simulate(case: Case, data_sets: int, seed: int = 0) -> Iterator[tuple[float, Array, Array]]:
    """For each data set the population's score, our limits (2,) and Student's of the folds (2,)."""
    metric, units = PWCCA(RIDGES), case.population.units
    for k in range(data_sets):
        rng = np.random.default_rng((seed, k))
        fold = np.repeat(rng.permutation(np.arange(case.speakers) % case.folds), units)
        x, y, common = case.population.draw(case.speakers, rng)
        folds = fold_views(x, y, fold, case.folds)
        trials = [folds.trial(t) for t in range(case.folds)]
        fits = [metric.fit(train) for train, _, _ in trials]
        limits = interval(fits, [one[0] for one in trials], [one[2] for one in trials])
        own = [fit.value(test) for fit, (_, _, test) in zip(fits, trials, strict=True)]
        plain = scipy.stats.t.interval(0.95, len(own) - 1, np.mean(own), scipy.stats.sem(own))
        yield case.population.score(fits, common), np.array(limits), np.array(plain)


def coverage(truth: Array, limits: Array) -> tuple[float, float, float]:
    """Shares of intervals (n, 2) that hold the truth (n,), that lie above it, and below it."""
    above, below = truth < limits[:, 0], truth > limits[:, 1]
    return float(1 - (above | below).mean()), float(above.mean()), float(below.mean())


def main() -> None:
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    print(f"{data_sets} data sets a case; Student's limits of the folds' own scores in brackets")
    for case in CASES:
        start = perf_counter()
        truth, ours, student = map(np.array, zip(*simulate(case, data_sets), strict=True))
        cells = zip(coverage(truth, ours), coverage(truth, student), strict=True)
        covered, above, below = (f"{one:.3f} ({other:.3f})" for one, other in cells)
        width, plain = (np.diff(limits).mean() for limits in (ours, student))
        print(
            f"{case.name:20} {case.speakers} speakers, {case.folds:2} folds: covered {covered}, "
            f"too high {above}, too low {below}, width {width:.3f} ({plain:.3f}), "
            f"{perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
