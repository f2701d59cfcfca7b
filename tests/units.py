"""Planted units: vectors that say what their labels are, or nothing."""

from dataclasses import replace
from typing import Any

import numpy as np

from analysis.metrics.units import Units


def planted(
    n: int = 600,
    labels: int = 6,
    speakers: int = 12,
    noise: float = 0.1,
    seed: int = 0,
    **more: Any,
) -> Units:
    """Units around a centre for each label, in folds of whole speakers."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(labels, 16))
    label, speaker = rng.integers(labels, size=n), rng.integers(speakers, size=n)
    units = Units(
        vectors=(centres[label] + noise * rng.normal(size=(n, 16))).astype(np.float32),
        label=label,
        labels=tuple(f"l{i}" for i in range(labels)),
        speaker=speaker,
        speakers=tuple(f"s{i}" for i in range(speakers)),
        utterance=np.arange(n) // 4,
        fold=speaker % 10,
        scored=np.ones(n, dtype=bool),
        seed=seed,
        trials=3,
    )
    return replace(units, **more)
