"""The configuration of small groups as types: `model`, `layers`, `protocol`, `tracking`, `paths`,
`features` and `units`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from common.config.analysis import LAYER_NAME, STORED, require, require_at_least
from common.records import StrataError

LAYER_SETS = ("all", "cnn", "transformer", "last4", "every_other", "single")
FORMATS = ("safetensors", "npy", "hdf5", "ark")  # of `features`


@dataclass(kw_only=True)
class ModelConfig:
    """A Hugging Face speech encoder. `conf/model/NAME.yaml` holds one each.

    `checkpoint` is a Hub id ("facebook/wav2vec2-base") or a folder in the Hub's format.
    `random_init` builds the architecture from its config with weights drawn from `init_seed`: the
    untrained control; only the checkpoint's config (and feature extractor config) is then read.
    `normalise`: whether a waveform is given zero mean and unit variance before the model reads it;
    null is as the checkpoint says. wav2vec2-base's and HuBERT-base's say yes; fairseq, which
    trained them, and the papers' authors did not (false). `final_norm` passes the last block's
    output through the model's final layer norm, for those that have one after the blocks (off, as
    fairseq and the papers). A forward pass has at most `batch_size` utterances and `batch_seconds`
    of audio, padding counted. Where neither is given (null, auto) it has a minute of audio on a
    CUDA GPU, and one utterance elsewhere: on a CPU larger batches gain nothing. Utterances of a
    batch have equal lengths where padding would change the frames; with such models most batches
    then have one.
    Recordings longer than `max_seconds`, or than the model can take, are read in windows
    (`common.windows`).
    """

    name: str = MISSING
    checkpoint: str = MISSING
    revision: str = "main"
    random_init: bool = False
    init_seed: int = 0
    normalise: bool | None = None
    final_norm: bool = False
    batch_size: int | None = None
    batch_seconds: Any = "auto"
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        require_at_least("model.batch_size", self.batch_size, 1)
        seconds = self.batch_seconds
        if seconds != "auto" and (not isinstance(seconds, int | float) or seconds <= 0):
            raise StrataError(f"model.batch_seconds={seconds}: auto, or seconds of audio above 0")
        require_at_least("model.max_seconds", self.max_seconds, 2)


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
            selected = self.indices if self.indices is not None else [f"T{self.index}"]
            for name in selected:
                if name not in names:
                    raise StrataError(
                        f"layer {name} does not exist: this model has {names[0]} … {names[-1]} "
                        f"({', '.join(names)})"
                    )
            return [name for name in names if name in selected]
        cnn = [name for name in names if name.startswith("C")]
        transformer = [name for name in names if name.startswith("T")]
        chosen = {
            "all": names,
            "cnn": cnn,
            "transformer": transformer,
            "last4": transformer[-4:],
            "every_other": cnn[::2] + transformer[::2],
        }[self.select]
        if not chosen:
            raise StrataError(
                f"layers={self.select}: this model has none of those, only {', '.join(names)}. Use "
                "layers=all"
            )
        return chosen


def _wandb_mode() -> str:
    """What WANDB_MODE says, in its older words too; online by default."""
    if os.environ.get("WANDB_DISABLED", "").casefold() in ("true", "1", "yes"):
        return "disabled"
    mode = os.environ.get("WANDB_MODE") or "online"
    return {"dryrun": "offline", "run": "online"}.get(mode, mode)


@dataclass(kw_only=True)
class ProtocolConfig:
    """How scores are made, beside the run's own keys that `conf/protocol/NAME.yaml` sets.

    `metric` stands in for the metric of every analysis that takes it and was given none of its own
    by `metric=`. Mutual information is fitted on `fit_partition`, where the dataset has it.
    """

    name: str = MISSING
    metric: Any = None
    fit_partition: str | None = None


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are logged: `backend` none or wandb; `mode` online, offline or disabled.

    What is not given here is W&B's own environment's (WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY,
    WANDB_RUN_GROUP), as on clusters whose nodes are set to be offline.
    """

    backend: str = MISSING
    mode: str = field(default_factory=_wandb_mode)
    project: str = field(default_factory=lambda: os.environ.get("WANDB_PROJECT") or "strata")
    entity: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        require("tracking", self.backend, ("none", "wandb"))
        if self.backend == "wandb" or self.mode != _wandb_mode():  # else it is not used
            require("tracking.mode", self.mode, ("online", "offline", "disabled"))

    def in_sweep(self, sweep: Path) -> "TrackingConfig":
        """The runs of a sweep share a group: the one asked for, or else the sweep's folder."""
        group = self.group or os.environ.get("WANDB_RUN_GROUP") or sweep.name
        return replace(self, group=group)


@dataclass(kw_only=True)
class PathsConfig:
    """Folders for the files of runs and for cached statistics."""

    runs: str = MISSING
    cache: str = MISSING


@dataclass(kw_only=True)
class FeaturesConfig:
    """Layers of utterances on disk.

    `folder`: where, null for `features` in the run's folder; a run with the same folder resumes
    one that was interrupted. `format`: a safetensors file for each utterance; .npy files for
    each utterance and layer; one HDF5 file (the extra [hdf5]); or an ark and its index (.scp) for
    each layer (the extra [ark]). `stored`: the type of the numbers. `utterances`: ids of these
    alone, null for all of the dataset.
    """

    folder: str | None = None
    format: str = "safetensors"
    stored: str = "float32"
    utterances: list[str] | None = None

    def __post_init__(self) -> None:
        require("features.format", self.format, FORMATS)
        require("features.stored", self.stored, STORED)
        if self.format == "ark" and self.stored != "float32":
            raise StrataError(
                f"features.stored={self.stored} with features.format=ark: Kaldi's matrices are "
                "float32; leave out features.stored, or choose another format"
            )


@dataclass(kw_only=True)
class UnitsConfig:
    """Discrete units: the cluster of each frame.

    `clusters`: how many, found by k-means on `fit_frames` frames at most, drawn over all speech
    (the run's `clusterer`; `batch`: rows of a mini-batch). `centroids`: a centroids.npz of an
    earlier run, of one layer of the same model: nothing is fitted, the layer is that one.
    """

    clusters: int = 100
    fit_frames: int = 200_000
    batch: int = 10_000
    centroids: str | None = None

    def __post_init__(self) -> None:
        require_at_least("units.clusters", self.clusters, 2)
        require_at_least("units.fit_frames", self.fit_frames, 20)
        require_at_least("units.batch", self.batch, 1)
