"""Samples to frames and back: the one place where time stops being integer samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Which samples each frame of a layer sees. All lengths are samples at 16 kHz.

    Frame k sees `receptive_field` samples from `offset + k * hop` on. Unpadded layers have
    `offset = overhang = 0`: a frame exists where all of its receptive field lies in the audio.
    With padding the first frame begins before the audio (`offset < 0`) and the last one may pass
    its end by `overhang`. A transformer block's frames have the geometry of its input's: what
    attention adds has no bound.
    """

    receptive_field: int = 1
    hop: int = 1
    offset: int = 0
    overhang: int = 0

    @classmethod
    def from_convolutions(
        cls, kernels: Iterable[int], strides: Iterable[int], paddings: Iterable[int] | None = None
    ) -> Self:
        """Geometry after a stack of convolutions over the waveform (unpadded by default)."""
        layers = list(zip(kernels, strides, strict=True))
        geometry = cls()
        for (kernel, stride), padding in zip(layers, paddings or [0] * len(layers), strict=True):
            geometry = geometry.then(kernel, stride, padding)
        return geometry

    def then(self, kernel: int, stride: int, padding: int = 0) -> Self:
        """Geometry after one more convolution or pooling over these frames."""
        return type(self)(
            receptive_field=self.receptive_field + (kernel - 1) * self.hop,
            hop=self.hop * stride,
            offset=self.offset - padding * self.hop,
            overhang=self.overhang + padding * self.hop,
        )

    @property
    def min_samples(self) -> int:
        """Length of the shortest audio that has a frame."""
        return max(1, self.offset + self.receptive_field - self.overhang)

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

    def centre(self, frame: int) -> int:
        """Sample in the middle of a frame's receptive field."""
        return self.offset + frame * self.hop + self.receptive_field // 2
