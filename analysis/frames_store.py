"""Frames of whole utterances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.frames import FrameGeometry
from common.records import Utterance


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of the drawn utterances in one layer, memory-mapped.

    hidden (N, d); offsets (u + 1,): utterance k's frames are hidden[offsets[k]:offsets[k + 1]].
    """

    hidden: NDArray[np.floating]
    offsets: NDArray[np.int64]
    geometry: FrameGeometry
    utterances: tuple[Utterance, ...]
