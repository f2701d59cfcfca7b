"""Pooled units in memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.units import Units
from analysis.targets.labels import Word
from common.target import Target


def units_of(
    vectors: NDArray[np.floating],
    label: Sequence[int],
    labels: Sequence[str],
    speaker: Sequence[int],
    target: Target | None = None,
) -> Units:
    n = len(label)
    return Units(
        vectors=np.asarray(vectors, dtype=np.float32),
        label=np.array(label),
        labels=tuple(labels),
        speaker=np.array(speaker),
        speakers=tuple(f"s{k}" for k in range(max(speaker) + 1)),
        utterance=np.arange(n),
        fold=np.zeros(n, dtype=np.int64),
        scored=np.ones(n, dtype=bool),
        seed=0,
        target=target or Word(),
    )
