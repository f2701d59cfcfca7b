"""Where within a word its identity lies: correlations of frames and parts of words with words."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.metrics.base import FrameMetric, Score
from analysis.metrics.cca import PWCCA
from analysis.metrics.intervals import no_fold_interval
from analysis.moments import pair_folds, rows_of_trial, view_folds
from analysis.targets.base import one_hot
from analysis.targets.labels import Word
from common.arrays import Vectors
from common.config.analysis import require_at_least
from common.records import StrataError
from common.target import Target

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

CENTRE = "centre_frame"


@dataclass(frozen=True)
class WordParts(FrameMetric):
    """PWCCA of the centre frame of words with one-hot words, on held-out folds. Range [-1, 1].

    Pasad et al. 2024 (arXiv 2307.00162) find that the frames of a word differ in how much they tell
    of it: those near its centre most, and their mean hardly more. Here each word gives a vector for
    every place in it, and each place is scored as `cca_word` scores the mean, on the same words and
    folds. Secondary figures: `pwcca_first_frame` and `pwcca_last_frame`; `pwcca_part_1` …
    `pwcca_part_P`, the mean over each of `parts` equal parts; `pwcca_all_frames`, the mean over the
    word, which is the figure of `cca_word`.

    Of n frames, part p of P has those from floor((p - 1) n / P) up to ceil(p n / P), the last one
    not counted: a frame that lies in two parts counts in both, so that no part of a short word is
    empty.

    Traps. All places have as many rows and columns, so that they can be compared; the mean of
    several frames is less noisy than one frame, so a part above the centre frame need not hold
    more. Boundaries that are some frames off put a neighbour's frames into the first and last part.
    A layer that sees context may know the word from its neighbours: `random_weights` and `mel`
    show what the place alone gives.

    The 95 % interval over speakers is that of `pwcca`.
    """

    name: ClassVar[str] = "pwcca_centre_frame"
    family: ClassVar[str] = "word_parts"
    held_out: ClassVar[bool] = True

    parts: int
    ridges: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        require_at_least("metric.parts", self.parts, 2)
        object.__setattr__(self, "ridges", self._cca().ridges)

    def _cca(self) -> PWCCA:
        return PWCCA(self.ridges)

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes the frames of whole words."""
        return unit == "word" and isinstance(target, Word)

    def check(self, frames: "Frames") -> None:
        """Raise unless each trial is tested on two words, one of which it is fitted on."""
        for trial in range(frames.trials):
            train, _, test = rows_of_trial((frames.fold,), trial)
            label = frames.segments.label
            if len(np.unique(label[test])) < 2 or not np.isin(label[test], label[train]).any():
                raise StrataError(
                    f"trial {trial} is tested on {np.count_nonzero(test)} words of "
                    f"{len(np.unique(label[test]))} types and fitted on {np.count_nonzero(train)}: "
                    "it needs two types, of which it was fitted on one; use more speech, more "
                    "sampling.instances, or fewer sampling.folds"
                )

    def no_interval(self, frames: "Frames") -> str:
        """Folds must keep speakers apart, and there must be enough of both."""
        tested = frames.fold < frames.trials
        chosen = zip(frames.utterances, tested, strict=True)
        speakers = {utterance.speaker for utterance, is_tested in chosen if is_tested}
        return no_fold_interval(frames.segments.split, frames.trials, len(speakers - {""}))

    def score(self, frames: "Frames") -> list[Score]:
        """Scores of every trial: those of the centre frame, then those of each other place."""
        labels = one_hot(np.unique(frames.segments.label, return_inverse=True)[1])
        fold, trials = frames.fold, frames.trials
        y = view_folds(labels, fold, trials)
        with_interval = not self.no_interval(frames)
        scores: list[Score] = []
        for place, vectors in self.vectors(frames).items():
            x = view_folds(vectors, fold, trials)
            folds = pair_folds((vectors, labels), fold, x, y)
            name = "" if place == CENTRE else f"pwcca_{place}"
            found = self._cca().score(folds, with_interval)
            scores += [replace(one, metric=name) for one in found]
        return scores

    def vectors(self, frames: "Frames") -> dict[str, Vectors]:
        """For each place in a word, the vectors (n, d) of all n words."""
        n, (_, d) = len(frames.utterances), frames.shape
        found: dict[str, Vectors] = {}
        for word in range(n):
            hidden = frames.of(word).astype(np.float32)
            for place, (first, last) in places(len(hidden), self.parts).items():
                vectors = found.setdefault(place, np.empty((n, d), np.float32))
                vectors[word] = hidden[first:last].mean(0)
        return found


def places(n: int, parts: int) -> dict[str, tuple[int, int]]:
    """Half-open frames of each place in a word of n frames."""
    middle = (n - 1) // 2
    pieces = {f"part_{p + 1}": (p * n // parts, -(-(p + 1) * n // parts)) for p in range(parts)}
    return {
        CENTRE: (middle, middle + 1),
        "first_frame": (0, 1),
        "last_frame": (n - 1, n),
        **pieces,
        "all_frames": (0, n),
    }
