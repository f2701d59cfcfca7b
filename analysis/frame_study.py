"""Frames against mel or against another layer, from moments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch

from analysis import moments, pooling, sampling
from analysis.collectors import Pair, load_folds, load_view
from analysis.consumers import (
    MEL,
    Consumer,
    FrameConsumer,
    missing_pairs,
    moment_bytes,
    prefix,
    step_of,
)
from analysis.metrics.base import MomentMetric
from analysis.moments import FoldedView
from analysis.sampling import FrameSamples, draw_frames
from analysis.study import Job, Scored, Setting, Study, metric_of, split_of
from analysis.targets import mel as targets
from common import encoder
from common.architecture import Layer
from common.config import AnalysisConfig

KIND = "moments"
Views = dict[tuple[int, str], FoldedView]  # by grid and name
VERSIONS = {
    "encoder": encoder.VERSION,
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
        drawn, split, key, none = draw_moments(setting, name, analysis)
        entry = setting.cache.entry(KIND, key)
        controls = setting.config.controls
        own = {name: analysis}
        return cls(
            own, setting.layers, entry, drawn, split, controls=controls, no_interval={name: none}
        )

    def joined(self, other: Self) -> Self:
        """Both have drawn the same."""
        experiments = {**self.experiments, **other.experiments}
        return replace(self, experiments=experiments, no_interval=self.both_no_interval(other))

    def crosses(self) -> list[Pair]:
        """(layer, target) of every experiment, and where controls are wanted (mel, target)."""
        pairs = [
            (layer.name, analysis.target.name)
            for name, analysis in self.experiments.items()
            for layer in self.layers_of(name)
        ]
        return pairs + [(MEL.name, self.experiments[name].target.name) for name in self.with_mel()]

    def with_mel(self) -> list[str]:
        """Experiments that have the filterbank as a control: those that it is not the target of."""
        names = self.experiments if self.controls else ()
        return [name for name in names if self.experiments[name].target.name != MEL.name]

    def without_controls(self) -> dict[str, dict[str, str]]:
        """There are no labels to shuffle; mel against itself says nothing."""
        shuffled = {"shuffled_labels": "frames are compared with frames: there are no labels"}
        mel = {"mel": "mel is the target itself"}
        with_mel = self.with_mel()
        return {name: shuffled | ({} if name in with_mel else mel) for name in self.experiments}

    def complete(self) -> bool:
        """No pair is missing on any grid."""
        return not missing_pairs(self.entry, self.samples, self.layers, self.crosses())

    def consumer(self, device: torch.device) -> Consumer:
        """Moments of all that is missing."""
        return FrameConsumer(self.samples, self.entry, self.layers, self.crosses(), device)

    def disk_bytes(self) -> int:
        """Moments of the pairs that are missing."""
        return moment_bytes(self.entry, self.samples, self.layers, self.crosses())

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per distinct sample and layer: its experiments share the layer's spectra."""
        for sample in self.samples.distinct():
            views: Views = {}
            for layer in self.layers:
                names = [name for name in self.experiments if layer.name in chosen[name]]
                if names:
                    yield partial(self._score, sample, layer, names, views)

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Mel frames in the layer's place, on the target's grid."""
        by_name = {layer.name: layer for layer in self.layers}
        for sample in self.samples.distinct():
            for name in self.with_mel():
                if chosen[name]:
                    step = step_of(by_name[self.experiments[name].target.name])
                    yield partial(self._score, sample, MEL, [name], {}, step, "mel")

    def _score(
        self,
        sample: int,
        layer: Layer,
        names: Sequence[str],
        targets: Views,
        step: int | None = None,
        control: str = "",
    ) -> list[Scored]:
        """`targets` holds the views that many layers are compared with, with their spectra."""
        step = step or step_of(layer)
        own = prefix(sample, step)
        trials = self.samples.trials
        view = load_view(self.entry, own, layer.name, trials)
        scored = []
        for name in names:
            target = self.experiments[name].target.name
            if target == layer.name:
                other = view
            else:
                held = targets.get((step, target))
                other = held or load_view(self.entry, own, target, trials)
                targets.setdefault((step, target), other)
            folds = load_folds(self.entry, own, view, other, (layer.name, target))
            metric = moment_metric(self.experiments[name])
            with_interval = not self.no_interval[name]
            scores = self.guarded(name, layer.name, partial(metric.score, folds, with_interval))
            n = sum(part.n for part in view.parts)
            scored += [
                Scored(name, layer, s, n, self.split, scores, control)
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


def draw_moments(
    setting: Setting, name: str, analysis: AnalysisConfig
) -> tuple[FrameSamples, str, dict[str, object], str]:
    """Draw the frames of an experiment; how their folds are cut, and the key of their moments.

    And why their scores have no interval, or "".
    """
    setting.refuse_partitions(name, analysis)
    run, seed = setting.config.sampling, setting.config.seed
    split = split_of(setting.config, analysis)
    drawn = draw_frames(setting.corpus, analysis.sampling, run, split, seed)
    split = drawn.split
    key = dict(setting.key) | {
        "unit": "frame",
        "sampling": vars(analysis.sampling),
        "samples": run.samples,
        "seed": seed,
        "versions": VERSIONS,
        "split": split,
        "folds": run.folds,
        "trials": run.tested_folds,
        "drawn": drawn.digest(),
    }
    speakers = [u.speaker for u in setting.corpus.utterances]
    heard = [{speakers[u] for u in np.flatnonzero(own)} - {""} for own in drawn.members.T]
    tested = min(len(own) for own in heard) * run.tested_folds // run.folds
    none = moment_metric(analysis).no_interval(split, run.tested_folds, tested)
    return drawn, split, key, none


def moment_metric(analysis: AnalysisConfig) -> MomentMetric:
    """The metric of an analysis whose study keeps moments."""
    metric = metric_of(analysis)
    if not isinstance(metric, MomentMetric):
        raise TypeError(f"{metric.name} does not score moments")
    return metric
