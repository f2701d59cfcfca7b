"""The formants of voiced frames, by Praat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.targets.base import HOP
from analysis.targets.f0 import FundamentalFrequency, PraatTarget
from analysis.targets.time_series import FORMANTS
from common.records import SAMPLE_RATE, StrataError, Waveform

if TYPE_CHECKING:
    import torch

WINDOW = 0.025  # seconds: half of Praat's Gaussian window
EMPHASIS = 50.0  # Hz, from which on the sound is emphasised by 6 dB an octave


@dataclass(frozen=True, kw_only=True)
class Formants(PraatTarget):
    """Natural logarithms of the first three formants in Hz of voiced frames; others have none.

    Praat's `To Formant (burg)`: five formants below `ceiling` Hz by linear prediction (Childers
    1978, Modern Spectrum Analysis, 252-255), through the package praat-parselmouth (the extra
    `f0`). Praat advises a ceiling of 5,500 Hz for women, 5,000 for men and up to 8,000 for
    children: with one ceiling for all, formants of some speakers are merged or split. Frames are
    voiced where `FundamentalFrequency` finds a pitch between 75 and 600 Hz; that leaves sonorants
    in, and errors of tracking too, which nothing here corrects.
    """

    name: ClassVar[str] = "formants"
    columns: ClassVar[int] = FORMANTS

    ceiling: float = 5500.0

    def __post_init__(self) -> None:
        if not 1000 <= self.ceiling <= SAMPLE_RATE / 2:
            raise StrataError(
                f"target.ceiling={self.ceiling}: five formants are fitted below it: use 1000 to "
                f"{SAMPLE_RATE // 2} Hz"
            )

    def frames(self, waveform: Waveform, utterance: str) -> "torch.Tensor":
        """Rows (1 + n // 160, 3) of a waveform (n,); NaN where nothing is voiced."""
        import parselmouth
        import torch

        voiced = FundamentalFrequency().frames(waveform, utterance).isfinite()[:, 0].numpy()
        values = np.full((len(voiced), FORMANTS), np.nan, dtype=np.float32)
        if voiced.any():
            sound = parselmouth.Sound(waveform.astype(np.float64), SAMPLE_RATE)
            found = sound.to_formant_burg(HOP / SAMPLE_RATE, 5, self.ceiling, WINDOW, EMPHASIS)
            for row in np.flatnonzero(voiced):
                time = row * HOP / SAMPLE_RATE
                frequencies = [found.get_value_at_time(k, time) for k in range(1, FORMANTS + 1)]
                values[row] = np.log(frequencies)  # one that was not found is NaN
        return torch.from_numpy(values)
