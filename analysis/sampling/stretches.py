"""Segments whose frames are kept, drawn for each sample: whole utterances, or units."""

from dataclasses import dataclass, field

import numpy as np

from analysis.metrics.frames import Index, Stretches
from analysis.sampling.folds import blocks, digest_of
from analysis.sampling.units import draw_units
from analysis.targets.base import label_target
from common.config import AnalysisConfig, SamplingConfig
from common.records import Corpus, Interval, StrataError
from common.seeding import generator


@dataclass(frozen=True, eq=False)
class StretchSamples:
    """The stretches of any sample, in the order of the corpus, and which of them each one chose.

    chosen: for each sample the numbers (c,) of its stretches; `intervals` one for each stretch, or
    none where they are whole utterances. `dropped` counts by reason.
    """

    stretches: Stretches
    chosen: tuple[Index, ...]
    intervals: tuple[Interval, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """Hash of the stretches: frames of others, or in another order, are not these."""
        own = self.stretches
        times = () if own.start is None or own.end is None else (own.start, own.end)
        return digest_of(own.utterance, *times)


def draw_stretches(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, seed: int
) -> StretchSamples:
    """Whole utterances with the target's tier for the unit `frame`, else labelled units."""
    if analysis.unit == "frame":
        return draw_utterances(corpus, analysis, run, seed)
    drawn = draw_units(corpus, analysis, run, "frame", seed)
    columns = zip(drawn.start, drawn.end, drawn.label, strict=True)
    return StretchSamples(
        Stretches(drawn.utterance, drawn.start, drawn.end),
        tuple(np.flatnonzero(folds >= 0) for folds in drawn.folds),
        tuple(Interval(int(s), int(e), drawn.labels[code]) for s, e, code in columns),
        drawn.dropped,
    )


def draw_utterances(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, seed: int
) -> StretchSamples:
    """Draw `sampling.utterances` of the utterances whose tier has units, for each sample.

    In the order in which frames of all utterances are drawn: where all have the tier, a forward
    pass serves both.
    """
    tier = label_target(analysis).labelled_by("frame")
    with_tier = np.array([bool(u.tiers.get(tier)) for u in corpus.utterances])
    if not with_tier.any():
        raise StrataError(
            f"dataset {corpus.name} ({corpus.partition}) has no {tier} tier: it has "
            f"{', '.join(corpus.tiers) or 'none'}; choose an experiment on those"
        )
    order = generator(seed, "frames", corpus.fingerprint).permutation(len(with_tier))
    order = order[with_tier[order]]
    wanted = min(len(order), analysis.sampling.utterances or len(order))
    samples = blocks(order, wanted, run.samples)
    utterance = np.unique(np.concatenate(samples))
    chosen = tuple(np.searchsorted(utterance, np.sort(sample)) for sample in samples)
    lost = {f"{tier}: utterance without such units": int((~with_tier).sum())}
    return StretchSamples(Stretches(utterance), chosen, dropped=lost)
