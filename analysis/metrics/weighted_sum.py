"""Learnt weights of the layers in a sum that a linear probe reads: SUPERB's protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.metrics.base import LayersMetric, Score
from analysis.metrics.probe import LinearProbe, trials_of
from analysis.metrics.units import Units
from common.arrays import Index, Vectors
from common.config.analysis import require_at_least
from common.records import StrataError
from common.seeding import generator

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightedSum(LayersMetric):
    """Weight of each layer in the sum that a linear probe reads best. Range [0, 1], sum 1.

    SUPERB (Yang et al. 2021, arXiv 2105.01051, section 3): a softmax over the layers, learnt
    together with the classifier by its cross-entropy. Each trial learns on its training folds from
    a start of its own, by Adam, until the loss on its dev fold has not fallen for `patience`
    epochs, and keeps the best epoch; so the trials' deviation is the weights' spread over seeds
    and over training speakers. Each layer is centred, and divided by its root mean square: weights
    of layers as they are would be small for layers of large numbers, whatever these hold.

    `weighted_sum_accuracy`: of the whole on the trial's test fold, the same for all layers.

    Traps. A weight shows what was used, not what is there: of two layers that hold the same, one
    may get all the weight; hold the weights against the layers' own probes (`probe_phone`). With
    few steps or a small `rate` weights stay near the 1 / layers that they start from.
    """

    name: ClassVar[str] = "layer_weight"
    family: ClassVar[str] = "layers"
    held_out: ClassVar[bool] = True

    rate: float
    batch: int
    epochs: int
    patience: int

    def __post_init__(self) -> None:
        for key in ("batch", "epochs", "patience"):
            require_at_least(f"metric.{key}", getattr(self, key), 1)
        if not self.rate > 0:
            raise StrataError(f"metric.rate={self.rate}: give a learning rate above 0")

    def check(self, units: Units) -> None:
        """Raise unless there is what a probe of one layer needs."""
        LinearProbe((0.1,)).check(units)

    def no_interval(self, units: Units) -> str:  # noqa: ARG002
        """Why there is none: weights are of all layers together."""
        return "the deviation of weights is over trials, each with its own seed"

    def score(self, layers: Mapping[str, Units]) -> Mapping[str, list[Score]]:
        """For every layer its weight in each trial, then each trial's accuracy."""
        first = next(iter(layers.values()))
        found: dict[str, list[Score]] = {name: [] for name in layers}
        accuracies = []
        for trial, rows in enumerate(trials_of(first)):
            seed = int(generator(first.seed, "weighted sum", trial).integers(2**31))
            weights, accuracy, epochs = self._learn(layers, first.label, rows, seed)
            for scores, weight in zip(found.values(), weights, strict=True):
                scores.append(Score(float(weight), detail={"epochs": str(epochs)}))
            accuracies.append(Score(accuracy, "weighted_sum_accuracy"))
        return {name: [*scores, *accuracies] for name, scores in found.items()}

    def _learn(
        self,
        layers: Mapping[str, Units],
        label: Index,
        rows: tuple[Index, Index, Index],
        seed: int,
    ) -> tuple[Vectors, float, int]:
        """Weights (l,), accuracy on the test rows, and the number of epochs of the best state."""
        import torch
        from torch.nn import functional

        train, dev, test = rows
        known, codes = np.unique(label[train], return_inverse=True)
        stacked = torch.stack([standardised(units.vectors, train) for units in layers.values()])
        usable = dev[np.isin(label[dev], known)]
        truth = torch.from_numpy(np.searchsorted(known, label[usable]))
        rng = torch.Generator().manual_seed(seed)
        logits = torch.zeros(len(stacked), requires_grad=True)
        width = stacked.shape[2]
        head = (torch.randn(len(known), width, generator=rng) / width**0.5).requires_grad_()
        bias = torch.zeros(len(known), requires_grad=True)
        optimiser = torch.optim.Adam([logits, head, bias], lr=self.rate)

        def classes(which: Index) -> "torch.Tensor":
            summed = torch.tensordot(logits.softmax(0), stacked[:, torch.from_numpy(which)], 1)
            return summed @ head.T + bias

        state, least, best, targets = [logits, head, bias], float("inf"), 0, torch.from_numpy(codes)
        kept = [part.detach().clone() for part in state]
        for epoch in range(1, self.epochs + 1):
            order = torch.randperm(len(train), generator=rng)
            for start in range(0, len(order), self.batch):
                batch = order[start : start + self.batch]
                optimiser.zero_grad()
                loss = functional.cross_entropy(classes(train[batch.numpy()]), targets[batch])
                torch.autograd.backward(loss)
                optimiser.step()
            with torch.no_grad():
                on_dev = float(functional.cross_entropy(classes(usable), truth))
            if on_dev < least:
                least, best, kept = on_dev, epoch, [part.detach().clone() for part in state]
            elif epoch - best >= self.patience:
                break
        with torch.no_grad():
            for part, value in zip(state, kept, strict=True):
                part.copy_(value)
            found = known[classes(test).argmax(1).numpy()]
            weights = logits.softmax(0).numpy()
        return weights, float((found == label[test]).mean()), best


def standardised(vectors: Vectors, train: Index) -> "torch.Tensor":
    """Vectors (n, d) less their training mean, divided by their training root mean square."""
    import torch

    centred = vectors - vectors[train].mean(0)
    size = float(np.sqrt((centred[train].astype(np.float64) ** 2).mean()))
    if not size > 0:
        raise StrataError(
            f"{len(train)} training units have the same vector in a layer: nothing can be read off"
        )
    return torch.from_numpy(np.ascontiguousarray(centred / np.float32(size), np.float32))
