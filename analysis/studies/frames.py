"""Frames of whole utterances or of words, from disk."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch

from analysis.forward import pooling
from analysis.forward.consumers import Consumer, FrameConsumer
from analysis.forward.pooling import grid_geometry
from analysis.metrics import frames as frames_store
from analysis.metrics.base import FrameMetric
from analysis.metrics.frames import Frames, load_frames, segments_with_frames
from analysis.sampling import folds as sampling
from analysis.sampling.folds import digest_of
from analysis.sampling.segments import Segments, draw_units, draw_utterances
from analysis.studies.study import Failure, Job, Scored, Setting, Study, metric_of, split_of
from analysis.targets import mel as targets
from analysis.targets.base import label_target
from common.config import AnalysisConfig
from common.encoder import encoder
from common.encoder.architecture import Layer
from common.encoder.frames import FrameGeometry
from common.narrowing import narrowed
from common.records import Corpus, StrataError

log = logging.getLogger(__name__)

KIND = "frames"
VERSIONS = {
    "encoder": encoder.VERSION,
    "sampling": sampling.VERSION,
    "pooling": pooling.VERSION,
    "frames": frames_store.VERSION,
    "targets": targets.VERSION,  # of the mel frames that are kept for the controls
}


@dataclass(frozen=True, eq=False)
class FrameStudy(Study):
    """Metrics of frames: experiments on the same segments share them."""

    drawn: Mapping[str, Segments]
    corpus: Corpus
    stored: str

    @classmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw words, or whole utterances; the key is without samples, which share the frames."""
        setting.refuse_partitions(name, analysis)
        if analysis.unit != "frame" and analysis.pooling != "mean":
            raise StrataError(
                f"experiments.{name}.pooling={analysis.pooling}: {metric_of(analysis).name} takes "
                "all frames of a segment; leave it at mean"
            )
        config, corpus = setting.config, setting.corpus
        if analysis.unit == "frame":
            drawn = draw_utterances(corpus, analysis, config.sampling, config.seed)
            digest = digest_of(drawn.utterance)  # without lengths, which only the audio gives
        else:
            split = split_of(config, analysis) if metric_of(analysis).held_out else "frame"
            drawn = draw_units(corpus, analysis, config.sampling, split, config.seed)
            digest = drawn.digest()
        key = dict(setting.key) | {
            "unit": analysis.unit,
            "stored": analysis.stored,
            "versions": VERSIONS,
            "drawn": digest,
        }
        study = cls(
            experiments={name: analysis},
            layers=setting.layers,
            entry=setting.cache.entry(KIND, key),
            drawn={name: drawn},
            corpus=corpus,
            seed=config.seed,
            trials=config.sampling.tested_folds,
            stored=analysis.stored,
            controls=config.controls,
        )
        return replace(study, no_interval={name: study.check(name)})

    def check(self, name: str) -> str:
        """Raise if the metric cannot score what was drawn, before anything is computed.

        Returns why its scores will have no intervals, or "".
        """
        drawn, utterances = self.drawn[name], self.corpus.utterances
        metric, without = self.metric(name), []
        for sample in range(len(drawn.folds)):
            segments = drawn.of_sample(sample)
            chosen = [utterances[u] for u in segments.utterance]
            zero = np.zeros(len(chosen), dtype=np.int64)
            announced = Frames(
                hidden=np.zeros((0, 0), dtype=np.float32),
                starts=zero,
                offsets=np.zeros(len(chosen) + 1, dtype=np.int64),
                geometry=pooling.grid_geometry(self.layers[-1].geometry),
                segments=segments,
                utterances=tuple(chosen),
                n_samples=np.array([u.n_samples for u in chosen]),
                tier=label_target(self.experiments[name]).labelled_by("frame"),
                seed=self.sample_seed(sample),
                trials=self.trials,
            )
            metric.check(announced)
            without.append(metric.no_interval(announced))
        return next(filter(None, without), "")

    def joined(self, other: Self) -> Self:
        """One study of both, which have drawn the same segments."""
        return replace(super().joined(other), drawn={**self.drawn, **other.drawn})

    def consumer(self, device: torch.device) -> Consumer:  # noqa: ARG002
        """Collects the frames of missing layers; logs how much disk they will take."""
        segments = next(iter(self.drawn.values()))
        log.info(
            "%s: about %.2f GB of frames go to disk as %s",
            ", ".join(self.experiments),
            1e-9 * self.disk_bytes(),
            self.stored,
        )
        return FrameConsumer(segments, self.entry, self.needed_layers(), self.stored)

    def disk_bytes(self) -> int:
        """Size of the missing layers' frames, by the lengths that are known without the audio."""
        segments = next(iter(self.drawn.values()))
        samples = int((segments.end - segments.start).sum())
        missing = [layer for layer in self.needed_layers() if not self.entry.has(layer.name)]
        frames = {one.name: samples // grid_geometry(one.geometry).hop for one in missing}
        return sum(frames[one.name] * one.dim for one in missing) * np.dtype(self.stored).itemsize

    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """A job per experiment, sample and layer."""
        for name, sample, layer in self.each(self._samples(), chosen):
            yield Job((name,), layer.name, partial(self._score, name, sample, layer))

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Mel in a layer's place, a metric's own baseline, and labels permuted if there are any."""
        for which in self.controls_of(self._samples(), chosen):
            yield Job((which[0],), which[2].name, partial(self._score, *which))
        for name, count in self._samples().items():
            baseline = self.metric(name).baseline_name
            if baseline and chosen[name]:
                for sample in range(count):
                    yield Job((name,), baseline, partial(self._baseline, name, sample))

    def without_controls(self) -> dict[str, dict[str, str]]:
        """Whole utterances have no label to permute."""
        return {
            name: {"shuffled_labels": self.metric(name).no_shuffled_labels}
            for name, drawn in self.drawn.items()
            if not drawn.labels
        }

    def _samples(self) -> dict[str, int]:
        return {name: len(drawn.folds) for name, drawn in self.drawn.items()}

    def _score(
        self, name: str, sample: int, layer: Layer, control: str = ""
    ) -> list[Scored | Failure]:
        frames = self._frames(name, sample, layer)
        if control == "shuffled_labels":
            frames = frames.shuffled()
        metric = self.metric(name)
        scores = metric.score(frames)
        if self.no_interval[name]:
            scores = [replace(one, low=None, high=None) for one in scores]
        split = frames.segments.split if metric.held_out else "speaker"
        return [Scored(name, layer, sample, len(frames.utterances), split, scores, control)]

    def _baseline(self, name: str, sample: int) -> list[Scored | Failure]:
        """A metric's own baseline, which does not depend on a layer."""
        metric = self.metric(name)
        frames = self._frames(name, sample, self.layers_of(name)[0])
        layer = Layer(metric.baseline_name, "baseline", 0, 0, FrameGeometry())
        scores = metric.baseline(frames)
        return [Scored(name, layer, sample, len(frames.utterances), "speaker", scores, layer.name)]

    def _frames(self, name: str, sample: int, layer: Layer) -> Frames:
        drawn = self.drawn[name]
        layers = {layer.name, *(one.name for one in self.layers_of(name))}
        chosen = drawn.drawn(sample)
        frames = load_frames(
            self.entry,
            layer.name,
            grid_geometry(layer.geometry),
            drawn,
            chosen[segments_with_frames(self.entry, layers)[chosen]],
            self.corpus.utterances,
            label_target(self.experiments[name]).labelled_by("frame"),
            self.sample_seed(sample),
        )
        folds = frames.segments.folds[[sample]]
        return replace(frames, segments=replace(frames.segments, folds=folds), trials=self.trials)

    def metric(self, name: str) -> FrameMetric:
        """The metric of an experiment."""
        return narrowed(self.experiments[name].metric, FrameMetric)

    def describe(self) -> dict[str, object]:
        """Segments of each sample, for each experiment."""
        return {
            "experiments": list(self.experiments),
            "frames_stored_as": self.stored,
            "drawn": {
                name: {
                    "segments_per_sample": (drawn.folds >= 0).sum(1).tolist(),
                    "segments_drawn_by_any_sample": len(drawn.utterance),
                    "labels": len(drawn.labels),
                    "dropped": drawn.dropped,
                }
                for name, drawn in self.drawn.items()
            },
        }
