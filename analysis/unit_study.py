"""Pooled phones, words, stretches or utterances, from vectors on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import collectors, pooling, sampling
from analysis.bootstrap import no_fold_interval
from analysis.collectors import valid_rows
from analysis.consumers import Consumer, UnitConsumer, vector_bytes
from analysis.metrics.base import MomentMetric, Score, UnitMetric
from analysis.moments import crossed_folds, fold_views
from analysis.placed import Placed
from analysis.speech import Part
from analysis.study import Job, Scored, Setting, Study, metric_of, split_of
from analysis.targets import mel as targets
from analysis.targets.base import LabelTarget, label_target
from analysis.unit_sampling import UnitSamples, check_folds, draw_units, hold_out_types
from analysis.units import Units
from common import encoder
from common.analysis_config import BY_SPEAKER
from common.architecture import Layer
from common.config import AnalysisConfig
from common.records import SAMPLE_RATE, Corpus
from common.seeding import generator

KIND = "vectors"
VERSIONS = {
    "encoder": encoder.VERSION,
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "vectors": collectors.VERSION,
    "targets": targets.VERSION,  # of the mel frames that are pooled for the controls
}
UNSPLIT = {"fit_instances": None}  # draws nothing where there is one partition


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one experiment drew of its part of the speech, and what its labels are compared with.

    speaker (n_utterances,): index into `speakers`; `trials`, `seed`: the run's.
    """

    part: Part
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
        config, part = setting.config, setting.speech.part(analysis)
        if isinstance(analysis.metric, MomentMetric):
            setting.refuse_partitions(name, analysis)
        run, seed = config.sampling, config.seed
        split = split_of(config, analysis)
        target = label_target(analysis)
        segments = target.segments(part.corpus, analysis.unit)
        target = target.prepared({interval.label for _, interval in segments})
        scored = part.scored if part.split else None
        analysis = replace(analysis, target=target)
        centre = setting.layers[-1].geometry.centre(0)
        samples = draw_units(part.corpus, analysis, run, split, seed, scored, centre)
        if target.by_type and config.by_type:
            samples = hold_out_types(samples, run, seed)
        drawn = Drawn(part, samples, target, *speakers_of(part.corpus), run.tested_folds, seed)
        how = analysis.pooling or "mean"
        key = dict(setting.key) | {
            "dataset": part.corpus.fingerprint,
            "unit": analysis.unit,
            "sampling": {**vars(analysis.sampling), **({} if part.split else UNSPLIT)},
            "samples": run.samples,
            "seed": seed,
            "versions": VERSIONS,
            "pooling": how,
            "drawn": samples.digest(),
        }
        entry = setting.cache.entry(KIND, key)
        study = cls(
            {name: analysis}, setting.layers, entry, {name: drawn}, how, controls=config.controls
        )
        return replace(study, no_interval={name: study.check(name, setting)})

    def check(self, name: str, setting: Setting) -> str:
        """Raise if the metric cannot score what was drawn, before anything is computed.

        Returns why its scores will have no intervals, or "".
        """
        samples, metric = self.drawn[name].samples, metric_of(self.experiments[name])
        without = []
        for sample, folds in enumerate(samples.folds):
            if isinstance(metric, UnitMetric):
                rows = np.flatnonzero(folds >= 0)
                units = self._units(name, sample, rows, np.zeros((len(rows), 0), np.float32))
                metric.check(units)
                without.append(metric.no_interval(units))
            else:
                check_folds(samples.name, folds, setting.config.sampling)
        if isinstance(metric, MomentMetric):
            trials = self.drawn[name].trials
            tested = known_speakers_tested(samples, self.drawn[name].part.corpus, trials)
            return metric.no_interval(samples.split, trials, tested)
        if metric.held_out and samples.split not in BY_SPEAKER:
            without.insert(0, no_fold_interval(samples.split, 0, 0))
        return next(filter(None, without), "")

    def joined(self, other: Self) -> Self:
        """Both have drawn the same rows, under labels of their own."""
        experiments = {**self.experiments, **other.experiments}
        return replace(
            self,
            experiments=experiments,
            drawn={**self.drawn, **other.drawn},
            no_interval=self.both_no_interval(other),
        )

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Vectors of the layers that are missing."""
        first = next(iter(self.drawn.values()))
        consumer = UnitConsumer(first.samples, self.entry, self.needed_layers(), self.pooling)
        return Placed(consumer, first.part.places.tolist())

    def disk_bytes(self) -> int:
        """Vectors of the layers that are missing."""
        rows = len(next(iter(self.drawn.values())).samples.label)
        return vector_bytes(self.entry, self.needed_layers(), rows)

    def utterance(self, number: int) -> int:
        """The entry numbers the utterances of one part of the speech."""
        return int(next(iter(self.drawn.values())).part.places[number])

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer."""
        return (partial(self._score, *which) for which in self.each(self._samples(), chosen))

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Mel in a layer's place; every layer with labels, or rows of a table, permuted."""
        return (partial(self._score, *which) for which in self.controls_of(self._samples(), chosen))

    def _samples(self) -> dict[str, int]:
        return {name: len(drawn.samples.folds) for name, drawn in self.drawn.items()}

    def _score(self, name: str, sample: int, layer: Layer, control: str = "") -> list[Scored]:
        units = self.units(name, sample, layer.name)
        if control == "shuffled_labels":
            units = units.shuffled()
        if control == "permuted_table":
            units = units.with_permuted_types()
        score = partial(self._scores, name, units)
        scores = self.guarded(name, layer.name, score)
        split = self.drawn[name].samples.split
        return [Scored(name, layer, sample, len(units.label), split, scores, control)]

    def job_bytes(self) -> int:
        """A sample's vectors in float32, and once more in float64 for moments and clusters."""
        drawn = max(int((d.samples.folds >= 0).sum(1).max()) for d in self.drawn.values())
        return 12 * drawn * max(layer.dim for layer in self.layers)

    def _scores(self, name: str, units: Units) -> list[Score]:
        metric, drawn = metric_of(self.experiments[name]), self.drawn[name]
        if isinstance(metric, UnitMetric):
            scores = metric.score(units)
            none = self.no_interval[name]
            return [replace(one, low=None, high=None) for one in scores] if none else scores
        if isinstance(metric, MomentMetric):
            target = drawn.target.view(units.label, units.labels)
            if units.type_fold is None:
                folds = fold_views(units.vectors, target, units.fold, drawn.trials)
            else:
                cuts = (units.fold, units.type_fold)
                folds = crossed_folds(units.vectors, target, cuts, drawn.trials)
            return metric.score(folds, not self.no_interval[name])
        raise TypeError(f"{metric.name} scores neither units nor moments")

    def units(self, name: str, sample: int, layer: str) -> Units:
        """What one sample drew, in one layer; units that a layer of its lacks are left out."""
        folds = self.drawn[name].samples.folds[sample]
        own = {layer, *(one.name for one in self.layers_of(name))}
        kept = (folds >= 0) & valid_rows(self.entry, own)
        rows, vectors = np.flatnonzero(kept), self.entry.open(layer)
        return self._units(name, sample, rows, vectors if kept.all() else vectors[rows])

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
            scored=drawn.part.scored[samples.utterance[rows]],
            seed=int(generator(drawn.seed, "sample", sample).integers(2**31)),
            target=self.experiments[name].target,
            trials=drawn.trials,
            type_fold=None if samples.type_folds is None else samples.type_folds[rows],
            seconds=(samples.end - samples.start)[rows] / SAMPLE_RATE,
        )

    def describe(self) -> dict[str, object]:
        """Labels, and units of each sample, for each experiment that drew in its own way."""
        first, *others = self.drawn.values()
        own = {name: describe_draw(drawn) for name, drawn in self.drawn.items()}
        same = all(drawn.samples.labels == first.samples.labels for drawn in others)
        draws = describe_draw(first) if same else {"draws": own}
        return {"experiments": list(self.experiments), **draws}


def known_speakers_tested(samples: UnitSamples, corpus: Corpus, trials: int) -> int:
    """How many speakers who are known by name every sample is tested on at least."""
    speaker = np.array([u.speaker for u in corpus.utterances])[samples.utterance]
    tested = (speaker[(folds >= 0) & (folds < trials)] for folds in samples.folds)
    return min(len(set(own) - {""}) for own in tested)


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
        "target_file": dict(drawn.target.counts()),
        "units_per_sample": (samples.folds >= 0).sum(1).tolist(),
        "units_drawn_by_any_sample": len(samples.label),
        "units_per_label": dict(zip(samples.labels, counts.tolist(), strict=True)),
    }
