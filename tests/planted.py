"""Metrics whose values are known, for what surrounds a metric."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.metrics.base import Score, UnitMetric
from analysis.metrics.units import Units
from common.records import StrataError


@dataclass(frozen=True)
class Agreement(UnitMetric):
    """The share of units whose nearest other unit has their label; what it was given beside it."""

    at_least: int = 2
    name: ClassVar[str] = "agreement"
    family: ClassVar[str] = "agreement"
    held_out: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("phone", "word", "speaker")

    def check(self, units: Units) -> None:
        n, _ = units.vectors.shape
        if n < self.at_least:
            raise StrataError(f"{n} units, {self.at_least} are needed")

    def no_interval(self, units: Units) -> str:  # noqa: ARG002
        return ""

    def score(self, units: Units) -> list[Score]:
        n, d = units.vectors.shape
        x = units.vectors.astype(np.float64)
        distance = ((x[:, None] - x[None]) ** 2).sum(-1) + np.diag(np.full(n, np.inf))
        share = (units.label[distance.argmin(1)] == units.label).mean()
        primary = Score(float(share), low=float(share) - 0.1, high=float(share) + 0.1)
        scored = float(units.scored.sum())
        return [primary, Score(float(n), "n"), Score(float(d), "d"), Score(scored, "scored")]
