"""A Hugging Face encoder with a linear map to characters, trained by CTC."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import ctc_loss, log_softmax

from common.config import FinetuneConfig
from common.encoder.architecture import Blueprint
from common.records import StrataError
from common.seeding import generator
from finetune.ctc.batches import Batch
from finetune.ctc.features import keep_features
from finetune.ctc.masks import masks_of
from finetune.ctc.scoring import count
from finetune.ctc.text import Vocabulary
from finetune.schedule import tri_stage


@final
class Recogniser(pl.LightningModule):
    """CTC on one of transformers' models for it, or on a `LinearHead`; Adam, a three-stage rate.

    `early`: modules of the encoder that train while the rest is frozen. `rates`: factors of the
    learning rate of its parameters, by their ids; 1 without.
    """

    def __init__(
        self,
        model: Any,
        early: Sequence[nn.Module],
        blueprint: Blueprint,
        vocabulary: Vocabulary,
        recipe: FinetuneConfig,
        references: Sequence[str],
        seed: int,
        rates: Mapping[int, float] | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.model = model
        self.geometry = blueprint.description.layers[-1].geometry
        self.vocabulary = vocabulary
        self.recipe = recipe
        self.references = references  # of the validation speech, by number
        self.seed = seed
        self.rates = rates or {}
        self.precision = precision
        has_convolutions = any(h.part == "cnn" for h in blueprint.layer_hooks)  # not w2v-BERT
        if recipe.freeze_convolutions and has_convolutions:
            model.freeze_feature_encoder()
        if recipe.gradient_checkpointing:
            _checkpoint(model)
        self.masks = masks_of(model.base_model, recipe)
        early_ids = {id(p) for module in early for p in module.parameters()}
        self.features = keep_features(model.base_model, blueprint, recipe)
        self._frozen_first = [
            p for p in model.base_model.parameters() if p.requires_grad and id(p) not in early_ids
        ]
        # Outside the module's own dictionary: a compiled model is no second set of weights.
        self.__dict__["_compiled_model"] = (
            torch.compile(model, dynamic=True) if recipe.compile else model
        )
        self._counts: torch.Tensor = torch.zeros(0)
        self._loss: torch.Tensor | float = 0.0

    def log_probabilities(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log probabilities (B, T, V), float32, and the number (B,) of frames that are audio."""
        masked = {} if batch.mask is None else {"attention_mask": batch.mask}
        if self.features is not None:
            self.features.expect(batch)
        logits = self.__dict__["_compiled_model"](batch.waveforms, **masked).logits
        frames = torch.tensor([self.geometry.n_frames(n) for n in batch.samples.tolist()])
        audio = logits[:, : int(frames.max())]  # Whisper's are always of 30 s
        return log_softmax(audio.float(), dim=-1), frames.to(logits.device)

    def losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """CTC loss (B,) in nats of every utterance, its probabilities and its frames.

        An utterance with fewer frames than it needs has the loss 0 (zero_infinity).
        """
        probabilities, frames = self.log_probabilities(batch)
        loss = ctc_loss(
            probabilities.transpose(0, 1),
            batch.characters,
            frames,
            batch.sizes,
            blank=self.vocabulary.blank,
            reduction="none",
            zero_infinity=True,
        )
        return loss, probabilities, frames

    def on_train_batch_start(self, *_: object) -> None:
        """Freeze the encoder, or unfreeze it."""
        trains = self.global_step >= self.recipe.freeze_updates
        if self._frozen_first and self._frozen_first[0].requires_grad != trains:
            for parameter in self._frozen_first:
                parameter.requires_grad_(trains)

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        """One batch; its place in an update alone gives its random numbers.

        So a resumed run agrees, and so do several processes with one that takes as many parts.
        """
        part = number % self.recipe.accumulate * self.recipe.processes + self.global_rank
        rng = generator(self.seed, "update", self.global_step, part)
        loss = self.training_loss(batch, rng)
        if not torch.isfinite(loss):
            raise StrataError(
                f"the loss is {loss.item()} at update {self.global_step}: lower "
                "finetune.learning_rate, or use precision=fp32; the last checkpoint is sound"
            )
        self._log_update(loss.detach(), number)
        return loss

    def training_loss(self, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
        """The weighted sum of a batch's losses, with new masks and dropout."""
        torch.manual_seed(int(rng.integers(2**62)))
        np.random.seed(rng.integers(2**32, dtype=np.uint32))  # noqa: NPY002  transformers' masks
        if self.masks is not None:
            self.masks.draw([self.geometry.n_frames(n) for n in batch.samples.tolist()], rng)
        return (self.losses(batch)[0] * batch.weights).sum()

    def _log_update(self, loss: torch.Tensor, number: int) -> None:
        """The loss of a whole update, in nats a character, with its last part."""
        count = self.recipe.accumulate
        self._loss = loss / count + (self._loss if number % count else 0.0)
        if (number + 1) % count == 0:
            self.log("train/loss", self._loss, prog_bar=True, batch_size=1, sync_dist=True)
            rates = self.lr_schedulers().get_last_lr()  # type: ignore[union-attr]
            self.log("learning_rate", rates[0])

    def on_validation_epoch_start(self) -> None:
        """Count anew: nats and symbols, then errors and units of each error rate.

        With several processes all of them get the first one's buffers.
        """
        figures = self.vocabulary.figures
        self._counts = torch.zeros(2 + 2 * len(figures), dtype=torch.float64)
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss and greedy errors of utterances that are never trained on."""
        loss, probabilities, frames = self.losses(batch)
        best = probabilities.argmax(-1)
        for k, number in enumerate(batch.numbers.tolist()):
            text = self.vocabulary.decode(best[k, : frames[k]].tolist())
            counts = count(self.references[number], text, self.vocabulary.figures)
            self._counts[2:] += torch.tensor(counts).flatten()
        self._counts[0] += float(loss.sum())
        self._counts[1] += float(batch.sizes.sum())

    def on_validation_epoch_end(self) -> None:
        """Figures of all utterances; the loss in nats a symbol, as in training."""
        counts = self._counts
        if self.trainer.world_size > 1:
            counts = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")
        nats, written, *rest = counts.tolist()
        self.log("valid/loss", nats / written, prog_bar=True, sync_dist=True)
        rates = zip(self.vocabulary.figures, rest[::2], rest[1::2], strict=True)
        for figure, errors, units in reversed(list(rates)):
            self.log(f"valid/{figure}", errors / units, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam, or AdamW where weights decay, over all that is ever trained."""
        recipe = self.recipe
        encoder = {id(p) for p in self.model.base_model.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        head_rate = recipe.learning_rate * recipe.head_factor
        by_rate: dict[float, list[nn.Parameter]] = {}
        for p in trained:
            if id(p) in encoder:
                by_rate.setdefault(self.rates.get(id(p), 1.0), []).append(p)
        groups: list[dict[str, Any]] = [
            {"params": by_rate[factor], "lr": recipe.learning_rate * factor}
            for factor in sorted(by_rate, reverse=True)
        ]
        groups.append({"params": [p for p in trained if id(p) not in encoder], "lr": head_rate})
        # One kernel instead of ten for each tensor; torch's scaling of gradients takes none such.
        on_cpu = all(p.device.type == "cpu" for p in trained)
        optimizer = torch.optim.AdamW(
            groups,
            fused=(on_cpu and self.precision == "fp32") or None,
            lr=recipe.learning_rate,
            betas=(recipe.betas[0], recipe.betas[1]),
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )

        def factor(step: int) -> float:
            return tri_stage(step, recipe.updates, recipe.stages, recipe.final_scale)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _checkpoint(model: Any) -> None:
    """Compute activations again in the backward pass instead of keeping them."""
    with warnings.catch_warnings():
        # The name that all of transformers 5 knows; late ones have another beside it.
        warnings.filterwarnings("ignore", "`gradient_checkpointing_enable`", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": False})
