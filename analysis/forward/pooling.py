"""From a layer's frames to rows: the 10 ms grid, and the frames of a phone or word."""

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
import torch
from torch.nn.functional import avg_pool1d

from analysis.targets.base import HOP
from analysis.targets.mel import WINDOW
from common.encoder.architecture import Layer
from common.encoder.frames import FrameGeometry
from common.records import StrataError

VERSION = 2  # bumped when a pooled vector would change


def grid_step(geometry: FrameGeometry, layer: str) -> int:
    """How many 10 ms steps apart the rows of a layer are; 1 for layers pooled to the grid."""
    if geometry.hop <= HOP and HOP % geometry.hop == 0:
        return 1
    if geometry.hop % HOP == 0:
        return geometry.hop // HOP
    raise StrataError(
        f"layer {layer} has a frame every {geometry.hop} samples, which neither divides nor is a "
        f"multiple of {HOP} (10 ms): it cannot be laid beside mel frames; leave it out with "
        "layers.indices"
    )


def _kernel(geometry: FrameGeometry) -> tuple[int, int]:
    """Kernel and stride that mean-pool a fast layer to one 25 ms window every 10 ms."""
    return max(1, (WINDOW - geometry.receptive_field) // geometry.hop + 1), HOP // geometry.hop


def grid_rows(geometry: FrameGeometry, n_samples: int) -> int:
    """Rows that a waveform of n_samples gives on the layer's grid."""
    frames = geometry.n_frames(n_samples)
    if geometry.hop > HOP:
        return frames
    kernel, stride = _kernel(geometry)
    return max(0, (frames - kernel) // stride + 1)


def grid_geometry(geometry: FrameGeometry) -> FrameGeometry:
    """Which samples each row of a layer's grid sees."""
    if geometry.hop > HOP:
        return geometry
    return geometry.then(*_kernel(geometry))


def reach_of(layers: Iterable[Layer]) -> int:
    """How many samples after a window the last rows of its layers see.

    For wav2vec 2.0: the 25 ms that a row sees, less the 10 ms to the next row.
    """
    grids = [grid_geometry(layer.geometry) for layer in layers]
    return max(0, *(ceil(g.offset + g.receptive_field - g.overhang - g.hop) for g in grids))


def to_grid(hidden: torch.Tensor, geometry: FrameGeometry) -> torch.Tensor:
    """Rows (R, d) of a layer's frames (T, d): layers faster than 10 ms are mean-pooled to it.

    As in the published code: for wav2vec 2.0 kernels and strides of 79/32, 39/16, 19/8, 9/4, 4/2
    and 2/1 for C1 … C6; C7 and the transformer keep their frames, one every second mel frame.
    """
    kernel, stride = _kernel(geometry)
    if geometry.hop > HOP or (kernel, stride) == (1, 1):
        return hidden
    return avg_pool1d(hidden.T[None], kernel, stride)[0].T


def pool_frames(pooling: str, first: int, last: int) -> tuple[int, int]:
    """Half-open range of the frames [first, last) of a segment that its vector is taken from.

    `middle_third`: floor((n + 1) / 3) of n frames are left out at each end; of two frames the
    second is kept, as in the published code.
    """
    n = last - first
    if pooling == "middle_third":
        cut = (n + 1) // 3
        return first + cut, max(last - cut, first + cut + 1)
    if pooling == "centre":
        middle = first + (n - 1) // 2
        return middle, middle + 1
    if pooling == "first":
        return first, first + 1
    if pooling == "last":
        return last - 1, last
    return first, last  # mean, max


class Pool:
    """Pools segments of n rows; each span is half-open and not empty. For any layer of n rows."""

    def __init__(
        self, spans: Sequence[tuple[int, int]], n: int, pooling: str, device: torch.device
    ) -> None:
        self._ranges = [pool_frames(pooling, *span) for span in spans]
        self._weights: torch.Tensor | None = None
        if pooling != "max":
            weights = np.zeros((len(spans), n), dtype=np.float32)
            for u, (first, last) in enumerate(self._ranges):
                weights[u, first:last] = 1 / (last - first)
            self._weights = torch.from_numpy(weights).to(device)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Vectors (u, d) from rows (n, d)."""
        if self._weights is None:
            return torch.stack([rows[first:last].amax(0) for first, last in self._ranges])
        return self._weights @ rows


def pool(rows: torch.Tensor, spans: Sequence[tuple[int, int]], pooling: str) -> torch.Tensor:
    """Vectors (u, d) of u segments from rows (R, d); each span is half-open and not empty."""
    return Pool(spans, len(rows), pooling, rows.device)(rows)
