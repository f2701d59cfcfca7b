"""Geometries of frames after stacks of convolutions, as wav2vec 2.0 has one."""

from collections.abc import Iterable

from common.encoder.frames import FrameGeometry

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)  # of wav2vec 2.0


def after_convolutions(
    kernels: Iterable[int], strides: Iterable[int], paddings: Iterable[int] | None = None
) -> FrameGeometry:
    """Geometry after a stack of convolutions over the waveform (unpadded by default)."""
    layers = list(zip(kernels, strides, strict=True))
    geometry = FrameGeometry()
    for (kernel, stride), padding in zip(layers, paddings or [0] * len(layers), strict=True):
        geometry = geometry.then(kernel, stride, padding)
    return geometry


WAV2VEC2 = after_convolutions(KERNELS, STRIDES)
