"""The configuration as types: what each key means, its default and its range.

Hydra merges the yaml files of `conf/` into these dataclasses, so a wrong key or type fails while
the configuration is composed; `resolve` then checks ranges and paths. Nothing here imports torch.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from common.datasets.base import Dataset
from common.records import StrataError

UNITS = ("frame", "phone", "word")
TARGETS = ("mel", "layer", "phone", "word")
POOLINGS = ("mean", "middle_third", "centre", "first", "last", "max")
PARTS = ("cnn", "transformer")
SPLITS = ("frame", "utterance", "speaker")
LAYER_SETS = ("all", "cnn", "transformer", "last4", "every_other", "single")
LAYER_NAME = re.compile(r"[CT]\d+")
TASKS = ("analysis", "cache", "pretrain", "growth")

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]


def require(key: str, value: object, choices: Collection[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise StrataError(f"{key}={value}: choose one of {', '.join(map(str, choices))}")


def require_at_least(key: str, value: int | None, least: int) -> None:
    """Raise if a number is given and too small."""
    if value is not None and value < least:
        raise StrataError(f"{key}={value}: it must be at least {least}")


@dataclass(kw_only=True)
class ModelConfig:
    """A Hugging Face speech encoder. `conf/model/NAME.yaml` holds one each.

    `checkpoint` is a Hub id ("facebook/wav2vec2-base") or a folder in the Hub's format.
    `random_init` builds the architecture from its config with weights drawn from `init_seed`: the
    untrained control; only the checkpoint's config (and feature extractor config) is then read.
    `final_norm` passes the last block's output through the model's final layer norm, for those
    that have one after the blocks (design: off, as fairseq and the papers).
    `batch_size` utterances per forward pass: on a CPU larger batches gain nothing. Utterances of
    a batch have equal lengths where padding would change the frames.
    """

    name: str = MISSING
    checkpoint: str = MISSING
    revision: str = "main"
    random_init: bool = False
    init_seed: int = 0
    final_norm: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        require_at_least("model.batch_size", self.batch_size, 1)


@dataclass(kw_only=True)
class TargetConfig:
    """The other view: `mel`, `layer` (another layer of this model) or one-hot `phone` / `word`."""

    kind: str | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            require("target.kind", self.kind, TARGETS)
        if self.layer is not None and not LAYER_NAME.fullmatch(self.layer):
            raise StrataError(f"target.layer={self.layer}: a layer is named C1, C2, … or T0, T1, …")


@dataclass(kw_only=True)
class UnitSampling:
    """What an analysis draws. Null: no limit.

    `utterances` for frames; for labelled units at most `instances` of each of the `labels` most
    frequent labels that occur `min_instances` times or more.
    """

    utterances: int | None = None
    instances: int | None = None
    labels: int | None = None
    min_instances: int | None = None

    def __post_init__(self) -> None:
        for key in ("utterances", "instances", "labels", "min_instances"):
            require_at_least(f"sampling.{key}", getattr(self, key), 1)


@dataclass(kw_only=True)
class SamplingConfig(UnitSampling):
    """Sample sets, folds and trials of a run; the inherited keys override every analysis's own."""

    samples: int = 3
    folds: int = 10
    trials: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("sampling.samples", self.samples, 1)
        require_at_least("sampling.trials", self.trials, 1)
        if self.folds < 2 * self.trials + 1:
            raise StrataError(
                f"sampling.folds={self.folds} with sampling.trials={self.trials}: each trial takes "
                f"two folds of its own and one must be left to train on; use at least "
                f"{2 * self.trials + 1} folds"
            )


@dataclass(kw_only=True)
class AnalysisConfig:
    """unit + target + metric + sampling. `conf/analysis/NAME.yaml` holds one each."""

    unit: str = MISSING
    target: TargetConfig = MISSING
    metric: Any = MISSING
    sampling: UnitSampling = field(default_factory=UnitSampling)
    pooling: str | None = None
    parts: list[str] = field(default_factory=lambda: ["transformer"])

    def __post_init__(self) -> None:
        require("unit", self.unit, UNITS)
        for part in self.parts:
            require("parts", part, PARTS)
        if self.unit == "frame":
            require("target.kind (of frames)", self.target.kind, ("mel", "layer"))
        else:
            require(f"target.kind (of {self.unit} units)", self.target.kind, (self.unit,))
            require("pooling", self.pooling, POOLINGS)
        if self.target.kind == "layer" and self.target.layer is None:
            raise StrataError("target.layer=null: name the layer to compare with, e.g. T0")


@dataclass(kw_only=True)
class LayersConfig:
    """Which layers to score. `index=3` means T3; `indices=[C7,T3]` takes names; both override."""

    select: str = MISSING
    index: int | None = None
    indices: list[str] | None = None

    def __post_init__(self) -> None:
        require("layers", self.select, LAYER_SETS)
        require_at_least("layers.index", self.index, 0)
        for name in self.indices or ():
            if not LAYER_NAME.fullmatch(name):
                raise StrataError(f"layers.indices has {name}: a layer is named C1, … or T0, T1, …")
        if self.index is not None and self.indices is not None:
            raise StrataError("layers.index and layers.indices are both given: use one of them")
        if self.select == "single" and self.index is None and self.indices is None:
            raise StrataError("layers=single: say which, e.g. layers.index=3 for T3")

    def choose(self, names: Iterable[str]) -> list[str]:
        """The selected ones of a model's layer names, in the model's order."""
        names = list(names)
        if self.index is not None or self.indices is not None:
            wanted = self.indices if self.indices is not None else [f"T{self.index}"]
            for name in wanted:
                if name not in names:
                    raise StrataError(
                        f"layer {name} does not exist: this model has {names[0]} … {names[-1]} "
                        f"({', '.join(names)})"
                    )
            return [name for name in names if name in wanted]
        cnn = [name for name in names if name.startswith("C")]
        transformer = [name for name in names if name.startswith("T")]
        return {
            "all": names,
            "cnn": cnn,
            "transformer": transformer,
            "last4": transformer[-4:],
            "every_other": cnn[::2] + transformer[::2],
        }[self.select]


@dataclass(kw_only=True)
class PretrainConfig:
    """How to pretrain a small model. `conf/pretrain/NAME.yaml` holds a recipe each.

    `mix` names further datasets to learn from beside `dataset`; `weights` gives the part of the
    training that each gives ("main" is `dataset`), whatever its size; 1 where nothing is said.
    `without_speakers` are never learnt from. `valid_share` of the utterances are kept for the
    validation curves, every `valid_every` steps.

    A step sees `batch_seconds` of audio in crops of `crop_seconds`. `mask_prob` and `mask_length`
    as in wav2vec 2.0; `acoustic_weight` times the L1 distance to the MFCC is added to the loss.
    `temperature`: of the Gumbel softmax, first and last (contrastive). `units`: number of k-means
    clusters to be guessed (masked units), of MFCC, or of layer `teacher_layer` of the model in the
    folder `teacher`. `snapshots`: parts of the training after which the model is saved for later
    analysis. A checkpoint to resume from is written every `checkpoint_minutes`.
    """

    mix: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    without_speakers: list[str] = field(default_factory=list)
    valid_share: float = 0.02
    valid_every: int = 500
    steps: int = MISSING
    learning_rate: float = MISSING
    warmup_steps: int = MISSING
    weight_decay: float = MISSING
    gradient_clip: float = MISSING
    crop_seconds: float = MISSING
    batch_seconds: float = MISSING
    mask_prob: float = MISSING
    mask_length: int = MISSING
    acoustic_weight: float = MISSING
    temperature: list[float] = MISSING
    units: int = MISSING
    teacher: str | None = None
    teacher_layer: str | None = None
    snapshots: list[float] = MISSING
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for key in ("steps", "warmup_steps", "mask_length", "valid_every"):
            require_at_least(f"pretrain.{key}", getattr(self, key), 1)
        require_at_least("pretrain.units", self.units, 2)
        for key, most in (("mask_prob", 1.0), ("valid_share", 0.5), ("learning_rate", 1.0)):
            if not 0 < getattr(self, key) <= most:
                raise StrataError(
                    f"pretrain.{key}={getattr(self, key)}: use more than 0, up to {most:g}"
                )
        if not 0.5 <= self.crop_seconds <= self.batch_seconds:
            raise StrataError(
                f"pretrain.crop_seconds={self.crop_seconds}: use 0.5 s or more, up to "
                f"pretrain.batch_seconds={self.batch_seconds}"
            )
        self._check_lists()
        for name in self.weights:
            require("pretrain.weights", name, ("main", *self.mix))

    def _check_lists(self) -> None:
        if not all(0 < part <= 1 for part in self.snapshots):
            raise StrataError(
                f"pretrain.snapshots={self.snapshots}: parts of the training, above 0, up to 1"
            )
        if len(self.temperature) != 2 or not min(self.temperature) > 0:
            raise StrataError(
                f"pretrain.temperature={self.temperature}: give two above 0, [first, last]"
            )
        if (self.teacher is None) != (self.teacher_layer is None):
            raise StrataError(
                f"pretrain.teacher={self.teacher} and pretrain.teacher_layer="
                f"{self.teacher_layer}: give both (units of a model's layer), or none (of MFCC)"
            )


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are logged: `backend` none or wandb; `mode` online, offline or disabled."""

    backend: str = MISSING
    mode: str = "online"
    project: str = "strata"
    entity: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        require("tracking", self.backend, ("none", "wandb"))
        require("tracking.mode", self.mode, ("online", "offline", "disabled"))


@dataclass(kw_only=True)
class PathsConfig:
    """Folders for the files of runs and for cached statistics."""

    runs: str = MISSING
    cache: str = MISSING


@dataclass(kw_only=True)
class Config:
    """Everything `run.py` takes. `conf/config.yaml` and its groups fill it."""

    name: str = MISSING
    task: str = MISSING
    model: ModelConfig = MISSING
    dataset: Any = MISSING
    experiments: dict[str, AnalysisConfig] = field(default_factory=dict)
    metric: Any = None
    target: TargetConfig = field(default_factory=TargetConfig)
    layers: LayersConfig = MISSING
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    split: str = "frame"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    cache: str = "on"
    clear: str | None = None
    pretrain: PretrainConfig = MISSING
    snapshots: str | None = None
    tracking: TrackingConfig = MISSING
    paths: PathsConfig = MISSING

    def __post_init__(self) -> None:
        require("task", self.task, TASKS)
        require("split", self.split, SPLITS)
        require("device", self.device, get_args(Device))
        require("precision", self.precision, get_args(Precision))
        require("cache", self.cache, ("on", "off", "refresh"))
        if self.clear is not None:
            require("clear", self.clear, ("stale", "all"))


def register() -> None:
    """Make the schema known to Hydra under the name that `conf/config.yaml` starts from."""
    ConfigStore.instance().store(name="schema", node=Config)


def resolve(cfg: DictConfig) -> Config:
    """Typed configuration: keys, ranges and paths checked, datasets and metrics constructed."""
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        raise StrataError(f"{error.full_key}=???: give it, {error.full_key}=…") from None
    if not isinstance(config, Config):
        raise TypeError("compose the configuration from conf/config.yaml: its schema is missing")
    if config.task == "growth" and config.snapshots is None:
        raise StrataError("snapshots=null: name the folder `snapshots` of a pretraining run")
    dataset = _dataset("dataset", config.dataset)
    metric = None if config.metric is None else _construct("metric", config.metric)
    experiments = {
        name: _member(name, analysis, metric, config)
        for name, analysis in config.experiments.items()
    }
    if config.task in ("analysis", "growth") and not experiments:
        raise StrataError(f"experiment={config.name} mounts no analysis")
    return replace(
        config,
        dataset=dataset,
        metric=metric,
        experiments=experiments,
        pretrain=_pretrain(config.pretrain),
    )


def _pretrain(recipe: PretrainConfig) -> PretrainConfig:
    """The recipe with its further datasets constructed."""
    mix = {name: _dataset(f"pretrain.mix.{name}", node) for name, node in recipe.mix.items()}
    return replace(recipe, mix=mix)


def _dataset(key: str, node: object) -> Dataset:
    """Construct a dataset, and know it to be one."""
    dataset = _construct(key, node)
    if not isinstance(dataset, Dataset):
        raise StrataError(f"{key}: {type(dataset).__name__} is not a common.datasets Dataset")
    return dataset


def _member(name: str, analysis: AnalysisConfig, metric: object, config: Config) -> AnalysisConfig:
    """One analysis with the run's own metric, target layer and sampling laid over it."""
    single = len(config.experiments) == 1
    own = _construct(f"experiments.{name}.metric", analysis.metric) if metric is None else metric
    overrides = {
        key: value
        for key in ("utterances", "instances", "labels", "min_instances")
        if (value := getattr(config.sampling, key)) is not None
        and getattr(analysis.sampling, key) is not None
    }
    target = analysis.target
    if config.target.layer is not None:
        if target.kind != "layer" or not single:
            raise StrataError(
                f"target.layer={config.target.layer}: only a single experiment against a layer "
                f"takes it; here use experiments.cca_intra.target.layer={config.target.layer}"
            )
        target = replace(target, layer=config.target.layer)
    return replace(
        analysis, metric=own, target=target, sampling=replace(analysis.sampling, **overrides)
    )


def _construct(key: str, node: object) -> Any:
    """Instantiate a `_target_` node; an error of its constructor reaches the user as its own."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, StrataError):
            raise error.__cause__ from None
        given = (
            {k: v for k, v in node.items() if k != "_target_"} if isinstance(node, dict) else node
        )
        raise StrataError(f"{key}: {error.__cause__ or error}; it was given {given}") from None
