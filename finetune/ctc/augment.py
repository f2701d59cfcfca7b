"""Augmentation of training speech: changes of speed, and added noise."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import soxr
from numpy.typing import NDArray

from common import audio
from common.config.finetune import AugmentConfig
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, StrataError, Waveform
from common.seeding import generator

log = logging.getLogger(__name__)

KEPT = 64  # recordings of noise that are held in memory


@dataclass(frozen=True, eq=False)
class Augment:
    """How utterances are changed, anew in every epoch, by their numbers.

    `fits` (u, speeds): which utterances may have which of the recipe's speeds: those that still
    have a frame for every symbol, and are not longer than the model takes at once.
    """

    recipe: AugmentConfig
    seed: int
    fits: NDArray[np.bool_]
    noises: tuple[Path, ...]

    @classmethod
    def of(
        cls,
        recipe: AugmentConfig,
        seed: int,
        lengths: NDArray[np.int64],
        needed: Sequence[int],
        geometry: FrameGeometry,
        longest: int | None,
    ) -> Self:
        """For utterances of `lengths` samples (u,), whose symbols need `needed` frames (u,)."""
        fits = np.ones((len(lengths), len(recipe.speeds)), dtype=bool)
        for k, speed in enumerate(recipe.speeds):
            for number, (n, least) in enumerate(zip(lengths, needed, strict=True)):
                samples = int(n / speed)
                too_long = longest is not None and samples > longest
                fits[number, k] = not too_long and geometry.n_frames(samples) >= least
            if not fits[:, k].all():
                log.warning(
                    "%d of %d utterances keep their speed where %s is drawn: they would have too "
                    "few frames, or be too long",
                    (~fits[:, k]).sum(),
                    len(lengths),
                    speed,
                )
        noises: tuple[Path, ...] = ()
        if recipe.noise is not None:
            folder = Path(recipe.noise).expanduser()
            noises = tuple(sorted(p for p in folder.rglob("*") if audio.is_audio(p)))
            if not noises:
                raise StrataError(f"finetune.augment.noise={folder}: no audio file is in it")
            log.info("noise: %d recordings in %s", len(noises), folder)
        return cls(recipe, seed, fits, noises)

    def speeds(self, epoch: int) -> NDArray[np.float64]:
        """Factor (u,) of every utterance's speed."""
        u, count = self.fits.shape
        drawn = generator(self.seed, "speeds", epoch).integers(count, size=u)
        speeds = np.asarray(self.recipe.speeds, dtype=np.float64)[drawn]
        return np.where(self.fits[np.arange(u), drawn], speeds, 1.0)

    def change(self, waveform: Waveform, number: int, epoch: int) -> Waveform:
        """The waveform (n,) of an utterance in an epoch."""
        speed = float(self.speeds(epoch)[number])
        if speed != 1:
            waveform = soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE)
        rng = generator(self.seed, "noise", epoch, number)
        if self.noises and rng.random() < self.recipe.noise_share:
            noise = _noise(self.noises[int(rng.integers(len(self.noises)))])
            start = int(rng.integers(len(noise)))
            beside = np.resize(np.roll(noise, -start), len(waveform))
            lowest, highest = self.recipe.snr
            ratio = 10 ** (-rng.uniform(lowest, highest) / 20)
            waveform = waveform + ratio * _level(waveform) / _level(beside) * beside
        return waveform.astype(np.float32, copy=False)


@lru_cache(KEPT)
def _noise(path: Path) -> Waveform:
    return audio.read(path)


def _level(waveform: Waveform) -> float:
    """Root of the mean square; of silence so little that nothing is divided by 0."""
    return max(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))), 1e-9)
