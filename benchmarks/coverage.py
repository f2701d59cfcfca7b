"""How often the 95 % interval of a CCA score holds the score of all speakers there could be.

    python benchmarks/coverage.py [data sets per case]

Draws data sets of speakers from populations whose covariance is known: speakers shift the layer
and respond to the target in their own way, both at random. Fits and scores each as an experiment
does, in folds that keep speakers apart and are each tested on once, and counts how often the
interval holds the score that the same fits have on the whole population; and how far the mean of
the trials' scores is from that. Compared are

    strata         the metric's own: each test fold with its share between folds (`about`), limits
                   from fits to the half of the folds that is not tested on
    same fits      the same scores, and limits by leaving out folds while the trials' fits stay
    training mean  as same fits, but test folds about the mean of the training rows
    own mean       as same fits, but test folds each about its own mean
    Student        these scores, and Student's limits of the folds' scores

A share of n data sets has a standard error of about 0.22 / sqrt(n). How large the effects of
speakers are on real speech, `benchmarks/speaker_effects.py` measures: PHONES and WORDS have
those of hubert_tiny's T6. Of 400 data sets a case, in folds of tenths, covered (and how much the
mean score is too high):

    speakers           strata        same fits  training mean  own mean      Student
    phones         20  .963 -.0015   .945       .945 -.0019    .887 +.0019   .912
                   40  .963 -.0005   .935       .935 -.0007    .927 +.0013   .938
                   67  .925 -.0001   .905       .910 -.0002    .885 +.0009   .897
    words          20  .958 -.0009   .932       .935 -.0018    .760 +.0073   .785
                   40  .955 -.0001   .930       .927 -.0006    .840 +.0042   .845
                   67  .930 +.0002   .902       .905 -.0001    .838 +.0026   .825
    alike          40  .965 -.0006   .945       .945 -.0006    .940 -.0004   .935
    differ         40  .958 -.0005   .935       .927 -.0010    .860 +.0037   .875
    differ, fifths 40  .965 +.0001   .917       .915 -.0006    .897 +.0022   .895
    mostly speaker 20  .922 +.0078   .877       .880 +.0056    .365 +.0316   .098
                   40  .927 +.0042   .900       .902 +.0030    .625 +.0152   .365
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import scipy.stats

from analysis.metrics.cca import PWCCA, Fit, about, pair_sums, pooled
from analysis.metrics.intervals import fold_jackknife
from analysis.moments import Moments, ViewMoments, fold_views

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

    def common(self, rng: np.random.Generator) -> Array:
        """B (dy, dx)."""
        drawn: Array = 0.7 * rng.normal(size=(self.dy, self.dx))
        return drawn

    def draw(self, speakers: int, common: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Views x (n, dx), y (n, dy) for B (dy, dx); a speaker's units one after another."""
        shape = (speakers, self.units)
        slopes = common + self.slope * rng.normal(size=(speakers, self.dy, self.dx))
        y = rng.normal(size=(*shape, self.dy))
        shift = self.shift * rng.normal(size=(speakers, 1, self.dx))
        x = y @ slopes + shift + self.noise * rng.normal(size=(*shape, self.dx))
        return x.reshape(-1, self.dx), y.reshape(-1, self.dy)

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
PHONES = Population(shift=0.35, slope=0.12)
WORDS = Population(shift=0.58, slope=0.18)
CASES = (
    Case("as phones", PHONES, 20),
    Case("as phones", PHONES, 40),
    Case("as phones", PHONES, 67),
    Case("as words", WORDS, 20),
    Case("as words", WORDS, 40),
    Case("as words", WORDS, 67),
    Case("speakers alike", ALIKE, 40),
    Case("speakers differ", DIFFER, 40),
    Case("speakers differ", DIFFER, 40, folds=5),
    Case("layer mostly speaker", MOSTLY, 20),
    Case("layer mostly speaker", MOSTLY, 40),
)


def as_it_is(test: Moments, train: Moments) -> Moments:  # noqa: ARG001
    """A test fold's moments about its own mean."""
    return test


def about_mean(test: Moments, train: Moments) -> Moments:
    """A test fold's moments about the mean of its training folds."""

    def moved(view: ViewMoments, other: ViewMoments) -> tuple[ViewMoments, Array]:
        by = view.mean - other.mean
        return replace(view, scatter=view.scatter + view.n * np.outer(by, by)), by

    (x, p), (y, q) = moved(test.x, train.x), moved(test.y, train.y)
    return Moments(x, y, test.xy + test.n * np.outer(p, q))


def simulate(
    case: Case, data_sets: int, seed: int = 0, others: bool = True
) -> Iterator[dict[str, Array]]:
    """For each data set and way (4,): the population's score, the mean score and its limits.

    Of the metric's own way alone without the `others`.
    """
    metric, population = PWCCA(RIDGES), case.population
    for k in range(data_sets):
        rng = np.random.default_rng((seed, k))
        fold = np.repeat(rng.permutation(np.arange(case.speakers) % case.folds), population.units)
        common = population.common(rng)
        folds = fold_views(*population.draw(case.speakers, common, rng), fold, case.folds)
        trials = [(train, test) for train, _, test in map(folds.trial, range(case.folds))]
        fits = [metric.fit(train) for train, _ in trials]
        truth = population.score(fits, common)
        scores = metric.score(folds, with_interval=True)
        mean = np.mean([score.value for score in scores])
        found = {"strata": np.array([truth, mean, scores[0].low, scores[0].high])}
        if not others:
            yield found
            continue
        ways = {"same fits": about, "training mean": about_mean, "own mean": as_it_is}
        for way, moved in ways.items():
            tests = [moved(test, train) for train, test in trials]
            values = [fit.value(test) for fit, test in zip(fits, tests, strict=True)]
            sums = [pair_sums(f.projection, test) for f, test in zip(fits, tests, strict=True)]
            score = pooled(fits, sums)
            without = [score(np.arange(case.folds) != t) for t in range(case.folds)]
            limits = fold_jackknife(score(np.ones(case.folds)), without)
            found[way] = np.array([truth, np.mean(values), *limits])
        limits = scipy.stats.t.interval(
            0.95, case.folds - 1, np.mean(values), scipy.stats.sem(values)
        )
        found["Student"] = np.array([truth, np.mean(values), *limits])
        yield found


def coverage(truth: Array, limits: Array) -> tuple[float, float, float]:
    """Shares of intervals (n, 2) that hold the truth (n,), that lie above it, and below it."""
    above, below = truth < limits[:, 0], truth > limits[:, 1]
    return float(1 - (above | below).mean()), float(above.mean()), float(below.mean())


def main() -> None:
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    print(f"{data_sets} data sets a case")
    for case in CASES:
        found = list(simulate(case, data_sets))
        print(f"{case.name}, {case.speakers} speakers, {case.folds} folds", flush=True)
        for way in found[0]:
            truth, score, *limits = np.array([one[way] for one in found]).T
            covered, above, below = coverage(truth, np.array(limits).T)
            width, off = np.subtract(*limits[::-1]).mean(), (score - truth).mean()
            print(
                f"    {way:14} covered {covered:.3f}, too high {above:.3f}, too low {below:.3f}, "
                f"width {width:.3f}, score {off:+.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
