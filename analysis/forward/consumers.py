"""What collects statistics in the forward pass: moments of frames, pooled vectors, or frames."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Self

import numpy as np
import torch
import xxhash

from analysis.forward.collectors import (
    BLOCK,
    MomentCollector,
    Pair,
    State,
    Sums,
    VectorCollector,
    moment_name,
)
from analysis.forward.pooling import Pool, grid_geometry, grid_rows, grid_step, pool, to_grid
from analysis.sampling.folds import FrameSamples
from analysis.sampling.segments import Segments
from analysis.targets.base import HOP, FrameTarget
from analysis.targets.mel import WINDOW, Mel, mel_frames
from common.arrays import Index, Vectors
from common.cache.cache import Entry, GrowingArray
from common.encoder.architecture import Layer
from common.encoder.frames import FrameGeometry
from common.processes import Processes
from common.records import StrataError, Waveform

AUDIO_HASHES = "heard"  # file in an entry
STATE_VERSION = 1  # bumped when the state of an unfinished pass would be read differently


def target_layer(target: FrameTarget) -> Layer:
    """A frame target as a layer.

    Its frames are centred: the first one's window begins before the waveform, and the last one's
    ends after it.
    """
    window, lead = WINDOW // 2, target.lead if isinstance(target, Mel) else 0
    geometry = FrameGeometry(WINDOW, HOP, offset=lead - window, overhang=lead + window)
    return Layer(target.name, "mel", 0, target.columns, geometry)


FILTERBANK = Mel()
MEL = target_layer(FILTERBANK)


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance on its way through the encoder: its index in the corpus, its audio (n,).

    The audio of a window of a long recording has context around the window's own samples
    [first, end). `id`: the utterance's.
    """

    index: int
    audio: Waveform
    id: str = ""
    first: int = 0
    end: int | None = None
    _values: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)  # by target's id

    @property
    def waveform(self) -> Waveform:
        """The utterance's own samples."""
        return self.audio[self.first : self.end]

    def frames(self, layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
        """The utterance's own frames (t, d) among those (T, d) of the audio."""
        first, rest = divmod(self.first, layer.geometry.hop)
        if rest:
            raise StrataError(
                f"layer {layer.name} has a frame every {layer.geometry.hop} samples, which does "
                f"not divide {self.first}, where a window of a long recording begins: leave out "
                "the layer (layers.indices), or take recordings whole (model.max_seconds)"
            )
        return hidden[first : first + layer.geometry.n_frames(len(self.waveform))]

    def values(self, target: FrameTarget) -> torch.Tensor:
        """A target's values for the utterance's own frames of 10 ms; computed once."""
        if id(target) not in self._values:
            first, n = self.first // HOP, mel_frames(len(self.waveform))
            self._values[id(target)] = target.frames(self.audio, self.id)[first : first + n]
        return self._values[id(target)]


class Consumer(ABC):
    """Receives the frames of each layer, for the utterances that it asks for."""

    @abstractmethod
    def utterances(self) -> Iterable[int]:
        """Indices of the utterances it needs."""

    @abstractmethod
    def layer_names(self) -> Collection[str]:
        """Layers it needs; the model does not run where no consumer needs any."""

    def targets_of(self, utterance: int) -> Collection[FrameTarget]:  # noqa: ARG002
        """Targets whose values it will ask an utterance for: they are computed ahead."""
        return ()

    def order(self, utterance: int) -> tuple[int, ...]:  # noqa: ARG002
        """Utterances with equal keys should come one after another, smaller keys first."""
        return ()

    @abstractmethod
    def begin(self, items: Sequence[Item]) -> None:
        """Start a batch of utterances; it ignores those that it did not ask for."""

    @abstractmethod
    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Take a layer's frames (T_i, d) of each utterance of the batch."""

    @abstractmethod
    def collected_before(self) -> int:
        """Number of utterances that an earlier, unfinished pass has collected for it."""

    # What only some consumers have to do.

    def end(self) -> None:  # noqa: B027
        """End the batch: every layer has been added."""

    def finish(self) -> Mapping[str, int]:
        """Write what was collected at the end of a pass; returns what was dropped, by reason."""
        return {}

    def save_state(self) -> None:  # noqa: B027
        """Store the state, from which another pass can resume."""

    def record_unread(self, utterances: Collection[int]) -> None:  # noqa: B027
        """Record utterances that could not be read; it ignores those that it did not ask for."""

    def divide(self, processes: Processes) -> None:  # noqa: B027
        """Before a pass of several processes: leave out the utterances that others have."""

    def combine(self, processes: Processes) -> None:  # noqa: B027
        """After such a pass: merge what all have collected, so that the first can `finish`."""


class AudioChanged(Exception):  # noqa: N818  # no error: the pass begins again
    """A pass read other audio than the one whose statistics the entry holds."""

    def __init__(self, entry: Entry, what: str) -> None:
        super().__init__(entry, what)  # both, so that it can be sent to another process
        self.entry = entry
        self.what = what

    def __str__(self) -> str:
        return self.what


class AudioHashes:
    """The utterances of an entry's statistics, with a hash of each one's waveform.

    All layers of an entry come from the same speech: where it holds statistics of an earlier pass,
    audio other than that pass's raises `AudioChanged`.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.hashes: dict[int, int] = {}
        self.unread: set[int] = set()
        self.expected = read_audio_hashes(entry)[0] if entry.has(AUDIO_HASHES) else None

    def add(self, utterance: int, waveform: Waveform) -> None:
        """Hash an utterance that is about to be collected."""
        found = xxhash.xxh3_64_intdigest(np.ascontiguousarray(waveform).data)
        self.hashes[utterance] = found
        if self.expected is not None and self.expected.get(utterance) != found:
            raise AudioChanged(self.entry, "an utterance whose audio has changed")

    def save(self) -> None:
        """Store the hashes at the end of a pass, before any of its statistics appear."""
        if self.expected is not None:
            if self.expected.keys() != self.hashes.keys():
                lost = len(self.expected.keys() - self.hashes.keys())
                raise AudioChanged(self.entry, f"{lost} utterances fewer than before")
            return
        self.entry.save(AUDIO_HASHES, self.state() | {"unread": _indices(self.unread)})

    def state(self) -> State:
        """The hashes as arrays, for a pass that resumes."""
        utterances = sorted(self.hashes)
        hashes = np.array([self.hashes[u] for u in utterances], dtype=np.uint64)
        return {"heard": _indices(utterances), "digest": hashes}

    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass."""
        self.hashes = _hashes(state)


def read_audio_hashes(entry: Entry) -> tuple[dict[int, int], list[int]]:
    """Hash of each utterance of an entry, and the utterances that could not be read."""
    arrays = entry.load(AUDIO_HASHES)
    return _hashes(arrays), arrays["unread"].tolist()


def _hashes(arrays: State) -> dict[int, int]:
    return dict(zip(arrays["heard"].tolist(), arrays["digest"].tolist(), strict=True))


def _indices(utterances: Collection[int]) -> Index:
    return np.array(sorted(utterances), dtype=np.int64)


class EntryConsumer(Consumer):
    """Writes to an entry of the cache; resumes an interrupted pass of the same `identity`.

    `numbers`: utterance in the pass -> its number in the entry; by default the same. Each of
    several processes keeps its own state; where there were more of them before, it merges theirs.
    """

    def __init__(
        self, entry: Entry, *identity: object, numbers: Mapping[int, int] | None = None
    ) -> None:
        self.entry = entry
        self.numbers = numbers
        self.identity = json.dumps([STATE_VERSION, type(self).__name__, *identity])
        self.audio = AudioHashes(entry)
        self._state_before = entry.load_state(self.identity)  # another's is deleted
        self._collected_elsewhere: set[int] = set()  # collected by other processes

    def resume(self) -> None:
        """Restore the state of an earlier pass, if there is one; to be called once."""
        if self._state_before is not None:
            self.audio.restore(self._state_before)
            self.restore(self._state_before)
        others = self.entry.of_other_writers()
        if self._merge_from(others):
            self.save_state()
        for other in others:
            other.delete_unfinished()
        self._before = len(self.audio.hashes)
        self._state_before = None

    def _merge_from(self, others: Iterable[Entry]) -> bool:
        """Merge what other processes collected in this pass; False where there was nothing."""
        before = len(self.audio.hashes)
        for other in others:
            state = other.load_state(self.identity)
            passed = _hashes(state) if state is not None else {}
            taken = passed.keys() & self.audio.hashes.keys()  # merged before a pass was killed
            if state is not None and not taken:
                self.merge(other, state)
                self.audio.hashes |= passed
        return len(self.audio.hashes) > before

    @abstractmethod
    def merge(self, other: Entry, state: State) -> None:
        """Merge what another process collected, from its state and its unfinished files."""

    @abstractmethod
    def state(self) -> State:
        """What it needs to resume, beside the hashes of the audio."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass."""

    @abstractmethod
    def needed(self) -> Collection[int]:
        """All utterances that it needs, collected or not, in a collection with fast look-up."""

    def utterances(self) -> Iterable[int]:
        """Utterances that it needs and has not collected."""
        lacking = [u for u in self.needed() if not self._has(u)]
        if self.numbers is None:
            return lacking
        in_pass = {number: u for u, number in self.numbers.items()}
        return [in_pass[number] for number in lacking]

    def number(self, utterance: int) -> int:
        """An utterance's number in the entry; -1 for one that the entry does not know."""
        return utterance if self.numbers is None else self.numbers.get(utterance, -1)

    def uncollected(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """The items that it needs and has not collected, with their places in the batch.

        Their indices are the entry's numbers.
        """
        needed, missing = self.needed(), []
        for i, item in enumerate(items):
            number = self.number(item.index)
            if number in needed and not self._has(number):
                self.audio.add(number, item.audio)
                missing.append((i, replace(item, index=number)))
        return missing

    def _has(self, number: int) -> bool:
        return number in self.audio.hashes or number in self._collected_elsewhere

    def save_state(self) -> None:
        """Store the state, with the hashes of the audio that was collected."""
        if self.needed():
            self.entry.save_state(self.identity, {**self.state(), **self.audio.state()})

    def divide(self, processes: Processes) -> None:
        """Learn what the others have collected in an unfinished pass."""
        seen: set[int] = set()
        for rank, collected in enumerate(processes.gather(list(self.audio.hashes))):
            if not seen.isdisjoint(collected):
                if rank == processes.rank:
                    self.entry.delete_unfinished()
                raise StrataError(
                    f"{self.entry.folder}: a run was killed just as one process had merged "
                    f"what process {rank} had saved, which is deleted now: run again"
                )
            seen.update(collected)
        self._collected_elsewhere = seen - self.audio.hashes.keys()

    def combine(self, processes: Processes) -> None:
        """Merge into the first process what the others have saved."""
        collected = {u for numbers in processes.gather(list(self.audio.hashes)) for u in numbers}
        if processes.leads:
            self._merge_from(self.entry.of_writer(rank) for rank in range(1, processes.size))
            if lost := len(collected - self.audio.hashes.keys()):
                raise StrataError(
                    f"{self.entry.folder}: what other processes saved of {lost} utterances "
                    "cannot be read: run again, they are encoded again"
                )

    def record_unread(self, utterances: Collection[int]) -> None:
        """Record those that it needs."""
        self.audio.unread |= {self.number(u) for u in utterances} & set(self.needed())

    def collected_before(self) -> int:
        """Number of utterances that an earlier pass has collected, in whichever process."""
        return self._before + len(self._collected_elsewhere)


class MomentConsumer(EntryConsumer):
    """Moments of frames for every sample, each frame accumulated once.

    Utterances come by the set of samples that share them; a set's sums are added to each of its
    samples when the next set begins. `crosses` are the pairs of views to compare, names of `layers`
    and of `targets`; what the entry holds already is not computed again. Frames of which a target
    that is masked has no value are left out of all views.
    """

    def __init__(
        self,
        samples: FrameSamples,
        entry: Entry,
        layers: Sequence[Layer],
        crosses: Sequence[Pair],
        device: torch.device,
        targets: Sequence[FrameTarget] = (FILTERBANK,),
    ) -> None:
        self.samples = samples
        self.targets = {target.name: target for target in targets}
        self.patterns = samples.patterns()  # utterance -> the samples that share it
        self.layers = {layer.name: layer for layer in layers}
        self.grids: dict[int, MomentCollector] = {}
        missing = MissingMoments.of(entry, samples, layers, crosses, targets)
        super().__init__(entry, [[step, *pairs] for step, pairs in missing.pairs.items()])
        for step, pairs in missing.pairs.items():
            dims = {view: missing.dims[view] for pair in pairs for view in pair}
            self.grids[step] = MomentCollector(dims, pairs, samples.groups, device)
        self._totals: dict[int, dict[int, Sums]] = {}
        self._pattern: tuple[int, ...] = ()
        self._remaining = Counter(s for pattern in self.patterns.values() for s in pattern)
        self._items: list[int] = []  # places in the batch of the utterances that it asked for
        self._rows: dict[int, list[int]] = {}
        # By grid: the rows in which every masked target has a value.
        self._has_value: dict[int, torch.Tensor | None] = {}
        self._masked = 0
        self._staged: list[str] = []
        self.resume()

    def needed(self) -> Collection[int]:
        """Members of any sample."""
        return self.patterns if self.grids else ()

    def state(self) -> State:
        """The sums of the current set of samples, and those of the unfinished samples."""
        arrays: State = {"pattern": np.array(self._pattern, dtype=np.int64)}
        arrays["staged"] = np.array(self._staged, dtype=np.str_)
        arrays["masked"] = np.array(self._masked)
        for step, collector in self.grids.items():
            arrays |= collector.state(str(step))
        totals = [
            (s, step, t)
            for s, sums_of_sample in self._totals.items()
            for step, t in sums_of_sample.items()
        ]
        arrays["totals"] = np.array([(s, step) for s, step, _ in totals], dtype=np.int64)
        for sample, step, sums in totals:
            arrays |= sums.arrays(f"total{sample}.{step}")
        return arrays

    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass."""
        self._pattern = tuple(state["pattern"].tolist())
        self._staged = state["staged"].tolist()
        self._masked = int(state["masked"])
        for step, collector in self.grids.items():
            collector.restore(state, str(step))
        for sample, step in state["totals"].tolist():
            sums = self.grids[step].sums_from(state, f"total{sample}.{step}")
            self._totals.setdefault(sample, {})[step] = sums
        for utterance in self.audio.hashes:
            self._remaining.subtract(self.patterns[utterance])

    def merge(self, other: Entry, state: State) -> None:
        """Add its sums to those of the unfinished samples."""
        pattern, staged = tuple(state["pattern"].tolist()), state["staged"].tolist()
        waiting = state["totals"].tolist()
        for step, collector in self.grids.items():
            resumed = [sample for sample, grid in waiting if grid == step]
            names = [f"total{sample}.{step}" for sample in resumed]
            current, *totals = collector.sums_of_other(state, str(step), names)
            for sample, sums in zip(resumed, totals, strict=True):
                self._add_to_samples(step, sums, (sample,))
            self._add_to_samples(step, current, pattern)
        for name in staged:
            other.move_staged(name, self.entry)
        self._staged += staged
        self._masked += int(state["masked"])
        for utterance in state["heard"].tolist():
            self._remaining.subtract(self.patterns[utterance])

    def combine(self, processes: Processes) -> None:
        """Each layer's sums are added up in the process that owns it, which prepares its files."""
        self._switch_to(())
        first = self.entry.of_writer(0)
        for name in self._staged if not processes.leads else ():
            self.entry.move_staged(name, first)
        samples = sorted({s for local in processes.gather(list(self._totals)) for s in local})
        for step, collector in self.grids.items():
            shifts: State = {}
            for own_shifts in processes.gather(collector.shifts()):
                shifts = {**own_shifts, **shifts}
            held = [totals[step] for totals in self._totals.values() if step in totals]
            collector.move(shifts, held)
        for sample in samples:
            totals = self._totals.pop(sample, {})
            for step, collector in self.grids.items():
                local = totals.pop(step) if step in totals else collector.zero_sums()
                sums = collector.add_up(local, processes)
                self._staged += collector.store(first, sums, prefix(sample, step))
        counts = self._staged, self._masked, self.audio.hashes
        for rank, (staged, masked, hashes) in enumerate(processes.gather(counts)):
            if rank != processes.rank:
                self._staged = self._staged + staged
                self._masked += masked
                self.audio.hashes |= hashes

    def layer_names(self) -> Collection[str]:
        """Layers of any pair that is missing."""
        return {view for grid in self.grids.values() for view in grid.dims} - self.targets.keys()

    def targets_of(self, utterance: int) -> Collection[FrameTarget]:
        """Targets of any pair that is missing."""
        return self._used().values() if utterance in self.needed() else ()

    def _used(self) -> dict[str, FrameTarget]:
        needed = {view for grid in self.grids.values() for view in grid.dims}
        return {name: target for name, target in self.targets.items() if name in needed}

    def order(self, utterance: int) -> tuple[int, ...]:
        """Sets shared by more samples first, so that few sums are alive at once."""
        pattern = self.patterns.get(utterance, ())
        return (-len(pattern), *pattern)

    def begin(self, items: Sequence[Item]) -> None:
        """Add the targets' frames, and give the collectors each row's group."""
        new = self.uncollected(items)
        self._items = [i for i, _ in new]
        if not self._items:
            return
        members = [item for _, item in new]
        self._switch_to(self.patterns[members[0].index])
        for item in members:
            self._remaining.subtract(self.patterns[item.index])
        used = self._used()
        values = {name: [item.values(t) for item in members] for name, t in used.items()}
        for step, collector in self.grids.items():
            counts = self._rows[step] = [self._count(step, len(item.waveform)) for item in members]
            rows = {
                name: torch.cat([f[::step][:n] for f, n in zip(frames, counts, strict=True)])
                for name, frames in values.items()
                if name in collector.dims
            }
            each = zip(members, counts, strict=True)
            groups = np.concatenate([self.samples.groups_of(item.index, n) for item, n in each])
            masks = [rows[name].isfinite().all(1) for name, t in used.items() if t.masked]
            has_value = self._has_value[step] = torch.stack(masks).all(0) if masks else None
            if has_value is not None:
                if step == min(self.grids):  # each frame of 10 ms, or of the only grid, once
                    self._masked += int((~has_value).sum())
                groups = groups[has_value.numpy()]
            collector.begin(groups)
            for name, own_rows in rows.items():
                collector.add(name, own_rows if has_value is None else own_rows[has_value])

    def _count(self, step: int, n_samples: int) -> int:
        """Rows of an utterance on a grid: those that all of the model's layers and mel have."""
        geometries = [layer.geometry for layer in self.layers.values() if step_of(layer) == step]
        rows = min(grid_rows(geometry, n_samples) for geometry in geometries)
        return min(rows, ceil(mel_frames(n_samples) / step))

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Pool a layer to its grid and collect its rows."""
        collector = self.grids.get(step_of(layer))
        if not self._items or collector is None or layer.name not in collector.dims:
            return
        pairs = zip((frames[i] for i in self._items), self._rows[step_of(layer)], strict=True)
        rows = torch.cat([to_grid(f, layer.geometry)[:n] for f, n in pairs])
        has_value = self._has_value[step_of(layer)]
        collector.add(layer.name, rows if has_value is None else rows[has_value.to(rows.device)])

    def end(self) -> None:
        """End the batch in every grid."""
        if self._items:
            for collector in self.grids.values():
                collector.end()

    def finish(self) -> Mapping[str, int]:
        """Write the moments of each sample."""
        self._switch_to(())
        for sample in list(self._totals):
            self._store(sample)
        self.audio.save()
        for name in self._staged:
            self.entry.publish(name)
        self.entry.delete_all_unfinished()
        names = [name for name, target in self.targets.items() if target.masked]
        return {f"frame: without a value of {name}": self._masked for name in names}

    def _store(self, sample: int) -> None:
        for step, sums in self._totals.pop(sample).items():
            self._staged += self.grids[step].store(self.entry, sums, prefix(sample, step))

    def _switch_to(self, pattern: tuple[int, ...]) -> None:
        """Add what was collected to its samples' sums, and start another set of samples."""
        if pattern == self._pattern:
            return
        for step, collector in self.grids.items():
            if self._pattern:
                self._add_to_samples(step, collector.take(), self._pattern)
        for sample in [s for s in self._totals if self._remaining[s] == 0]:
            self._store(sample)  # no utterance of it is to come: free its sums now
        for step, collector in self.grids.items():
            only = self._totals.get(pattern[0], {}) if len(pattern) == 1 else {}
            if step in only:
                collector.continue_from(only.pop(step))
        self._pattern = pattern

    def _add_to_samples(self, step: int, sums: Sums, pattern: tuple[int, ...]) -> None:
        for position, sample in enumerate(pattern):
            totals = self._totals.setdefault(sample, {})
            if step in totals:
                totals[step].add(sums)
            else:
                totals[step] = sums if position == 0 else sums.copy()


def step_of(layer: Layer) -> int:
    """Steps of 10 ms between the rows of a layer."""
    return grid_step(layer.geometry, layer.name)


def prefix(sample: int, step: int) -> str:
    """How the files of a sample's moments on one grid begin."""
    return f"sample{sample}.{10 * step}ms"


def pair_step(layers: Mapping[str, Layer], pair: Pair) -> int:
    """The grid of a pair: its layer's, or its target's where that is the layer.

    Of two views of which neither is a layer (mel against another target): the layers' coarsest.
    """
    known = [layers[view] for view in pair if view in layers]
    return step_of(known[0]) if known else max(map(step_of, layers.values()))


@dataclass(frozen=True)
class MissingMoments:
    """The moments that an entry lacks: `pairs` of views by grid, each for every distinct sample.

    `dims`: columns of every view.
    """

    pairs: Mapping[int, Sequence[Pair]]
    dims: Mapping[str, int]
    groups: int
    samples: int

    @classmethod
    def of(
        cls,
        entry: Entry,
        samples: FrameSamples,
        layers: Iterable[Layer],
        crosses: Sequence[Pair],
        targets: Iterable[FrameTarget] = (FILTERBANK,),
    ) -> Self:
        """Of the crosses, and of each of their views with itself, those that the entry lacks."""
        by_name = {layer.name: layer for layer in layers}
        steps = [pair_step(by_name, pair) for pair in crosses]
        missing = {}
        for step in sorted(set(steps)):
            on_grid = [pair for pair, at in zip(crosses, steps, strict=True) if at == step]
            views = dict.fromkeys(view for pair in on_grid for view in pair)
            pairs = [(view, view) for view in views] + [(x, y) for x, y in on_grid if x != y]
            files = [prefix(sample, step) for sample in samples.distinct()]
            missing[step] = [
                pair for pair in pairs if not all(entry.has(moment_name(f, *pair)) for f in files)
            ]
        dims = {name: layer.dim for name, layer in by_name.items()}
        dims |= {target.name: target.columns for target in targets}
        lacking = {step: pairs for step, pairs in missing.items() if pairs}
        return cls(lacking, dims, samples.groups, len(samples.distinct()))

    def disk_bytes(self) -> int:
        """Disk space that they take."""
        return self.samples * self._bytes_of_sums()

    def memory_bytes(self) -> int:
        """Peak memory of a pass that computes them.

        Sums of every sample and, where there are several, of the set in progress; rows that wait to
        be multiplied; and, when a sample is complete, the arrays that its largest pair is stored
        as.
        """
        if not self.pairs:
            return 0
        sums = self._bytes_of_sums() * (self.samples + (self.samples > 1))
        views = [{view for pair in pairs for view in pair} for pairs in self.pairs.values()]
        columns = sum(self.dims[view] for grid in views for view in grid)
        waiting = 4 * BLOCK * self.groups * columns
        return sums + waiting + 2 * 8 * self.groups * max(self._sizes())

    def _bytes_of_sums(self) -> int:
        """Of one sample."""
        return 8 * self.groups * sum(self._sizes())

    def _sizes(self) -> list[int]:
        """Numbers in each pair's product."""
        pairs = (pair for on_grid in self.pairs.values() for pair in on_grid)
        return [self.dims[x] * self.dims[y] for x, y in pairs]


def vector_bytes(entry: Entry, layers: Iterable[Layer], rows: int) -> int:
    """Disk space of the vectors of the layers that the entry lacks, in bytes."""
    return 4 * rows * sum(layer.dim for layer in layers if not entry.has(layer.name))


class SegmentConsumer(EntryConsumer):
    """Takes segments of the layers that the entry lacks.

    Among the layers may be those that represent `targets` of frames (`target_layer`), and `MEL`.
    `identity`, `numbers`: see `EntryConsumer`.
    """

    def __init__(
        self,
        segments: Segments,
        entry: Entry,
        layers: Sequence[Layer],
        *identity: object,
        targets: Sequence[FrameTarget] = (),
        numbers: Mapping[int, int] | None = None,
    ) -> None:
        self.segments = segments
        self.targets = {target.name: target for target in (FILTERBANK, *targets)}
        self.layers = {layer.name: layer for layer in layers if not entry.has(layer.name)}
        super().__init__(entry, sorted(self.layers), *identity, numbers=numbers)
        self._utterances = frozenset(segments.utterance.tolist() if self.layers else ())
        self._clipped: set[int] = set()  # segments that reach beyond their utterance's frames

    def needed(self) -> Collection[int]:
        """Utterances with a segment."""
        return self._utterances

    def layer_names(self) -> Collection[str]:
        """Layers that are missing."""
        return self.layers.keys() - self.targets.keys()

    def targets_of(self, utterance: int) -> Collection[FrameTarget]:
        """Targets among the layers that are missing."""
        names = self.layers.keys() & self.targets.keys()
        return [self.targets[n] for n in names] if utterance in self._utterances else []

    def add_targets(self, items: Sequence[Item], own: Collection[int]) -> None:
        """Add the values of these targets for the items of a batch whose places are `own`."""
        for name in self.layers.keys() & self.targets.keys():
            target = self.targets[name]
            nothing = torch.zeros(0, target.columns)
            frames = [item.values(target) if i in own else nothing for i, item in enumerate(items)]
            self.add(self.layers[name], frames)


class VectorConsumer(SegmentConsumer):
    """Pooled vectors of the sampled units; those of which a target has no value are left out."""

    def __init__(
        self,
        segments: Segments,
        entry: Entry,
        layers: Sequence[Layer],
        pooling: str,
        targets: Sequence[FrameTarget] = (),
        numbers: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(segments, entry, layers, targets=targets, numbers=numbers)
        self.pooling = pooling
        self.collector = VectorCollector(
            entry, {name: layer.dim for name, layer in self.layers.items()}, len(segments.label)
        )
        self._drawn: list[tuple[int, range]] = []
        self._places: dict[Hashable, tuple[dict[int, tuple[int, int]], Pool]] = {}
        self._empty: set[int] = set()
        self._masked = 0
        self.resume()

    def state(self) -> State:
        """Which rows are filled, and what was counted."""
        counts = {
            "clipped": np.array(sorted(self._clipped)),
            "empty": np.array(sorted(self._empty)),
            "masked": np.array(self._masked),
        }
        return {**self.collector.state(), **counts}

    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass."""
        self.collector.restore(state)
        self._clipped = set(state["clipped"].tolist())
        self._empty = set(state["empty"].tolist())
        self._masked = int(state["masked"])

    def merge(self, other: Entry, state: State) -> None:
        """Copy its rows, and add what it counted."""
        self.collector.merge(other, state)
        self._clipped |= set(state["clipped"].tolist())
        self._empty |= set(state["empty"].tolist())
        self._masked += int(state["masked"])

    def begin(self, items: Sequence[Item]) -> None:
        """Find each utterance's units."""
        self._places.clear()
        rows = [(i, self.segments.of(item.index)) for i, item in self.uncollected(items)]
        self._drawn = [(i, drawn) for i, drawn in rows if drawn]
        self.add_targets(items, {i for i, _ in self._drawn})

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Pool the units of each utterance from a layer's frames on its grid."""
        if layer.name not in self.layers:
            return
        masked = layer.name in self.targets and self.targets[layer.name].masked
        for i, rows in self._drawn:
            hidden = to_grid(frames[i], layer.geometry)
            spans, pool_all = self._placed(i, rows, hidden, grid_geometry(layer.geometry))
            if not spans:
                continue
            if not masked:
                self.collector.add(layer.name, list(spans), pool_all(hidden))
                continue
            # One by one, so that a frame without a value affects only the units that hold it.
            parts = [(hidden[first:last], last - first) for first, last in spans.values()]
            vectors = torch.cat([pool(part, [(0, n)], self.pooling) for part, n in parts])
            valued = vectors.isfinite().all(1)
            self._masked += int((~valued).sum())
            valued_rows = [row for row, valid in zip(spans, valued.tolist(), strict=True) if valid]
            self.collector.add(layer.name, valued_rows, vectors[valued])

    def _placed(
        self, i: int, rows: range, hidden: torch.Tensor, geometry: FrameGeometry
    ) -> tuple[dict[int, tuple[int, int]], Pool]:
        """Where an utterance's units are, and what pools them: the same for a grid's layers."""
        which = (i, len(hidden), geometry, hidden.device)
        if which not in self._places:
            spans = self._spans(rows, len(hidden), geometry)
            pool_all = Pool(list(spans.values()), len(hidden), self.pooling, hidden.device)
            self._places[which] = spans, pool_all
        return self._places[which]

    def _spans(
        self, rows: range, n_frames: int, geometry: FrameGeometry
    ) -> dict[int, tuple[int, int]]:
        """Frames of each unit, clipped to the utterance; those beyond it are left out."""
        spans = {}
        for row in rows:
            first, last = self.segments.span(row, n_frames, geometry)
            if first >= n_frames:
                self._empty.add(row)
                continue
            if last > n_frames:
                self._clipped.add(row)
            spans[row] = (first, min(last, n_frames))
        return spans

    def end(self) -> None:
        """Every layer has been pooled: fetch the vectors."""
        self.collector.flush()

    def finish(self) -> Mapping[str, int]:
        """Publish the vectors, each layer's with which units it has."""
        if self.layers:
            self.audio.save()
            self.collector.finish()
            self.entry.delete_all_unfinished()
        name = self.segments.name
        return {
            f"{name}: clipped to the utterance's frames": len(self._clipped),
            f"{name}: beyond the utterance's frames": len(self._empty),
        } | ({f"{name}: without a value of the target": self._masked} if self._masked else {})


class FrameConsumer(SegmentConsumer):
    """Writes the frames of segments to disk as they come; none stay in memory.

    Layers faster than 10 ms are laid on that grid. `stored`: the type on disk.
    """

    def __init__(
        self, segments: Segments, entry: Entry, layers: Sequence[Layer], stored: str
    ) -> None:
        super().__init__(segments, entry, layers, stored)
        self.stored = stored
        self._arrays: dict[str, GrowingArray] = {}
        self._rows = {name: np.full((len(segments.utterance), 2), -1) for name in self.layers}
        self._n_samples = np.full(len(segments.utterance), -1)
        self._items: list[tuple[int, Item]] = []
        self.resume()

    def state(self) -> State:
        """Where the frames of each segment are in the files, and how long these are."""
        for array in self._arrays.values():
            array.flush()
        arrays: State = {f"rows|{name}": rows for name, rows in self._rows.items()}
        sizes = {f"size|{name}": np.array([a.n, a.dim]) for name, a in self._arrays.items()}
        counts = {"n": self._n_samples, "clipped": np.array(sorted(self._clipped))}
        return {**arrays, **sizes, **counts}

    def restore(self, state: State) -> None:
        """Restore the state of an earlier pass; rows written after it was saved are cut off."""
        self._rows = {name: state[f"rows|{name}"] for name in self._rows}
        self._n_samples = state["n"]
        self._clipped = set(state["clipped"].tolist())
        for name in self.layers:
            if f"size|{name}" in state:
                n, dim = state[f"size|{name}"].tolist()
                self._arrays[name] = self.entry.grow(name, dim, self.stored, n)

    def merge(self, other: Entry, state: State) -> None:
        """Append its frames."""
        for name in self.layers:
            if f"size|{name}" in state:
                n, dim = state[f"size|{name}"].tolist()
                array, rows = self._array(name, dim), state[f"rows|{name}"]
                collected = rows[:, 0] >= 0
                self._rows[name][collected] = rows[collected] + [array.n, 0]
                frames = other.unfinished(name)
                for start in range(0, n, BLOCK):
                    array.append(frames[start : min(start + BLOCK, n)])
        self._n_samples = np.maximum(self._n_samples, state["n"])
        self._clipped |= set(state["clipped"].tolist())

    def begin(self, items: Sequence[Item]) -> None:
        """Find the utterances with a segment, and keep how long their audio is."""
        self._items = [(i, it) for i, it in self.uncollected(items) if self.segments.of(it.index)]
        for _, item in self._items:
            self._n_samples[self.segments.of(item.index)] = len(item.waveform)
        self.add_targets(items, {i for i, _ in self._items})

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        """Append the frames of each segment."""
        if layer.name not in self.layers:
            return
        on_grid = grid_geometry(layer.geometry)
        for i, item in self._items:
            hidden = checked(layer, to_grid(frames[i], layer.geometry), self.stored)
            array = self._array(layer.name, hidden.shape[1])
            for row in self.segments.of(item.index):
                first, last = self.segments.span(row, len(hidden), on_grid)
                if first < len(hidden) < last:
                    self._clipped.add(row)
                inside = hidden[first:last]
                self._rows[layer.name][row] = array.n, len(inside)
                array.append(inside)

    def _array(self, name: str, dim: int) -> GrowingArray:
        if name not in self._arrays:
            self._arrays[name] = self.entry.grow(name, dim, self.stored)
        return self._arrays[name]

    def finish(self) -> Mapping[str, int]:
        """Publish the frames, with where each segment's begin and how many they are."""
        if self.layers:
            self.audio.save()
        for name, layer in self.layers.items():
            array = self._array(name, layer.dim)  # empty where no segment has a frame
            array.close()
            self.entry.save(f"{name}.rows", {"rows": self._rows[name], "n": self._n_samples})
            self.entry.publish(name, needs=f"{name}.rows")
        self.entry.delete_all_unfinished()
        missing = {len(rows) - int((rows[:, 1] > 0).sum()) for rows in self._rows.values()}
        return {
            "segments clipped to the utterance's frames": len(self._clipped),
            "segments without a frame": max(missing, default=0),
        }


def checked(layer: Layer, hidden: torch.Tensor, stored: str) -> Vectors:
    """Finite frames (t, d) that the type on disk can hold."""
    rows = hidden.float().cpu().numpy()
    largest = float(np.abs(rows).max(initial=0))
    if not np.isfinite(largest):
        raise StrataError(f"layer {layer.name} gives NaN or infinite values: try precision=fp32")
    if largest > (most := float(np.finfo(np.dtype(stored)).max)):
        raise StrataError(
            f"layer {layer.name} has values up to {largest:.3g}, more than {stored} holds "
            f"({most:.3g}): store its frames as float32"
        )
    return rows
