"""The fundamental frequency of each frame, by Praat's autocorrelation."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.targets.base import HOP, FrameTarget
from common.records import SAMPLE_RATE, StrataError, Waveform

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class PraatTarget(FrameTarget):
    """A target that Praat computes; some frames have no value."""

    masked: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def missing(self, key: str) -> str:  # noqa: ARG002
        """The package praat-parselmouth, where it is not installed."""
        if find_spec("parselmouth") is None:
            return "needs Praat: pip install 'strata[f0]', or praat-parselmouth"
        return ""


@dataclass(frozen=True, kw_only=True)
class FundamentalFrequency(PraatTarget):
    """Natural logarithm of the fundamental frequency in Hz of voiced frames; others have none.

    Boersma 1993 (Accurate short-term analysis of the fundamental frequency, IFA Proceedings 17),
    as Praat computes it, through the package praat-parselmouth (the extra `f0`), between `floor`
    and `ceiling` Hz. A frame of 10 ms takes the pitch frame nearest to its centre; Praat's analysis
    window is three periods of `floor` long, 40 ms at 75 Hz, so the first and last two frames of an
    utterance have no value.
    """

    name: ClassVar[str] = "f0"
    columns: ClassVar[int] = 1

    floor: float = 75.0
    ceiling: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.floor < self.ceiling <= SAMPLE_RATE / 2:
            raise StrataError(
                f"target.floor={self.floor}, target.ceiling={self.ceiling}: give frequencies in "
                f"Hz, the floor below the ceiling, both up to {SAMPLE_RATE // 2}"
            )

    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":  # noqa: ARG002
        """Rows (1 + n // 160, 1) of a waveform (n,); NaN where nothing is voiced."""
        import parselmouth
        import torch

        values = np.full((1 + len(waveform) // HOP, 1), np.nan, dtype=np.float32)
        if len(waveform) >= 3 * SAMPLE_RATE / self.floor + HOP:
            sound = parselmouth.Sound(waveform.astype(np.float64), SAMPLE_RATE)
            pitch = sound.to_pitch_ac(HOP / SAMPLE_RATE, self.floor, pitch_ceiling=self.ceiling)
            rows = np.rint(pitch.xs() * SAMPLE_RATE / HOP).astype(int)
            found = pitch.selected_array["frequency"]
            voiced = (found > 0) & (rows < len(values))
            values[rows[voiced], 0] = np.log(found[voiced])
        return torch.from_numpy(values)
