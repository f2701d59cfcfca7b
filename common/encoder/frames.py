"""Samples to frames and back: the one place where time stops being integer samples."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Self

import numpy as np
from numpy.typing import NDArray

from common.records import SAMPLE_RATE, StrataError

Samples = int | Fraction


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Which samples each frame of a layer sees. All lengths are samples at 16 kHz.

    They are whole numbers but for models of another sampling rate (EnCodec's frames at 24 kHz are
    213 1/3 samples apart): there they are fractions, and a frame's centre is rounded down.

    Frame k sees `receptive_field` samples from `offset + k * hop` on. Unpadded layers have
    `offset = overhang = 0`: a frame exists where all of its receptive field lies in the audio.
    With padding the first frame begins before the audio (`offset < 0`) and the last one may pass
    its end by `overhang`. A transformer block's frames have the geometry of its input's: what
    attention adds has no bound.
    """

    receptive_field: Samples = 1
    hop: Samples = 1
    offset: Samples = 0
    overhang: Samples = 0

    def then(self, kernel: int, stride: int, padding: int = 0) -> Self:
        """Geometry after one more convolution or pooling over these frames."""
        return self.followed_by(FrameGeometry(kernel, stride, -padding, padding))

    def followed_by(self, more: "FrameGeometry") -> Self:
        """Geometry of what has the geometry `more` over these frames."""
        return type(self)(
            receptive_field=self.receptive_field + (more.receptive_field - 1) * self.hop,
            hop=self.hop * more.hop,
            offset=self.offset + more.offset * self.hop,
            overhang=self.overhang + more.overhang * self.hop,
        )

    def at_rate(self, rate: int) -> Self:
        """The geometry, in samples at 16 kHz, of frames of audio with `rate` samples a second."""

        def scaled(length: Samples) -> Samples:
            exact = Fraction(length) * SAMPLE_RATE / rate
            return exact.numerator if exact.denominator == 1 else exact

        return type(self)(
            receptive_field=scaled(self.receptive_field),
            hop=scaled(self.hop),
            offset=scaled(self.offset),
            overhang=scaled(self.overhang),
        )

    @property
    def min_samples(self) -> int:
        """Length of the shortest audio that has a frame."""
        return max(1, ceil(self.offset + self.receptive_field - self.overhang))

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of `n_samples` samples of audio; 0 where it is too short for one."""
        room = n_samples + self.overhang - self.offset - self.receptive_field
        return max(0, room // self.hop + 1)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Half-open frames whose own `hop` samples, around their centres, meet [start, end).

        Without an offset of centres these are [floor(start / hop), ceil(end / hop)). Clipped to the
        first frame, which also stands for samples that lie before its own; not to the last one: who
        has an utterance's length clips, and counts what was cut.
        """
        lead = self.centre(0) - self.hop // 2
        first = max((start - lead) // self.hop, 0)
        last = max(-(-(end - lead) // self.hop), 0)
        return first, max(last, first + 1) if end > start else first

    def nearest(self, sample: int) -> int:
        """The frame that is centred nearest to a sample; of two the earlier one."""
        return max(-(-(2 * (sample - self.centre(0)) - self.hop) // (2 * self.hop)), 0)

    @property
    def whole_hop(self) -> int:
        """`hop`, where it must be a whole number of samples."""
        if self.hop != int(self.hop):
            raise StrataError(
                f"the model's frames are {float(self.hop):.2f} samples apart, no whole number: it "
                "can be analysed, but not trained for recognition"
            )
        return int(self.hop)

    def steps(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples, rounded down, from frame 0 to each of `frames` (n,)."""
        hop = Fraction(self.hop)
        return frames * hop.numerator // hop.denominator

    def centre(self, frame: int) -> int:
        """Sample in the middle of a frame's receptive field."""
        return floor(self.offset + frame * self.hop) + self.receptive_field // 2
