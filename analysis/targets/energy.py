"""The intensity of each frame, by Praat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.targets.base import HOP
from analysis.targets.f0 import PraatTarget
from analysis.targets.time_series import TimeSeries
from common.records import SAMPLE_RATE, StrataError, Waveform

if TYPE_CHECKING:
    import torch

DEEPEST = 80.0  # dB below the loudest frame: what is softer counts as that, as in the mel target


@dataclass(frozen=True, kw_only=True)
class Energy(PraatTarget):
    """Intensity of each frame in dB below the utterance's loudest frame, no less than -80.

    As Praat computes it (`To Intensity`: squared samples in a Kaiser window of 6.4 / `floor`
    seconds, `floor` in Hz, so that no pitch above it shows as ripple), through the package
    praat-parselmouth (the extra `f0`). Relative to the loudest frame, because how loud a recording
    is depends on microphones and distances. The first and last frames, where the window does not
    fit, have no value; nor have digitally silent utterances, whose frames are all alike.
    """

    name: ClassVar[str] = "energy"
    columns: ClassVar[int] = 1

    floor: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.floor <= SAMPLE_RATE / 2:
            raise StrataError(
                f"target.floor={self.floor}: give the lowest pitch in Hz, above 0 and up to "
                f"{SAMPLE_RATE // 2}"
            )

    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":  # noqa: ARG002
        """Rows (1 + n // 160, 1) of a waveform (n,)."""
        import parselmouth
        import torch

        values = np.full((1 + len(waveform) // HOP, 1), np.nan, dtype=np.float32)
        if len(waveform) > 6.4 * SAMPLE_RATE / self.floor + 2 * HOP and waveform.any():
            sound = parselmouth.Sound(waveform.astype(np.float64), SAMPLE_RATE)
            found = sound.to_intensity(self.floor, HOP / SAMPLE_RATE, subtract_mean=False)
            decibels = found.values.T - found.values.max()
            series = TimeSeries(found.xs(), np.maximum(decibels, -DEEPEST), (self.name,))
            values = series.on_grid(len(waveform))
        return torch.from_numpy(values)
