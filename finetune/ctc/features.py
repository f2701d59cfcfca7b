"""Features of frozen convolutions: computed once for each utterance, and kept in memory."""

import logging
from typing import Any, final

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.config import FinetuneConfig
from common.encoder.architecture import Blueprint
from common.encoder.frames import FrameGeometry
from common.memory import free_memory
from common.records import SAMPLE_RATE
from finetune.ctc.batches import Batch

log = logging.getLogger(__name__)

SHARE = 0.25  # of the memory that is free when the first batch comes: what may be kept, at most


@final
class KeptFeatures:
    """Stands in for the convolutions of an encoder, which never train.

    The features of an utterance are kept by its number and, where padding changes it (a group norm
    takes the mean over all frames), by the length to which its batch pads it. Every utterance is
    computed by itself, so that no number depends on what is kept. Once `SHARE` of the free memory
    is full, others are computed anew each time.
    """

    def __init__(self, convolutions: nn.Module, geometry: FrameGeometry, processes: int) -> None:
        self.convolutions = convolutions
        self.geometry = geometry
        self.processes = processes
        self.kept: dict[tuple[str, int, int], torch.Tensor] = {}
        self.room: int | None = None
        self._padding_matters: bool | None = None
        self._batch: Batch | None = None
        self._compute = convolutions.forward
        convolutions.forward = self.forward

    def expect(self, batch: Batch) -> None:
        """The batch of the next forward pass."""
        self._batch = batch

    def close(self) -> None:
        """Delete the features and restore the convolutions."""
        self.kept.clear()
        self.convolutions.forward = self._compute

    @torch.compiler.disable
    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(B, n) -> (B, C, T), as the convolutions would give it."""
        batch, self._batch = self._batch, None
        if batch is None or batch.recordings is None:
            return self._compute(waveforms)
        _, width = waveforms.shape
        rows = []
        for waveform, number, samples in zip(
            waveforms, batch.numbers.tolist(), batch.samples.tolist(), strict=True
        ):
            padded = self._depends_on_padding(waveforms.device)
            length = width if padded else samples
            key = batch.recordings, number, length
            row = self.kept.get(key)
            if row is None:
                row = self._alone(waveform[:length])
                self._keep(key, row)
            rows.append(row.to(waveforms.device))
        longest = self.geometry.n_frames(width)
        # Frames of padding, where nothing else depends on them, are hidden by the attention mask.
        return torch.stack([nn.functional.pad(row, (0, longest - row.shape[1])) for row in rows])

    def _alone(self, waveform: torch.Tensor) -> torch.Tensor:
        """(n,) -> (C, T); usable in training also where it is computed in validation."""
        with torch.inference_mode(False), torch.no_grad():
            features: torch.Tensor = self._compute(waveform.clone()[None])[0]
        return features

    def _depends_on_padding(self, device: torch.device) -> bool:
        """Whether zeros behind a waveform change its frames at all: measured, once."""
        if self._padding_matters is None:
            noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
            noise[SAMPLE_RATE // 2 :] = 0
            padded = torch.from_numpy(noise).to(device)
            alone = self._alone(padded[: SAMPLE_RATE // 2])
            together = self._alone(padded)[:, : alone.shape[1]]
            self._padding_matters = not torch.equal(alone, together)
        return self._padding_matters

    def _keep(self, key: tuple[str, int, int], row: torch.Tensor) -> None:
        if self.room is None:
            self.room = int(SHARE * free_memory(torch.device("cpu")) / self.processes)
            log.info(
                "the features of the frozen convolutions are kept, in up to %.1f GB "
                "(finetune.keep_features)",
                self.room / 1e9,
            )
        size = row.numel() * row.element_size()
        if size <= self.room:
            self.room -= size
            self.kept[key] = row.cpu()
        elif self.room > 0:
            self.room = 0
            log.info(
                "that memory is full: %d are kept, others are computed each time", len(self.kept)
            )


def keep_features(
    encoder: Any, blueprint: Blueprint, recipe: FinetuneConfig
) -> KeptFeatures | None:
    """Kept features of an encoder whose convolutions take samples and are frozen, or None.

    None also where augmentation changes the speech in every epoch.
    """
    hooks = [hook for hook in blueprint.layer_hooks if hook.part == "cnn"]
    extractor = blueprint.feature_extractor
    fixed = extractor.spectrum or extractor.max_samples is not None or extractor.rate != SAMPLE_RATE
    if recipe.keep_features == "never" or recipe.augment.changes or fixed or not hooks:
        return None
    convolutions = _parent_of(encoder, [hook.module for hook in hooks])
    if convolutions is None:
        return None
    frozen = not any(p.requires_grad for p in convolutions.parameters())
    chance = any(isinstance(m, nn.Dropout | _BatchNorm) for m in convolutions.modules())
    if chance or not frozen:
        return None
    last = [layer for layer in blueprint.description.layers if layer.part == "cnn"][-1]
    return KeptFeatures(convolutions, last.geometry, recipe.processes)


def _parent_of(encoder: Any, names: list[str]) -> nn.Module | None:
    """The module below the encoder that computes all of some modules and nothing else, or None."""
    parents = names[0].split(".")
    while parents:
        parents.pop()
        above = ".".join(parents)
        module = encoder.get_submodule(above)
        all_below = all(name.startswith(f"{above}.") for name in names)
        if parents and all_below and not isinstance(module, nn.ModuleList):
            return module
    return None
