"""Corpora in memory whose labels fall off in frequency, and what is drawn from them."""

from collections.abc import Sequence

import numpy as np

from analysis.sampling.folds import FrameSamples, draw_frames
from analysis.sampling.segments import Segments, draw_units
from analysis.targets.labels import Phone
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.records import Corpus, Interval, Utterance, Waveform

FRAMES = UnitSampling(utterances=30)


def silent() -> Waveform:
    raise AssertionError("drawing reads no audio")


def utterance(index: int, labels: Sequence[str], speaker: str) -> Utterance:
    """An utterance of one second that nobody may read, with phones of 100 samples."""
    units = tuple(Interval(100 * k, 100 * k + 100, label) for k, label in enumerate(labels))
    return Utterance(f"u{index:03}", speaker, "", 16_000, {"phone": units}, silent)


def corpus_of(utterances: Sequence[Utterance]) -> Corpus:
    return Corpus("toy", "all", "none", tuple(utterances), {}, "fingerprint")


def corpus(n: int = 60, speakers: int = 12, seed: int = 0, speaker: str = "s") -> Corpus:
    """Utterances of 3 to 40 phones whose frequencies fall off."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, 16)
    made = []
    for index in range(n):
        drawn = rng.choice(15, size=rng.integers(3, 41), p=frequency / frequency.sum())
        name = f"{speaker}{index % speakers}" if speaker else ""
        made.append(utterance(index, [f"p{code:02}" for code in drawn], name))
    return corpus_of(made)


def analysis(**limits: int) -> AnalysisConfig:
    return AnalysisConfig(
        unit="phone",
        target=Phone(),
        metric=None,
        sampling=UnitSampling(**limits),
        pooling="mean",
    )


def units_of(
    corpus: Corpus, split: str = "frame", seed: int = 0, samples: int = 3, **limits: int
) -> Segments:
    return draw_units(corpus, analysis(**limits), SamplingConfig(samples=samples), split, seed)


def segments_of(
    rows: Sequence[tuple[int, int, int, str]], unit: str = "word", tier: str = ""
) -> Segments:
    """A table of segments (utterance, start, end, label) of one sample; `tier`: as in `Segments`.

    Where there is a tier, an utterance's rows are all of its intervals.
    """
    utterance = np.array([row[0] for row in rows], dtype=np.int64)
    labels = tuple(sorted({row[3] for row in rows}))
    first = np.searchsorted(utterance, utterance)
    return Segments(
        unit=unit,
        name=unit,
        tier=tier,
        labels=labels,
        utterance=utterance,
        start=np.array([row[1] for row in rows]),
        end=np.array([row[2] for row in rows]),
        label=np.array([labels.index(row[3]) for row in rows]),
        place=np.arange(len(rows)) - first if tier else np.full(len(rows), -1),
        folds=np.zeros((1, len(rows)), dtype=np.int64),
    )


def frames_of(corpus: Corpus, split: str = "frame", seed: int = 0) -> FrameSamples:
    return draw_frames(corpus, FRAMES, SamplingConfig(), split, seed)
