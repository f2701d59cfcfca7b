"""Pooled phones, words, stretches, frames or utterances, from vectors on disk."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch

from analysis.forward import collectors, pooling
from analysis.forward.collectors import valid_rows
from analysis.forward.consumers import (
    FILTERBANK,
    MEL,
    Consumer,
    VectorConsumer,
    step_of,
    target_layer,
    vector_bytes,
)
from analysis.metrics.base import (
    LabelledMetric,
    LayersMetric,
    MomentMetric,
    Score,
    UnitMetric,
    ViewMetric,
)
from analysis.metrics.intervals import no_fold_interval
from analysis.metrics.units import Units
from analysis.moments import (
    FoldedView,
    crossed_folds,
    pair_folds,
    rows_of_trial,
    view_folds,
    view_moments,
)
from analysis.sampling import folds as sampling
from analysis.sampling.segments import (
    Segments,
    check_folds,
    draw_single_frames,
    draw_units,
    hold_out_types,
)
from analysis.sampling.speech import ExperimentSpeech
from analysis.studies.moments import NO_LABELS, with_prepared_frames
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
    metric_of,
    split_of,
)
from analysis.targets import mel as targets
from analysis.targets.base import FrameTarget, LabelTarget, label_target
from analysis.targets.layers import SecondModel
from analysis.targets.mel import Mel
from common.arrays import Index, Vectors
from common.config import AnalysisConfig
from common.config.analysis import BY_SPEAKER
from common.encoder import encoder
from common.encoder.architecture import Layer
from common.narrowing import narrowed
from common.records import SAMPLE_RATE, Corpus, StrataError
from common.target import Target

KIND = "vectors"
KIND_OF_TWO = "vectors_inter"  # of layers of two models
VERSIONS_OF_TWO = {
    "encoder": encoder.VERSION,
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "vectors": collectors.VERSION,
}
VERSIONS = {
    **VERSIONS_OF_TWO,
    "targets": targets.VERSION,  # of the mel frames that are pooled for the controls
}
LABELS = "labels"  # the shared view of target vectors for the labels of a sample
UNSPLIT = {"fit_instances": None}  # a limit without effect where there is one partition


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one experiment drew of its part of the speech, and what it is compared with.

    speaker (n_utterances,): index into `speakers`. `pairs`: a layer, the layer or stored target
    that it is compared with, and the name of that in the results, where it differs between layers;
    empty where the labels alone give the target.
    """

    part: ExperimentSpeech
    samples: Segments
    target: Target
    speaker: Index
    speakers: tuple[str, ...]
    pairs: tuple[tuple[Layer, Layer, str], ...] = ()


@dataclass(frozen=True, eq=False)
class VectorStudy(Study):
    """Vectors of phones, words, stretches, single frames or utterances, kept on disk once.

    They serve metrics of moments, of two views and of labels, and any pairs of layers of two
    models: the moments of a pair are taken when it is scored. Memory then holds the views of one
    model and one pair at a time, whereas collecting the moments of all pairs in the pass would hold
    13 x 13 cross-scatters of 768 x 768 for 7 groups of folds, 5.6 GB, for two base models and 24 GB
    or more for large ones.
    """

    drawn: Mapping[str, Drawn]
    pooling: str
    other: OtherModel | None = None

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw units; how their folds are cut changes no vector, so it is not in the key."""
        config, part = setting.config, setting.speech.part(analysis)
        analysis = with_prepared_frames(analysis, part.corpus)
        run, seed, target = config.sampling, config.seed, analysis.target
        if not isinstance(analysis.metric, LabelledMetric):
            setting.refuse_partitions(name, analysis)
        pairs: tuple[tuple[Layer, Layer, str], ...] = ()
        kind, versions, other = KIND, VERSIONS, None
        if isinstance(target, SecondModel):
            kind, versions, other = KIND_OF_TWO, VERSIONS_OF_TWO, find_other(config)
            found = find_pairs(setting, name, analysis, other)
            pairs = tuple((x, y, other.label(y)) for x, y in found)
        elif not isinstance(target, LabelTarget):
            pairs = stored_pairs(analysis, setting.layers)
        samples, target = draw_segments(setting, analysis, part, pairs)
        drawn = Drawn(part, samples, target, *speakers_of(part.corpus), pairs)
        how = analysis.pooling or "mean"
        plain = part.split or other is not None
        key = dict(setting.key) | {
            "dataset": part.corpus.fingerprint,
            "unit": analysis.unit,
            "sampling": {**vars(analysis.sampling), **({} if plain else UNSPLIT)},
            "samples": run.samples,
            "seed": seed,
            "versions": versions,
            "pooling": how,
            "drawn": samples.digest(),
        }
        if other is not None:
            key |= {"other": other.key()}
        if isinstance(target, FrameTarget) and target != FILTERBANK:
            key |= {"target": [target.name, target.version, target.identity()]}
        study = cls(
            experiments={name: analysis},
            layers=setting.layers,
            entry=setting.cache.entry(kind, key),
            seed=seed,
            trials=run.tested_folds,
            drawn={name: drawn},
            pooling=how,
            other=other,
            controls=config.controls and other is None,
        )
        return replace(study, no_interval={name: study.check(name, setting)})

    def check(self, name: str, setting: Setting) -> str:
        """Raise if the metric cannot score what was drawn, before anything is computed.

        Returns why its scores will have no intervals, or "".
        """
        samples, metric = self.drawn[name].samples, metric_of(self.experiments[name])
        dims = sorted({layer.dim for layer in self.layers_of(name)})
        if isinstance(metric, LayersMetric) and len(dims) > 1:
            raise StrataError(
                f"layers of {' and '.join(map(str, dims))} dimensions have no sum: choose those of "
                f"one width, experiments.{name}.parts=[transformer]"
            )
        without = []
        for sample, folds in enumerate(samples.folds):
            if isinstance(metric, LabelledMetric):
                rows = samples.drawn(sample)
                units = self._units(name, sample, rows, np.zeros((len(rows), 0), np.float32))
                metric.check(units)
                without.append(metric.no_interval(units))
            elif isinstance(metric, MomentMetric):
                check_folds(samples.name, folds, setting.config.sampling)
                self._check_target(name, sample)
        if isinstance(metric, MomentMetric):
            tested = known_speakers_tested(samples, self.drawn[name].part.corpus, self.trials)
            return metric.no_interval(samples.split, self.trials, tested)
        if isinstance(metric, ViewMetric):
            return f"{metric.name} has none over speakers"
        if metric.held_out and samples.split not in BY_SPEAKER:
            without.insert(0, no_fold_interval(samples.split, 0, 0))
        return next(filter(None, without), "")

    def _check_target(self, name: str, sample: int) -> None:
        """`check_target` of a sample, and of its control, where labels are the target."""
        target = self.drawn[name].target
        if not metric_of(self.experiments[name]).held_out or self.other is not None:
            return
        if isinstance(target, LabelTarget):
            rows = self.drawn[name].samples.drawn(sample)
            units = self._units(name, sample, rows, np.zeros((len(rows), 0), np.float32))
            check_target(self.drawn[name].samples.name, units, target)
            if self.controls:
                check_target(self.drawn[name].samples.name, self._controlled(name, units), target)

    def joined(self, other: Self) -> Self:
        """One study of both, which have drawn the same rows; their labels may differ."""
        return replace(super().joined(other), drawn={**self.drawn, **other.drawn})

    def needed_layers(self) -> list[Layer]:
        """Layers that any experiment covers or compares with; with `controls` also mel."""
        compared = {y.name: y for drawn in self.drawn.values() for _, y, _ in drawn.pairs}
        if self.other is not None:
            names = {x.name for drawn in self.drawn.values() for x, _, _ in drawn.pairs}
            both = (*self.layers, *self.other.layers)
            return [layer for layer in both if layer.name in names | compared.keys()]
        needed = {layer.name: layer for layer in super().needed_layers()}
        return list((needed | compared).values())

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Collects the vectors of missing layers."""
        first = next(iter(self.drawn.values()))
        frame_targets = [d.target for d in self.drawn.values() if isinstance(d.target, FrameTarget)]
        layers = self.needed_layers()
        numbers = {int(place): u for u, place in enumerate(first.part.places)}
        return VectorConsumer(
            first.samples, self.entry, layers, self.pooling, frame_targets, numbers
        )

    def disk_bytes(self) -> int:
        """Size of the missing layers' vectors."""
        rows = len(next(iter(self.drawn.values())).samples.label)
        return vector_bytes(self.entry, self.needed_layers(), rows)

    def utterance(self, number: int) -> int:
        """Index in the run's speech: the entry counts within its part of it."""
        return int(next(iter(self.drawn.values())).part.places[number])

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer: all of the layer's pairs.

        Where a layer is compared with many, each job begins with a different one: jobs that run at
        the same time then compute different ones of the views that they share.
        """
        for name, drawn in self.drawn.items():
            layers = [layer for layer in self.layers if layer.name in chosen[name]]
            if isinstance(metric_of(self.experiments[name]), LayersMetric):
                yield from self._jobs_of_all_layers(name, layers)
                continue
            for sample in range(len(drawn.samples.folds)):
                pairs = [pair for pair in drawn.pairs if pair[0] in layers]
                uses: Counter[Hashable] = Counter(y.name for _, y, _ in pairs)
                shared = SharedViews(uses if drawn.pairs else Counter({LABELS: len(layers)}))
                for k, layer in enumerate(layers):
                    compared = [(y, label) for x, y, label in pairs if x == layer]
                    if drawn.pairs and not compared:
                        continue
                    turn = k % max(len(compared), 1)
                    others = (*compared[turn:], *compared[:turn])
                    score = partial(self._score, name, sample, layer, others, shared)
                    yield Job((name,), layer.name, score)

    def _jobs_of_all_layers(
        self, name: str, layers: Sequence[Layer], control: str = ""
    ) -> Iterator[Job]:
        """A job per sample: all layers at once."""
        for sample in range(len(self.drawn[name].samples.folds) if layers else 0):
            score = partial(self._score_layers, name, sample, layers, control)
            yield Job((name,), "all layers", score)

    def _score_layers(
        self, name: str, sample: int, layers: Sequence[Layer], control: str
    ) -> list[Scored | Failure]:
        metric = narrowed(self.experiments[name].metric, LayersMetric)
        split = self.drawn[name].samples.split
        units = {layer.name: self.units(name, sample, layer.name) for layer in layers}
        if control:
            units = {layer: self._controlled(name, members) for layer, members in units.items()}
        found = metric.score(units)
        n = len(next(iter(units.values())).label)
        return [Scored(name, one, sample, n, split, found[one.name], control) for one in layers]

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Mel in a layer's place; every layer with labels, or rows of a table, permuted."""
        alone = {}
        for name, drawn in self.drawn.items():
            if isinstance(metric_of(self.experiments[name]), LayersMetric):
                layers = [layer for layer in self.layers if layer.name in chosen[name]]
                yield from self._jobs_of_all_layers(name, layers, self.label_control(name))
            else:
                alone[name] = drawn
        samples = {name: len(drawn.samples.folds) for name, drawn in alone.items()}
        controls = list(self.controls_of(samples, chosen))
        uses = Counter((name, sample, control) for name, sample, _, control in controls)
        shared = {which: SharedViews(Counter({LABELS: n})) for which, n in uses.items()}
        for name, sample, layer, control in controls:
            others = [(y, label) for _, y, label in self.drawn[name].pairs[:1]]
            units = shared[name, sample, control]
            score = partial(self._score, name, sample, layer, others, units, control)
            yield Job((name,), layer.name, score)

    def without_controls(self) -> dict[str, dict[str, str]]:
        """Two models have neither labels nor mel, frames against frames have no labels."""
        if self.other is not None:
            return {name: dict(NO_CONTROLS) for name in self.experiments}
        none, mel = dict(NO_LABELS), {"mel": "mel is the target itself"}
        without = {
            name: none | (mel if isinstance(drawn.target, Mel) else {})
            for name, drawn in self.drawn.items()
            if drawn.pairs
        }
        for name, analysis in self.experiments.items():
            metric = metric_of(analysis)
            if isinstance(metric, LabelledMetric) and metric.without_controls():
                without[name] = without.get(name, {}) | dict(metric.without_controls())
        return without

    def _score(
        self,
        name: str,
        sample: int,
        layer: Layer,
        others: Sequence[tuple[Layer, str]],
        shared: SharedViews,
        control: str = "",
    ) -> list[Scored | Failure]:
        units, split = self.units(name, sample, layer.name), self.drawn[name].samples.split
        if control == self.label_control(name):
            units = self._controlled(name, units)
        n = len(units.label)
        if not others:
            scores = self._scores(name, units, shared)
            return [Scored(name, layer, sample, n, split, scores, control)]
        scored: dict[str, Scored | Failure] = {}
        view = None
        if isinstance(metric_of(self.experiments[name]), MomentMetric):
            view = view_folds(units.vectors, units.fold, self.trials)
        for other, label in others:
            try:
                y = self.units(name, sample, other.name).vectors
                scores = self._pair(name, units, view, other.name, y, shared)
            except Exception as error:  # the layer's other pairs are scored
                which = f"{layer.name} against {label or other.name}"
                scored[other.name] = failure_of(name, which, error)
                continue
            scored[other.name] = Scored(name, layer, sample, n, split, scores, control, label)
        order = [y.name for _, y, _ in self.drawn[name].pairs]
        return [scored[view] for view in dict.fromkeys(order) if view in scored]

    def _controlled(self, name: str, units: Units) -> Units:
        """Units under the control that breaks their relation to what they are compared with."""
        if self.label_control(name) == "permuted_table":
            return units.with_permuted_types()
        return units.shuffled()

    def job_bytes(self) -> int:
        """A sample's vectors in float32 and in float64, and of pairs the moments by group."""
        drawn = max(int((d.samples.folds >= 0).sum(1).max()) for d in self.drawn.values())
        if self.other is None:
            every = (metric_of(analysis) for analysis in self.experiments.values())
            together = any(isinstance(metric, LayersMetric) for metric in every)
            dims = [layer.dim for layer in self.layers]
            return 12 * drawn * (sum(dims) if together else max(dims))
        dim = max(layer.dim for layer in self.needed_layers())
        return 24 * drawn * dim + 8 * (4 * self.trials + 2) * dim**2

    def _scores(self, name: str, units: Units, shared: SharedViews) -> list[Score]:
        """Scores of units whose target follows from their labels."""
        metric, drawn = metric_of(self.experiments[name]), self.drawn[name]
        if isinstance(metric, UnitMetric):
            scores = metric.score(units)
            none = self.no_interval[name]
            return [replace(one, low=None, high=None) for one in scores] if none else scores
        target = narrowed(drawn.target, LabelTarget).view(units.label, units.labels)
        if isinstance(metric, ViewMetric):
            return metric.score(units.vectors, target, units.seed)
        metric = narrowed(metric, MomentMetric)
        if units.type_fold is not None:
            crossed = crossed_folds(units.vectors, target, units.cuts, self.trials)
            return self.score_moments(name, metric, crossed)
        x = view_folds(units.vectors, units.fold, self.trials)
        with shared.view(LABELS, partial(view_folds, target, units.fold, self.trials)) as y:
            folds = pair_folds((units.vectors, target), units.fold, x, y)
            return self.score_moments(name, metric, folds)

    def _pair(
        self,
        name: str,
        units: Units,
        x: FoldedView | None,
        other: str,
        y: Vectors,
        shared: SharedViews,
    ) -> list[Score]:
        """Scores of a layer, with its moments `x`, against another stored view of its units."""
        metric = metric_of(self.experiments[name])
        if x is None:
            return narrowed(metric, ViewMetric).score(units.vectors, y, units.seed)
        with shared.view(other, partial(view_folds, y, units.fold, self.trials)) as view:
            folds = pair_folds((units.vectors, y), units.fold, x, view)
            return self.score_moments(name, narrowed(metric, MomentMetric), folds)

    def units(self, name: str, sample: int, layer: str) -> Units:
        """One sample's units in one layer, without those that a layer of the experiment lacks."""
        drawn = self.drawn[name]
        names = {layer, *(one.name for one in self.layers_of(name))}
        if drawn.pairs:
            names = {view.name for x, y, _ in drawn.pairs for view in (x, y)} | {layer}
        kept = (drawn.samples.folds[sample] >= 0) & valid_rows(self.entry, names)
        rows, vectors = np.flatnonzero(kept), self.entry.open(layer)
        return self._units(name, sample, rows, vectors if kept.all() else vectors[rows])

    def _units(self, name: str, sample: int, rows: Index, vectors: Vectors) -> Units:
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
            seed=self.sample_seed(sample),
            target=drawn.target,
            trials=self.trials,
            type_fold=None if samples.type_folds is None else samples.type_folds[rows],
            seconds=(samples.end - samples.start)[rows] / SAMPLE_RATE,
        )

    def describe(self) -> dict[str, object]:
        """Labels, and units of each sample, for each experiment that drew in its own way."""
        first, *others = self.drawn.values()
        if self.other is not None:
            return describe_pairs(self.experiments, self.layers, self.other) | {
                "labels": len(first.samples.labels),
                "dropped": first.samples.dropped,
                "units_per_sample": (first.samples.folds >= 0).sum(1).tolist(),
                "units_drawn_by_any_sample": len(first.samples.label),
            }
        each = {name: describe_draw(drawn) for name, drawn in self.drawn.items()}
        same = all(drawn.samples.labels == first.samples.labels for drawn in others)
        draws = describe_draw(first) if same else {"draws": each}
        return {"experiments": list(self.experiments), **draws}


def stored_pairs(
    analysis: AnalysisConfig, layers: Sequence[Layer]
) -> tuple[tuple[Layer, Layer, str], ...]:
    """Each covered layer with the layer or frame target that it is compared with, as stored."""
    target = analysis.target
    other = target_layer(target) if isinstance(target, FrameTarget) else None
    if other is None:
        other = next(layer for layer in layers if layer.name == target.name)
    chosen = [layer for layer in layers if layer.part in analysis.parts]
    steps = {step_of(other if layer is other else layer) for layer in chosen}
    if len(steps) > 1:
        raise StrataError(
            f"unit=frame with metric={metric_of(analysis).name}: the layers have frames every "
            f"{' and '.join(str(10 * step) for step in sorted(steps))} ms; choose those of one "
            "rate, parts=[transformer]"
        )
    return tuple((layer, other, "") for layer in chosen)


def draw_segments(
    setting: Setting,
    analysis: AnalysisConfig,
    part: ExperimentSpeech,
    pairs: Sequence[tuple[Layer, Layer, str]],
) -> tuple[Segments, Target]:
    """Draw an experiment's units, and prepare its target for their labels."""
    config, target = setting.config, analysis.target
    run, seed, split = config.sampling, config.seed, split_of(config, analysis)
    if analysis.unit == "frame" and pairs:
        views = [view for x, y, _ in pairs for view in (x, y) if view.part != MEL.part]
        geometries = list(dict.fromkeys(view.geometry for view in views))
        metric = metric_of(analysis)
        most = analysis.sampling.frames
        if most is None and isinstance(metric, ViewMetric):
            most = metric.rows
        limits = replace(analysis.sampling, frames=most)
        drawn = draw_single_frames(part.corpus, limits, run, split, seed, geometries)
        return drawn, target
    if isinstance(target, SecondModel):
        return draw_units(part.corpus, analysis, run, split, seed), target
    segments = label_target(analysis).segments(part.corpus, analysis.unit)
    labels = {segment.label for segment in segments}
    target = label_target(analysis).prepared(labels, part.corpus)
    scored = part.scored if part.split else None
    centre = setting.layers[-1].geometry.centre(0)
    analysis = replace(analysis, target=target)
    samples = draw_units(part.corpus, analysis, run, split, seed, scored, centre)
    if target.by_type and config.by_type:
        samples = hold_out_types(samples, run, seed)
    return samples, target


def check_target(name: str, units: Units, target: LabelTarget) -> None:
    """Raise if correlations with what the labels say would be undefined in some trial.

    That is so where all units of its training, dev or test fold have the same target, and where
    the differences within the test fold never occur in training.
    """
    _, first, code = np.unique(units.label, return_index=True, return_inverse=True)
    view = np.asarray(target.view(units.label, units.labels)[first], np.float64)
    remedy = "use more speech, more sampling.instances, or fewer sampling.folds"
    for trial in range(units.trials):
        rows = rows_of_trial(units.cuts, trial)
        train, dev, test = (np.unique(code[fold]) for fold in rows)
        for what, codes in (("training", train), ("dev", dev), ("test", test)):
            if not (view[codes] != view[codes[:1]]).any():
                raise StrataError(
                    f"trial {trial}: the target is the same for all {name} units of its {what} "
                    f"fold, of {len(codes)} label(s): a correlation with it is undefined; {remedy}"
                )
        if target.by_type:
            directions = view_moments(view[train]).spectrum.vectors
            apart = view[test] - view[test].mean(0)
            if np.linalg.norm(apart @ directions) <= 1e-6 * np.linalg.norm(apart):
                raise StrataError(
                    f"trial {trial}: the columns in which the {len(test)} {name} types of its test "
                    f"fold differ are constant over the {len(train)} that it is fitted on, as in a "
                    "table with a column for each word: use another table, or by_type=false (types "
                    "then lie in training and test)"
                )
        elif not target.numeric and not np.isin(test, train).any():
            raise StrataError(
                f"trial {trial}: none of the {len(test)} {name} labels of its test fold is among "
                f"the {len(train)} that it is fitted on; {remedy}"
            )


def known_speakers_tested(samples: Segments, corpus: Corpus, trials: int) -> int:
    """The smallest number of named speakers that a sample is tested on."""
    speaker = np.array([u.speaker for u in corpus.utterances])[samples.utterance]
    tested = (speaker[(folds >= 0) & (folds < trials)] for folds in samples.folds)
    return min(len(set(speakers) - {""}) for speakers in tested)


def speakers_of(corpus: Corpus) -> tuple[Index, tuple[str, ...]]:
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
        "target_file": dict(drawn.target.counts()) if isinstance(drawn.target, LabelTarget) else {},
        "units_per_sample": (samples.folds >= 0).sum(1).tolist(),
        "units_drawn_by_any_sample": len(samples.label),
        "units_per_label": dict(zip(samples.labels, counts.tolist(), strict=True)),
    }
