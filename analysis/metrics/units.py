"""Pooled vectors of one sample and layer, with what is known of each unit."""

from dataclasses import dataclass, replace

import numpy as np

from common.arrays import Array, Index, Mask, Vectors
from common.seeding import generator
from common.target import Target


def shuffled_labels(label: Index, seed: int) -> Index:
    """Labels (n,) permuted; each still occurs as often."""
    return generator(seed, "shuffled labels", len(label)).permutation(label)


@dataclass(frozen=True, eq=False)
class Units:
    """Units of one sample in one layer, rows in the order of the corpus.

    vectors (n, d) float32, maybe memory-mapped; label (n,) into `labels`; speaker (n,) into
    `speakers`; utterance (n,): index in the corpus; fold (n,).
    scored (n,) bool: where fit_partition and score_partition differ, False is a row that may only
    be fitted on and True one that may only be scored on; where there is one partition, all are
    True and a metric splits by `fold` itself; trial t < `trials` tests on fold t and chooses on the
    next one. `seed` is that of the sample; `target` is what the labels are compared with. seconds
    (n,): how long each unit lasts; None where it is not known. type_fold (n,): where folds of word
    types are crossed with those of speakers; else None.
    """

    vectors: Vectors
    label: Index
    labels: tuple[str, ...]
    speaker: Index
    speakers: tuple[str, ...]
    utterance: Index
    fold: Index
    scored: Mask
    seed: int
    target: Target | None = None
    trials: int = 1
    type_fold: Index | None = None
    seconds: Array | None = None

    @property
    def cuts(self) -> tuple[Index, ...]:
        """The folds (n,) of each way in which the units are cut."""
        return (self.fold,) if self.type_fold is None else (self.fold, self.type_fold)

    def tested(self, rows: Index) -> tuple[Index, int]:
        """Speaker (n,) of some rows as 0, 1, …, and how many of these are known by name."""
        present, codes = np.unique(self.speaker[rows], return_inverse=True)
        return codes, sum(bool(self.speakers[code]) for code in present)

    def shuffled(self) -> "Units":
        """The same with labels permuted among the units, apart among those only fitted on.

        Each label occurs as often as before; what a metric then finds is its chance level.
        """
        label = self.label.copy()
        for part in (self.scored, ~self.scored):
            label[part] = shuffled_labels(self.label[part], self.seed)
        return replace(self, label=label)

    def with_permuted_types(self) -> "Units":
        """The same with each label standing for another one: all units of a type move together.

        The score is then that of an arbitrary table with the same rows. Shuffled labels would
        separate the units of a type, and could not show that a score rewards recognising the type.
        """
        rng = generator(self.seed, "permuted table", len(self.labels))
        return replace(self, label=rng.permutation(len(self.labels))[self.label])
