"""How often the paired test of the advice tells layers apart that are truly equal.

    python benchmarks/equal_layers.py [studies per case]

Each study does what Strata does, small: some speakers, ten folds, three samples of the units, a
linear fit for every trial and layer, the correlation on the test fold; then every layer is held
against the best one (`analysis.advice.curve`). All layers hold the signal equally well, but
speakers respond to each layer in their own way, by chance. A study counts where any layer is told
apart. Beside it is what the same test said of folds that cut through speakers, with each trial of
each sample as a draw of its own. A share of n studies has a standard error of about
0.22 / sqrt(n) at 0.05. Two cases have the effects of speakers that `benchmarks/speaker_effects.py`
measured on real speech (hubert_tiny's T6), the others are chosen. Of 300 studies a case, by folds
of speakers .000 to .017 tell equal layers apart, with real effects .007 (phones) and .017 (words);
by draws through speakers .017 to .243, with real effects .023 and .053.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import scipy.stats
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.report.advice.curve import LEVEL, compare_with, holm

Array = NDArray[np.float64]
Index = NDArray[np.int64]

STUDIES = 1_000
FOLDS, SAMPLES, DIM = 10, 3, 3


@dataclass(frozen=True)
class Speakers:
    """Layers hold `gains` times the signal and noise; a speaker adds to the gain and to the mean.

    `slope` and `shift` are the deviations, over speakers, of what they add to each layer's gain
    and mean, beside noise of deviation 1. Each says `units`; a sample draws `share` of all.
    """

    slope: float
    shift: float
    speakers: int = 40
    units: int = 25
    share: float = 0.5
    gains: tuple[float, ...] = (0.5,) * 5

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Index]:
        """Layers x (l, n, DIM), the signal (n,) and the speaker of each unit (n,)."""
        speaker = np.repeat(np.arange(self.speakers), self.units)
        n, layers = len(speaker), len(self.gains)
        signal = rng.normal(size=n)
        slopes = self.slope * rng.normal(size=(layers, self.speakers, DIM))
        shifts = self.shift * rng.normal(size=(layers, self.speakers, DIM))
        gain = np.array(self.gains)[:, None, None] + slopes[:, speaker]
        x = gain * signal[:, None] + shifts[:, speaker] + rng.normal(size=(layers, n, DIM))
        return x, signal, speaker

    def scores(self, rng: np.random.Generator, by_speaker: bool) -> Array:
        """Correlations (samples, folds, layers) on the test folds."""
        x, y, speaker = self.draw(rng)
        fold_of = rng.permutation(np.arange(self.speakers) % FOLDS)
        found = []
        for _ in range(SAMPLES):
            drawn = rng.permutation(len(y))[: int(self.share * len(y))]
            fold = fold_of[speaker[drawn]] if by_speaker else rng.permutation(len(drawn)) % FOLDS
            found.append(trials(x[:, drawn], y[drawn], fold))
        return np.array(found)


def trials(x: Array, y: Array, fold: Index) -> Array:
    """Correlations (folds, l) of a linear fit on all folds but two with the signal of one."""
    scores = []
    for t in range(FOLDS):
        train, test = (fold != t) & (fold != (t + 1) % FOLDS), fold == t
        inner = x[:, train] - x[:, train].mean(1, keepdims=True)
        weights = np.linalg.solve(
            inner.transpose(0, 2, 1) @ inner, inner.transpose(0, 2, 1) @ y[train][:, None]
        )
        predicted = (x[:, test] @ weights)[..., 0]
        predicted, truth = predicted - predicted.mean(1, keepdims=True), y[test] - y[test].mean()
        scores.append(predicted @ truth / np.sqrt((predicted**2).sum(1) * (truth**2).sum()))
    return np.array(scores)


def told_apart(scores: Array) -> NDArray[np.bool_]:
    """(l,): which layers differ from the best, over folds (each the mean of its samples)."""
    by_fold = scores.mean(0)
    return compare_with(by_fold, int(by_fold.mean(0).argmax())).told_apart


def told_apart_by_draws(scores: Array) -> NDArray[np.bool_]:
    """The same where each trial of each sample is taken for a draw of its own."""
    draws = scores[:, :3].reshape(-1, scores.shape[2])  # three trials of three samples
    best = int(draws.mean(0).argmax())
    differences = np.delete(draws, best, axis=1) - draws[:, [best]]
    error = np.sqrt((1 / len(draws) + 1 / 8) * differences.var(0, ddof=1))
    p = 2 * scipy.stats.t.sf(np.abs(differences.mean(0)) / error, len(draws) - 1)
    return np.insert(holm(p) < LEVEL, best, False)


CASES = {
    "no speaker effects": Speakers(slope=0, shift=0),
    "as phones of real speech": Speakers(slope=0.13, shift=0.33),
    "as words of real speech": Speakers(slope=0.18, shift=0.5),
    "speakers differ a little": Speakers(slope=0.1, shift=0.3),
    "speakers differ much": Speakers(slope=0.3, shift=0.6),
    "… and there are 10 of them": Speakers(slope=0.3, shift=0.6, speakers=10, units=100),
    "… 20 of them": Speakers(slope=0.3, shift=0.6, speakers=20, units=50),
    "… and say 100 units each": Speakers(slope=0.3, shift=0.6, units=100),
    "… samples of all units": Speakers(slope=0.3, shift=0.6, share=1.0),
    "… 13 layers": Speakers(slope=0.3, shift=0.6, gains=(0.5,) * 13),
}


def false_alarms(case: Speakers, studies: int, seed: int = 0) -> tuple[float, float]:
    """Share of studies that tell equal layers apart: by folds of speakers, and by draws."""
    rng = np.random.default_rng(seed)
    ours = [told_apart(case.scores(rng, by_speaker=True)).any() for _ in range(studies)]
    draws = [told_apart_by_draws(case.scores(rng, by_speaker=False)).any() for _ in range(studies)]
    return float(np.mean(ours)), float(np.mean(draws))


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES
    print(f"{studies} studies a case: share that tells equal layers apart")
    for name, case in CASES.items():
        start = perf_counter()
        ours, draws = false_alarms(case, studies)
        print(
            f"{name:28}: folds of speakers {ours:.3f}, draws through speakers {draws:.3f}, "
            f"{perf_counter() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
