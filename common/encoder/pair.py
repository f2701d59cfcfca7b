"""Two encoders of the same utterances, as one stream of (layer, frames)."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import final

from common.config import Config
from common.encoder.architecture import Layer
from common.encoder.encoder import Emit, Encoder, load_encoder
from common.records import StrataError, Waveform

PREFIX = "other-"  # of the second model's layers: part of file names in the cache


def renamed(layer: Layer) -> Layer:
    """A layer of the second model under the name that it has in the stream of both."""
    return replace(layer, name=PREFIX + layer.name)


def original_name(layer: Layer) -> str:
    """The name that a layer of the second model has in that model."""
    return layer.name.removeprefix(PREFIX)


@final
class EncoderPair:
    """Each batch goes through one model, then through the other; nothing is kept in between.

    The second model's layers are `renamed`. Audio must suit both.
    """

    def __init__(self, first: Encoder, second: Encoder) -> None:
        self.first = first
        self.second = second
        self.device = first.device
        self.batch_size = min(first.batch_size, second.batch_size)
        self.min_samples = max(first.min_samples, second.min_samples)
        limits = [n for n in (first.max_samples, second.max_samples) if n is not None]
        self.max_samples = min(limits, default=None)
        self.layers = (*first.layers, *map(renamed, second.layers))

    def run(
        self, waveforms: Sequence[Waveform], emit: Emit, only: Collection[str] | None = None
    ) -> None:
        """Emit each layer of both models, the first's before the second's; see `Encoder.run`."""
        needed = {layer.name for layer in self.layers} if only is None else set(only)
        others = {name.removeprefix(PREFIX) for name in needed if name.startswith(PREFIX)}
        layers = {name for name in needed if not name.startswith(PREFIX)}
        if layers:
            self.first.run(waveforms, emit, layers)
        if others:
            self.second.run(waveforms, lambda layer, *frames: emit(renamed(layer), *frames), others)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """The first model's batches, each split as the second one needs it."""
        return [
            [batch[i] for i in part]
            for batch in self.first.batches(lengths)
            for part in self.second.batches([lengths[i] for i in batch])
        ]


def load_encoders(config: Config, both: bool) -> Encoder | EncoderPair:
    """The run's model; with `both`, that and `config.other`."""
    first = load_encoder(config.model, config.device, config.precision)
    if not both:
        return first
    if config.other is None:
        raise StrataError("there is no second model: give it, model@other=NAME")
    return EncoderPair(first, load_encoder(config.other, config.device, config.precision))
