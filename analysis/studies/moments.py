"""Frames compared with mel or another frame target, another layer or another model: moments."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch

from analysis import moments
from analysis.forward import pooling
from analysis.forward.collectors import Pair, load_folds, load_view
from analysis.forward.consumers import (
    FILTERBANK,
    MEL,
    Consumer,
    MissingMoments,
    MomentConsumer,
    pair_step,
    prefix,
    step_of,
)
from analysis.metrics.base import MomentMetric
from analysis.sampling import folds as sampling
from analysis.sampling.folds import FrameSamples, draw_frames
from analysis.studies.second_model import (
    NO_CONTROLS,
    OtherModel,
    describe_pairs,
    find_other,
    find_pairs,
)
from analysis.studies.study import (
    Failure,
    Job,
    Scored,
    Setting,
    SharedViews,
    Study,
    failure_of,
    split_of,
)
from analysis.targets import mel as targets
from analysis.targets.base import FrameTarget
from analysis.targets.layers import SecondModel
from analysis.targets.mel import Mel
from common.config import AnalysisConfig
from common.encoder import encoder
from common.encoder.architecture import Layer
from common.narrowing import narrowed
from common.records import Corpus

KIND = "moments"
KIND_OF_TWO = "moments_inter"  # of layers of two models
VERSIONS = {
    "encoder": encoder.VERSION,
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "moments": moments.VERSION,
    "targets": targets.VERSION,
}
NO_LABELS = {"shuffled_labels": "frames are compared with frames: there are no labels"}


@dataclass(frozen=True)
class Cross:
    """A layer and the name of the view that it is compared with.

    `label`: that view's name in the results, where it differs between layers.
    """

    layer: Layer
    view: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class MomentStudy(Study):
    """All frames of the utterances drawn, in moments of pairs of views.

    `crosses`: what each experiment compares; `targets`: the views that are not layers; `other`: the
    second model, where an experiment compares with one (Pasad et al. 2021, section 4.4).
    """

    samples: FrameSamples
    crosses: Mapping[str, Sequence[Cross]]
    targets: tuple[FrameTarget, ...]
    other: OtherModel | None = None

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw utterances; their frames' folds are part of the entry's key."""
        setting.refuse_partitions(name, analysis)
        analysis = with_prepared_frames(analysis, setting.corpus)
        target, layers = analysis.target, setting.layers
        more: dict[str, object] = {}
        kind, other = KIND, None
        crosses = [Cross(layer, target.name) for layer in layers if layer.part in analysis.parts]
        if isinstance(target, SecondModel):
            kind, other = KIND_OF_TWO, find_other(setting.config)
            more = {"other": other.key()}
            pairs = find_pairs(setting, name, analysis, other)
            crosses = [Cross(x, y.name, other.label(y)) for x, y in pairs]
        others = (target,) if isinstance(target, FrameTarget) and target != FILTERBANK else ()
        if others:  # the entry depends on its values, and on which frames have one
            more = {"target": [target.name, target.version, target.identity()]}
        run, split = setting.config.sampling, split_of(setting.config, analysis)
        seed = setting.config.seed
        samples = draw_frames(setting.corpus, analysis.sampling, run, split, seed)
        key = dict(setting.key) | {
            "unit": "frame",
            "sampling": vars(analysis.sampling),
            "samples": run.samples,
            "seed": seed,
            "versions": VERSIONS,
            "split": samples.split,
            "folds": run.folds,
            "trials": run.tested_folds,
            "drawn": samples.digest(),
        }
        study = cls(
            experiments={name: analysis},
            layers=layers,
            entry=setting.cache.entry(kind, key | more),
            seed=seed,
            trials=run.tested_folds,
            samples=samples,
            crosses={name: crosses},
            targets=(FILTERBANK, *others),
            other=other,
            controls=setting.config.controls and other is None,
        )
        return replace(study, no_interval={name: why_no_interval(setting, analysis, samples)})

    def joined(self, other: Self) -> Self:
        """One study of both, which have drawn the same utterances."""
        return replace(super().joined(other), crosses={**self.crosses, **other.crosses})

    def all_layers(self) -> tuple[Layer, ...]:
        """The layers of the model, and those of the second one."""
        return (*self.layers, *(self.other.layers if self.other else ()))

    def pairs(self) -> list[Pair]:
        """Names of the views of every cross; with `controls` also (mel, target)."""
        pairs = [(c.layer.name, c.view) for crosses in self.crosses.values() for c in crosses]
        return pairs + [(MEL.name, self.experiments[name].target.name) for name in self.with_mel()]

    def with_mel(self) -> list[str]:
        """Experiments with the filterbank as a control: all but those with mel as the target."""
        names = self.experiments if self.controls else ()
        return [name for name in names if not isinstance(self.experiments[name].target, Mel)]

    def without_controls(self) -> dict[str, dict[str, str]]:
        """There are no labels to shuffle; mel against itself is 1 by construction."""
        if self.other is not None:
            return {name: dict(NO_CONTROLS) for name in self.experiments}
        mel, with_mel = {"mel": "mel is the target itself"}, self.with_mel()
        return {name: NO_LABELS | ({} if name in with_mel else mel) for name in self.experiments}

    def complete(self) -> bool:
        """Whether the entry has every pair on every grid."""
        return not self._missing().pairs

    def consumer(self, device: torch.device) -> Consumer:
        """Collects the moments of the missing pairs."""
        layers, pairs = self.all_layers(), self.pairs()
        return MomentConsumer(self.samples, self.entry, layers, pairs, device, self.targets)

    def disk_bytes(self) -> int:
        """Size of the missing pairs' moments."""
        return self._missing().disk_bytes()

    def memory_bytes(self) -> int:
        """Peak memory of collecting the missing pairs."""
        return self._missing().memory_bytes()

    def _missing(self) -> MissingMoments:
        layers, pairs = self.all_layers(), self.pairs()
        return MissingMoments.of(self.entry, self.samples, layers, pairs, self.targets)

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per distinct sample and layer: its experiments share the layer's spectra."""
        for sample in self.samples.distinct():
            by_layer: dict[Layer, list[tuple[str, Cross]]] = {}
            for name, crosses in self.crosses.items():
                for cross in crosses:
                    if cross.layer.name in chosen[name]:
                        by_layer.setdefault(cross.layer, []).append((name, cross))
            compared = [cross for to_score in by_layer.values() for _, cross in to_score]
            shared = SharedViews(Counter((step_of(c.layer), c.view) for c in compared))
            for layer, to_score in by_layer.items():
                names = tuple(name for name, _ in to_score)
                score = partial(self._score, sample, layer, step_of(layer), to_score, shared)
                yield Job(names, layer.name, score)

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Mel frames in the layer's place, on the target's grid."""
        by_name = {layer.name: layer for layer in self.layers}
        for sample in self.samples.distinct():
            for name in self.with_mel():
                if chosen[name]:
                    target = self.experiments[name].target.name
                    step = pair_step(by_name, (MEL.name, target))
                    to_score, shared = [(name, Cross(MEL, target))], SharedViews(Counter())
                    score = partial(self._score, sample, MEL, step, to_score, shared, "mel")
                    yield Job((name,), MEL.name, score)

    def _score(
        self,
        sample: int,
        layer: Layer,
        step: int,
        crosses: Sequence[tuple[str, Cross]],
        shared: SharedViews,
        control: str = "",
    ) -> list[Scored | Failure]:
        """`shared` holds the views that many layers are compared with, with their spectra."""
        files = prefix(sample, step)
        view = load_view(self.entry, files, layer.name, self.trials)
        n = sum(part.n for part in view.parts)
        scored: list[Scored | Failure] = []
        for name, cross in crosses:
            load = partial(load_view, self.entry, files, cross.view, self.trials)
            metric = narrowed(self.experiments[name].metric, MomentMetric)
            try:
                with shared.view((step, cross.view), load) as other:
                    folds = load_folds(self.entry, files, view, other, (layer.name, cross.view))
                    scores = self.score_moments(name, metric, folds)
            except Exception as error:  # the layer's other experiments are scored
                scored.append(failure_of(name, layer.name, error))
                continue
            scored += [
                Scored(name, layer, s, n, self.samples.split, scores, control, cross.label)
                for s in range(self.samples.members.shape[1])
                if self.samples.representative(s) == sample
            ]
        return scored

    def describe(self) -> dict[str, object]:
        """Utterances of each sample; with a second model, also layers without a partner."""
        described: dict[str, object] = {"experiments": list(self.experiments)}
        if self.other is not None:
            described = describe_pairs(self.experiments, self.layers, self.other)
        return described | {
            "utterances_per_sample": self.samples.members.sum(0).tolist(),
            "distinct_samples": len(self.samples.distinct()),
        }


def with_prepared_frames(analysis: AnalysisConfig, corpus: Corpus) -> AnalysisConfig:
    """The analysis with its target, where that is one of frames, prepared for the corpus."""
    if not isinstance(analysis.target, FrameTarget):
        return analysis
    return replace(analysis, target=analysis.target.prepared(corpus))


def why_no_interval(setting: Setting, analysis: AnalysisConfig, samples: FrameSamples) -> str:
    """Why the scores of these frames have no interval; "" if they have one."""
    run = setting.config.sampling
    speakers = [u.speaker for u in setting.corpus.utterances]
    present = [
        {speakers[u] for u in np.flatnonzero(drawn_by)} - {""} for drawn_by in samples.members.T
    ]
    tested = min(map(len, present)) * run.tested_folds // run.folds
    metric = narrowed(analysis.metric, MomentMetric)
    return metric.no_interval(samples.split, run.tested_folds, tested)
