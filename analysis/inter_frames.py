"""Frames of a layer against frames of the same layer of another model, from moments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import torch

from analysis.collectors import Pair, load_folds, load_view
from analysis.consumers import (
    Consumer,
    FrameConsumer,
    missing_pairs,
    moment_bytes,
    prefix,
    step_of,
)
from analysis.frame_study import VERSIONS, draw_moments, moment_metric
from analysis.inter import (
    NO_CONTROLS,
    LayerPair,
    OtherModel,
    describe_pairs,
    find_other,
    find_pairs,
)
from analysis.sampling import FrameSamples
from analysis.study import Job, Scored, Setting, Study
from common.architecture import Layer
from common.config import AnalysisConfig

__all__ = ["KIND", "VERSIONS", "InterFrameStudy"]

KIND = "moments_inter"


@dataclass(frozen=True, eq=False)
class InterFrameStudy(Study):
    """The frames of each layer and of the same layer of another model, all of them, as moments.

    Pasad et al. 2021, section 4.4.
    """

    other: OtherModel
    pairs: Mapping[str, Sequence[LayerPair]]
    samples: FrameSamples
    split: str
    hears_both: ClassVar[bool] = True

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw utterances, as frames are drawn for one model."""
        other = find_other(setting.config)
        pairs = find_pairs(setting, name, analysis, other)
        drawn, split, key, none = draw_moments(setting, name, analysis)
        entry = setting.cache.entry(KIND, key | {"other": other.key()})
        own, no_interval = {name: analysis}, {name: none}
        return cls(
            *(own, setting.layers, entry, other, {name: pairs}, drawn, split),
            no_interval=no_interval,
        )

    def joined(self, other: Self) -> Self:
        """Both have drawn the same of the same two models."""
        experiments = {**self.experiments, **other.experiments}
        return replace(
            self,
            experiments=experiments,
            pairs={**self.pairs, **other.pairs},
            no_interval=self.both_no_interval(other),
        )

    def crosses(self) -> list[Pair]:
        """Names of the layers of every pair."""
        return [(x.name, y.name) for pairs in self.pairs.values() for x, y in pairs]

    def both(self) -> tuple[Layer, ...]:
        """The layers of both models."""
        return (*self.layers, *self.other.layers)

    def complete(self) -> bool:
        """No pair is missing on any grid."""
        return not missing_pairs(self.entry, self.samples, self.both(), self.crosses())

    def consumer(self, device: torch.device) -> Consumer:
        """Moments of all that is missing."""
        return FrameConsumer(self.samples, self.entry, self.both(), self.crosses(), device)

    def disk_bytes(self) -> int:
        """Moments of the pairs that are missing."""
        return moment_bytes(self.entry, self.samples, self.both(), self.crosses())

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, distinct sample and pair of layers."""
        for name, pairs in self.pairs.items():
            for sample in self.samples.distinct():
                for pair in pairs:
                    if pair[0].name in chosen[name]:
                        yield partial(self._score, name, sample, pair)

    def _score(self, name: str, sample: int, pair: LayerPair) -> list[Scored]:
        x, y = pair
        own = prefix(sample, step_of(x))
        trials = self.samples.trials
        view, other = (load_view(self.entry, own, layer.name, trials) for layer in pair)
        folds = load_folds(self.entry, own, view, other, (x.name, y.name))
        with_interval = not self.no_interval[name]
        metric = moment_metric(self.experiments[name])
        scores = self.guarded(name, x.name, partial(metric.score, folds, with_interval))
        n = sum(part.n for part in view.parts)
        label = self.other.label(y)
        return [
            Scored(name, x, s, n, self.split, scores, target=label)
            for s in range(self.samples.members.shape[1])
            if self.samples.representative(s) == sample
        ]

    def without_controls(self) -> dict[str, dict[str, str]]:
        """Random weights only: the other model takes the place of labels and of mel."""
        return {name: dict(NO_CONTROLS) for name in self.experiments}

    def describe(self) -> dict[str, object]:
        """The other model, utterances of each sample, layers without a partner."""
        return describe_pairs(self.experiments, self.layers, self.other) | {
            "utterances_per_sample": self.samples.members.sum(0).tolist(),
            "distinct_samples": len(self.samples.distinct()),
        }
