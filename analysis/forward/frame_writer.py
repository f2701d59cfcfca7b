"""Writes the frames of whole segments to disk as the forward pass hands them on."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.forward.collectors import State
from analysis.forward.consumers import FILTERBANK, MEL, EntryConsumer, Item
from analysis.forward.pooling import grid_geometry, to_grid
from analysis.sampling.segments import Segments
from analysis.targets.mel import MEL_BINS
from common.cache.cache import Entry
from common.cache.growing import GrowingArray
from common.encoder.architecture import Layer
from common.records import StrataError


class FrameWriter(EntryConsumer):
    """Writes the frames of segments to disk as they come: nothing of them stays in memory.

    Layers faster than 10 ms are laid on that grid; `MEL` among the layers is the filterbank.
    `stored`: the type on disk.
    """

    def __init__(
        self, segments: Segments, entry: Entry, layers: Sequence[Layer], stored: str
    ) -> None:
        self.segments = segments
        self.layers = {layer.name: layer for layer in layers if not entry.has(layer.name)}
        super().__init__(entry, sorted(self.layers), stored)
        self.stored = stored
        self._utterances = frozenset(segments.utterance.tolist() if self.layers else ())
        self._arrays: dict[str, GrowingArray] = {}
        self._rows = {name: np.full((len(segments.utterance), 2), -1) for name in self.layers}
        self._n_samples = np.full(len(segments.utterance), -1)
        self._items: list[tuple[int, Item]] = []
        self._clipped: set[int] = set()
        self.resume()

    def wanted(self) -> Collection[int]:
        """Utterances with a segment."""
        return self._utterances

    def state(self) -> State:
        """Where the frames of each segment are in the files, and how long these are."""
        for array in self._arrays.values():
            array.flush()
        arrays: State = {f"rows|{name}": rows for name, rows in self._rows.items()}
        sizes = {f"size|{name}": np.array([a.n, a.dim]) for name, a in self._arrays.items()}
        counts = {"n": self._n_samples, "clipped": np.array(sorted(self._clipped))}
        return {**arrays, **sizes, **counts}

    def restore(self, state: State) -> None:
        """Go on from there: what was written after it is cut off."""
        self._rows = {name: state[f"rows|{name}"] for name in self._rows}
        self._n_samples = state["n"]
        self._clipped = set(state["clipped"].tolist())
        for name in self.layers:
            if f"size|{name}" in state:
                n, dim = state[f"size|{name}"].tolist()
                self._arrays[name] = self.entry.grow(name, dim, self.stored, n)

    def layer_names(self) -> Collection[str]:
        """Layers that the entry lacks."""
        return self.layers.keys() - {MEL.name}

    def order(self, utterance: int) -> tuple[int, ...]:  # noqa: ARG002
        """Any order will do."""
        return ()

    def begin(self, items: Sequence[Item]) -> None:
        """Find the utterances with a segment, and keep how long their audio is."""
        self._items = [(i, it) for i, it in self.unheard(items) if self.segments.of(it.index)]
        for _, item in self._items:
            self._n_samples[self.segments.of(item.index)] = len(item.waveform)
        if MEL.name in self.layers and self._items:
            own = {i: item.values(FILTERBANK) for i, item in self._items}
            nothing = torch.zeros(0, MEL_BINS)
            self.add(MEL, [own.get(i, nothing) for i in range(len(items))])

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Append the frames of each segment."""
        if layer.name not in self.layers:
            return
        on_grid = grid_geometry(layer.geometry)
        for i, item in self._items:
            hidden = self._checked(layer, to_grid(frames[i], layer.geometry))
            array = self._array(layer.name, hidden.shape[1])
            for row in self.segments.of(item.index):
                first, last = self.segments.span(row, len(hidden), on_grid)
                if first < len(hidden) < last:
                    self._clipped.add(row)
                own = hidden[first:last]
                self._rows[layer.name][row] = array.n, len(own)
                array.append(own)

    def _array(self, name: str, dim: int) -> GrowingArray:
        if name not in self._arrays:
            self._arrays[name] = self.entry.grow(name, dim, self.stored)
        return self._arrays[name]

    def _checked(self, layer: Layer, hidden: torch.Tensor) -> NDArray[np.float32]:
        """Finite frames that the type on disk can hold."""
        rows = hidden.float().cpu().numpy()
        largest = float(np.abs(rows).max(initial=0))
        if not np.isfinite(largest):
            raise StrataError(
                f"layer {layer.name} gives NaN or infinite values: try precision=fp32"
            )
        if largest > (most := float(np.finfo(np.dtype(self.stored)).max)):
            raise StrataError(
                f"layer {layer.name} has values up to {largest:.3g}, more than {self.stored} holds "
                f"({most:.3g}): store its frames as float32"
            )
        return rows

    def end(self) -> None:
        """Nothing to close."""

    def finish(self) -> Mapping[str, int]:
        """Publish the frames, with where each segment's begin and how many they are."""
        if self.layers:
            self.hearing.settle()
        for name, layer in self.layers.items():
            array = self._array(name, layer.dim)  # empty where no segment has a frame
            array.close()
            self.entry.save(f"{name}.rows", {"rows": self._rows[name], "n": self._n_samples})
            self.entry.publish(name, needs=f"{name}.rows")
        self.entry.forget()
        missing = {len(rows) - int((rows[:, 1] > 0).sum()) for rows in self._rows.values()}
        return {
            "segments clipped to the utterance's frames": len(self._clipped),
            "segments without a frame": max(missing, default=0),
        }
