"""How often the 95 % intervals of probes, information, word similarities and ABX hold their score.

    python benchmarks/unit_coverage.py [data sets per case] [what the cases' names begin with]

As coverage.py does for CCA. Each population has speakers who differ, and each data set is twenty of
them. A probe's interval is of what the same fits score on all speakers, its accuracy or R2; the
others are of what twenty speakers score on average, which is the mean over the data sets.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.metrics import ridge
from analysis.metrics.abx import Abx
from analysis.metrics.agreement import agreement
from analysis.metrics.discriminant import fit_discriminants
from analysis.metrics.frames import Frames
from analysis.metrics.intervals import half_samples
from analysis.metrics.mutual_information import intervals
from analysis.metrics.probe import interval
from analysis.metrics.units import Units
from analysis.metrics.word_similarity import RESAMPLES, resampled_score
from analysis.sampling.segments import whole_utterances
from analysis.targets.word_pairs import Benchmark, Pair
from common.encoder.frames import FrameGeometry
from common.records import Interval, Utterance, Waveform

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Simulated = Iterator[tuple[float, Array]]  # the score, or what it should be, and limits (2,)

DATA_SETS = 2_000
SPEAKERS, TRIALS = 20, 3
MANY = 3_000  # speakers who stand for all
SHRINKAGE = 0.1


def units_of(
    vectors: Array, label: Codes, labels: int, speaker: Codes, seed: int, trials: int = TRIALS
) -> Units:
    """One sample; speakers are tested on in turn by the trials."""
    n = len(label)
    return Units(
        vectors=vectors.astype(np.float32),
        label=label,
        labels=tuple(f"w{i}" for i in range(labels)),
        speaker=speaker,
        speakers=tuple(f"s{i}" for i in range(speaker.max() + 1)),
        utterance=np.arange(n),
        fold=speaker % trials,
        scored=np.ones(n, dtype=bool),
        seed=seed,
        trials=trials,
    )


@dataclass(frozen=True)
class Spoken:
    """Units around a centre for each label, of a size that varies; each speaker moves them all."""

    shift: float
    labels: int = 8
    columns: int = 6
    units: int = 30

    def draw(self, speakers: int, rng: np.random.Generator) -> tuple[Array, Codes]:
        """Vectors (n, d) and labels (n,), a speaker's units one after another."""
        centres = np.random.default_rng(1).normal(size=(self.labels, self.columns))
        label = rng.integers(self.labels, size=(speakers, self.units))
        shift = self.shift * rng.normal(size=(speakers, 1, self.columns))
        noise = rng.gamma(2, 0.4, size=(speakers, 1, 1)) * rng.normal(
            size=(*label.shape, self.columns)
        )
        vectors = centres[label] + shift + noise
        return vectors.reshape(-1, self.columns), label.ravel()


def probes(population: Spoken, data_sets: int, trials: int = 10) -> Simulated:
    """The accuracy of a fixed fit for each trial on all speakers, and limits from twenty."""
    rng = np.random.default_rng(0)
    trained = [population.draw(15, rng) for _ in range(trials)]
    models = [fit_discriminants(x.astype(np.float32), y, [SHRINKAGE])[0] for x, y in trained]
    everybody = population.draw(MANY, rng)
    truth = float(np.mean([model.score(*everybody) for model in models]))
    speaker = np.repeat(np.arange(SPEAKERS), population.units)
    rows = [np.flatnonzero(speaker % trials == t) for t in range(trials)]
    for k in range(data_sets):
        vectors, label = population.draw(SPEAKERS, rng)
        units = units_of(vectors, label, population.labels, speaker, k, trials)
        found = [
            m.predict(vectors[members]) == label[members]
            for m, members in zip(models, rows, strict=True)
        ]
        yield truth, np.array(interval(units, list(zip(rows, found, strict=True))))


@dataclass(frozen=True)
class Numbered:
    """Units with a number that their vectors hold with noise; each speaker moves both.

    `shared`: how much of the number's variance is between speakers; 1: each has one, as an age.
    """

    shared: float
    noise: float
    columns: int = 6
    units: int = 30
    training: int = 15  # speakers

    def draw(self, speakers: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Vectors (n, d) and numbers (n,), a speaker's units one after another."""
        way = np.random.default_rng(1).normal(size=self.columns)
        number = self.shared**0.5 * rng.normal(size=(speakers, 1)) + (
            1 - self.shared
        ) ** 0.5 * rng.normal(size=(speakers, self.units))
        shift = 0.5 * self.noise * rng.normal(size=(speakers, 1, self.columns))
        louder = rng.gamma(2, 0.5, size=(speakers, 1, 1))
        noise = self.noise * louder * rng.normal(size=(*number.shape, self.columns))
        vectors = number[..., None] * way + shift + noise
        return vectors.reshape(-1, self.columns), number.ravel()


def numbers(
    population: Numbered, data_sets: int, speakers: int = SPEAKERS, trials: int = 10
) -> Simulated:
    """The R2 of a fixed fit for each trial on all speakers, and limits from a few speakers.

    Each trial tests its share of them.
    """
    rng = np.random.default_rng(0)
    fits = []
    for _ in range(trials):
        x, y = population.draw(population.training, rng)
        weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean()))
        fits.append((weights, float(y.mean() - x.mean(0) @ weights), float(y.mean())))

    def errors(
        vectors: Array, number: Array, fit: tuple[Array, float, float]
    ) -> tuple[Array, Array]:
        weights, constant, mean = fit
        return (vectors @ weights + constant - number) ** 2, (mean - number) ** 2

    everybody = population.draw(MANY, rng)
    sums = [[squared.sum() for squared in errors(*everybody, fit)] for fit in fits]
    truth = float(np.mean([1 - squared / mean for squared, mean in sums]))
    speaker = np.repeat(np.arange(speakers), population.units)
    rows = [np.flatnonzero(speaker % trials == t) for t in range(trials)]
    for k in range(data_sets):
        vectors, number = population.draw(speakers, rng)
        label = np.zeros(len(number), dtype=np.int64)
        units = units_of(vectors, label, 1, speaker, k, trials)
        found = [
            (members, *errors(vectors[members], number[members], fit))
            for members, fit in zip(rows, fits, strict=True)
        ]
        yield truth, np.array(ridge.interval(units, found))


@dataclass(frozen=True)
class Clustered:
    """Labels that fall into a few clusters each; every speaker likes some clusters more."""

    labels: int
    clusters: int
    units: int
    fondness: float = 5.0  # the larger, the more alike the speakers
    spread: float = 0.1  # the larger, the more clusters a label falls into

    def draw(self, rng: np.random.Generator) -> tuple[Codes, Codes, Codes]:
        """Clusters, labels and speakers (n,) of twenty speakers' units."""
        each = np.full(self.clusters, self.spread)
        common = np.random.default_rng(1).dirichlet(each, size=self.labels)
        label = rng.integers(self.labels, size=(SPEAKERS, self.units))
        found = np.empty_like(label)
        for code, drawn in zip(label, found, strict=True):
            liked = common * rng.gamma(self.fondness, 1 / self.fondness, size=self.clusters)
            upto = (liked / liked.sum(1, keepdims=True)).cumsum(1)
            drawn[:] = (rng.random((self.units, 1)) > upto[code]).sum(1)
        found = np.minimum(found, self.clusters - 1)  # where a sum ends below 1
        return found.ravel(), label.ravel(), np.repeat(np.arange(SPEAKERS), self.units)


def information(population: Clustered, adjusted: bool, data_sets: int) -> Simulated:
    """The score of each data set and its limits."""
    rng = np.random.default_rng(0)
    for _ in range(data_sets):
        clusters, labels, speaker = population.draw(rng)
        information = agreement(clusters, labels)
        limits = intervals(clusters, labels, speaker)[adjusted]
        yield (information.adjusted if adjusted else information.normalised), np.array(limits)


def similarity(tokens: int, data_sets: int, words: int = 100, columns: int = 12) -> Simulated:
    """Spearman's rho of words of which each speaker says `tokens`, not all equally often."""
    fixed = np.random.default_rng(1)
    meaning = fixed.normal(size=(words, columns)) + 0.8 * fixed.normal(size=columns)
    unit = meaning / np.linalg.norm(meaning, axis=1, keepdims=True)
    pairs = [(a, b) for a, b in fixed.integers(words, size=(200, 2)) if a != b]
    scores = [unit[a] @ unit[b] + 0.3 * fixed.normal() for a, b in pairs]
    given = tuple(Pair(f"w{a}", f"w{b}", float(s)) for (a, b), s in zip(pairs, scores, strict=True))
    benchmarks = (Benchmark("planted", given, len(given), 0, 0),)
    often = fixed.dirichlet(np.ones(words))
    rng, speaker = np.random.default_rng(0), np.repeat(np.arange(SPEAKERS), tokens)
    for k in range(data_sets):
        label = rng.choice(words, size=SPEAKERS * tokens, p=often)
        shift = 0.5 * rng.normal(size=(SPEAKERS, columns))
        vectors = meaning[label] + shift[speaker] + rng.normal(size=(len(label), columns))
        units = units_of(vectors, label, words, speaker, k)
        score_of, speakers = resampled_score(units, benchmarks, 20)
        limits = half_samples(score_of, speakers, k, resamples=RESAMPLES)
        yield float(score_of(np.ones((1, speakers)))[0]), np.array(limits)


FRAME = 320  # samples


def unheard() -> Waveform:
    """The audio of a made utterance."""
    raise NotImplementedError


def phones(kind: str, shift: float, data_sets: int, items: int = 6, columns: int = 8) -> Simulated:
    """ABX of four phones of one frame, in one of two contexts, that each speaker moves."""
    centres = np.random.default_rng(1).normal(size=(4, columns))
    metric, rng = Abx(kind, "within", "phone", 10, 5), np.random.default_rng(0)
    spoken = list(product(range(SPEAKERS), range(4), "ab", range(items)))
    utterances = tuple(
        Utterance(
            id=str(k),
            speaker=f"s{speaker}",
            text="",
            n_samples=3 * FRAME,
            tiers={
                "phone": tuple(
                    Interval(FRAME * i, FRAME * (i + 1), label)
                    for i, label in enumerate((context, f"p{phone}", "z"))
                )
            },
            read=unheard,
        )
        for k, (speaker, phone, context, _) in enumerate(spoken)
    )
    n = len(spoken)
    speaker, phone = np.array([one[0] for one in spoken]), np.array([one[1] for one in spoken])
    louder = rng.gamma(2, 0.5, size=(data_sets, SPEAKERS))
    for k in range(data_sets):
        moved = shift * rng.normal(size=(SPEAKERS, 4, columns))
        vectors = centres[phone] + moved[speaker, phone]
        vectors += louder[k, speaker, None] * rng.normal(size=vectors.shape)
        hidden = np.repeat(vectors, 3, axis=0)
        offsets = 3 * np.arange(n + 1)
        lengths = np.full(n, 3 * FRAME)
        segments = whole_utterances(utterances, np.arange(n))
        geometry = FrameGeometry(FRAME, FRAME)
        frames = Frames(
            *(hidden, offsets[:-1], offsets, geometry, segments, utterances, lengths, "phone", k)
        )
        score = metric.score(frames)[0]
        yield score.value, np.array([score.low, score.high])


PHONES = Clustered(labels=39, clusters=100, units=100)
WORDS = Clustered(labels=100, clusters=300, units=60, fondness=3, spread=0.05)
CASES: dict[str, Callable[[int], Simulated]] = {
    "probe, speakers alike": lambda n: probes(Spoken(0.1), n),
    "probe, speakers differ": lambda n: probes(Spoken(0.6), n),
    "probe, speakers alike, three folds": lambda n: probes(Spoken(0.1), n, trials=3),
    "probe, speakers differ, three folds": lambda n: probes(Spoken(0.6), n, trials=3),
    "R2 of a number of each unit": lambda n: numbers(Numbered(0.2, 0.6), n),
    "R2 of a number of each unit, low": lambda n: numbers(Numbered(0.2, 3.0), n),
    "R2 of a number of each unit, 40 speakers": lambda n: numbers(Numbered(0.2, 0.6), n, 40),
    "R2 of a number of each unit, low, 40 speakers": lambda n: numbers(Numbered(0.2, 3.0), n, 40),
    "R2 of a number of each unit, three folds": lambda n: numbers(Numbered(0.2, 0.6), n, trials=3),
    "R2 of a number of each unit, low, three folds": lambda n: numbers(
        Numbered(0.2, 3.0), n, trials=3
    ),
    "R2 of a number of each speaker": lambda n: numbers(Numbered(1.0, 0.6), n),
    "R2 of a number of each speaker, low": lambda n: numbers(Numbered(1.0, 3.0), n),
    "R2 of a number of each speaker, below 0": lambda n: numbers(Numbered(1.0, 6.0, training=4), n),
    "R2 of a number of each speaker, 40 speakers": lambda n: numbers(Numbered(1.0, 0.6), n, 40),
    "R2 of a number of each speaker, low, 40 speakers": lambda n: numbers(
        Numbered(1.0, 3.0), n, 40
    ),
    "ABX within speakers": lambda n: phones("within", 0.5, n),
    "ABX across speakers, alike": lambda n: phones("across", 0.3, n),
    "ABX across speakers, different": lambda n: phones("across", 1.0, n),
    "word similarity, 60 words each": lambda n: similarity(60, n),
    "word similarity, 150 words each": lambda n: similarity(150, n),
    "information, 20 units a cluster": lambda n: information(PHONES, False, n),
    "adjusted, 20 units a cluster": lambda n: information(PHONES, True, n),
    "information, 4 units a cluster (none is given)": lambda n: information(WORDS, False, n),
}


def covered(simulated: Simulated) -> tuple[float, float, float, float, float]:
    """The mean score; shares of intervals that hold it, lie above, below it; their median width."""
    scores, limits = map(np.array, zip(*simulated, strict=True))
    truth = scores.mean()
    above, below = truth < limits[:, 0], truth > limits[:, 1]
    width = np.median(np.diff(limits))
    shares = float(1 - (above | below).mean()), float(above.mean()), float(below.mean())
    return float(truth), *shares, width


def main() -> None:
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    print(f"{data_sets} data sets a case")
    for name, simulate in CASES.items():
        if not name.startswith(wanted):
            continue
        start = perf_counter()
        score, held, above, below, width = covered(simulate(data_sets))
        print(
            f"{name:48}: score {score:.3f}, covered {held:.3f}, too high {above:.3f}, "
            f"too low {below:.3f}, width {width:.3f}, {perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
