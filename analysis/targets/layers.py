"""Layers as targets: another one of the same model, or those of a second model."""

from dataclasses import dataclass
from typing import ClassVar

from analysis.targets.base import LabelTarget
from common.config.analysis import LAYER_NAME, UnitSampling, require
from common.records import StrataError
from common.target import Target

LAYER_PAIRS = ("same", "all")


@dataclass(frozen=True, kw_only=True)
class AnotherLayer(Target):
    """One layer of the same model, as `T0`, frame by frame."""

    units: ClassVar[tuple[str, ...]] = ("frame",)

    layer: str

    def __post_init__(self) -> None:
        if self.layer is None:
            raise StrataError("target.layer=null: name the layer to compare with, e.g. T0")
        if not LAYER_NAME.fullmatch(self.layer):
            raise StrataError(f"target.layer={self.layer}: a layer is named C1, C2, … or T0, T1, …")

    @property
    def name(self) -> str:
        """The layer."""
        return self.layer


@dataclass(frozen=True, kw_only=True)
class SecondModel(LabelTarget):
    """The run's second model, `model@other=NAME`, frame by frame or unit by unit.

    `pairs`: each layer with the `same` one of that model, or with `all` of its layers. Phones and
    words are drawn by their own labels.
    """

    units: ClassVar[tuple[str, ...]] = ("frame", "phone", "word")
    needs_second_model: ClassVar[bool] = True
    name: ClassVar[str] = "model"  # rows name the layer and the model that they are compared with

    pairs: str

    def __post_init__(self) -> None:
        require("target.pairs", self.pairs, LAYER_PAIRS)

    def check(self, key: str, unit: str, sampling: UnitSampling) -> None:
        """Raise where all pairs of layers would be compared on all frames."""
        super().check(key, unit, sampling)
        if unit == "frame" and self.pairs == "all" and sampling.frames is None:
            raise StrataError(
                "target.pairs=all with sampling.frames=null: the moments of all frames of every "
                "pair of layers would take gigabytes; say how many frames to keep"
            )

    def labelled_by(self, unit: str) -> str:
        """The unit's own tier."""
        return unit
