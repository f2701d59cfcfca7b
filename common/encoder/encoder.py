"""Any Hugging Face speech encoder, as a stream of (layer, frames)."""

import inspect
import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, final

import numpy as np
import torch

from common.config import ModelConfig
from common.encoder.architecture import Blueprint, Layer, ModelDescription, describe, read_blueprint
from common.encoder.checkpoint import revision_of
from common.encoder.hooks import LayerHook, LayersComputed, hooked, packs, run_encoder
from common.encoder.loading import pretrained, random
from common.encoder.positions import added_positions
from common.place import place
from common.records import SAMPLE_RATE, StrataError, Waveform

__all__ = ["Encoder", "Layer", "ModelDescription", "describe", "load_encoder", "pick_device"]

Emit = Callable[[Layer, torch.Tensor, tuple[int, ...]], None]

# Bumped when a model's frames would be others: 2, T0 without absolute positions; 3, convolutions in
# narrow groups are right with precision=bf16 on CPUs with AMX.
VERSION = 3

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PROBE_SAMPLES = 16_000
# Seconds of audio in a forward pass on a GPU, where the output of wav2vec 2.0's first convolution
# then takes 0.4 GB in float32, and of the shortest utterances that a corpus is mostly made of.
GPU_SECONDS = 60.0
SHORT_SECONDS = 2.0
# Rounding alone stays below 1e-5 of a frame's length; padding that is felt changes it by 1e-2 up.
PADDING_TOLERANCE = 1e-4

logger = logging.getLogger(__name__)


@final
class Encoder:
    """A model in eval mode; each layer is passed on as it is computed.

    T0 is what enters the first block, without the absolute positions that some models add to it
    (Whisper; see `common.positions`): the same for any audio, they would swamp what depends on it.
    The blocks still get them.

    `revision` identifies its numbers: the Hub's commit, or a hash of the folder's contents, or the
    seed of its random weights. Audio has at least `min_samples` and at most `max_samples` samples.
    """

    def __init__(
        self,
        model: Any,
        blueprint: Blueprint,
        revision: str,
        device: torch.device,
        precision: str = "fp32",
        batch_size: int = 1,
        batch_seconds: float | None = None,
    ) -> None:
        description = blueprint.description
        self.model = model
        self.layers = description.layers
        self.architecture = description.architecture
        self.min_samples = description.min_samples
        self.max_samples = description.max_samples
        self.revision = revision
        self.device = device
        self._feature_extractor = blueprint.feature_extractor
        self._layer_hooks = blueprint.layer_hooks
        self._precision = precision
        self.batch_size = 1 if packs(model) else batch_size
        self._batch_samples = None if batch_seconds is None else batch_seconds * SAMPLE_RATE
        self._positions: tuple[int, torch.Tensor | None] | None = None

    def run(
        self, waveforms: Sequence[Waveform], emit: Emit, only: Collection[str] | None = None
    ) -> None:
        """Pass on each layer of a batch of utterances, in one forward pass; nothing is kept.

        `emit` gets the layer, its frames (B, T, D) on the model's device, float32 (or bfloat16,
        where autocast computes so), and the number of valid frames of each waveform: frames
        beyond it are padding. The frames are the model's own, which goes on with them: not to
        be written to. `only` names the layers to emit; those above the last of them are not
        computed. A layer that holds NaN or infinity is an error once all layers have been emitted:
        to check each one at once would stall a GPU.
        """
        self._check(waveforms, only)
        layer_hooks = [hook for hook in self._layer_hooks if only is None or hook.name in only]
        self._forward(waveforms, emit, layer_hooks, self._precision)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the utterances of each batch, for waveforms of these lengths in samples.

        A batch has equal lengths only, where padding would change the frames.
        """
        if self.batch_size == 1:
            return [[i] for i in range(len(lengths))]
        groups: dict[int, list[int]] = defaultdict(list)
        padding_safe = self.padding_safe
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            groups[0 if padding_safe else lengths[i]].append(i)
        return [batch for group in groups.values() for batch in self._cut(group, lengths)]

    def _cut(self, group: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """Batches of utterances by increasing length: each is padded to the last one's."""
        batches: list[list[int]] = [[]]
        for i in group:
            padded = (len(batches[-1]) + 1) * (self.max_samples or lengths[i])
            full = len(batches[-1]) == self.batch_size
            if batches[-1] and (full or padded > (self._batch_samples or padded)):
                batches.append([])
            batches[-1].append(i)
        return batches

    @cached_property
    def padding_safe(self) -> bool:
        """Whether utterances of unequal lengths give the frames in a batch that they give alone.

        Measured, once: half a second of noise beside a whole second.
        """
        if self.max_samples is not None:
            return True  # All inputs have one length already.
        if "attention_mask" not in inspect.signature(self.model.forward).parameters:
            return False  # It takes no mask, which would tell it what is padding.
        noise = _noise(PROBE_SAMPLES, 0)
        pair = [noise[: PROBE_SAMPLES // 2], noise]
        together = self._frames_of(pair)
        alone = [self._frames_of([w]) for w in pair]
        worst = max(
            _discrepancy(single[name][0], together[name][i])
            for i, single in enumerate(alone)
            for name in single
        )
        logger.info("%s: padding changes frames by up to %.1e of their size", self.revision, worst)
        return worst < PADDING_TOLERANCE

    def _frames_of(self, waveforms: Sequence[Waveform]) -> dict[str, list[torch.Tensor]]:
        """Valid frames (T, D) of every layer and utterance, in float32."""
        frames: dict[str, list[torch.Tensor]] = {}

        def keep(layer: Layer, hidden: torch.Tensor, n_frames: tuple[int, ...]) -> None:
            frames[layer.name] = [h[:n].clone() for h, n in zip(hidden, n_frames, strict=True)]

        self._forward(waveforms, keep, self._layer_hooks, "fp32")
        return frames

    def _forward(
        self,
        waveforms: Sequence[Waveform],
        emit: Emit,
        layer_hooks: Sequence[LayerHook],
        precision: str,
    ) -> None:
        lengths = [len(w) for w in waveforms]
        layers = {layer.name: layer for layer in self.layers}
        entered = any(hook.name == "T0" for hook in layer_hooks)
        positions = self._positions_of(max(lengths)) if entered else None
        sums: dict[str, torch.Tensor] = {}

        def emit_valid(hook: LayerHook, hidden: torch.Tensor) -> None:
            layer = layers[hook.name]
            if hook.name == "T0" and positions is not None:
                hidden = hidden - positions[: hidden.shape[1]]
            hidden, counts = self._valid(layer, hidden, lengths)
            # The sum of finite numbers of any size seen in a model is finite.
            sums[layer.name] = hidden.sum(dtype=torch.float32)
            emit(layer, hidden, counts)
            if len(sums) == len(layer_hooks):
                raise LayersComputed

        inputs = self._inputs(waveforms)
        hooks = hooked(self.model, layer_hooks, emit_valid)
        self.model.eval()
        with (
            torch.inference_mode(),
            autocast(self.device, precision),
            _rounding(tf32=precision == "tf32"),
            hooks,
            _known_warnings_silenced(),
        ):
            with suppress(LayersComputed):
                run_encoder(self.model, inputs)
            self._check_finite(sums, lengths)

    def _inputs(self, waveforms: Sequence[Waveform]) -> dict[str, torch.Tensor]:
        """The model's inputs on its device; to a GPU from pinned memory."""
        inputs = self._feature_extractor(waveforms)
        if self.device.type == "cuda":
            inputs = {key: x.pin_memory() for key, x in inputs.items()}
        return {key: x.to(self.device, non_blocking=True) for key, x in inputs.items()}

    def _check_finite(self, sums: Mapping[str, torch.Tensor], lengths: Sequence[int]) -> None:
        """Raise for the first layer whose frames have a sum that is not finite."""
        finite = torch.stack([*sums.values()]).isfinite().tolist() if sums else []
        for layer, is_finite in zip(sums, finite, strict=True):
            if not is_finite:
                raise StrataError(
                    f"layer {layer} of {self.architecture} ({self.revision}) holds NaN or "
                    f"infinity for utterances of {list(lengths)} samples. Look for NaN in the "
                    f"audio or damaged weights; with precision=bf16 or fp16 try fp32."
                )

    def _positions_of(self, n_samples: int) -> torch.Tensor | None:
        """Absolute positions (T, D) that T0 of `n_samples` holds; None where the model adds none.

        Measured on noise, anew where an utterance is longer than all before it.
        """
        n = self.max_samples or max(n_samples, PROBE_SAMPLES)
        if self._positions is None or (self._positions[1] is not None and self._positions[0] < n):
            self._positions = n, self._added_positions(n)
            if self._positions[1] is not None:
                logger.info("T0 is given without the positions that %s adds", self.architecture)
        return self._positions[1]

    def _added_positions(self, n_samples: int) -> torch.Tensor | None:
        entrance = next(hook for hook in self._layer_hooks if hook.name == "T0")
        geometry = next(layer.geometry for layer in self.layers if layer.name == "T0")
        first, second = (
            {
                key: x.to(self.device)
                for key, x in self._feature_extractor([_noise(n_samples, seed)]).items()
            }
            for seed in (0, 1)
        )
        rows = geometry.n_frames(self.max_samples or PROBE_SAMPLES)
        return added_positions(self.model.eval(), entrance, first, second, rows)

    def _valid(
        self, layer: Layer, hidden: torch.Tensor, lengths: Sequence[int]
    ) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Frames cropped to the longest utterance, and how many of them each utterance has."""
        counts = tuple(layer.geometry.n_frames(n) for n in lengths)
        _, n_frames, _ = hidden.shape
        expected = layer.geometry.n_frames(self.max_samples or max(lengths))
        if n_frames != expected:
            raise StrataError(
                f"layer {layer.name} of {self.architecture} ({self.revision}) has {n_frames} "
                f"frames for {max(lengths)} samples, where its convolutions should give {expected}."
            )
        return hidden[:, : max(counts)], counts

    def _check(self, waveforms: Sequence[Waveform], only: Collection[str] | None) -> None:
        """Refuse audio that is too short or too long, and layers that the model does not have."""
        for waveform in waveforms:
            n = len(waveform)
            if n < self.min_samples:
                raise StrataError(
                    f"an utterance of {n} samples is too short for {self.architecture}: one frame "
                    f"takes {self.min_samples} samples at 16 kHz. Leave it out."
                )
            if self.max_samples is not None and n > self.max_samples:
                raise StrataError(
                    f"an utterance of {n} samples ({n / SAMPLE_RATE:.1f} s) is too long for "
                    f"{self.architecture}, which takes {self.max_samples} samples "
                    f"({self.max_samples / SAMPLE_RATE:.0f} s) at once. Cut it or leave it out."
                )
        names = [layer.name for layer in self.layers]
        unknown = sorted(set(only or ()) - set(names))
        if unknown:
            raise StrataError(
                f"{self.architecture} has no layer {', '.join(unknown)}: it has {', '.join(names)}."
            )


def load_encoder(config: ModelConfig, device: str = "auto", precision: str = "fp32") -> Encoder:
    """A checkpoint's encoder, ready to run; `random_init` takes its architecture alone."""
    target = pick_device(device)
    if precision == "tf32" and target.type != "cuda":
        raise StrataError(
            f"precision=tf32 is of NVIDIA's GPUs, and the model runs on {target}: use fp32"
        )
    blueprint = read_blueprint(config)
    model = random(blueprint, config.init_seed) if config.random_init else pretrained(blueprint)
    revision = revision_of(config, blueprint.checkpoint)
    model = model.eval().requires_grad_(False).to(target)
    return Encoder(model, blueprint, revision, target, precision, *batch_limits(config, target))


def batch_limits(config: ModelConfig, device: torch.device) -> tuple[int, float | None]:
    """How many utterances, and seconds of audio, a forward pass has at most; None: any length.

    Where the seconds decide, the number is that of very short utterances.
    """
    seconds = config.batch_seconds
    if seconds == "auto":
        seconds = GPU_SECONDS if device.type == "cuda" and config.batch_size is None else None
    if config.batch_size is not None:
        return config.batch_size, seconds
    return (1, None) if seconds is None else (max(2, int(seconds / SHORT_SECONDS)), seconds)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, matrix products are in the half precision asked for, if one is."""
    dtype = HALF.get(precision, torch.float32)
    return torch.autocast(device.type, dtype, enabled=precision in HALF)


@contextmanager
def _rounding(tf32: bool) -> Iterator[None]:
    """Whether float32 products and convolutions on a GPU round what they multiply to 10 bits.

    By default cudnn's convolutions do.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(torch.backends.cudnn.enabled, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def pick_device(device: str) -> torch.device:
    """The accelerator there is, or the device that was asked for if torch has it.

    Where a run has several processes on a machine, each takes the GPU of its number there.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        device = next(name for name, is_there in present.items() if is_there)
    if not present.get(device):
        available = ", ".join(name for name, is_there in present.items() if is_there)
        raise StrataError(
            f"device={device}: torch sees none here, only {available}. Use device=auto."
        )
    process = place()
    if device == "cuda" and process.size > 1:
        return torch.device(device, process.local_rank)
    return torch.device(device)


@contextmanager
def _known_warnings_silenced() -> Iterator[None]:
    """Silence torch's warnings about transformers' WavLM and LASR; their frames are right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
        yield


def _noise(n_samples: int, seed: int) -> Waveform:
    """White noise (n_samples,) at the level of speech."""
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


def _discrepancy(alone: torch.Tensor, together: torch.Tensor) -> float:
    """Largest distance of two frames (T, D) over the average length of one."""
    return ((alone - together).norm(dim=-1).max() / alone.norm(dim=-1).mean()).item()
