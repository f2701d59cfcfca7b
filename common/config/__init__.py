"""The configuration as types: what each key means, its default and its range.

Hydra merges the yaml files of `conf/` into these dataclasses, so a wrong key or type fails while
the configuration is composed; `resolve` then checks ranges and paths. Nothing here imports torch.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from common.config.analysis import (
    ASKS,
    LIMITS,
    POOLINGS,
    SPLITS,
    AnalysisConfig,
    SamplingConfig,
    TargetOverrides,
    UnitSampling,
    drawn_by,
    require,
)
from common.config.building import construct
from common.config.composing import compose_in_linear_time, compose_once
from common.config.finetune import FinetuneConfig, PartConfig, RecognitionConfig
from common.config.groups import (
    FeaturesConfig,
    LayersConfig,
    ModelConfig,
    PathsConfig,
    ProtocolConfig,
    TrackingConfig,
    UnitsConfig,
)
from common.config.pretrain import PretrainConfig
from common.config.report import ReportConfig
from common.datasets.base import Dataset
from common.datasets.librispeech_local import PARTITIONS as LIBRISPEECH_PARTITIONS
from common.metric import Metric
from common.reading import brief
from common.records import StrataError
from common.target import Target

__all__ = [
    "AnalysisConfig",
    "Config",
    "FeaturesConfig",
    "FinetuneConfig",
    "LayersConfig",
    "ModelConfig",
    "PathsConfig",
    "PretrainConfig",
    "RecognitionConfig",
    "ReportConfig",
    "SamplingConfig",
    "TargetOverrides",
    "TrackingConfig",
    "UnitSampling",
    "UnitsConfig",
    "compose_once",
    "register",
    "resolve",
]

log = logging.getLogger(__name__)

CONF = Path(__file__).resolve().parents[2] / "conf"
ASKED = re.compile(r"^asks: (\w+)", re.MULTILINE)

TASKS = (
    "analysis",
    "cache",
    "pretrain",
    "growth",
    "ctc",
    "evaluate",
    "transcribe",
    "features",
    "units",
    "report",
    "dashboard",
    "steps",
)

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Scoring = Literal["auto", "cpu"]


@dataclass(kw_only=True)
class Config:
    """Everything `run.py` takes. `conf/config.yaml` and its groups fill it.

    `other` is a second model, for experiments that compare two.
    `protocol` says how scores are made; its other settings are keys of the run (`split`,
    `sampling.trials`, `by_type`), which the command line can change one by one.
    `by_type`: where what a unit is compared with is a function of its word type (a table of
    vectors), folds keep types apart, so that no score rewards knowing which word it is.
    `controls` adds what the scores are compared with: the same architecture with random
    weights (a forward pass of its own), the mel filterbank in a layer's place, shuffled labels.

    `scoring`: CCA is scored on the GPU where the model runs on one with room for it ("auto"), or on
    the CPU ("cpu").

    `precision` of the model's products: "fp32"; "tf32", which rounds what they multiply to 10 bits,
    on CUDA GPUs since Ampere and for analyses alone; "bf16" or "fp16", half precision.

    `on_error`: audio that cannot be read in the pass is an error when the rest has been read
    ("raise"; what was computed is kept, and the next run reads only that audio), or is left out
    ("skip"), which every result says.

    With `leave_out` an analysis that the dataset or the given paths do not allow is left out,
    with its reason, instead of being an error; `resolve` puts into `left_out` those that it knows.
    So is one that is heavy (it says why), unless the run is `heavy`.
    `steps`, of the task `steps`: tasks by name, one after another, each in a folder of its name;
    what follows a task that exports a model takes that model, and compares it with the one before
    where an experiment compares two (and no `other` is named).
    `plugins` names packages of yours whose datasets and metrics a `_target_` may name.
    """

    name: str = MISSING
    task: str = MISSING
    model: ModelConfig = MISSING
    other: ModelConfig | None = None
    dataset: Any = MISSING
    experiments: dict[str, AnalysisConfig] = field(default_factory=dict)
    metric: Any = None
    target: TargetOverrides = field(default_factory=TargetOverrides)
    layers: LayersConfig = MISSING
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    protocol: ProtocolConfig = MISSING
    split: str = "speaker_else_utterance"
    by_type: bool = True
    seed: int = 0
    device: str = "auto"
    scoring: str = "auto"
    precision: str = "fp32"
    cache: str = "on"
    on_error: str = "raise"
    clear: str | None = None
    clusterer: str = "minibatch"
    controls: bool = False
    leave_out: bool = False
    heavy: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    pretrain: PretrainConfig = MISSING
    finetune: FinetuneConfig = MISSING
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    steps: dict[str, str] = field(default_factory=dict)
    snapshots: str | None = None
    report: ReportConfig = field(default_factory=ReportConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    plugins: list[str] = field(default_factory=list)
    tracking: TrackingConfig = MISSING
    paths: PathsConfig = MISSING

    def __post_init__(self) -> None:
        require("task", self.task, TASKS)
        require("split", self.split, SPLITS)
        require("device", self.device, get_args(Device))
        require("scoring", self.scoring, get_args(Scoring))
        require("precision", self.precision, get_args(Precision))
        require("cache", self.cache, ("on", "off", "refresh"))
        require("on_error", self.on_error, ("raise", "skip"))
        if self.clear is not None:
            require("clear", self.clear, ("stale", "all"))
        for name, task in self.steps.items():
            require(f"steps.{name}", task, tuple(t for t in TASKS if t != "steps"))
        if self.precision == "tf32":
            self._check_rounding()

    def _check_rounding(self) -> None:
        """Refuse tf32 where no product would be rounded, or not all of them."""
        if self.device in ("cpu", "mps"):
            raise StrataError(
                f"precision=tf32 is of CUDA GPUs, not of device={self.device}: use precision=fp32"
            )
        others = {self.task, *self.steps.values()} & {"ctc", "evaluate", "pretrain", "transcribe"}
        if others:
            raise StrataError(
                f"precision=tf32 is for analyses: for {', '.join(sorted(others))} fp32, bf16 or "
                "fp16"
            )


def register() -> None:
    """Make known to Hydra the schema, and the experiments that follow from the analyses.

    `conf/analysis/NAME.yaml` makes `experiment=NAME`, which mounts it and nothing else, unless
    `conf/experiment/NAME.yaml` says more. `every_analysis` mounts all of them, by what they ask.
    """
    store = ConfigStore.instance()
    compose_in_linear_time()
    store.store(name="schema", node=Config)
    for name in analyses():
        if not (CONF / "experiment" / f"{name}.yaml").exists():
            node = mounting([name]) | {"name": name, "task": "analysis"}
            store.store(name, node, group="experiment", package="_global_")
    everything = mounting(analyses()) | {"name": "every_analysis", "task": "analysis"}
    store.store("every_analysis", everything, group="experiment", package="_global_")


def analyses() -> list[str]:
    """Names of the analyses in `conf/analysis`, ordered by what they ask, then by name."""
    files = {path.stem: path.read_text() for path in sorted((CONF / "analysis").glob("*.yaml"))}
    asks = {n: m[1] if (m := ASKED.search(text)) else "other" for n, text in files.items()}
    return sorted(files, key=lambda name: ASKS.index(asks[name]) if asks[name] in ASKS else -1)


def mounting(names: Sequence[str]) -> dict[str, Any]:
    """The defaults of an experiment that mounts these analyses under their names."""
    return {"defaults": [*({f"/analysis@experiments.{n}": n} for n in names), "_self_"]}


def resolve(cfg: DictConfig) -> Config:
    """Typed configuration: keys, ranges and paths checked, datasets and metrics constructed."""
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        raise StrataError(f"{error.full_key}=???: give it, {error.full_key}=…") from None
    except OmegaConfBaseException as error:
        raise StrataError(f"{error.full_key}: {brief(error.msg or error)}") from None
    if not isinstance(config, Config):
        raise TypeError("compose the configuration from conf/config.yaml: its schema is missing")
    if config.task == "growth" and config.snapshots is None:
        raise StrataError("snapshots=null: name the folder `snapshots` of a pretraining run")
    if config.task == "report" and not config.report.patterns:
        raise StrataError("report.runs=null: say which runs, e.g. 'report.runs=runs/**'")
    _refuse_not_finite("", OmegaConf.to_container(cfg, resolve=True))
    dataset = _dataset("dataset", config.dataset, config)
    _check_partitions(dataset, config)
    tasks = (config.task, *config.steps.values())
    if {"analysis", "growth"} & set(tasks) and not config.experiments:
        raise StrataError(f"experiment={config.name} mounts no analysis")
    experiments = {
        name: _member(name, analysis, config) for name, analysis in config.experiments.items()
    }
    _check_limits(experiments, config.sampling)
    dataset = dataset.with_tiers(_tiers(experiments))
    experiments = _as_published(experiments, dataset, config)
    metric = None if config.metric is None else _metric("metric", config.metric, config)
    experiments = experiments if metric is None else _with_metric(metric, experiments, config)
    missing = _missing_files(experiments, config.leave_out) | _missing_model(experiments, config)
    missing |= _too_heavy(experiments, config)
    experiments = {name: analysis for name, analysis in experiments.items() if name not in missing}
    mix = {
        n: _dataset(f"pretrain.mix.{n}", node, config) for n, node in config.pretrain.mix.items()
    }
    return replace(
        config,
        dataset=dataset,
        metric=metric,
        experiments=experiments,
        left_out=config.left_out | missing,
        pretrain=replace(config.pretrain, mix=mix),
        finetune=_finetune(config.finetune, config),
    )


def _refuse_not_finite(key: str, value: object) -> None:
    """Refuse NaN and infinity as a setting: a range check lets NaN pass."""
    if isinstance(value, float) and not isfinite(value):
        raise StrataError(f"{key}={value}: use a finite number")
    if isinstance(value, dict):
        for name, element in value.items():
            _refuse_not_finite(f"{key}.{name}" if key else str(name), element)
    if isinstance(value, list):
        for number, element in enumerate(value):
            _refuse_not_finite(f"{key}[{number}]", element)


def _check_partitions(dataset: Dataset, config: Config) -> None:
    """Constructing the dataset with another partition checks that one too."""
    for name, analysis in config.experiments.items():
        for key in ("fit_partition", "score_partition"):
            partition = getattr(analysis, key)
            try:
                replace(dataset, partition=partition or dataset.partition)
            except StrataError as error:
                raise StrataError(f"experiments.{name}.{key}={partition}: {error}") from None


def _finetune(recipe: FinetuneConfig, config: Config) -> FinetuneConfig:
    """A recipe with the datasets that it names constructed."""
    parts: dict[str, PartConfig] = {
        name: replace(part, dataset=_dataset(f"finetune.{name}.dataset", part.dataset, config))
        for name in ("train", "valid", "test")
        if (part := getattr(recipe, name)).dataset is not None
    }
    return replace(recipe, **parts)  # type: ignore[arg-type]


def _dataset(key: str, node: object, config: Config) -> Dataset:
    return construct(key, node, Dataset, "common.datasets", config.plugins)


def _member(name: str, analysis: AnalysisConfig, config: Config) -> AnalysisConfig:
    """One analysis with the run's own target and sampling laid over it."""
    target = _target(name, analysis, config)
    analysis = replace(analysis, unit=target.unit_of(analysis.unit))
    if analysis.unit != "frame":
        require(f"experiments.{name}.pooling", analysis.pooling, POOLINGS)
    metric = _metric(f"experiments.{name}.metric", analysis.metric, config)
    if not metric.accepts(analysis.unit, target):
        raise StrataError(
            f"experiments.{name}.metric: {metric.name} takes no {analysis.unit} units with the "
            f"target {target.name}"
        )
    for setting in fields(metric):
        if getattr(metric, setting.name) is None:
            raise StrataError(f"experiments.{name}.metric.{setting.name}=null: give it a value")
    member = replace(analysis, metric=metric, target=target)
    return replace(member, sampling=_sampling(member, config.sampling))


def _sampling(member: AnalysisConfig, run: SamplingConfig) -> UnitSampling:
    """What an analysis draws, the run's own limits laid over it."""
    limits: dict[str, Any] = {key: getattr(member.sampling, key) for key in LIMITS}
    for key in LIMITS:
        given, reduced = getattr(run, key), getattr(run.reduced, key)
        if given is not None and (limits[key] is not None or key in limits_of(member)):
            limits[key] = given
        elif reduced is not None and limits[key] is not None:
            limits[key] = reduced
    return UnitSampling(**limits)


def limits_of(member: AnalysisConfig) -> tuple[str, ...]:
    """Which limits mean something for an analysis, its target and metric constructed."""
    target = member.target
    limits = drawn_by(member.unit, target.labels_units and not member.metric.reads_frames)
    return (*limits, "frames") if member.unit == "frame" and target.needs_second_model else limits


def _check_limits(experiments: Mapping[str, AnalysisConfig], run: SamplingConfig) -> None:
    """A limit of the run that none of its analyses draws by is refused; the log says for which."""
    for key in LIMITS:
        value = getattr(run, key)
        if value is None or not experiments:
            continue
        without = [
            name
            for name, analysis in experiments.items()
            if getattr(analysis.sampling, key) is None
        ]
        if len(without) == len(experiments):
            (name, analysis), *_ = experiments.items()
            raise StrataError(
                f"sampling.{key}={value}: does nothing, as none of {', '.join(without)} draws its "
                f"units by that; {name} ({analysis.unit}) draws by {', '.join(limits_of(analysis))}"
            )
        if without:
            log.info("sampling.%s is not for %s", key, ", ".join(without))


# Keys of `target` on the command line: what kind of target has them, and an example.
TARGET_KEYS = {
    "layer": ("a layer", "cca_intra"),
    "path": ("a file", "cca_glove"),
    "pairs": ("a second model", "cca_inter"),
    "attribute": ("an attribute of utterances", "probe_gender"),
    "tier": ("a label of your own", "cca_label"),
    "table": ("a label of your own", "cca_label"),
    "column": ("a label of your own", "cca_label"),
}


def _target(name: str, analysis: AnalysisConfig, config: Config) -> Target:
    """An analysis's target with `target.layer=`, `path=` or `pairs=` of the command line."""
    node = dict(analysis.target)
    for key, (what, example) in TARGET_KEYS.items():
        value = getattr(config.target, key)
        if value is None:
            continue
        if key not in node or len(config.experiments) > 1:
            raise StrataError(
                f"target.{key}={value}: only a single experiment against {what} takes it; with "
                f"several use experiments.{example}.target.{key}={value}"
            )
        node[key] = value
    key = f"experiments.{name}.target"
    target: Target = construct(key, node, Target, "analysis", config.plugins)
    target.check(f"experiments.{name}", analysis.unit, analysis.sampling)
    return target


def _tiers(experiments: Mapping[str, AnalysisConfig]) -> list[str]:
    """Tiers that the experiments ask for by name."""
    named = (
        tier for analysis in experiments.values() for tier in analysis.target.tiers(analysis.unit)
    )
    return list(dict.fromkeys(named))


def _as_published(
    experiments: Mapping[str, AnalysisConfig], dataset: Dataset, config: Config
) -> dict[str, AnalysisConfig]:
    """The protocol's metric and partition, for the analyses that they fit."""
    members, protocol = dict(experiments), config.protocol
    if protocol.metric is not None:
        metric = _metric("protocol.metric", protocol.metric, config)
        members |= {
            n: replace(one, metric=metric) for n, one in members.items() if _takes(one, metric)
        }
    if protocol.fit_partition is not None:
        clustered = [n for n, one in members.items() if one.metric.family == "clusters"]
        clustered = [name for name in clustered if members[name].fit_partition is None]
        if dataset.partition.replace("-", "_") in LIBRISPEECH_PARTITIONS:
            members |= {
                n: replace(members[n], fit_partition=protocol.fit_partition) for n in clustered
            }
        elif clustered:
            log.warning(
                "protocol=%s: %s cluster the units that they score, not those of %s: the dataset's "
                "partition %s is none of LibriSpeech",
                *(protocol.name, ", ".join(clustered), protocol.fit_partition, dataset.partition),
            )
    return members


def _takes(analysis: AnalysisConfig, metric: Metric) -> bool:
    """Whether a metric can stand in for an analysis's own."""
    accepted = metric.accepts(analysis.unit, analysis.target)
    return accepted and analysis.metric.family == metric.family


def _with_metric(
    metric: Metric, experiments: Mapping[str, AnalysisConfig], config: Config
) -> dict[str, AnalysisConfig]:
    """Give `metric=X` to every member that accepts it; the others keep their own.

    Where X is what an analysis has already, its own settings stand in for those that X leaves
    null: `mi_word` keeps its 5,000 clusters under metric=mutual_information.
    """
    takers = [name for name, analysis in experiments.items() if _takes(analysis, metric)]
    if experiments and not takers:
        (name, analysis), *_ = experiments.items()
        families = dict.fromkeys(analysis.metric.family for analysis in experiments.values())
        if metric.family in families:
            why = (
                f"it takes no {analysis.unit} units with the target {analysis.target.name} ({name})"
            )
        else:
            why = (
                f"it is a {metric.family} metric, and {', '.join(experiments)} "
                f"{'takes' if len(experiments) == 1 else 'take'} {' and '.join(families)} metrics"
            )
        raise StrataError(f"metric={_option(config.metric)}: {why}")
    others = [name for name in experiments if name not in takers]
    if others:
        named = _option(config.metric), ", ".join(others)
        log.info("metric=%s is not for %s: they keep their own", *named)
    given = {
        name: _metric("metric", _filled(config.metric, config.experiments[name].metric), config)
        for name in takers
    }
    return {
        n: replace(analysis, metric=given.get(n, analysis.metric))
        for n, analysis in experiments.items()
    }


def _option(node: Mapping[str, Any]) -> str:
    """What to type after `metric=` for a metric: results may call it otherwise."""
    line = f"_target_: {node['_target_']}"
    options = sorted((CONF / "metric").glob("*.yaml"))
    names = [path.stem for path in options if line in path.read_text().splitlines()]
    return names[0] if names else str(node["_target_"])


def _filled(given: Mapping[str, Any], default: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a metric; nulls take the value of `default`, if that is the same metric."""
    if given["_target_"] != default["_target_"]:
        return given
    return {key: default.get(key) if value is None else value for key, value in given.items()}


def _missing_files(experiments: Mapping[str, AnalysisConfig], leave_out: bool) -> dict[str, str]:
    """Analyses whose `target.path` was not given, and what to do; a wrong path is an error."""
    missing = {}
    for name, analysis in experiments.items():
        key = "target" if len(experiments) == 1 else f"experiments.{name}.target"
        if why := analysis.target.missing(key):
            missing[name] = why
    if missing and not leave_out:
        raise StrataError("; ".join(f"{name}: {why}" for name, why in missing.items()))
    return missing


def _missing_model(experiments: Mapping[str, AnalysisConfig], config: Config) -> dict[str, str]:
    """Analyses that compare two models where there is no second one."""
    if config.other is not None or config.task == "steps":
        return {}  # a step that follows an export has the model before it
    why = "it compares with a second model, and none is given: model@other=NAME"
    missing = {
        name: why for name, analysis in experiments.items() if analysis.target.needs_second_model
    }
    if missing and not config.leave_out:
        raise StrataError("; ".join(f"{name}: {why}" for name, why in missing.items()))
    return missing


def _too_heavy(experiments: Mapping[str, AnalysisConfig], config: Config) -> dict[str, str]:
    """Analyses that a run of many leaves out because they take far longer than the others."""
    if config.heavy or not config.leave_out:
        return {}
    heavy = {name: analysis.heavy for name, analysis in experiments.items() if analysis.heavy}
    return {name: f"{why}: heavy=true" for name, why in heavy.items()}


def _metric(key: str, node: object, config: Config) -> Metric:
    return construct(key, node, Metric, "analysis", config.plugins)
