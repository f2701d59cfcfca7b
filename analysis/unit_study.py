"""Pooled phones, words, stretches or utterances, from vectors on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import pooling, sampling
from analysis.consumers import Consumer, UnitConsumer
from analysis.label_targets import LabelTarget, label_target
from analysis.metrics.base import MomentMetric, Score, UnitMetric
from analysis.moments import fold_views
from analysis.study import Job, Scored, Setting, Study, metric_of, split_of
from analysis.unit_sampling import UnitSamples, check_folds, draw_units
from analysis.units import Units
from common.architecture import Layer
from common.config import AnalysisConfig
from common.records import Corpus
from common.seeding import generator

KIND = "vectors"
VERSIONS = {"sampling": sampling.VERSION, "pooling": pooling.VERSION}


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one experiment drew, and what its labels are compared with.

    speaker (n_utterances,): index into `speakers`; `trials`, `folds` of the run.
    """

    samples: UnitSamples
    target: LabelTarget
    speaker: NDArray[np.int64]
    speakers: tuple[str, ...]
    trials: int
    seed: int


@dataclass(frozen=True, eq=False)
class UnitStudy(Study):
    """Labelled units: the same vectors serve metrics of moments and metrics of units."""

    drawn: Mapping[str, Drawn]
    pooling: str

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw units; how their folds are cut changes no vector, so it is not in the key."""
        config, corpus = setting.config, setting.corpus
        run, seed = config.sampling, config.seed
        split = split_of(config, analysis)
        target = label_target(corpus, analysis)
        samples = draw_units(corpus, analysis, run, split, seed, target.known)
        drawn = Drawn(samples, target, *speakers_of(corpus), run.trials, seed)
        how = analysis.pooling or "mean"
        key = dict(setting.key) | {
            "unit": analysis.unit,
            "sampling": vars(analysis.sampling),
            "samples": run.samples,
            "seed": seed,
            "versions": VERSIONS,
            "pooling": how,
            "drawn": samples.digest(),
        }
        entry = setting.cache.entry(KIND, key)
        study = cls({name: analysis}, setting.layers, entry, {name: drawn}, how)
        study.check(name, setting)
        return study

    def check(self, name: str, setting: Setting) -> None:
        """Raise if the metric cannot score what was drawn, before anything is computed."""
        samples, metric = self.drawn[name].samples, metric_of(self.experiments[name])
        for sample, folds in enumerate(samples.folds):
            if isinstance(metric, UnitMetric):
                rows = np.flatnonzero(folds >= 0)
                metric.check(self._units(name, sample, rows, np.zeros((len(rows), 0), np.float32)))
            else:
                check_folds(samples.name, folds, setting.config.sampling)

    def joined(self, other: Self) -> Self:
        """Both have drawn the same rows, under labels of their own."""
        experiments = {**self.experiments, **other.experiments}
        return replace(self, experiments=experiments, drawn={**self.drawn, **other.drawn})

    def complete(self) -> bool:
        """Every layer's vectors are there."""
        return all(self.entry.has(layer.name) for layer in self.needed_layers())

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Vectors of the layers that are missing."""
        samples = next(iter(self.drawn.values())).samples
        return UnitConsumer(samples, self.entry, self.needed_layers(), self.pooling)

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer."""
        for name, drawn in self.drawn.items():
            for sample in range(len(drawn.samples.folds)):
                for layer in self.layers:
                    if layer.name in chosen[name]:
                        yield partial(self._score, name, sample, layer)

    def _score(self, name: str, sample: int, layer: Layer) -> list[Scored]:
        units = self.units(name, sample, layer.name)
        score = partial(self._scores, name, units)
        scores = self.guarded(name, layer.name, score)
        split = self.drawn[name].samples.split
        return [Scored(name, layer, sample, len(units.label), split, scores)]

    def _scores(self, name: str, units: Units) -> list[Score]:
        metric, drawn = metric_of(self.experiments[name]), self.drawn[name]
        if isinstance(metric, UnitMetric):
            return metric.score(units)
        if isinstance(metric, MomentMetric):
            target = drawn.target.view(units.label, units.labels)
            return metric.score(fold_views(units.vectors, target, units.fold, drawn.trials))
        raise TypeError(f"{metric.name} scores neither units nor moments")

    def units(self, name: str, sample: int, layer: str) -> Units:
        """What one sample drew, in one layer; units beyond their utterance's frames left out."""
        folds = self.drawn[name].samples.folds[sample]
        rows = np.flatnonzero((folds >= 0) & self.entry.load("valid")["valid"])
        return self._units(name, sample, rows, self.entry.open(layer)[rows])

    def _units(
        self, name: str, sample: int, rows: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> Units:
        drawn = self.drawn[name]
        samples = drawn.samples
        return Units(
            vectors=vectors,
            label=samples.label[rows],
            labels=samples.labels,
            speaker=drawn.speaker[samples.utterance[rows]],
            speakers=drawn.speakers,
            utterance=samples.utterance[rows],
            fold=samples.folds[sample][rows],
            scored=np.ones(len(rows), dtype=bool),
            seed=int(generator(drawn.seed, "sample", sample).integers(2**31)),
            target=self.experiments[name].target,
            trials=drawn.trials,
        )

    def describe(self) -> dict[str, object]:
        """Labels, and units of each sample, for each experiment that drew in its own way."""
        first, *others = self.drawn.values()
        own = {name: describe_draw(drawn) for name, drawn in self.drawn.items()}
        same = all(drawn.samples.labels == first.samples.labels for drawn in others)
        draws = describe_draw(first) if same else {"draws": own}
        return {"experiments": list(self.experiments), **draws}


def speakers_of(corpus: Corpus) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number (n_utterances,) of each utterance's speaker, and their names."""
    speakers = tuple(sorted({u.speaker for u in corpus.utterances}))
    codes = {speaker: code for code, speaker in enumerate(speakers)}
    return np.array([codes[u.speaker] for u in corpus.utterances], dtype=np.int64), speakers


def describe_draw(drawn: Drawn) -> dict[str, object]:
    """Labels, and units of each sample."""
    samples = drawn.samples
    counts = np.bincount(samples.label, minlength=len(samples.labels))
    return {
        "labels": len(samples.labels),
        "dropped": samples.dropped,
        "target_file": dict(drawn.target.counts),
        "units_per_sample": (samples.folds >= 0).sum(1).tolist(),
        "units_drawn_by_any_sample": len(samples.label),
        "units_per_label": dict(zip(samples.labels, counts.tolist(), strict=True)),
    }
