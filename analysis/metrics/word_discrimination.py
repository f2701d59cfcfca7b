"""Acoustic word discrimination: are two segments the same word?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.metrics.alignment import unit_frames
from analysis.metrics.average_precision import PairPrecision, pair_precision
from analysis.metrics.base import FrameMetric, Score, UnitMetric
from analysis.metrics.similarity import Cosine, Warping
from analysis.metrics.units import Units
from analysis.targets.labels import Word
from common.arrays import Index
from common.records import StrataError
from common.target import Target

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PooledDiscrimination(UnitMetric):
    """Average precision of same-word pairs, ranked by the cosine of pooled vectors. Range (0, 1].

    Carlin et al., "Rapid evaluation of speech representations for spoken term discovery",
    Interspeech 2011, section 2; Pasad et al., arXiv 2307.00162, section 4. All pairs of segments
    are ranked, exactly. The vectors are taken less the mean of all segments drawn: with a large
    mean in common all cosines are near 1, and what distinguishes words is lost in it. Secondary
    figures, where words are said by several speakers: `…_swdp` and `…_across_speakers` (see
    `PairPrecision`); and of the vectors as they are, as published, `average_precision`, `…_swdp`,
    `…_across_speakers`. Its chance level, the share of same-word pairs, is in the metadata.
    """

    name: ClassVar[str] = "average_precision_centred"
    family: ClassVar[str] = "word_discrimination"
    held_out: ClassVar[bool] = False

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes whole words."""
        return unit == "word" and isinstance(target, Word)

    def check(self, units: Units) -> None:
        """Raise unless some word occurs twice and there is another word."""
        self.refuse_partitions(units)
        check_pairs(units.label, speaker_codes(units.speaker, units.speakers))

    def score(self, units: Units) -> list[Score]:
        """All pairs first, pairs of different speakers after them; then the same uncentred."""
        speaker = speaker_codes(units.speaker, units.speakers)
        vectors = units.vectors.astype(np.float64)
        centred = pair_precision(Cosine(vectors - vectors.mean(0)), units.label, speaker)
        found = pair_precision(Cosine(vectors), units.label, speaker)
        return [*figures(centred, self.name), *figures(found, "average_precision", primary=False)]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:  # noqa: ARG002
        """How many pairs there are, and what chance would give."""
        return {"pairs": pairs_of(scores)}


@dataclass(frozen=True)
class WarpedDiscrimination(FrameMetric):
    """Average precision of same-word pairs, ranked by dynamic time warping. Range (0, 1].

    As `PooledDiscrimination`, but of the segments' frames: cosine distances along the cheapest
    path, divided by the sum of the lengths (Carlin et al. 2011, section 3). The work grows with
    the square of the segments: `sampling` says how many are drawn. Frames are taken less the mean
    of all segments' frames; uncentred figures as in `PooledDiscrimination`, `average_precision_dtw`
    first. The pooled figures of just these segments stand beside them as
    `average_precision_pooled_centred` and `average_precision_pooled`.
    """

    name: ClassVar[str] = "average_precision_dtw_centred"
    family: ClassVar[str] = "word_discrimination_dtw"
    held_out: ClassVar[bool] = False

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes the frames of whole words."""
        return unit == "word" and isinstance(target, Word)

    def check(self, frames: "Frames") -> None:
        """Raise unless some word occurs twice and there is another word."""
        check_pairs(*words_and_speakers(frames))

    def score(self, frames: "Frames") -> list[Score]:
        """All pairs first, pairs of different speakers and pooled ones after; then uncentred."""
        label, speaker = words_and_speakers(frames)
        segments = [frames.of(k) for k in range(len(label))]
        means = np.stack([segment.mean(0, dtype=np.float64) for segment in segments])
        lengths = np.array([len(segment) for segment in segments])
        common = lengths @ means / lengths.sum()
        scores: list[Score] = []
        for name, shift, primary in (
            ("average_precision_dtw_centred", common, True),
            ("average_precision_dtw", np.zeros_like(common), False),
        ):
            shifted = [unit_frames(segment - shift) for segment in segments]
            found = pair_precision(Warping(shifted), label, speaker)
            scores += figures(found, name, primary)
            pooled = pair_precision(Cosine(means - shift), label, speaker)
            scores.append(Score(pooled.every_pair, name.replace("dtw", "pooled")))
        return scores

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:  # noqa: ARG002
        """How many pairs there are, and what chance would give."""
        return {"pairs": pairs_of(scores)}


def words_and_speakers(frames: "Frames") -> tuple[Index, Index]:
    """Numbers of each segment's word (n,) and speaker (n,)."""
    names, speaker = codes([utterance.speaker for utterance in frames.utterances])
    _, words = codes([frames.segments.labels[code] for code in frames.segments.label])
    return words, speaker_codes(speaker, names)


def codes(labels: Sequence[str]) -> tuple[tuple[str, ...], Index]:
    """The different labels, and the number (n,) of each one among them."""
    names, numbers = np.unique(labels, return_inverse=True)
    return tuple(map(str, names)), numbers.astype(np.int64)


def speaker_codes(speaker: Index, names: Sequence[str]) -> Index:
    """Numbers (n,) of the speakers; all equal where one of them has no name.

    Then it is unknown which pairs are of different speakers, and these get no figure.
    """
    known = all(names[code] for code in np.unique(speaker))
    return speaker if known else np.zeros_like(speaker)


def figures(found: PairPrecision, name: str, primary: bool = True) -> list[Score]:
    """The figure of all pairs, then those of different speakers; `primary`: the first one is."""
    detail = {
        "pairs": f"{found.matches} of {found.pairs} pairs are the same word, "
        f"{found.matches_across} by different speakers; chance {found.chance:.4f}"
    }
    scores = [Score(found.every_pair, "" if primary else name, detail)]
    if found.swdp is not None and found.across_speakers is not None:
        scores.append(Score(found.swdp, metric=f"{name}_swdp"))
        scores.append(Score(found.across_speakers, metric=f"{name}_across_speakers"))
    return scores


def pairs_of(scores: list[Score]) -> list[str]:
    """The facts on pairs that the primary figures carry, each once."""
    return list(dict.fromkeys(score.detail["pairs"] for score in scores if score.metric == ""))


def check_pairs(label: Index, speaker: Index) -> None:
    """Raise where no pair is of one word, or every pair is; warn where no speakers differ."""
    words, times = np.unique(label, return_counts=True)
    if len(words) < 2 or times.max() < 2:
        raise StrataError(
            f"{len(label)} segments of {len(words)} words, each at most {times.max(initial=0)} "
            "times: average precision needs a word that occurs twice and another word; use more "
            "speech, or lower sampling.min_seconds and sampling.min_characters"
        )
    pairs = np.unique(np.stack([label, speaker]), axis=1)
    if not (np.bincount(pairs[0]) > 1).any():
        log.warning(
            "no word of %d segments is known to be said by two speakers (%d speakers in all, or "
            "some without a name): no figure for pairs of different speakers",
            len(label),
            len(np.unique(speaker)),
        )
