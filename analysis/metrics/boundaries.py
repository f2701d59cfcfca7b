"""Match hypothesised boundaries to reference boundaries, one to one, and count."""

from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np

from common.arrays import Index
from common.records import StrataError


@dataclass(frozen=True, slots=True)
class Counts:
    """Boundaries found, in the reference, and matched one to one within the tolerance."""

    found: int
    reference: int
    matched: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing is found. Range [0, 1]."""
        return 2 * self.matched / (self.found + self.reference)

    @property
    def precision(self) -> float:
        """Share of the found boundaries that are in the reference."""
        if self.found == 0:
            raise StrataError("no boundary was found: precision is undefined")
        return self.matched / self.found

    @property
    def recall(self) -> float:
        """Share of the reference's boundaries that were found."""
        return self.matched / self.reference

    @property
    def over_segmentation(self) -> float:
        """Found boundaries beyond the reference's, as a share of these: 0 is neither more nor less.

        It equals recall / precision - 1 (Räsänen et al. 2009, section 2).
        """
        return self.found / self.reference - 1

    @property
    def r_value(self) -> float:
        """How near the system comes to recall 1 without over-segmenting; at most 1.

        Räsänen et al., "An improved speech segmentation quality measure: the R-value",
        Interspeech 2009, section 3: unlike F1 it does not rise with boundaries set at random.
        """
        miss, over = 1 - self.recall, self.over_segmentation
        to_target, to_no_insertion = hypot(miss, over), (-over + self.recall - 1) / sqrt(2)
        return 1 - (abs(to_target) + abs(to_no_insertion)) / 2


def matches(found: Index, reference: Index, tolerance: int) -> int:
    """Size of the largest one-to-one matching of positions at most `tolerance` apart.

    Both ascend. From left to right, each found one takes the first reference that is in reach and
    free: on a line no matching is larger. All take their first one at once, then those in conflict
    move on, until none moves; the longest chain of neighbours within reach sets the number of
    rounds.
    """
    first = np.searchsorted(reference, found - tolerance)
    end = np.searchsorted(reference, found + tolerance, side="right")
    taken = first
    while True:
        placed = np.where(taken < end, taken, -1)
        before = np.maximum.accumulate(np.concatenate([[-1], placed]))[:-1]
        moved = np.maximum(first, before + 1)
        if np.array_equal(moved, taken):
            return int((taken < end).sum())
        taken = moved
