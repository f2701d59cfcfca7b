"""Units in a layer against the same units in a layer of another model, from vectors on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch

from analysis import collectors, pooling, sampling
from analysis.collectors import valid_rows
from analysis.consumers import Consumer, UnitConsumer, vector_bytes
from analysis.frame_study import moment_metric
from analysis.frame_units import draw_single_frames
from analysis.inter import (
    NO_CONTROLS,
    LayerPair,
    OtherModel,
    describe_pairs,
    find_other,
    find_pairs,
)
from analysis.inter_views import PairedRows, SharedViews, pair_folds, view_folds
from analysis.metrics.base import Score
from analysis.moments import FoldedView
from analysis.study import Job, Scored, Setting, Study, split_of
from analysis.unit_sampling import UnitSamples, check_folds, draw_units
from analysis.unit_study import known_speakers_tested
from common import encoder
from common.architecture import Layer
from common.config import AnalysisConfig

KIND = "vectors_inter"
VERSIONS = {
    "encoder": encoder.VERSION,
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "vectors": collectors.VERSION,
}


@dataclass(frozen=True, eq=False)
class InterDrawn:
    """What one experiment drew, and the pairs of layers that it compares."""

    samples: UnitSamples
    pairs: Sequence[LayerPair]


@dataclass(frozen=True, eq=False)
class InterUnitStudy(Study):
    """Frames, phones or words that two models heard; any pairs of their layers.

    Every unit's vector in every layer of both is kept on disk once; the moments of a pair are
    taken when it is scored. Memory then holds the views of one model and one pair at a time,
    whereas collecting the moments of all pairs in the pass would hold 13 x 13 cross-scatters of
    768 x 768 for 7 groups of folds, 5.6 GB, for two base models and 24 GB or more for large ones.
    """

    other: OtherModel
    drawn: Mapping[str, InterDrawn]
    trials: int
    pooling: str
    hears_both: ClassVar[bool] = True

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw units; how their folds are cut changes no vector, so it is not in the key."""
        setting.refuse_partitions(name, analysis)
        config, other = setting.config, find_other(setting.config)
        drawn = draw(setting, name, analysis, other)
        for folds in drawn.samples.folds:
            check_folds(drawn.samples.name, folds, config.sampling)
        how = analysis.pooling or "mean"
        key = dict(setting.key) | {
            "other": other.key(),
            "unit": analysis.unit,
            "sampling": vars(analysis.sampling),
            "samples": config.sampling.samples,
            "seed": config.seed,
            "versions": VERSIONS,
            "pooling": how,
            "drawn": drawn.samples.digest(),
        }
        entry = setting.cache.entry(KIND, key)
        trials, own = config.sampling.tested_folds, {name: analysis}
        tested = known_speakers_tested(drawn.samples, setting.corpus, trials)
        none = moment_metric(analysis).no_interval(drawn.samples.split, trials, tested)
        return cls(
            *(own, setting.layers, entry, other, {name: drawn}, trials, how),
            no_interval={name: none},
        )

    def joined(self, other: Self) -> Self:
        """Both have drawn the same units of the same two models."""
        experiments = {**self.experiments, **other.experiments}
        return replace(
            self,
            experiments=experiments,
            drawn={**self.drawn, **other.drawn},
            no_interval=self.both_no_interval(other),
        )

    def needed_layers(self) -> list[Layer]:
        """Layers of both models that are in any pair."""
        pairs = (pair for drawn in self.drawn.values() for pair in drawn.pairs)
        names = {layer.name for pair in pairs for layer in pair}
        return [layer for layer in (*self.layers, *self.other.layers) if layer.name in names]

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Vectors of the layers that are missing."""
        samples = next(iter(self.drawn.values())).samples
        return UnitConsumer(samples, self.entry, self.needed_layers(), self.pooling)

    def disk_bytes(self) -> int:
        """Vectors of the layers that are missing."""
        rows = len(next(iter(self.drawn.values())).samples.label)
        return vector_bytes(self.entry, self.needed_layers(), rows)

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer of the first model: all of its pairs.

        Each job begins with another layer of the second model: jobs that run side by side then
        make different ones of the views that they share.
        """
        for name, drawn in self.drawn.items():
            wanted = [pair for pair in drawn.pairs if pair[0].name in chosen[name]]
            layers = list(dict.fromkeys(x for x, _ in wanted))
            for sample in range(len(drawn.samples.folds)):
                shared = SharedViews(users=len(layers))
                for k, layer in enumerate(layers):
                    others = [y for x, y in wanted if x == layer]
                    turn = k % len(others)
                    order = (*others[turn:], *others[:turn])
                    yield partial(self._score, name, sample, layer, order, shared)

    def _score(
        self, name: str, sample: int, layer: Layer, others: Sequence[Layer], shared: SharedViews
    ) -> list[Scored]:
        drawn = self.drawn[name]
        folds = drawn.samples.folds[sample]
        own = {one.name for pair in drawn.pairs for one in pair}
        kept = np.flatnonzero((folds >= 0) & valid_rows(self.entry, own))
        with shared.used():
            x = self.entry.open(layer.name)[kept]
            view = view_folds(x, folds[kept], self.trials)
            scored: dict[str, Scored] = {}
            for other in others:
                y = self.entry.open(other.name)[kept]
                rows = PairedRows(x, y, folds[kept])
                make = partial(view_folds, y, folds[kept], self.trials)
                score = partial(self._pair, name, rows, view, shared.view(other.name, make))
                label = self.other.label(other)
                scores = self.guarded(name, f"{layer.name} against {label}", score)
                split = drawn.samples.split
                scored[other.name] = Scored(
                    name, layer, sample, len(x), split, scores, target=label
                )
        return [scored[y.name] for y in self.other.layers if y.name in scored]

    def _pair(self, name: str, rows: PairedRows, x: FoldedView, y: FoldedView) -> list[Score]:
        metric = moment_metric(self.experiments[name])
        return metric.score(pair_folds(rows, x, y), not self.no_interval[name])

    def job_bytes(self) -> int:
        """A layer's vectors in float32 and in float64, and its moments by group and trial."""
        drawn = max(int((d.samples.folds >= 0).sum(1).max()) for d in self.drawn.values())
        dim = max(layer.dim for layer in self.needed_layers())
        return 24 * drawn * dim + 8 * (4 * self.trials + 2) * dim**2

    def without_controls(self) -> dict[str, dict[str, str]]:
        """Random weights only: the other model takes the place of labels and of mel."""
        return {name: dict(NO_CONTROLS) for name in self.experiments}

    def describe(self) -> dict[str, object]:
        """The other model, units of each sample, layers without a partner."""
        samples = next(iter(self.drawn.values())).samples
        return describe_pairs(self.experiments, self.layers, self.other) | {
            "labels": len(samples.labels),
            "dropped": samples.dropped,
            "units_per_sample": (samples.folds >= 0).sum(1).tolist(),
            "units_drawn_by_any_sample": len(samples.label),
        }


def draw(setting: Setting, name: str, analysis: AnalysisConfig, other: OtherModel) -> InterDrawn:
    """Draw the units of an experiment, from what both models' frame grids allow."""
    config, corpus = setting.config, setting.corpus
    pairs = find_pairs(setting, name, analysis, other)
    run, split = config.sampling, split_of(config, analysis)
    if analysis.unit == "frame":
        geometries = list(dict.fromkeys(layer.geometry for pair in pairs for layer in pair))
        samples = draw_single_frames(corpus, analysis.sampling, run, split, config.seed, geometries)
    else:
        samples = draw_units(corpus, analysis, run, split, config.seed)
    return InterDrawn(samples, pairs)
