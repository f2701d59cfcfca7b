"""The configuration of a pretraining as a type: what each key means, and its range."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from common.config.analysis import require, require_at_least
from common.records import StrataError

OBJECTIVES = ("published", "acoustic_copy")


@dataclass(kw_only=True)
class PretrainConfig:
    """How to pretrain a small model. `conf/pretrain/NAME.yaml` holds a recipe each.

    `mix` names further datasets to learn from beside `dataset`; `weights` gives the part of the
    training that each gives ("main" is `dataset`), whatever its size; 1 where it is not given.
    `without_speakers` are never learnt from. `valid_share` of the utterances are kept for the
    validation curves, every `valid_every` steps.

    A step sees `batch_seconds` of audio in crops of `crop_seconds`. `mask_prob` and `mask_length`
    as in wav2vec 2.0; `acoustic_weight` times the L1 distance to the MFCC is added to the loss.
    `objective`: "published", the architecture's own (contrast, masked units), or "acoustic_copy".
    `start`: a folder with a model of the same architecture to start from (null: random weights).
    `train_top`: only the last `train_top` transformer blocks are trained, with the objective's own
    layers; the rest stays as it is in `start` (null: everything is trained).
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
    objective: str = "published"
    start: str | None = None
    train_top: int | None = None
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
        require("pretrain.objective", self.objective, OBJECTIVES)
        if self.train_top is not None:
            require_at_least("pretrain.train_top", self.train_top, 1)
            if self.start is None:
                raise StrataError(
                    f"pretrain.train_top={self.train_top} without pretrain.start: the other layers "
                    "would keep their random weights; name the model's folder that they come from"
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
        for key in ("start", "teacher"):
            folder = getattr(self, key)
            if folder is not None and not Path(folder).expanduser().is_dir():
                raise StrataError(
                    f"pretrain.{key}={folder}: no such folder; name the folder `model`, or one of "
                    "`snapshots`, of an earlier run"
                )
        if (self.teacher is None) != (self.teacher_layer is None):
            raise StrataError(
                f"pretrain.teacher={self.teacher} and pretrain.teacher_layer="
                f"{self.teacher_layer}: give both (units of a model's layer), or none (of MFCC)"
            )
