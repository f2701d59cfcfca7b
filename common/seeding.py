"""Every random draw comes from a generator of its own, named after what it draws."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, *names: object) -> np.random.Generator:
    """A generator for one purpose: independent of all others and of the order of draws."""
    return np.random.default_rng(_digest(seed, names))


def hashed_folds(seed: int, name: str, n: int, folds: int) -> NDArray[np.int64]:
    """Fold (n,) of items 0 … n - 1 of `name`: a hash (splitmix64), so that it needs no state."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(_digest(seed, (name,)) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(folds)).astype(np.int64)


def _digest(seed: int, names: tuple[object, ...]) -> int:
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
