"""What a model learns from speech alone: contrast, masked units, or copying acoustics."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy, l1_loss, layer_norm, normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    HubertConfig,
    Wav2Vec2Config,
    WavLMConfig,
)

from common.config import PretrainConfig
from common.encoder.architecture import Blueprint
from common.encoder.convolutions import keep_exact
from common.encoder.loading import quietly
from common.records import StrataError
from common.seeding import generator
from finetune.pretrain.acoustics import DIM
from finetune.pretrain.crops import Batch
from finetune.schedule import geometric, warmup_linear

Losses = dict[str, torch.Tensor]


class Objective(pl.LightningModule):
    """A Hugging Face model with what it needs to learn; AdamW, linear warm-up and decay.

    Every objective may add `acoustic_weight` times the L1 distance between the normalised MFCC of
    every frame and a linear map of the last convolutional layer, before it is masked: it teaches
    the convolutions what spectra are in hundreds of steps instead of tens of thousands.
    """

    def __init__(self, model: Any, recipe: PretrainConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed = seed
        self.acoustics = nn.Linear(model.config.conv_dim[-1], DIM)
        if recipe.train_top is not None:
            _freeze_below_top(model, recipe.train_top)
        # A hook: what comes out of the convolutions is not among every model's outputs.
        self._convolved: torch.Tensor | None = None
        self.extractor.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        self._convolved = output.transpose(1, 2)

    @property
    def extractor(self) -> nn.Module:
        """The model's convolutions, (B, n) -> (B, D, T)."""
        extractor: nn.Module = self.model.base_model.feature_extractor
        return extractor

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[torch.Tensor, Losses]:
        """The objective's loss, a mean over masked frames, and what else is worth a curve."""

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """One step; its random numbers depend on its number alone, so that a resumed run agrees."""
        torch.manual_seed(int(generator(self.seed, "step", self.global_step).integers(2**62)))
        loss, curves = self._step(batch)
        rate = self.lr_schedulers().get_last_lr()[0]  # type: ignore[union-attr]
        self.log("learning_rate", rate)
        self._log("train", loss, curves, len(batch.waveforms))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """The same figures on utterances that are never trained on."""
        self._log("valid", *self._step(batch), len(batch.waveforms))

    def _step(self, batch: Batch) -> tuple[torch.Tensor, Losses]:
        loss, curves = self.losses(batch)
        if self.recipe.acoustic_weight:
            predicted = self.acoustics(self._convolved)
            curves["acoustic"] = l1_loss(predicted.float(), batch.acoustics)
            loss = loss + self.recipe.acoustic_weight * curves["acoustic"]
        self._convolved = None
        if not torch.isfinite(loss):
            raise StrataError(
                f"the loss is {loss.item()} at step {self.global_step}: lower "
                "pretrain.learning_rate, or use precision=fp32; the last checkpoint is sound"
            )
        return loss, curves

    def _log(self, stage: str, loss: torch.Tensor, curves: Losses, size: int) -> None:
        figures = {f"{stage}/{name}": value for name, value in curves.items()}
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=size)
        self.log_dict(figures, prog_bar="accuracy" in curves, batch_size=size)

    def configure_optimizers(self) -> Any:
        """AdamW; biases and norms are not decayed."""
        recipe = self.recipe
        parameters = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6)

        def factor(step: int) -> float:
            return warmup_linear(step, recipe.warmup_steps, recipe.steps)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


@final
class Contrastive(Objective):
    """Tell the quantised latent of a masked frame from those of others of the same utterance.

    wav2vec 2.0 (Baevski et al. 2020, sections 3.2 and 4.2) with Hugging Face's
    `Wav2Vec2ForPreTraining`; its own loss compares all frames with copies of their distractors,
    this one takes the masked frames and all inner products at once: the same number (a test shows
    it) in a fraction of the time.
    """

    def losses(self, batch: Batch) -> tuple[torch.Tensor, Losses]:
        """Contrastive loss plus weighted diversity loss."""
        config, model = self.model.config, self.model
        first, last = self.recipe.temperature
        model.set_gumbel_temperature(geometric(self.global_step, self.recipe.steps, first, last))
        out = model.wav2vec2(batch.waveforms, mask_time_indices=batch.mask)
        predicted = model.project_hid(out.last_hidden_state[batch.mask])  # (M, p)
        latents = model.dropout_features(out.extract_features[batch.mask])
        quantised, perplexity = model.quantizer(latents[None])
        quantised = model.project_q(quantised[0])  # (M, p)
        logits = contrastive_logits(
            predicted, quantised, batch.mask, batch.negatives, config.contrastive_logits_temperature
        )
        contrastive = cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
        entries = config.num_codevectors_per_group * config.num_codevector_groups
        diversity = (entries - perplexity) / entries
        curves = {
            "contrastive": contrastive,
            "code_perplexity": perplexity,
            "accuracy": (logits.argmax(1) == 0).float().mean(),
            "chance": logits.new_tensor(1 / (1 + config.num_negatives)),
        }
        return contrastive + config.diversity_loss_weight * diversity, curves


def contrastive_logits(
    predicted: torch.Tensor,
    quantised: torch.Tensor,
    mask: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Logits (M, 1 + K) of the M masked frames: the true latent first, then its K distractors.

    `predicted`, `quantised` (M, p) in the order of `mask` (B, T); `negatives` (M, K) are positions
    in that order, within the frame's own utterance. Cosine similarity over `temperature`; a
    distractor that equals the true latent is out (-inf).
    """
    sizes = mask.sum(1).tolist()
    direction = list(torch.split(normalize(predicted.float(), dim=1), sizes))
    latent = list(torch.split(normalize(quantised.float(), dim=1), sizes))
    codes = torch.unique(quantised.detach(), dim=0, return_inverse=True)[1]
    # Inner products of all masked frames of an utterance with all its latents: (B, m, m).
    products = torch.bmm(
        pad_sequence(direction, batch_first=True),
        pad_sequence(latent, batch_first=True).transpose(1, 2),
    )
    rows = torch.cat([torch.arange(n) for n in sizes]).to(mask.device)
    utterance = torch.arange(len(sizes), device=mask.device).repeat_interleave(mask.sum(1))
    offset = (mask.sum(1).cumsum(0) - mask.sum(1))[utterance]
    positive = products[utterance, rows, rows][:, None]
    negative = products[utterance[:, None], rows[:, None], negatives - offset[:, None]]
    negative = negative.masked_fill(codes[negatives] == codes[:, None], -torch.inf)
    return torch.cat([positive, negative], dim=1) / temperature


@final
class MaskedUnits(Objective):
    """Name the unit, a cluster of acoustic or learnt features, of every masked frame.

    HuBERT (Hsu et al. 2021, section II): cross-entropy on masked frames, a linear head.
    """

    def __init__(self, model: Any, recipe: PretrainConfig, seed: int) -> None:
        super().__init__(model, recipe, seed)
        self.head = nn.Linear(model.config.hidden_size, recipe.units)

    def losses(self, batch: Batch) -> tuple[torch.Tensor, Losses]:
        """Cross-entropy of the masked frames' units."""
        hidden = self.model(batch.waveforms, mask_time_indices=batch.mask).last_hidden_state
        logits = self.head(hidden[batch.mask]).float()
        units = batch.units[batch.mask]
        loss = cross_entropy(logits, units)
        return loss, {"accuracy": (logits.argmax(1) == units).float().mean()}


@final
class AcousticCopy(Objective):
    """Make the last block's output a copy of the acoustics of its frame, and of nothing else.

    Mean squared distance between the output (B, T, D) and a fixed random map of the normalised MFCC
    to D dimensions, normalised as the output is (layer norm without gain); every frame counts,
    masked or not. A linear head that reads MFCC off the output would leave the rest of it as it is:
    here the rest is overwritten. It makes a control, a model whose top is known to have lost what
    spectra of single frames do not say.
    """

    map: torch.Tensor  # (39, D)

    def __init__(self, model: Any, recipe: PretrainConfig, seed: int) -> None:
        super().__init__(model, recipe, seed)
        width = model.config.hidden_size
        rng = generator(seed, "acoustic copy")
        self.register_buffer("map", torch.from_numpy(rng.standard_normal((DIM, width))).float())

    def losses(self, batch: Batch) -> tuple[torch.Tensor, Losses]:
        """Mean squared distance over frames and dimensions; 1 to 2 before anything is learnt."""
        out = self.model.base_model(batch.waveforms, mask_time_indices=batch.mask)
        target = layer_norm(batch.acoustics @ self.map, (self.map.shape[1],))
        distance = (out.last_hidden_state.float() - target) ** 2
        return distance.mean(), {"unmasked": distance[~batch.mask].mean()}


def _freeze_below_top(model: Any, blocks: int) -> None:
    """Train the last `blocks` of the encoder and the objective's layers only."""
    layers = model.base_model.encoder.layers
    if blocks > len(layers):
        raise StrataError(
            f"pretrain.train_top={blocks}: the model has {len(layers)} transformer blocks"
        )
    model.base_model.requires_grad_(False)
    model.base_model.feature_extractor._freeze_parameters()  # its input needs no gradient either
    layers[len(layers) - blocks :].requires_grad_(True)


def objective_of(blueprint: Blueprint) -> type[Contrastive] | type[MaskedUnits]:
    """The objective that an architecture was published with."""
    match blueprint.config:
        case Wav2Vec2Config():
            return Contrastive
        case HubertConfig() | WavLMConfig():
            return MaskedUnits
        case other:
            raise StrataError(
                f"{blueprint.checkpoint.asked}: a {other.model_type} cannot be pretrained here. "
                "wav2vec 2.0 learns by contrast, HuBERT and WavLM by masked units: use one of these"
            )


def build(blueprint: Blueprint, recipe: PretrainConfig, seed: int) -> Objective:
    """A model ready to learn, with weights drawn from `seed`, or those in the folder `start`.

    The heads are drawn in either case; the global random state stays as it was.
    """
    published = objective_of(blueprint)
    auto = AutoModelForPreTraining if published is Contrastive else AutoModel
    objective = AcousticCopy if recipe.objective == "acoustic_copy" else published
    # Attention written out is faster here: crops are short, and fused kernels want long ones.
    how = {"dtype": torch.float32, "attn_implementation": "eager"}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if recipe.start is None:
            model = auto.from_config(blueprint.config, **how)
        else:
            model = _started(auto, blueprint, recipe.start, how)
        keep_exact(model)
        return objective(model, recipe, seed)


def _started(auto: Any, blueprint: Blueprint, start: str, how: Mapping[str, Any]) -> Any:
    """A model with all the weights of a folder, which must be of the same architecture."""
    with quietly():
        model, info = auto.from_pretrained(
            Path(start).expanduser(),
            config=blueprint.config,
            local_files_only=True,
            output_loading_info=True,
            **how,
        )
    wrong = [*info["missing_keys"], *info["mismatched_keys"], *info["unexpected_keys"]]
    if wrong:
        raise StrataError(
            f"pretrain.start={start}: its weights are not those of {blueprint.checkpoint.asked}: "
            f"{len(wrong)} differ ({', '.join(map(str, wrong[:3]))}, …). Start from the folder "
            "`model` or a snapshot of a run with the same model="
        )
    return model.train()  # from_pretrained leaves it in eval mode
