"""Do words lie nearer to their synonyms or to words that sound alike?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # loads a submodule when it is first used

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.intervals import over_folds
from analysis.metrics.units import Units
from analysis.metrics.word_similarity import centred, static_vectors, words_of
from analysis.targets.synonyms import Pair, Synonyms
from common.arrays import Array, Mask
from common.config.analysis import require_at_least
from common.narrowing import narrowed
from common.records import StrataError
from common.seeding import generator
from common.target import Target

log = logging.getLogger(__name__)


OTHERS = 10_000  # pairs of unrelated words


@dataclass(frozen=True)
class PhoneticSemantic(UnitMetric):
    """How often a pair of synonyms is nearer than a pair of near homophones. Range [0, 1].

    After Choi et al. 2024 (arXiv 2406.08619), who find synonyms farther apart than near homophones
    in every layer of the models that they study. 1/2: as near; below: the layer orders words by
    sound; above: by meaning. It is the area under the curve of the cosines, so a common shift or
    scale of them does not matter. A word's vector is the mean of its sampled instances less the
    mean of all words drawn; the paper compares single instances.

    Secondary figures: `cosine_synonyms`, `cosine_homophones` and `cosine_others`, the mean cosine
    of each kind, the last of random pairs of other words; `synonyms_over_others` and
    `homophones_over_others`, how often each is nearer than these: 1/2 is chance.

    Traps. Synonyms share frequency, length and part of speech more than random pairs do, and the
    vectors of rare words are noisier. Context gives words their meaning: read sentences that hold
    two synonyms are few. With fewer than `min_pairs` of either kind nothing is scored.

    The 95 % interval is over speakers: the jackknife over folds that keep these apart.
    """

    name: ClassVar[str] = "synonyms_over_homophones"
    family: ClassVar[str] = "synonyms"
    held_out: ClassVar[bool] = False
    interval_over_folds: ClassVar[bool] = True

    min_pairs: int

    def __post_init__(self) -> None:
        require_at_least("metric.min_pairs", self.min_pairs, 2)

    def accepts(self, unit: str, target: Target) -> bool:  # noqa: ARG002
        """It takes words, with synonyms."""
        return isinstance(target, Synonyms)

    def check(self, units: Units) -> None:
        """Raise unless there are enough pairs of both kinds."""
        self.refuse_partitions(units)
        synonyms, homophones = pairs_of(units)
        if min(len(synonyms), len(homophones)) < self.min_pairs:
            raise StrataError(
                f"{len(synonyms)} pairs of synonyms and {len(homophones)} of near homophones were "
                f"drawn, {self.min_pairs} of each are needed: use more speech, a longer list of "
                "synonyms, or lower metric.min_pairs"
            )

    def score(self, units: Units) -> list[Score]:
        """The sample's score, then its secondary figures."""
        everyone = np.ones(len(units.label), dtype=bool)
        synonyms, homophones, others = self._cosines(units, everyone)
        value = above(synonyms, homophones)
        low, high = over_folds(units, value, lambda rows: above(*self._cosines(units, rows)[:2]))
        detail = {"synonyms": str(len(synonyms)), "homophones": str(len(homophones))}
        return [
            Score(value, "", detail, low, high),
            Score(float(synonyms.mean()), "cosine_synonyms"),
            Score(float(homophones.mean()), "cosine_homophones"),
            Score(float(others.mean()), "cosine_others"),
            Score(above(synonyms, others), "synonyms_over_others"),
            Score(above(homophones, others), "homophones_over_others"),
        ]

    def _cosines(self, units: Units, rows: Mask) -> tuple[Array, Array, Array]:
        """Cosines of synonyms, near homophones and other pairs, of the words in these rows."""
        vectors = centred(static_vectors(units.vectors[rows], units.label[rows], len(units.labels)))
        lengths = np.linalg.norm(vectors, axis=1)
        usable = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
        units_of = np.full_like(vectors, np.nan)
        units_of[usable] = vectors[usable] / lengths[usable, None]
        words, (synonyms, homophones) = words_of(units), pairs_of(units)
        rng = generator(units.seed, "unrelated words")
        drawn = rng.choice(usable, (OTHERS, 2))
        related = {tuple(sorted(words[w] for w in pair)) for pair in (*synonyms, *homophones)}
        others = [
            (a, b) for a, b in drawn.tolist() if a != b and tuple(sorted((a, b))) not in related
        ]
        numbers = (
            [(words[a], words[b]) for a, b in synonyms],
            [(words[a], words[b]) for a, b in homophones],
            others,
        )
        found = []
        for pairs in numbers:
            first, second = np.array(pairs).T
            cosines = (units_of[first] * units_of[second]).sum(1)
            found.append(cosines[np.isfinite(cosines)])
        synonym, homophone, other = found
        return synonym, homophone, other

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:
        """How many pairs there are of each kind."""
        ways = [dict(score.detail) for score in scores if not score.metric]
        different = [way for i, way in enumerate(ways) if way not in ways[:i]]
        if different:
            counts = ", ".join(f"{count} {kind}" for kind, count in different[0].items())
            log.info("%s: pairs: %s", experiment, counts)
        return {"pairs": different}


def pairs_of(units: Units) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Synonyms and near homophones of which both words were drawn."""
    target, words = narrowed(units.target, Synonyms), words_of(units)
    synonyms, homophones = (
        [pair for pair in pairs if pair[0] in words and pair[1] in words]
        for pairs in (target.synonyms, target.homophones)
    )
    return synonyms, homophones


def above(first: Array, second: Array) -> float:
    """How often one of the first is larger than one of the second, ties counted half."""
    if not len(first) or not len(second):
        raise StrataError("no pair of words is left to compare: use more speech")
    return float(scipy.stats.mannwhitneyu(first, second).statistic / (len(first) * len(second)))
