"""Accumulators of the forward pass: moments of frames, vectors of pooled units."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.forward.products import add_product, has_weak_float64, sliced
from analysis.moments import FoldedView, Folds, ViewMoments
from common.arrays import Array, Index, Mask, Vectors
from common.cache.cache import Entry
from common.cores import usable_cores
from common.processes import Processes
from common.records import StrataError

VERSION = 2  # bumped when stored vectors would differ, or be read differently
BLOCK = 1024  # rows of a group that are multiplied at once

Pair = tuple[str, str]
Rows = Sequence[int] | Index
State = dict[str, NDArray[Any]]  # what a pass needs to resume, as arrays by name
# Float64 rows (n, d) as they are multiplied: a numpy array, a tensor on a GPU, or `SlicedRows`.
Block = Any


@dataclass(eq=False)
class Sums:
    """Shifted sums of g groups in float64: counts (g,), first (g, d) and second (g, dx, dy).

    Sums about one fixed shift per view add plainly; the shift, a mean of the first frames, keeps
    them from cancelling.
    """

    counts: Array
    first: dict[str, torch.Tensor]
    second: dict[Pair, torch.Tensor]

    def copy(self) -> "Sums":
        """Sums that can be added to without changing these."""
        first = {view: total.clone() for view, total in self.first.items()}
        second = {pair: total.clone() for pair, total in self.second.items()}
        return Sums(self.counts.copy(), first, second)

    def arrays(self, name: str) -> State:
        """As arrays whose names start with `name`."""
        counts = {f"{name}|counts": self.counts}
        first = {f"{name}|first|{view}": t.cpu().numpy() for view, t in self.first.items()}
        second = {f"{name}|second|{x}|{y}": t.cpu().numpy() for (x, y), t in self.second.items()}
        return {**counts, **first, **second}

    def move(self, by: Mapping[str, torch.Tensor]) -> None:
        """Reduce each view's shift by `by` (d,), in place."""
        for (x, y), second in self.second.items():
            n = torch.from_numpy(self.counts).to(second)[:, None, None]
            second.addcmul_(self.first[x][:, :, None], by[y][None, None])
            second.addcmul_(by[x][None, :, None], self.first[y][:, None] + n * by[y])
        for view, first in self.first.items():
            first += torch.from_numpy(self.counts).to(first)[:, None] * by[view]

    def add(self, other: "Sums") -> None:
        """Add the sums of other rows, in place."""
        self.counts += other.counts
        for view, total in other.first.items():
            self.first[view] += total
        for pair, total in other.second.items():
            self.second[pair] += total


class MomentCollector:
    """Moments of views that share their rows: the layers of one grid and their mel frames.

    A pair is (layer, target); (view, view) is a view's own scatter. For each utterance call
    `begin` with the group (R,) of its rows, `add` every view's rows (R, d), then `end`.
    Rows of a group wait in a buffer until a block is worth multiplying. `split`: whether float64
    products are made of float32 ones (`analysis.forward.products`); by default on GPUs that have
    few float64 units.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        pairs: Iterable[Pair],
        groups: int,
        device: torch.device,
        split: bool | None = None,
    ) -> None:
        self.dims = dict(dims)
        self.pairs = tuple(pairs)
        self.groups = groups
        self.device = torch.device("cpu") if device.type == "mps" else device  # mps has no float64
        on_cpu = self.device.type == "cpu"
        self._split = has_weak_float64(self.device) if split is None else split
        on_host = on_cpu and not self._split
        self._workers = ThreadPoolExecutor(usable_cores()) if on_host else None
        self._shift: dict[str, torch.Tensor] = {}
        self._fill = np.zeros(groups, dtype=np.int64)
        self._buffers = {view: self._buffer(dim, BLOCK) for view, dim in self.dims.items()}
        self._order = torch.zeros(0, dtype=torch.int64)
        self._counts = np.zeros(groups, dtype=np.int64)

    @cached_property
    def sums(self) -> Sums:
        """Sums of the rows multiplied so far."""
        return self.zero_sums()

    def zero_sums(self) -> Sums:
        """Sums of no rows."""
        zeros = partial(torch.zeros, dtype=torch.float64, device=self.device)
        first = {view: zeros(self.groups, dim) for view, dim in self.dims.items()}
        second = {(x, y): zeros(self.groups, self.dims[x], self.dims[y]) for x, y in self.pairs}
        return Sums(np.zeros(self.groups), first, second)

    def _buffer(self, dim: int, rows: int) -> torch.Tensor:
        return torch.zeros(self.groups, rows, dim, device=self.device)

    def begin(self, groups: Index) -> None:
        """Make room for an utterance whose row r belongs to group `groups[r]`."""
        self._counts = np.bincount(groups, minlength=self.groups)
        self._order = torch.from_numpy(np.argsort(groups, kind="stable")).to(self.device)
        capacity = next(iter(self._buffers.values())).shape[1]
        for g in np.flatnonzero(self._fill + self._counts > capacity):
            self._flush(int(g))
        if self._counts.max(initial=0) > capacity:
            self.flush()
            rows = int(self._counts.max())
            self._buffers = {view: self._buffer(dim, rows) for view, dim in self.dims.items()}

    def add(self, view: str, rows: torch.Tensor) -> None:
        """Copy a view's rows (R, d) of the utterance into the buffers."""
        if len(rows) != len(self._order):
            raise ValueError(f"{view}: {len(rows)} rows, {len(self._order)} were announced")
        ordered = rows.to(self.device, torch.float32)[self._order]
        if view not in self._shift and len(ordered):
            self._shift[view] = ordered.double().mean(0)
        buffer, start = self._buffers[view], 0
        for g in np.flatnonzero(self._counts):
            count, fill = int(self._counts[g]), int(self._fill[g])
            buffer[g, fill : fill + count] = ordered[start : start + count]
            start += count

    def end(self) -> None:
        """End the utterance: every view has been added."""
        self._fill += self._counts

    def flush(self) -> None:
        """Multiply the buffered rows."""
        for g in range(self.groups):
            self._flush(g)

    def _flush(self, g: int) -> None:
        n = int(self._fill[g])
        if n == 0:
            return
        held = {y: self._block(y, g, n) for x, y in self.pairs if x != y}
        multiply = partial(self._multiply, g, n, held)
        if self._workers is None:
            for view in self.dims:
                multiply(view)
        else:
            list(self._workers.map(multiply, self.dims))
        self.sums.counts[g] += n
        self._fill[g] = 0

    def _multiply(self, g: int, n: int, held: Mapping[str, Block], view: str) -> None:
        """Add one view's rows of a group to its sums; `held` has the blocks of the targets."""
        block = held[view] if view in held else self._block(view, g, n)
        first = self._native(self.sums.first[view][g])
        first += block.total if self._split else block.sum(0)
        for x, y in self.pairs:
            if x != view:
                continue
            second = self._native(self.sums.second[x, y][g])
            other = block if y == view else held[y]
            if self._split:
                add_product(second, block, other)
            else:
                second += block.T @ other

    def _block(self, view: str, g: int, n: int) -> Block:
        rows, shift = self._buffers[view][g, :n], self._shift[view]
        if self._split:
            return sliced(rows.double() - shift)
        if self._workers is None:
            return rows.double() - shift
        return np.subtract(rows.numpy(), shift.numpy(), dtype=np.float64)

    def _native(self, tensor: torch.Tensor) -> Block:
        """On a CPU the numpy array that shares the tensor's memory.

        There numpy's x' x takes half the products that torch's does, and a view's products run on
        one thread beside other views' on others.
        """
        return tensor if self._workers is None else tensor.numpy()

    def take(self) -> Sums:
        """The sums so far; collecting starts again from zero, about the same shifts."""
        self.flush()
        sums = self.sums
        del self.sums  # made anew only when rows come: two sets of a large model are gigabytes
        return sums

    def continue_from(self, sums: Sums) -> None:
        """Continue from these sums."""
        self.flush()
        self.sums = sums

    def sums_from(self, state: State, name: str) -> Sums:
        """Sums from the arrays of `Sums.arrays`, on this collector's device."""
        tensor = partial(_tensor, state, self.device)
        first = {view: tensor(f"{name}|first|{view}") for view in self.dims}
        second = {(x, y): tensor(f"{name}|second|{x}|{y}") for x, y in self.pairs}
        return Sums(state[f"{name}|counts"], first, second)

    def state(self, name: str) -> State:
        """All that was added, as arrays that later additions do not change.

        Buffered rows stay buffered, so that blocks end where they would have ended.
        """
        fill = int(self._fill.max(initial=0))
        buffers = {
            f"{name}|buffer|{v}": b[:, :fill].cpu().numpy() for v, b in self._buffers.items()
        }
        shifts = {f"{name}|shift|{v}": s.cpu().numpy() for v, s in self._shift.items()}
        rows = next(iter(self._buffers.values())).shape[1]
        numbers = {f"{name}|fill": self._fill, f"{name}|rows": np.array(rows)}
        return {**self.sums.arrays(name), **buffers, **shifts, **numbers}

    def restore(self, state: State, name: str) -> None:
        """Restore the state of an earlier collector."""
        tensor = partial(_tensor, state, self.device)
        rows = int(state[f"{name}|rows"])
        self.sums = self.sums_from(state, name)
        self._fill = state[f"{name}|fill"].copy()
        self._buffers = {view: self._buffer(dim, rows) for view, dim in self.dims.items()}
        for view, buffer in self._buffers.items():
            kept = tensor(f"{name}|buffer|{view}")
            buffer[:, : kept.shape[1]] = kept
            if f"{name}|shift|{view}" in state:
                self._shift[view] = tensor(f"{name}|shift|{view}")

    def shifts(self) -> State:
        """The shift (d,) of each view that has had rows."""
        return {view: shift.cpu().numpy() for view, shift in self._shift.items()}

    def move(self, shifts: State, held: Iterable[Sums]) -> None:
        """Change to these shifts, also in the sums `held`; no rows may be waiting."""
        moved = {view: torch.from_numpy(shift).to(self.device) for view, shift in shifts.items()}
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        by = {
            view: self._shift[view] - moved[view] if view in self._shift else zero.expand(dim)
            for view, dim in self.dims.items()
        }
        for sums in held:
            sums.move(by)
        self._shift = moved

    def sums_of_other(self, state: State, name: str, totals: Iterable[str]) -> list[Sums]:
        """Sums of another collector of the same pairs, from its `state`, about this one's shifts.

        First its current sums, then those stored under the names of `totals`.
        """
        other = MomentCollector(self.dims, self.pairs, self.groups, self.device, self._split)
        other.restore(state, name)
        sums = [other.take(), *(other.sums_from(state, total) for total in totals)]
        self._shift = {**other._shift, **self._shift}
        if other._shift:
            other.move(self.shifts(), sums)
        return sums

    def add_up(self, sums: Sums, processes: Processes) -> Sums:
        """Sums over all processes, which have the same shifts, of the layers that this one owns."""
        processes.add([torch.from_numpy(sums.counts), *sums.first.values()])
        owner = {view: k % processes.size for k, view in enumerate(self.dims)}
        for (x, _), second in sums.second.items():
            processes.add([second], owner[x])
        second_moments = {
            p: second for p, second in sums.second.items() if owner[p[0]] == processes.rank
        }
        return Sums(sums.counts, sums.first, second_moments)

    def store(self, entry: Entry, sums: Sums, prefix: str) -> list[str]:
        """Write each view's n, mean and centred scatter, and each pair's cross-scatter.

        Returns the files' names, to be published.
        """
        names = []
        n = torch.from_numpy(sums.counts).to(self.device)
        divisor = n.clamp(min=1)
        for (x, y), second in sums.second.items():
            cross = sums.first[x][:, :, None] * sums.first[y][:, None, :]
            cross /= divisor[:, None, None]
            scatter = torch.sub(second, cross, out=cross)  # one array of this size, not three
            arrays = {"scatter": scatter.cpu().numpy()}
            if x == y:
                mean = self._shift.get(x, 0) + sums.first[x] / divisor[:, None]
                arrays |= {"n": sums.counts, "mean": mean.cpu().numpy()}
            names.append(moment_name(prefix, x, y))
            entry.stage(names[-1], arrays)
        return names


def _tensor(state: State, device: torch.device, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(state[name])).to(device)


def moment_name(prefix: str, x: str, y: str) -> str:
    """File of a view's own moments, or of a pair's cross-scatter."""
    return f"{prefix}.{x}" if x == y else f"{prefix}.{x}.{y}"


def load_view(entry: Entry, prefix: str, view: str, trials: int) -> FoldedView:
    """A view's moments by group, for `trials` trials."""
    arrays = entry.load(moment_name(prefix, view, view))
    columns = zip(arrays["n"], arrays["mean"], arrays["scatter"], strict=True)
    parts = tuple(ViewMoments(int(n), mean, scatter) for n, mean, scatter in columns)
    return FoldedView(parts, trials)


def load_folds(entry: Entry, prefix: str, x: FoldedView, y: FoldedView, pair: Pair) -> Folds:
    """A pair's moments by group."""
    if pair[0] == pair[1]:  # a layer against itself
        return Folds(x, x, tuple(part.scatter for part in x.parts))
    return Folds(x, y, tuple(entry.load(moment_name(prefix, *pair))["scatter"]))


class PartialArray:
    """The rows of an array (n, d) that one of several processes collects, and their numbers.

    They are appended to a file in the order in which they come.
    """

    def __init__(self, entry: Entry, name: str, dim: int, rows: Sequence[int] = ()) -> None:
        self.rows = list(rows)
        self._array = entry.grow(name, dim, np.float32, len(self.rows))

    def __setitem__(self, rows: Rows, values: Vectors) -> None:
        self._array.append(values)
        self.rows += [int(row) for row in rows]

    def flush(self) -> None:
        """Flush them to disk."""
        self._array.flush()


class VectorCollector:
    """Pooled vectors (n, d) float32 of each layer, memory-mapped on disk.

    `valid` (n,) of a layer tells which of its rows have been filled: a unit can lie beyond the
    layer's frames. It is stored with the layer, so that what is collected later cannot change it.
    """

    def __init__(self, entry: Entry, dims: Mapping[str, int], n: int) -> None:
        self.entry = entry
        self.dims = dims
        self.valid = {layer: np.zeros(n, dtype=bool) for layer in dims}
        self._arrays: dict[str, Any] = {}
        if entry.writer == 0:  # reserve disk space now
            for layer in dims:
                self._array(layer)
        self._waiting: dict[torch.device, list[tuple[str, Rows, torch.Tensor]]] = {}

    def add(self, layer: str, rows: Rows, vectors: torch.Tensor) -> None:
        """Vectors (u, d) for rows (u,); they stay on their device until `flush`."""
        waiting = self._waiting.setdefault(vectors.device, [])
        waiting.append((layer, rows, vectors.float()))

    def flush(self) -> None:
        """Write what was added: one transfer from a device for the vectors of all layers."""
        waiting, self._waiting = self._waiting, {}
        for added in waiting.values():
            together = torch.cat([vectors.flatten() for _, _, vectors in added]).cpu().numpy()
            ends = np.cumsum([vectors.numel() for _, _, vectors in added])
            parts = np.split(together, ends[:-1])
            for (layer, rows, vectors), values in zip(added, parts, strict=True):
                if not np.isfinite(values).all():
                    raise StrataError(
                        f"layer {layer} gives NaN or infinite values: try precision=fp32"
                    )
                self._array(layer)[rows] = values.reshape(vectors.shape)
                self.valid[layer][rows] = True

    def finish(self) -> None:
        """Publish the files: they can be read from now on."""
        self.flush()
        for layer, valid in self.valid.items():
            self._array(layer).flush()
            self.entry.save(f"{layer}.valid", {"valid": valid})
            self.entry.publish(layer, needs=f"{layer}.valid")

    def state(self) -> State:
        """Which rows have been filled; the rows are on the disk."""
        self.flush()
        for array in self._arrays.values():
            array.flush()
        arrays = {n: array for n, array in self._arrays.items() if isinstance(array, PartialArray)}
        rows = {f"rows|{layer}": np.array(array.rows, np.int64) for layer, array in arrays.items()}
        return {f"valid|{layer}": valid for layer, valid in self.valid.items()} | rows

    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass."""
        self.valid = {layer: state[f"valid|{layer}"] for layer in self.valid}
        for layer, dim in self.dims.items():
            if f"rows|{layer}" in state:
                rows = state[f"rows|{layer}"].tolist()
                self._arrays[layer] = PartialArray(self.entry, layer, dim, rows)

    def merge(self, other: Entry, state: State) -> None:
        """Copy the rows that another process collected."""
        for layer in self.valid:
            if f"rows|{layer}" in state:
                rows = state[f"rows|{layer}"]
                self._array(layer)[rows] = other.unfinished(layer)[: len(rows)]
                self.valid[layer][rows] = True

    def _array(self, layer: str) -> Any:
        """The whole array on disk; in a process other than the first, the rows that it collects."""
        if layer not in self._arrays:
            n, d = len(self.valid[layer]), self.dims[layer]
            self._arrays[layer] = (
                self.entry.create(layer, (n, d))
                if self.entry.writer == 0
                else PartialArray(self.entry, layer, d)
            )
        return self._arrays[layer]


def valid_rows(entry: Entry, layers: Iterable[str]) -> Mask:
    """Rows (n,) that each of these layers has.

    An experiment takes those that all of its layers have, so that its curve is over the same units
    throughout, whatever else the entry holds by now.
    """
    return np.logical_and.reduce([entry.load(f"{name}.valid")["valid"] for name in layers])
