"""What the experiments of a run need from the forward pass, and how they score it.

Experiments that look at the same units share a study: one cache entry, one consumer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from analysis import moments, pooling, sampling, targets
from analysis.collectors import Pair, load_folds, load_view
from analysis.consumers import (
    Consumer,
    FrameConsumer,
    UnitConsumer,
    missing_pairs,
    prefix,
    step_of,
)
from analysis.metrics.base import Metric, Score
from analysis.moments import FoldedView, Folds, fold_views
from analysis.sampling import FrameSamples, UnitSamples, draw_frames, draw_units
from analysis.targets import one_hot
from common.architecture import Layer
from common.cache import Cache, Entry
from common.config import AnalysisConfig, Config
from common.records import Corpus, StrataError

# Of the stages that an entry's numbers went through; an entry with other versions is stale.
VERSIONS = {
    "vectors": {"sampling": sampling.VERSION, "pooling": pooling.VERSION},
    "moments": {
        "sampling": sampling.VERSION,
        "pooling": pooling.VERSION,
        "moments": moments.VERSION,
        "targets": targets.VERSION,
    },
}


@dataclass(frozen=True)
class Scored:
    """Scores of one layer on one sample of n units: one per trial, or just one."""

    experiment: str
    layer: Layer
    sample: int
    n: int
    scores: list[Score]


class ExperimentError(StrataError):
    """An experiment that could not be scored; the others go on."""

    def __init__(self, experiment: str, layer: str, cause: StrataError) -> None:
        super().__init__(f"{layer}: {cause}")
        self.experiment = experiment


Job = Callable[[], list[Scored]]


@dataclass(frozen=True, eq=False)
class Study(ABC):
    """Experiments on the same units, and the cache entry that holds their statistics."""

    experiments: Mapping[str, AnalysisConfig]
    layers: tuple[Layer, ...]
    entry: Entry

    @abstractmethod
    def complete(self) -> bool:
        """Whether the cache holds all that the experiments need."""

    @abstractmethod
    def consumer(self, device: torch.device) -> Consumer:
        """Who computes what the cache lacks."""

    @abstractmethod
    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Independent pieces of scoring; `chosen` names the layers of each experiment."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """What was drawn and dropped, for the metadata."""

    def layers_of(self, name: str) -> list[Layer]:
        """Layers that an experiment covers, before the user's choice among them."""
        return [layer for layer in self.layers if layer.part in self.experiments[name].parts]

    def scores(self, name: str, layer: Layer, folds: Folds) -> list[Score]:
        """An experiment's metric on one layer; an error says which experiment and layer."""
        try:
            return metric_of(self.experiments[name]).score(folds)
        except StrataError as error:
            raise ExperimentError(name, layer.name, error) from error


@dataclass(frozen=True, eq=False)
class FrameStudy(Study):
    """Frames against mel or against another layer, from moments."""

    samples: FrameSamples

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
            scores = self.scores(name, layer, folds)
            n = sum(part.n for part in view.parts)
            scored += [
                Scored(name, layer, s, n, scores)
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


@dataclass(frozen=True, eq=False)
class UnitStudy(Study):
    """Pooled phones or words against their one-hot labels."""

    samples: UnitSamples
    trials: int

    def complete(self) -> bool:
        """Every layer's vectors are there."""
        return all(self.entry.has(layer.name) for layer in self._needed())

    def _needed(self) -> list[Layer]:
        parts = {part for analysis in self.experiments.values() for part in analysis.parts}
        return [layer for layer in self.layers if layer.part in parts]

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Vectors of the layers that are missing."""
        first = next(iter(self.experiments.values()))
        return UnitConsumer(self.samples, self.entry, self._needed(), str(first.pooling))

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer."""
        for name in self.experiments:
            for sample in range(len(self.samples.folds)):
                for layer in self.layers:
                    if layer.name in chosen[name]:
                        yield partial(self._score, name, sample, layer)

    def _score(self, name: str, sample: int, layer: Layer) -> list[Scored]:
        folds = self.samples.folds[sample]
        rows = np.flatnonzero((folds >= 0) & self.entry.load("valid")["valid"])
        labels = np.unique(self.samples.label[rows], return_inverse=True)[1]
        target = one_hot(labels, int(labels.max()) + 1)
        views = fold_views(self.entry.open(layer.name)[rows], target, folds[rows], self.trials)
        return [Scored(name, layer, sample, len(rows), self.scores(name, layer, views))]

    def describe(self) -> dict[str, object]:
        """Labels, and units of each sample."""
        drawn = self.samples.folds >= 0
        counts = np.bincount(self.samples.label, minlength=len(self.samples.labels))
        return {
            "experiments": list(self.experiments),
            "labels": len(self.samples.labels),
            "dropped": self.samples.dropped,
            "units_per_sample": drawn.sum(1).tolist(),
            "units_drawn_by_any_sample": len(self.samples.label),
            "units_per_label": dict(zip(self.samples.labels, counts.tolist(), strict=True)),
        }


def metric_of(analysis: AnalysisConfig) -> Metric:
    """The analysis's metric, known to be one."""
    if not isinstance(analysis.metric, Metric):
        raise StrataError(
            f"metric: {type(analysis.metric).__name__} is not an analysis.metrics Metric"
        )
    return analysis.metric


def target_name(analysis: AnalysisConfig) -> str:
    """Name of the other view of frames: "mel" or a layer."""
    return analysis.target.layer or "mel"


def target_label(analysis: AnalysisConfig) -> str:
    """Name of the target in a row: "mel", a layer, or the labels."""
    return analysis.target.layer or str(analysis.target.kind)


def build_studies(
    config: Config,
    corpus: Corpus,
    layers: tuple[Layer, ...],
    cache: Cache,
    common_key: dict[str, object],
) -> list[Study]:
    """Draw every sample and find every cache entry, before any weights are read."""
    groups: dict[tuple[object, ...], dict[str, AnalysisConfig]] = {}
    for name, analysis in config.experiments.items():
        s = analysis.sampling
        signature = (
            analysis.unit,
            analysis.pooling,
            s.utterances,
            s.instances,
            s.labels,
            s.min_instances,
        )
        groups.setdefault(signature, {})[name] = analysis
    return [_study(config, corpus, layers, cache, common_key, group) for group in groups.values()]


def _study(
    config: Config,
    corpus: Corpus,
    layers: tuple[Layer, ...],
    cache: Cache,
    common_key: dict[str, object],
    experiments: dict[str, AnalysisConfig],
) -> Study:
    first = next(iter(experiments.values()))
    run, split, seed = config.sampling, config.split, config.seed
    key = common_key | {
        "unit": first.unit,
        "sampling": vars(first.sampling),
        "samples": run.samples,
        "seed": seed,
        "versions": VERSIONS["vectors" if first.unit != "frame" else "moments"],
    }
    if first.unit == "frame":
        key |= {"split": split, "folds": run.folds, "trials": run.trials}
        frames = draw_frames(corpus, first.sampling, run, split, seed)
        key |= {"drawn": frames.digest()}
        return FrameStudy(experiments, layers, cache.entry("moments", key), frames)
    units = draw_units(corpus, first, run, split, seed)
    key |= {"pooling": first.pooling, "drawn": units.digest()}
    return UnitStudy(experiments, layers, cache.entry("vectors", key), units, run.trials)
