"""Single frames of whole utterances, and the same frames with the audio around them cut off."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from analysis.targets.base import FRAME, LabelTarget, Segment
from common.config.analysis import UnitSampling
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError, Utterance, Waveform
from common.seeding import generator

WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class CutAudio(LabelTarget):
    """The same frame of an utterance, with less and less context.

    `widths`: seconds of audio on each side of the frame, the rest is cut off. One frame is drawn of
    each of `sampling.utterances` utterances, such that the widest cut fits into it; shorter
    utterances are left out and counted. A cut begins a whole number of frames of 20 ms after the
    audio's start, so that a frame has the same samples in its middle in all of them.
    """

    units: ClassVar[tuple[str, ...]] = ("frame",)
    labels_units: ClassVar[bool] = False  # frames are drawn by utterances
    name: ClassVar[str] = "cut_audio"

    widths: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(map(float, self.widths)))
        least = 2 * FRAME / SAMPLE_RATE
        if not self.widths or min(self.widths) < least or len(set(self.widths)) < len(self.widths):
            raise StrataError(
                f"target.widths={list(self.widths)}: give different seconds on each side, "
                f"{least:g} or more"
            )

    def labels(self) -> list[str]:
        """Labels of a frame's cuts, as ordered in the derived corpus: the whole utterance first."""
        return [WHOLE, *(f"{width:g}" for width in self.widths)]

    def partition(self, partition: str, sampling: UnitSampling) -> str:
        """Name of the derived corpus among the run's."""
        return f"{partition}, {sampling.utterances} frames cut to {', '.join(self.labels()[1:])} s"

    def derived(self, corpus: Corpus, sampling: UnitSampling, seed: int) -> Corpus:
        """For each frame drawn, one after another: its whole utterance, and a cut of each width."""
        steps = [round(width * SAMPLE_RATE / FRAME) for width in self.widths]
        room = max(steps)
        fitting = [u for u in corpus.utterances if u.n_samples // FRAME > 2 * room + 1]
        if not fitting:
            raise StrataError(
                f"target.widths={list(self.widths)}: none of {len(corpus.utterances)} utterances "
                f"of {corpus.name} lasts {2 * max(self.widths):g} s: use narrower cuts"
            )
        rng = generator(seed, "frames with context", corpus.fingerprint)
        count = min(len(fitting), sampling.utterances or len(fitting))
        made: list[Utterance] = []
        for index in np.sort(rng.permutation(len(fitting))[:count]):
            utterance = fitting[index]
            frame = int(rng.integers(room, utterance.n_samples // FRAME - room))
            made += self._cuts(utterance, frame, steps)
        named = "\n".join((corpus.fingerprint, *(utterance.id for utterance in made)))
        return replace(
            corpus,
            partition=f"{corpus.partition}, cut",
            utterances=tuple(made),
            dropped={"utterance: too short for the cuts": len(corpus.utterances) - len(fitting)},
            fingerprint=hashlib.sha256(named.encode()).hexdigest(),
        )

    def _cuts(self, utterance: Utterance, frame: int, steps: Sequence[int]) -> list[Utterance]:
        first, last = [0, *(frame - k for k in steps)], [None, *(frame + k + 1 for k in steps)]
        made = []
        for label, start, end in zip(self.labels(), first, last, strict=True):
            middle = (frame - start) * FRAME + FRAME // 2
            samples = utterance.n_samples if end is None else (end - start) * FRAME
            interval = Interval(middle - FRAME // 2, middle + FRAME // 2, label)
            cut = replace(
                utterance,
                id=f"{utterance.id}#{frame}@{label}",
                n_samples=samples,
                tiers={self.name: (interval,)},
            )
            if end is not None:
                before, _ = utterance.context
                at = (before + start * FRAME, before + end * FRAME)
                cut = replace(cut, read=partial(read_cut, utterance.read, *at), context=(0, 0))
            made.append(cut)
        return made

    def tier_of(self, unit: str) -> str:  # noqa: ARG002
        """Where the derived corpus has the frame."""
        return self.name

    def segments(
        self,
        corpus: Corpus,
        unit: str,  # noqa: ARG002
        first_centre: int = FRAME // 2,  # noqa: ARG002
    ) -> list[Segment]:
        """The frame of each utterance of a derived corpus."""
        frames = [utterance.tiers[self.name][0] for utterance in corpus.utterances]
        return [
            Segment(k, interval.start, interval.end, interval.label)
            for k, interval in enumerate(frames)
        ]


def read_cut(read: Callable[[], Waveform], start: int, end: int) -> Waveform:
    """Samples [start, end) of an utterance's waveform."""
    return read()[start:end]
