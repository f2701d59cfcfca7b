"""ABX discriminability: is a phone nearer to one of its kind than to one of another?"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.metrics.alignment import angles, mean_costs
from analysis.metrics.base import FrameMetric, Score
from analysis.metrics.intervals import SHARE, fold_jackknife, too_few
from analysis.targets.labels import Phone
from common.arrays import Array, Index
from common.config.analysis import require, require_at_least
from common.encoder.frames import FrameGeometry
from common.records import Interval, StrataError
from common.seeding import generator
from common.target import Target

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    from analysis.metrics.frames import Frames

log = logging.getLogger(__name__)


SPEAKERS = ("within", "across")
CONTEXTS = ("within", "any")
SEGMENTS = ("phone", "triphone")
# Equal distances must tie, in whatever block they are computed: a step is well above the rounding
# of angles near 0 in float64.
STEPS = 2**24
CELLS = 2**23  # costs of pairs of frames that are held at a time, 64 MB


@dataclass(frozen=True, slots=True)
class Item:
    """One spoken phone: its speaker, its neighbours, and where its frames are."""

    phone: str
    context: tuple[str, str]
    speaker: str
    stretch: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Block:
    """All items of one context and speaker: `items` (n,), numbers, one phone after another.

    Those of `phones[k]` begin at place `starts[k]`.
    """

    context: tuple[str, str]
    speaker: str
    phones: tuple[str, ...]
    items: Index
    starts: Index

    def place(self, phone: int) -> slice:
        """Rows of a phone's items."""
        ends = (*self.starts[1:].tolist(), len(self.items))
        return slice(int(self.starts[phone]), ends[phone])


@dataclass(frozen=True, eq=False)
class Comparison:
    """X (x,), numbers of items, against A, those of `phone` in a block, and B, those of the others.

    Within a speaker X are the items of A: none is compared with itself.
    """

    x: Index
    block: Block
    phone: int


@dataclass(frozen=True, eq=False)
class Cells:
    """Error rates (c,) of A, B and X of one context, speaker and speaker of X.

    pair (c,): ordered pairs of phones, 0, 1, …; speaker (c,): who says A and B; speaker_of_x (c,).
    `by_speaker`: each speaker's mean is taken before that of a pair.
    """

    rate: Array
    pair: Index
    speaker: Index
    speaker_of_x: Index
    by_speaker: bool

    def error(self) -> float:
        """Mean over the pairs of phones; NaN where there is none."""
        rate, pair = self.rate, self.pair
        if self.by_speaker:
            cells = pair * (self.speaker.max(initial=0) + 1) + self.speaker
            found, cells = np.unique(cells, return_inverse=True)
            rate = means(rate, cells)
            pair = found // (self.speaker.max(initial=0) + 1)
        errors = means(rate, np.unique(pair, return_inverse=True)[1])
        return float(errors.mean()) if len(errors) else np.nan

    def without(self, speaker: int) -> "Cells":
        """The cells without a speaker, as A, B or X."""
        kept = (self.speaker != speaker) & (self.speaker_of_x != speaker)
        return replace(
            self,
            rate=self.rate[kept],
            pair=self.pair[kept],
            speaker=self.speaker[kept],
            speaker_of_x=self.speaker_of_x[kept],
        )

    def limits(self, error: float, speakers: int) -> tuple[float, float] | tuple[None, None]:
        """95 % interval of 1 - error over speakers; (None, None) where it is not defined."""
        each = [1 - self.without(speaker).error() for speaker in range(speakers)]
        if not np.isfinite(each).all():
            return None, None
        return fold_jackknife(1 - error, each, SHARE)


def means(values: Array, group: Index) -> Array:
    """Mean (g,) of the values (n,) of each group (n,), of which none is empty."""
    return np.asarray(np.bincount(group, values) / np.bincount(group))


@dataclass(frozen=True)
class Abx(FrameMetric):
    """1 - ABX error rate: chance is 0.5. Range [0, 1].

    Of three items, X and A of one phone and B of another, how often X is nearer to A than to B, a
    tie counting half (Schatz et al. 2013, "Evaluating speech features with the minimal-pair ABX
    task", Interspeech; Kahn et al. 2020, Libri-Light, arXiv 1912.07875, and its code). Two items
    are as far apart as the angles of their frames, the mean over the cheapest alignment.

    `speaker`: all three by one speaker ("within"), or A and B by one and X by another ("across").
    `context`: all three between the same two phones ("within"), or any; then the phone before and
    the phone after decide nothing (Hallap, Dupoux & Dunbar 2023, arXiv 2210.15775). `segment`: the
    frames of the phone alone, or with those of its two neighbours ("triphone", the item files of
    Libri-Light and of the ZeroSpeech challenges), which needs the context kept.

    Averaged as there: over triples; then over contexts (and speakers of X) for each pair of phones
    and speaker; then over speakers; then over ordered pairs of phones. Pairs of rare phones weigh
    as much as those of frequent ones. At most `max_size_group` items of a phone, context and
    speaker, and `max_x_across` speakers of X for each A, are drawn for each sample; there 10 and 5.

    A frame belongs to an item if its centre does; an item that holds no centre takes the nearest
    frame (published code raises or leaves it out), so that all layers are compared on the same
    items. A context needs neighbours that abut: a phone beside a pause has none and is left out
    where contexts are kept; the log and the metadata count it.

    Secondary figures: `abx_error_within` and `abx_error_across`, the error rates of both kinds,
    where there are such triples.

    The 95 % interval of each is over speakers, from leaving out each of them in turn, with all that
    they say as A, B or X. Of twenty made speakers it held the score that they have on average in 95
    of 100 data sets within speakers, in 94 and 95 across (benchmarks/unit_coverage.py).
    """

    speaker: str
    context: str
    segment: str
    max_size_group: int
    max_x_across: int
    name: ClassVar[str] = "abx"
    family: ClassVar[str] = "abx"
    held_out: ClassVar[bool] = False
    no_shuffled_labels: ClassVar[str] = "its chance level is known: 0.5"

    def __post_init__(self) -> None:
        require("metric.speaker", self.speaker, SPEAKERS)
        require("metric.context", self.context, CONTEXTS)
        require("metric.segment", self.segment, SEGMENTS)
        require_at_least("metric.max_size_group", self.max_size_group, 2)
        require_at_least("metric.max_x_across", self.max_x_across, 1)
        if self.segment == "triphone" and self.context == "any":
            raise StrataError(
                "metric.segment=triphone with metric.context=any: triphones of other neighbours "
                "differ in these, not only in the phone; use context=within, or segment=phone"
            )

    def accepts(self, unit: str, target: Target) -> bool:
        """It takes frames of whole utterances, whose phones it finds itself."""
        return unit == "frame" and isinstance(target, Phone)

    def check(self, frames: "Frames") -> None:
        """Raise where nothing can be compared; warn where one of the two figures has nothing."""
        frames.refuse_nameless("items are compared within and across speakers")
        items = Items(self, frames)
        for kind in SPEAKERS:
            if next(items.comparisons(kind), None) is not None:
                continue
            shortage = (
                f"no ABX triple {kind} speakers among {len(items.items)} items of "
                f"{len({item.speaker for item in items.items})} speakers"
            )
            if kind == self.speaker:
                raise StrataError(f"{shortage}{self._remedy(items)}")
            log.warning("%s: no figure abx_error_%s", shortage, kind)

    def no_interval(self, frames: "Frames") -> str:
        """Too few speakers."""
        return too_few(len({utterance.speaker for utterance in frames.utterances} - {""}))

    def _remedy(self, items: "Items") -> str:
        if self.context == "within":
            return (
                f" that lie between two others ({items.without_context} phones do not): it needs "
                "two of one phone and one of another between the same neighbours. Use more speech, "
                "or metric.context=any"
            )
        return ": use more speech, of more speakers"

    def score(self, frames: "Frames") -> list[Score]:
        """The primary figure first, the error rates of both kinds after it."""
        items = Items(self, frames)
        errors, detail = [], {"items": str(len(items.items))}
        if self.context == "within":
            detail["without_context"] = str(items.without_context)
        primary = Score(0.0)
        for kind in SPEAKERS:
            cells = items.cells(kind)
            pairs = len(np.unique(cells.pair))
            detail[kind] = f"{len(cells.rate)} cells of {pairs} pairs of phones"
            if not len(cells.rate):
                continue
            error = cells.error()
            low, high = (None, None)
            if not self.no_interval(frames):
                low, high = cells.limits(error, len(items.speakers))
            if kind == self.speaker:
                primary = Score(1 - error, low=low, high=high)
            both = (None, None) if low is None or high is None else (1 - high, 1 - low)
            errors.append(Score(error, f"abx_error_{kind}", low=both[0], high=both[1]))
        return [replace(primary, detail=detail), *errors]

    def summary(self, scores: list[Score], experiment: str) -> dict[str, object]:  # noqa: ARG002
        """How many items there were, and what they were compared in."""
        details = [score.detail for score in scores if score.metric == ""]
        return {key: list(dict.fromkeys(one[key] for one in details)) for key in details[0]}


class Items:
    """The items of one sample, and what is compared with what.

    `without_context`: how many phones were left out for want of neighbours.
    """

    def __init__(self, metric: Abx, frames: "Frames") -> None:
        self.metric = metric
        self.frames = frames
        self.items: list[Item] = []
        self.without_context = 0
        for stretch, utterance in enumerate(frames.utterances):
            phones = utterance.tiers[frames.tier]
            for k in range(len(phones)):
                item = self._item(stretch, utterance.speaker, phones, k)
                if item is None:
                    self.without_context += 1
                else:
                    self.items.append(item)
        self.speakers = tuple(sorted({item.speaker for item in self.items}))
        self.blocks = self._blocks()
        self.spans = [
            span_of(item, frames.geometry, len(frames.of(item.stretch))) for item in self.items
        ]
        self.lengths = np.array([last - first for first, last in self.spans], dtype=np.int64)

    def _item(
        self, stretch: int, speaker: str, phones: tuple[Interval, ...], k: int
    ) -> Item | None:
        """Phone k as an item; None where contexts are kept and it lacks one."""
        phone = phones[k]
        if self.metric.context == "any":
            return Item(phone.label, ("", ""), speaker, stretch, phone.start, phone.end)
        if not 0 < k < len(phones) - 1:
            return None
        before, after = phones[k - 1], phones[k + 1]
        if before.end != phone.start or phone.end != after.start:
            return None
        start, end = phone.start, phone.end
        if self.metric.segment == "triphone":
            start, end = before.start, after.end
        return Item(phone.label, (before.label, after.label), speaker, stretch, start, end)

    def _blocks(self) -> dict[tuple[str, str], dict[str, Block]]:
        """The items drawn, by context and speaker."""
        found: dict[tuple[str, str], dict[str, dict[str, list[int]]]] = {}
        for number, item in enumerate(self.items):
            speakers = found.setdefault(item.context, {})
            speakers.setdefault(item.speaker, {}).setdefault(item.phone, []).append(number)
        return {
            context: {
                speaker: self._block(context, speaker, dict(sorted(phones.items())))
                for speaker, phones in sorted(speakers.items())
            }
            for context, speakers in sorted(found.items())
        }

    def _block(
        self, context: tuple[str, str], speaker: str, phones: Mapping[str, list[int]]
    ) -> Block:
        """At most `max_size_group` items of each phone."""
        seed, most = self.frames.seed, self.metric.max_size_group
        groups = [
            drawn(np.array(items), most, seed, "items", *context, speaker, phone)
            for phone, items in phones.items()
        ]
        starts = np.cumsum([0, *map(len, groups[:-1])])
        return Block(context, speaker, tuple(phones), np.concatenate(groups), starts)

    def comparisons(self, kind: str) -> Iterator[Comparison]:
        """Every X and A with all their B, within or across speakers."""
        for speakers in self.blocks.values():
            for speaker, block in speakers.items():
                if len(block.phones) < 2:
                    continue
                others = [other for name, other in speakers.items() if name != speaker]
                for k, phone in enumerate(block.phones):
                    if kind == "across":
                        for x in self._by_others(block, phone, others):
                            yield Comparison(x, block, k)
                    elif len(a := block.items[block.place(k)]) > 1:
                        yield Comparison(a, block, k)

    def _by_others(self, block: Block, phone: str, others: Sequence[Block]) -> Iterator[Index]:
        """The items of a phone by each of at most `max_x_across` other speakers."""
        candidates = [other for other in others if phone in other.phones]
        most, seed = self.metric.max_x_across, self.frames.seed
        which = ("speakers of X", *block.context, block.speaker, phone)
        for place in drawn(np.arange(len(candidates)), most, seed, *which):
            other = candidates[place]
            yield other.items[other.place(other.phones.index(phone))]

    def cells(self, kind: str) -> Cells:
        """The error rates of all that is compared within or across speakers."""
        code = {speaker: k for k, speaker in enumerate(self.speakers)}
        pairs: dict[tuple[str, str], int] = {}
        rates, found = [], []
        for one, apart in self._distances(self.comparisons(kind)):
            speakers = code[one.block.speaker], code[self.items[one.x[0]].speaker]
            for other, rate in error_rates(one, apart):
                phones = one.block.phones[one.phone], other
                rates.append(rate)
                found.append((pairs.setdefault(phones, len(pairs)), *speakers))
        pair, speaker, of_x = np.array(found, dtype=np.int64).reshape(-1, 3).T
        # In any context there is one mean over both speakers, as published.
        by_speaker = self.metric.context == "within"
        return Cells(np.array(rates), pair, speaker, of_x, by_speaker)

    def _distances(self, comparisons: Iterator[Comparison]) -> Iterator[tuple[Comparison, Index]]:
        """Distances (x, n) in steps of each X to every item of the block."""
        waiting: list[tuple[Comparison, Array]] = []
        for block, group in groupby(comparisons, key=lambda comparison: comparison.block):
            frames = self._frames(block.items)
            for comparison in group:
                waiting.append((comparison, angles(self._frames(comparison.x), frames)))
                if sum(lattice.size for _, lattice in waiting) > CELLS:
                    yield from self._warped(waiting)
                    waiting = []
        if waiting:
            yield from self._warped(waiting)

    def _warped(
        self, waiting: Sequence[tuple[Comparison, Array]]
    ) -> Iterator[tuple[Comparison, Index]]:
        """All their pairs of items are aligned side by side; arrays: angles of all frames."""
        first, stride, rows, columns, before = [], [], [], [], 0
        for one, lattice in waiting:
            x, y = self.lengths[one.x], self.lengths[one.block.items]
            width = lattice.shape[1]
            corners = before + np.add.outer((np.cumsum(x) - x) * width, np.cumsum(y) - y)
            first.append(corners.ravel())
            stride.append(np.full(corners.size, width))
            rows.append(np.repeat(x, len(y)))
            columns.append(np.tile(y, len(x)))
            before += lattice.size
        costs = np.concatenate([lattice.ravel() for _, lattice in waiting])
        parts = (np.concatenate(part) for part in (first, stride, rows, columns))
        apart = np.rint(mean_costs(costs, *parts) * STEPS).astype(np.int64)
        ends = np.cumsum([len(part) for part in first])
        for (one, _), distances in zip(waiting, np.split(apart, ends[:-1]), strict=True):
            yield one, distances.reshape(len(one.x), -1)

    def _frames(self, numbers: Index) -> Array:
        """Frames (t, d) of items one after another, of length 1; one that is zero stays zero."""
        places = ((self.items[k].stretch, *self.spans[k]) for k in numbers)
        parts = [self.frames.of(stretch)[first:last] for stretch, first, last in places]
        rows = np.concatenate(parts).astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def error_rates(one: Comparison, apart: Index) -> Iterator[tuple[str, float]]:
    """Each other phone, and the share of triples that are wrong against it; `apart` (x, n)."""
    block, rows = one.block, one.block.place(one.phone)
    wrong, triples = np.zeros(len(block.items)), 0
    for number, distances in zip(one.x, apart, strict=True):
        a = np.sort(distances[rows][block.items[rows] != number])
        nearer, not_farther = (np.searchsorted(a, distances, side) for side in ("left", "right"))
        wrong += len(a) - (nearer + not_farther) / 2
        triples += len(a)
    for k, phone in enumerate(block.phones):
        if k != one.phone:
            yield phone, float(wrong[block.place(k)].mean() / triples)


def drawn(items: Index, most: int, seed: int, *which: str) -> Index:
    """`most` of the items at random, in their order, or all."""
    if len(items) <= most:
        return items
    return np.sort(generator(seed, "abx", *which).choice(items, most, replace=False))


def span_of(item: Item, geometry: FrameGeometry, n_frames: int) -> tuple[int, int]:
    """Half-open frames whose centre lies in the item; the nearest one where none does."""
    lead, hop = geometry.centre(0), geometry.hop
    first, last = (-((lead - moment) // hop) for moment in (item.start, item.end))
    first, last = max(first, 0), min(last, n_frames)
    if last <= first:
        first = min(geometry.nearest((item.start + item.end) // 2), n_frames - 1)
        last = first + 1
    return first, last
