"""A study: experiments that look at the same units, and the cache entry of their statistics."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self

import torch

from analysis.forward.consumers import MEL, Consumer
from analysis.metrics.base import Metric, MomentMetric
from analysis.moments import FoldedView, Folds
from analysis.sampling.speech import RunSpeech
from analysis.targets.base import LabelTarget
from common.cache.cache import Cache, Entry
from common.config import AnalysisConfig, Config
from common.encoder.architecture import Layer
from common.metric import Score
from common.narrowing import narrowed
from common.records import Corpus, StrataError
from common.seeding import generator

log = logging.getLogger(__name__)

GROUPS = 12  # most groups of folds of a sample: ten folds, and two halves for an interval


@dataclass(frozen=True)
class Scored:
    """Scores of one layer on one sample of n units.

    `split` is how their folds were cut; `control` is "" for the experiment itself; `target` names
    what the layer was compared with, where that is not the same for all layers.
    """

    experiment: str
    layer: Layer
    sample: int
    n: int
    split: str
    scores: list[Score]
    control: str = ""
    target: str = ""


@dataclass(frozen=True)
class Failure:
    """A layer of an experiment that could not be scored, and why; the others are scored."""

    experiment: str
    layer: str
    why: str


def failure_of(experiment: str, layer: str, error: Exception) -> Failure:
    """A failure from an exception, whose traceback goes to the log.

    An error with instructions for the user needs no traceback.
    """
    if isinstance(error, StrataError):
        return Failure(experiment, layer, str(error))
    log.error("%s, %s: %s", experiment, layer, error, exc_info=error)
    return Failure(experiment, layer, f"{type(error).__name__}: {error} (traceback in run.log)")


@dataclass(frozen=True)
class Job:
    """An independent piece of scoring; if it raises, these experiments fail in this layer."""

    experiments: tuple[str, ...]
    layer: str
    score: Callable[[], list[Scored | Failure]]

    def run(self) -> list[Scored | Failure]:
        """The scores; a failure where there are none."""
        try:
            return self.score()
        except Exception as error:
            return [failure_of(name, self.layer, error) for name in self.experiments]


@dataclass(frozen=True, eq=False)
class Setting:
    """What all studies of a run share. `key`: what every statistic depends on."""

    config: Config
    speech: RunSpeech
    layers: tuple[Layer, ...]
    cache: Cache
    key: Mapping[str, object]

    @property
    def corpus(self) -> Corpus:
        """The dataset's own partition; its utterances have the same numbers in the pass."""
        return self.speech.corpus

    def refuse_partitions(self, name: str, analysis: AnalysisConfig) -> None:
        """Raise where an experiment that cannot use them has a fit or a score partition."""
        for key in ("fit_partition", "score_partition"):
            if getattr(analysis, key) is not None:
                raise StrataError(
                    f"experiments.{name}.{key}={getattr(analysis, key)}: "
                    f"{metric_of(analysis).name} is fitted and scored in folds of one partition; "
                    "use dataset.partition="
                )


@dataclass(frozen=True, eq=False)
class Study(ABC):
    """Experiments on the same units, and the cache entry that holds their statistics.

    `no_interval`: for each experiment why its scores have no 95 % interval, "" if they have one.
    `scored_on`: a GPU that scores what can be scored there; None: all is scored on the CPU.
    `seed`, `trials`: the run's.
    """

    experiments: Mapping[str, AnalysisConfig]
    layers: tuple[Layer, ...]
    entry: Entry
    seed: int
    trials: int
    controls: bool = field(default=False, kw_only=True)
    no_interval: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    scored_on: torch.device | None = field(default=None, kw_only=True)

    @property
    def needs_second_model(self) -> bool:
        """Whether the pass runs the run's second model as well."""
        return any(one.target.needs_second_model for one in self.experiments.values())

    @classmethod
    @abstractmethod
    def build(cls, setting: Setting, name: str, analysis: AnalysisConfig) -> Self:
        """Draw one experiment's units and find its entry; an error says why it cannot run.

        Neither weights nor audio are read.
        """

    def joined(self, other: Self) -> Self:
        """One study of the experiments of both, which have the same entry."""
        return replace(
            self,
            experiments={**self.experiments, **other.experiments},
            no_interval={**self.no_interval, **other.no_interval},
        )

    def complete(self) -> bool:
        """Whether the cache holds all that the experiments need: here a file for each layer."""
        return all(self.entry.has(layer.name) for layer in self.needed_layers())

    @abstractmethod
    def consumer(self, device: torch.device) -> Consumer:
        """What collects, in a forward pass, the statistics that the cache lacks."""

    @abstractmethod
    def jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
        """Independent pieces of scoring; `chosen` names the layers of each experiment."""

    def control_jobs(self, chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:  # noqa: ARG002
        """Scoring of the controls that need no other weights: mel, shuffled labels or table."""
        yield from ()

    def without_controls(self) -> dict[str, dict[str, str]]:
        """For each experiment the controls that it cannot have, and why."""
        return {}

    def score_moments(self, name: str, metric: MomentMetric, folds: Folds) -> list[Score]:
        """Scores of an experiment from moments, on the GPU `scored_on` if it has room."""
        with_interval = not self.no_interval[name]
        if self.scored_on is not None and metric.on_devices:
            try:
                return metric.score(folds.on(self.scored_on), with_interval)
            except torch.OutOfMemoryError:
                log.warning("%s: %s is full: scored on the CPU", name, self.scored_on)
                folds.leave(self.scored_on)
        return metric.score(folds, with_interval)

    def device_bytes(self) -> int:
        """About how much memory of a GPU a job takes: both views of a sample, for every trial.

        The moments of each group, the merged ones and the whitening of each trial, and as much
        again for the products that a fit needs.
        """
        widest = max(layer.dim for layer in self.layers)
        return 2 * 8 * 3 * widest**2 * (GROUPS + 2 * GROUPS)

    def job_bytes(self) -> int:
        """About how much memory a job takes; jobs run side by side as far as that allows."""
        return 0

    def disk_bytes(self) -> int:
        """About how much room on the disk the statistics take that the entry lacks."""
        return 0

    def memory_bytes(self) -> int:
        """About how much memory a pass holds of the statistics that the entry lacks."""
        return 0

    def sample_seed(self, sample: int) -> int:
        """Seed of a sample, for what its metrics draw."""
        return int(generator(self.seed, "sample", sample).integers(2**31))

    def utterance(self, number: int) -> int:
        """Index, in the run's speech, of utterance `number` of the entry."""
        return number

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """What was drawn and dropped, for the metadata."""

    def layers_of(self, name: str) -> list[Layer]:
        """Layers that an experiment covers, before the user's choice among them."""
        return [layer for layer in self.layers if layer.part in self.experiments[name].parts]

    def needed_layers(self) -> list[Layer]:
        """Layers that any of the experiments covers; with `controls` also mel."""
        parts = {part for analysis in self.experiments.values() for part in analysis.parts}
        covered = [layer for layer in self.layers if layer.part in parts]
        return covered + ([MEL] if self.controls else [])

    def each(
        self, samples: Mapping[str, int], chosen: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, int, Layer]]:
        """(experiment, sample, layer) of every layer that is `chosen`; `samples`: how many."""
        for name, count in samples.items():
            for sample in range(count):
                for layer in self.layers:
                    if layer.name in chosen[name]:
                        yield name, sample, layer

    def controls_of(
        self, samples: Mapping[str, int], chosen: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, int, Layer, str]]:
        """(experiment, sample, layer, control): mel in a layer's place, each with shuffled labels.

        Where the target is a table, its rows are permuted among the word types instead. Controls
        that an experiment cannot have are left out.
        """
        without, every = self.without_controls(), list(self.each(samples, chosen))
        mel = [(*which, MEL, "mel") for which in dict.fromkeys((name, k) for name, k, _ in every)]
        for one in (*mel, *((*which, self.label_control(which[0])) for which in every)):
            if one[-1] not in without.get(one[0], {}):
                yield one

    def label_control(self, name: str) -> str:
        """Which control breaks the relation of units to what they are compared with."""
        target = self.experiments[name].target
        by_type = isinstance(target, LabelTarget) and target.by_type
        return "permuted_table" if by_type else "shuffled_labels"


def metric_of(analysis: AnalysisConfig) -> Metric:
    """The analysis's metric, which `resolve` has constructed."""
    return narrowed(analysis.metric, Metric)


def split_of(config: Config, analysis: AnalysisConfig) -> str:
    """The split of an analysis: its own, else the run's."""
    return analysis.split or config.split


class SharedViews:
    """Moments of views that many layers are compared with, computed once, by name.

    `uses`: how often each will be asked for. A view is forgotten after its last use.
    """

    def __init__(self, uses: Counter[Hashable]) -> None:
        self._uses = uses
        self._views: dict[Hashable, FoldedView] = {}
        self._lock = Lock()

    @contextmanager
    def view(self, name: Hashable, make: Callable[[], FoldedView]) -> Iterator[FoldedView]:
        """The view of this name; two jobs may make it at once, and then share one of the two."""
        held = self._views.get(name) or make()
        if self._uses[name] > 1:
            held = self._views.setdefault(name, held)
        try:
            yield held
        finally:
            with self._lock:
                self._uses[name] -= 1
                if self._uses[name] <= 0:
                    self._views.pop(name, None)
