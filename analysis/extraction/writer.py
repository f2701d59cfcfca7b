"""Writes each utterance's layers to files of its own, during the forward pass."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from analysis.forward.consumers import Consumer, Item, checked
from common.encoder.architecture import Layer
from common.records import SAMPLE_RATE, Corpus, StrataError
from common.writing import replacing

Arrays = Mapping[str, NDArray[np.generic]]

TIMES = ".times"  # after a layer's name: when its frames are


class UtteranceFiles:
    """Where the arrays of each utterance are: `ID.safetensors`, or `ID.LAYER.npy` for each."""

    def __init__(self, folder: Path, names: Sequence[str], npy: bool = False) -> None:
        self.folder = folder
        self.names = names
        self.npy = npy

    def paths(self, id: str) -> list[Path]:
        """Files of one utterance."""
        if self.npy:
            return [self.folder / f"{id}.{name}.npy" for name in self.names]
        return [self.folder / f"{id}.safetensors"]

    def complete(self, id: str) -> bool:
        """Whether all files of an utterance exist; they appear whole."""
        return all(path.exists() for path in self.paths(id))

    def write(self, id: str, arrays: Arrays) -> None:
        """Write the arrays of one utterance; each file appears whole or not at all."""
        paths = self.paths(id)
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        if not self.npy:
            with replacing(paths[0]) as partial:
                save_file(
                    {name: np.ascontiguousarray(arrays[name]) for name in self.names}, partial
                )
            return
        for name, path in zip(self.names, paths, strict=True):
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, arrays[name])


class FeatureWriter(Consumer):
    """Writes layers, and the times of their frames, of the utterances that are not there yet.

    Each utterance has files of its own, which stay: there is no other state to save or to merge.
    """

    def __init__(
        self, corpus: Corpus, files: UtteranceFiles, layers: Sequence[Layer], stored: str
    ) -> None:
        self.corpus = corpus
        self.files = files
        self.layers = {layer.name: layer for layer in layers}
        self.stored = stored
        done = [files.complete(utterance.id) for utterance in corpus.utterances]
        self.left = {u for u, written in enumerate(done) if not written}
        self._before = sum(done)
        self._items: list[tuple[int, Item]] = []
        self._arrays: dict[int, dict[str, NDArray[np.generic]]] = {}

    def utterances(self) -> Iterable[int]:
        """Utterances that are not on disk."""
        return sorted(self.left)

    def layer_names(self) -> Collection[str]:
        """The layers to write."""
        return self.layers.keys()

    def begin(self, items: Sequence[Item]) -> None:
        """Note which utterances of the batch are to be written."""
        self._items = [(i, item) for i, item in enumerate(items) if item.index in self.left]
        self._arrays = {item.index: {} for _, item in self._items}

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Keep the frames until all layers have come."""
        if layer.name in self.layers:
            for i, item in self._items:
                rows = checked(layer, frames[i], self.stored).astype(self.stored)
                self._arrays[item.index][layer.name] = rows
                lead, hop = layer.geometry.centre(0), float(layer.geometry.hop)
                times = (lead + hop * np.arange(len(rows))) / SAMPLE_RATE
                self._arrays[item.index][layer.name + TIMES] = times

    def end(self) -> None:
        """Write each utterance's files."""
        for index, arrays in self._arrays.items():
            self.files.write(self.corpus.utterances[index].id, arrays)
            self.left.discard(index)
        self._arrays = {}

    def collected_before(self) -> int:
        """How many utterances were written by an earlier run."""
        return self._before


def bytes_of(n_samples: int, layers: Iterable[Layer], stored: str) -> int:
    """What the layers and times of an utterance take on disk."""
    size = np.dtype(stored).itemsize
    return sum(layer.geometry.n_frames(n_samples) * (layer.dim * size + 8) for layer in layers)


def check_ids(corpus: Corpus) -> None:
    """Raise where utterances cannot be told apart by the names of files."""
    seen: set[str] = set()
    for id in (utterance.id for utterance in corpus.utterances):
        if id in seen or ".." in PurePosixPath(id).parts or PurePosixPath(id).is_absolute():
            raise StrataError(
                f"utterance {id}: files are named by ids, and this one "
                f"{'is of two utterances' if id in seen else 'leads out of the folder'}: rename it"
            )
        seen.add(id)
