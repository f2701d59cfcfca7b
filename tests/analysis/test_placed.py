"""A consumer that knows some of the run's utterances gets those, under its own numbers."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import models
import torch

from analysis.forward.consumers import Consumer, Item, Placed
from common.encoder.architecture import Layer


class Listener(Consumer):
    """Of its three utterances it wants two."""

    def __init__(self) -> None:
        self.heard: list[list[int]] = []

    def utterances(self) -> Iterable[int]:
        return [0, 2]

    def layer_names(self) -> Sequence[str]:
        return ["T1"]

    def order(self, utterance: int) -> tuple[int, ...]:
        return (utterance,)

    def begin(self, items: Sequence[Item]) -> None:
        self.heard.append([item.index for item in items])

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        self.heard.append([layer.index, len(frames)])

    def end(self) -> None:
        """Nothing to close."""

    def finish(self) -> Mapping[str, int]:
        return {"dropped": 1}

    def keep(self) -> None:
        self.heard.append([])

    def lose(self, utterances: Collection[int]) -> None:
        self.heard.append(list(utterances))

    def heard_before(self) -> int:
        return 3


def test_numbers_are_translated_both_ways_and_strangers_are_nobody() -> None:
    listener = Listener()
    placed = Placed(listener, [7, 5, 3])
    assert list(placed.utterances()) == [7, 3]
    assert [placed.order(u) for u in (7, 5, 3, 4)] == [(0,), (1,), (2,), (-1,)]
    placed.begin([Item(u, models.noise(100)) for u in (3, 4, 7)])
    assert listener.heard == [[2, -1, 0]]
    assert placed.layer_names() == ["T1"]
    assert placed.finish() == {"dropped": 1}
    assert placed.heard_before() == 3
    placed.keep()
    placed.lose([3, 4])
    assert listener.heard[-2:] == [[], [2]]
