"""Analogies of phones: is [b] where [d] - [t] + [p] is?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.units import Units
from analysis.targets.phonology import IpaPhone, features_of
from common.arrays import Array, Index
from common.config.analysis import require_at_least
from common.records import StrataError
from common.seeding import generator
from common.target import Target

LEVEL = 0.99  # of the interval of a mean similarity, as published


class Analogy(NamedTuple):
    """Numbers of four phones: a - b has the features that c - d has, so a is at b + c - d."""

    a: int
    b: int
    c: int
    d: int


@dataclass(frozen=True)
class PhoneAnalogies(UnitMetric):
    """Share of analogies of phones that hold in a layer. Range [0, 1].

    Choi et al. 2026 (arXiv 2602.18899) and their code: four different phones make an analogy where
    a differs from b in just the features (panphon's, + and - apart) in which c differs from d, as
    [b] from [p] and [d] from [t]. Vectors of unit length are drawn for each phone; the cosine of a
    with b + c - d is compared with that of a with other instances of a ("same") and with instances
    of other phones ("different"). The analogy holds where it is above the latter and below the
    former, with the 99 % intervals of `repeats` means of `draws` draws apart.

    Secondary figures: `analogy_nearest`, the share of analogies in which, of all phones but b, c
    and d, the centroid of a is nearest to the sum of theirs; its chance is 1 / (phones - 3).
    `difference_auc`: how much likelier the differences of two pairs of phones that differ in the
    same features are alike than those of pairs that do not (the area under the curve of the
    cosines): .5 is chance.

    Traps. b + c - d of three instances has the noise of three, so that a layer of noisy instances,
    or of a large common mean (Whisper), can have 0 while the centroids' figures are high: read
    `analogy_nearest` and `difference_auc` beside it. Analogies share phones, so there are fewer
    independent ones than their number, and a few phones decide: with 30 phones of English most are
    of voice. Mel frames hold a part of it. Units must be of speakers in the same mix for all
    phones.
    """

    name: ClassVar[str] = "phone_analogies"
    family: ClassVar[str] = "analogies"
    held_out: ClassVar[bool] = False

    draws: int
    repeats: int

    def __post_init__(self) -> None:
        require_at_least("metric.draws", self.draws, 1)
        require_at_least("metric.repeats", self.repeats, 2)

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes phones with features."""
        return isinstance(target, IpaPhone)

    def check(self, units: Units) -> None:
        """Raise unless there is an analogy among the phones."""
        self.refuse_partitions(units)
        phones = present(units)
        if not analogies_of(features_of(phones)):
            raise StrataError(
                f"no analogy among the phones {' '.join(phones)}: no two pairs differ in the same "
                "features; use more speech or a lower sampling.min_instances"
            )

    def no_interval(self, units: Units) -> str:  # noqa: ARG002
        """Why there is none: analogies share phones, and each holds or does not."""
        return "each analogy holds or does not, whoever speaks, and analogies share phones"

    def score(self, units: Units) -> list[Score]:
        """The sample's score, then its secondary figures."""
        phones = present(units)
        analogies = analogies_of(features_of(phones))
        codes = np.searchsorted(np.unique(units.label), units.label)
        lengths = np.linalg.norm(units.vectors, axis=1, keepdims=True)
        if not lengths.min() > 0:
            raise StrataError("a unit's vector is 0 in all dimensions: it has no direction")
        vectors = (units.vectors / lengths).astype(np.float64)
        rows = [np.flatnonzero(codes == phone) for phone in range(len(phones))]
        rng = generator(units.seed, "phone analogies")
        holds = self._hold(vectors, rows, analogies, rng)
        means = np.stack([vectors[members].mean(0) for members in rows])
        nearest = [nearest_to(means, one) == one.a for one in analogies]
        return [
            Score(float(np.mean(holds)), detail={"analogies": str(len(analogies))}),
            Score(float(np.mean(nearest)), "analogy_nearest"),
            Score(difference_auc(means, analogies), "difference_auc"),
        ]

    def _hold(
        self,
        vectors: Array,
        rows: Sequence[Index],
        analogies: Sequence[Analogy],
        rng: np.random.Generator,
    ) -> list[bool]:
        """For each analogy whether it holds by the published criterion."""
        whole = np.arange(len(vectors))
        limits = {}
        for phone in sorted({one.a for one in analogies}):
            members = rows[phone]
            others = np.setdiff1d(whole, members, assume_unique=True)
            limits[phone] = [
                self._interval(vectors, members, [other], rng) for other in (members, others)
            ]
        holds = []
        for one in analogies:
            same, different = limits[one.a]
            low, high = self._interval(
                vectors, rows[one.a], [rows[one.b], rows[one.c], rows[one.d]], rng
            )
            holds.append(same[0] > high and low > different[1])
        return holds

    def _interval(
        self, vectors: Array, members: Index, others: Sequence[Index], rng: np.random.Generator
    ) -> tuple[float, float]:
        """99 % interval of the mean cosine with instances of one set, or of b + c - d of three."""
        means = []
        for _ in range(self.repeats):
            first, *more = (vectors[rng.choice(rows, self.draws)] for rows in others)
            if more:
                first = first + more[0] - more[1]
                first = first / np.linalg.norm(first, axis=1, keepdims=True)
            mine = vectors[rng.choice(members, self.draws)]
            means.append(float(np.einsum("nd,nd->n", mine, first).mean()))
        spread = scipy.stats.sem(means)
        centre = float(np.mean(means))
        half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, self.repeats - 1) * spread)
        return centre - half, centre + half


def present(units: Units) -> list[str]:
    """The phones that occur, in the order of their labels."""
    return [units.labels[code] for code in np.unique(units.label)]


def analogies_of(features: Index) -> list[Analogy]:
    """Every analogy among phones with these features (k, f), one of those that are the same.

    a - b = c - d is also a - c = b - d: b and c come in order.
    """
    signs = np.concatenate([features == 1, features == -1], axis=1).astype(np.int64)
    pairs: dict[bytes, list[tuple[int, int]]] = {}
    for i in range(len(signs)):
        for j in range(len(signs)):
            if i != j:
                pairs.setdefault((signs[i] - signs[j]).tobytes(), []).append((i, j))
    found = {
        Analogy(a, min(b, c), max(b, c), d)
        for same_features in pairs.values()
        for a, b in same_features
        for c, d in same_features
        if len({a, b, c, d}) == 4
    }
    return sorted(found)


def nearest_to(means: Array, analogy: Analogy) -> int:
    """The phone, of all but b, c and d, whose mean's cosine with b + c - d is the largest."""
    predicted = means[analogy.b] + means[analogy.c] - means[analogy.d]
    cosines = means @ predicted / np.linalg.norm(means, axis=1)
    cosines[[analogy.b, analogy.c, analogy.d]] = -np.inf
    return int(np.argmax(cosines))


def difference_auc(means: Array, analogies: Sequence[Analogy]) -> float:
    """Area under the curve of cosines of differences: of the same features against others.

    Differences are those of pairs that an analogy has; the others are the same phones in pairs that
    no analogy has.
    """
    analogous = {frozenset([(q.a, q.b), (q.c, q.d)]) for q in analogies}
    analogous |= {frozenset([(q.a, q.c), (q.b, q.d)]) for q in analogies}
    pairs = sorted({pair for two in analogous for pair in two})
    differences = np.stack([means[a] - means[b] for a, b in pairs])
    differences /= np.maximum(np.linalg.norm(differences, axis=1, keepdims=True), 1e-12)
    cosines = differences @ differences.T
    same: list[float] = []
    other: list[float] = []
    for i, j in combinations(range(len(pairs)), 2):
        opposite = frozenset([pairs[i], pairs[j][::-1]]) in analogous
        if len({*pairs[i], *pairs[j]}) == 4 and not opposite:  # a shared phone makes them alike
            (same if frozenset([pairs[i], pairs[j]]) in analogous else other).append(cosines[i, j])
    if not other:
        return float("nan")
    ranks = scipy.stats.mannwhitneyu(same, other).statistic
    return float(ranks / (len(same) * len(other)))
