"""The configuration of an analysis as types: unit, target, metric, sampling."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from common.records import StrataError

OWN = "own"  # the unit that has the label which the user names
POOLINGS = ("mean", "middle_third", "centre", "first", "last", "max")
PARTS = ("cnn", "transformer")
# The last one: speakers where there are enough of them, else utterances.
SPLITS = ("frame", "utterance", "speaker", "speaker_else_utterance")
# How folds can have been cut such that no speaker is in training and in test: asked for, or with
# word types kept apart as well.
SPEAKERS_AND_TYPES = "speaker_and_type"
BY_SPEAKER = ("speaker", SPEAKERS_AND_TYPES)
LIMITS = (
    *("utterances", "frames", "instances", "fit_instances", "labels"),
    *("min_instances", "min_characters", "min_seconds"),
)
LABELLED = ("instances", "fit_instances", "labels", "min_instances")
LAYER_NAME = re.compile(r"[CT]\d+")
STORED = ("float32", "float16")
# What an analysis asks of a layer, in the order in which tables and plots show the answers.
ASKS = ("acoustic", "layers", "phonetic", "word", "meaning", "segmentation", "speaker", "other")


def require(key: str, value: object, choices: Collection[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise StrataError(f"{key}={value}: choose one of {', '.join(map(str, choices))}")


def require_at_least(key: str, value: float | None, least: int) -> None:
    """Raise if a number is given and too small."""
    if value is not None and value < least:
        raise StrataError(f"{key}={value}: it must be at least {least}")


@dataclass(kw_only=True)
class TargetOverrides:
    """Settings of the target of a run's only experiment, as `target.layer=T3`.

    With several experiments each has its own: `experiments.cca_intra.target.layer=T3`.
    """

    layer: str | None = None
    path: str | None = None
    pairs: str | None = None
    attribute: str | None = None
    tier: str | None = None
    table: str | None = None
    column: str | None = None


@dataclass(kw_only=True)
class UnitSampling:
    """What an analysis draws. Null: no limit.

    `utterances` for frames; for labelled units at most `instances` of each of the `labels` most
    frequent labels that occur `min_instances` times or more, among units of `min_seconds` and
    `min_characters` (of the label) or more. `fit_instances`: of each in a fit_partition of its
    own; null: `instances`. `frames`: how many of the utterances' frames are kept where moments of
    all of them would not fit (`target.pairs: all`).
    """

    utterances: int | None = None
    frames: int | None = None
    instances: int | None = None
    fit_instances: int | None = None
    labels: int | None = None
    min_instances: int | None = None
    min_characters: int | None = None
    min_seconds: float | None = None

    def __post_init__(self) -> None:
        for key in LIMITS:
            least = 0 if key == "min_seconds" else 1
            require_at_least(f"sampling.{key}", getattr(self, key), least)


def drawn_by(unit: str, by_label: bool = True) -> tuple[str, ...]:
    """Which of `LIMITS` mean something for units of a kind, drawn `by_label` or by utterances."""
    if unit == "frame":
        return LABELLED if by_label else ("utterances",)
    return (*LABELLED, "min_seconds", *(("min_characters",) if unit == "word" else ()))


@dataclass(kw_only=True)
class SamplingConfig(UnitSampling):
    """Sample sets, folds and trials of a run.

    The inherited keys override those of every analysis that draws by them (`drawn_by`). `reduced`
    stands in only for limits that an analysis has: it makes any of them small (debug=default).
    Trial t is tested on fold t and chooses on the next one; it trains on the others. `trials` null:
    as many as there are folds, so that every unit and every speaker is tested on once.
    """

    samples: int = 3
    folds: int = 10
    trials: int | None = None
    reduced: UnitSampling = field(default_factory=UnitSampling)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("sampling.samples", self.samples, 1)
        require_at_least("sampling.trials", self.trials, 1)
        if self.folds < 3 or self.folds < self.tested_folds:
            raise StrataError(
                f"sampling.folds={self.folds} with sampling.trials={self.trials}: every trial is "
                "tested on a fold of its own, and takes another one to choose on and a third one "
                f"to train on; use at least {max(3, self.tested_folds)} folds"
            )

    @property
    def tested_folds(self) -> int:
        """Number of trials, each of which is tested on one fold."""
        return self.folds if self.trials is None else self.trials


@dataclass(kw_only=True)
class AnalysisConfig:
    """unit + target + metric + sampling. `conf/analysis/NAME.yaml` holds one each.

    `asks`: the kind of question, by which experiments are ordered and grouped.
    `unit`: `frame`, `phone`, `word`, `utterance`; for labels of your own also any other tier, or
    `own`, what has the label.
    `split` null: the run's. A unit `frame` with labels is a stretch of 20 ms, labelled by what
    lies in its middle. `fit_partition` and `score_partition`: parts of the dataset, null for its
    own; where they differ, one is fitted on and the other one scored on, without folds.
    `stored`: the type in which frames are kept, where a metric reads frames. float16 takes half
    the disk; it moved F1 of boundaries by up to 0.001 and average precision by 1e-6 on a small
    model, and moves more where a dimension's mean is large beside its deviation.
    """

    asks: str = "other"
    unit: str = MISSING
    target: Any = MISSING
    metric: Any = MISSING
    sampling: UnitSampling = field(default_factory=UnitSampling)
    pooling: str | None = None
    parts: list[str] = field(default_factory=lambda: ["transformer"])
    split: str | None = None
    fit_partition: str | None = None
    score_partition: str | None = None
    stored: str = "float32"
    heavy: str = ""

    def __post_init__(self) -> None:
        require("asks", self.asks, ASKS)
        require("stored", self.stored, STORED)
        for part in self.parts:
            require("parts", part, PARTS)
        if self.split is not None:
            require("split", self.split, SPLITS)
