"""A consumer that knows only some of the run's utterances."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import final

import torch

from analysis.forward.consumers import Consumer, Item
from common.encoder.architecture import Layer

NOBODY = -1  # the number of an utterance that a consumer does not know


@final
class Placed(Consumer):
    """Hands on to a consumer the utterances at `places`, under the numbers that it knows.

    places (n_utterances,): number in the run's speech of each utterance of the consumer's corpus.
    """

    def __init__(self, consumer: Consumer, places: Sequence[int]) -> None:
        self.consumer = consumer
        self.places = places
        self.numbers = {place: number for number, place in enumerate(places)}

    def utterances(self) -> Iterable[int]:
        """Those that the consumer asks for."""
        return [self.places[number] for number in self.consumer.utterances()]

    def layer_names(self) -> Collection[str]:
        """Those that the consumer asks for."""
        return self.consumer.layer_names()

    def order(self, utterance: int) -> tuple[int, ...]:
        """The consumer's own."""
        return self.consumer.order(self.numbers.get(utterance, NOBODY))

    def begin(self, items: Sequence[Item]) -> None:
        """Number them as the consumer does."""
        self.consumer.begin(
            [Item(self.numbers.get(item.index, NOBODY), item.waveform) for item in items]
        )

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Hand on."""
        self.consumer.add(layer, frames)

    def end(self) -> None:
        """Hand on."""
        self.consumer.end()

    def finish(self) -> Mapping[str, int]:
        """Hand on."""
        return self.consumer.finish()

    def keep(self) -> None:
        """Hand on."""
        self.consumer.keep()

    def lose(self, utterances: Collection[int]) -> None:
        """Hand on those that it knows."""
        self.consumer.lose([self.numbers[u] for u in utterances if u in self.numbers])

    def heard_before(self) -> int:
        """The consumer's own."""
        return self.consumer.heard_before()
