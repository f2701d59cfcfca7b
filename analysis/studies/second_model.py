"""Two models side by side: the second one's layers, and which pairs of layers are compared."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.forward.consumers import step_of
from analysis.studies.study import Setting
from analysis.targets.layers import SecondModel
from common.config import AnalysisConfig, Config, ModelConfig
from common.encoder.architecture import Layer, ModelDescription, describe
from common.encoder.checkpoint import revision_of
from common.encoder.pair import original_name, renamed
from common.narrowing import narrowed
from common.records import StrataError

log = logging.getLogger(__name__)

LayerPair = tuple[Layer, Layer]
SHORT = 8  # digits of a commit or hash that tell two models apart
NO_CONTROLS = {
    "mel": "two models are compared: cca_mel compares either with mel",
    "shuffled_labels": "two models are compared: there are no labels",
}


@dataclass(frozen=True, eq=False)
class OtherModel:
    """The model of `config.other`; its layers are `renamed` as in the stream of both models."""

    config: ModelConfig
    layers: tuple[Layer, ...]
    revision: str

    def key(self) -> dict[str, object]:
        """What the numbers of its layers depend on, beside the speech."""
        return {"revision": self.revision, "final_norm": self.config.final_norm}

    def label(self, layer: Layer) -> str:
        """How a row names one of its layers as a target: "hubert_base@dba3bb02:T3".

        Models may share a name: two checkpoints, or any two of `model=hf`.
        """
        kind, _, digest = self.revision.removeprefix("sha256:").rpartition(":")
        short = f"{kind}:{digest[:SHORT]}" if kind else digest[:SHORT]
        return f"{self.config.name}@{short}:{original_name(layer)}"

    def describe(self) -> dict[str, object]:
        """The model, for the metadata."""
        return vars(self.config) | {"revision": self.revision}


def describe_other(other: ModelConfig) -> ModelDescription:
    """The second model's description; an error says which model it is about."""
    try:
        revision_of(other)
        return describe(other)
    except StrataError as error:
        raise StrataError(f"the second model (model@other=, other.checkpoint=): {error}") from error


def find_other(config: Config) -> OtherModel:
    """Describe the second model, from its two small files; no weights are loaded."""
    if config.other is None:
        raise StrataError("there is no second model: give it, model@other=NAME")
    layers = tuple(map(renamed, describe_other(config.other).layers))
    other = OtherModel(config.other, layers, revision_of(config.other))
    first = {"revision": revision_of(config.model), "final_norm": config.model.final_norm}
    if first == other.key():
        log.warning("%s and %s are the same model", config.model.name, config.other.name)
    return other


def find_pairs(
    setting: Setting, name: str, analysis: AnalysisConfig, other: OtherModel
) -> list[LayerPair]:
    """Each layer of the analysis's parts with the other model's of the same name, or with all.

    Frames must come at one rate to be paired.
    """
    first = [layer for layer in setting.layers if layer.part in analysis.parts]
    second = [layer for layer in other.layers if layer.part in analysis.parts]
    if narrowed(analysis.target, SecondModel).pairs == "all":
        pairs = [(x, y) for x in first for y in second]
    else:
        by_name = {original_name(layer): layer for layer in second}
        pairs = [(layer, by_name[layer.name]) for layer in first if layer.name in by_name]
    if not pairs:
        raise StrataError(
            f"the models have no {' or '.join(analysis.parts)} layers of the same name: "
            f"{', '.join(x.name for x in first)} and {', '.join(map(original_name, second))}; "
            "target.pairs=all compares every layer with every one"
        )
    if analysis.unit == "frame":
        check_frame_rates(name, setting.config.model.name, other, pairs)
    return pairs


def check_frame_rates(name: str, model: str, other: OtherModel, pairs: Sequence[LayerPair]) -> None:
    """Raise unless paired layers have one frame rate: their frames are paired one by one."""
    for x, y in pairs:
        if step_of(x) != step_of(y):
            raise StrataError(
                f"{name}: {model} has a frame of {x.name} every {10 * step_of(x)} ms, "
                f"{other.config.name} one of {original_name(y)} every {10 * step_of(y)} ms: frames "
                f"of different rates cannot be paired. Compare whole phones or words: "
                f"experiments.{name}.unit=phone experiments.{name}.pooling=mean"
            )
    x, y = pairs[-1]
    apart = y.geometry.centre(0) - x.geometry.centre(0)
    if apart:
        log.info(
            "%s: a frame of %s is centred %.1f ms after the one of %s that it is paired with",
            name,
            *((other.config.name, apart / 16, model) if apart > 0 else ()),
            *((model, -apart / 16, other.config.name) if apart < 0 else ()),
        )


def unpaired_layers(
    analysis: AnalysisConfig, layers: Sequence[Layer], other: OtherModel
) -> dict[str, list[str]]:
    """Layers that `pairs: same` leaves out because only one of the models has them."""
    if narrowed(analysis.target, SecondModel).pairs == "all":
        return {}
    first = [layer.name for layer in layers if layer.part in analysis.parts]
    second = [original_name(layer) for layer in other.layers if layer.part in analysis.parts]
    unpaired = {
        "model": [name for name in first if name not in second],
        "other": [name for name in second if name not in first],
    }
    return {side: names for side, names in unpaired.items() if names}


def describe_pairs(
    experiments: Mapping[str, AnalysisConfig], layers: Sequence[Layer], other: OtherModel
) -> dict[str, object]:
    """The second model, and the layers that have no partner in it, for the metadata."""
    return {
        "experiments": list(experiments),
        "other_model": other.describe(),
        "layers_without_partner": {
            name: unpaired_layers(analysis, layers, other) for name, analysis in experiments.items()
        },
    }
