"""Frames against mel or against another layer, from moments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch

from analysis import moments, pooling, sampling, targets
from analysis.collectors import Pair, load_folds, load_view
from analysis.consumers import Consumer, FrameConsumer, missing_pairs, prefix, step_of
from analysis.metrics.base import MomentMetric
from analysis.moments import FoldedView
from analysis.sampling import FrameSamples, draw_frames
from analysis.study import Job, Scored, Setting, Study, metric_of, split_of
from common.architecture import Layer
from common.config import AnalysisConfig

KIND = "moments"
VERSIONS = {
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "moments": moments.VERSION,
    "targets": targets.VERSION,
}


@dataclass(frozen=True, eq=False)
class FrameStudy(Study):
    """Frames against mel or against another layer, from moments."""

    samples: FrameSamples
    split: str

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw utterances; their frames' folds are part of the entry's key."""
        run, seed = setting.config.sampling, setting.config.seed
        split = split_of(setting.config, analysis)
        drawn = draw_frames(setting.corpus, analysis.sampling, run, split, seed)
        key = dict(setting.key) | {
            "unit": "frame",
            "sampling": vars(analysis.sampling),
            "samples": run.samples,
            "seed": seed,
            "versions": VERSIONS,
            "split": split,
            "folds": run.folds,
            "trials": run.trials,
            "drawn": drawn.digest(),
        }
        entry = setting.cache.entry(KIND, key)
        return cls({name: analysis}, setting.layers, entry, drawn, split)

    def joined(self, other: Self) -> Self:
        """Both have drawn the same."""
        return replace(self, experiments={**self.experiments, **other.experiments})

    def crosses(self) -> list[Pair]:
        """(layer, target) of every experiment."""
        return [
            (layer.name, target_name(analysis))
            for name, analysis in self.experiments.items()
            for layer in self.layers_of(name)
        ]

    def complete(self) -> bool:
        """No pair is missing on any grid."""
        by_name = {layer.name: layer for layer in self.layers}
        steps = {step_of(layer) for layer in self.layers}
        return not any(
            missing_pairs(self.entry, self.samples, by_name, self.crosses(), step) for step in steps
        )

    def consumer(self, device: torch.device) -> Consumer:
        """Moments of all that is missing."""
        return FrameConsumer(self.samples, self.entry, self.layers, self.crosses(), device)

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per distinct sample and layer: its experiments share the layer's spectra."""
        for sample in self.samples.distinct():
            views: dict[tuple[int, str], FoldedView] = {}
            for layer in self.layers:
                names = [name for name in self.experiments if layer.name in chosen[name]]
                if names:
                    yield partial(self._score, sample, layer, names, views)

    def _score(
        self,
        sample: int,
        layer: Layer,
        names: Sequence[str],
        targets: dict[tuple[int, str], FoldedView],
    ) -> list[Scored]:
        """`targets` holds the views that many layers are compared with, with their spectra."""
        own = prefix(sample, step_of(layer))
        view = load_view(self.entry, own, layer.name)
        scored = []
        for name in names:
            target = target_name(self.experiments[name])
            if target == layer.name:
                other = view
            else:
                other = targets.get((step_of(layer), target)) or load_view(self.entry, own, target)
                targets.setdefault((step_of(layer), target), other)
            folds = load_folds(self.entry, own, view, other, (layer.name, target))
            metric = moment_metric(self.experiments[name])
            scores = self.guarded(name, layer.name, partial(metric.score, folds))
            n = sum(part.n for part in view.parts)
            scored += [
                Scored(name, layer, s, n, self.split, scores)
                for s in range(self.samples.members.shape[1])
                if self.samples.representative(s) == sample
            ]
        return scored

    def describe(self) -> dict[str, object]:
        """Utterances of each sample."""
        return {
            "experiments": list(self.experiments),
            "utterances_per_sample": self.samples.members.sum(0).tolist(),
            "distinct_samples": len(self.samples.distinct()),
        }


def moment_metric(analysis: AnalysisConfig) -> MomentMetric:
    """The metric of an analysis whose study keeps moments."""
    metric = metric_of(analysis)
    if not isinstance(metric, MomentMetric):
        raise TypeError(f"{metric.name} does not score moments")
    return metric


def target_name(analysis: AnalysisConfig) -> str:
    """Name of the other view of frames: "mel" or a layer."""
    return analysis.target.layer or "mel"
