"""Segments drawn before the forward pass, with a seed: phones, words, frames, whole utterances."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analysis.sampling.folds import (
    FrameSamples,
    blocks,
    digest_of,
    draw_frames,
    group_keys,
    grouped_folds,
    resolved_split,
)
from analysis.targets.base import STRETCH, LabelTarget, label_target
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.config.analysis import SPEAKERS_AND_TYPES
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError
from common.seeding import generator, hashed_folds
from common.target import FromFile

log = logging.getLogger(__name__)

Index = NDArray[np.int64]

LEAST_CELL = 30  # units that a trial is tested on where folds are crossed
LEAST_TYPES = 3  # word types that a trial is tested on: all correlations of two are 1 or -1


@dataclass(frozen=True, eq=False)
class UnitSamples:
    """Labelled units drawn by any sample, one row each, in the order of the corpus.

    utterance, start, end, label: (n,); folds (samples, n), -1 where a sample has not drawn a unit.
    `split` says how the folds were cut. `type_folds` (n,): where folds of word types are crossed
    with them, each unit's; else None.
    """

    unit: str
    name: str
    split: str
    labels: tuple[str, ...]
    utterance: Index
    start: Index
    end: Index
    label: Index
    folds: Index
    dropped: dict[str, int] = field(default_factory=dict)
    type_folds: Index | None = None

    def digest(self) -> str:
        """Hash of the rows: pooled vectors of other rows, or in another order, are not these."""
        return digest_of(self.utterance, self.start, self.end)

    def of(self, utterance: int) -> slice:
        """Rows of one utterance."""
        first, last = np.searchsorted(self.utterance, [utterance, utterance + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True, eq=False)
class UnitTable:
    """Every unit that could be drawn; arrays (n,); `label` indexes `labels`.

    scored (n,), or None where all units are of one partition.
    """

    name: str
    labels: tuple[str, ...]
    utterance: Index
    start: Index
    end: Index
    label: Index
    scored: NDArray[np.bool_] | None

    def groups(self) -> Iterator[tuple[tuple[str, ...], Index]]:
        """Rows that are drawn from apart, with the name of each group: its label, its partition."""
        parts: list[tuple[tuple[str, ...], NDArray[np.bool_]]] = [((), np.ones(1, dtype=bool))]
        if self.scored is not None:
            parts = [(("fit",), ~self.scored), (("score",), self.scored)]
        order = np.argsort(self.label, kind="stable")
        bounds = np.searchsorted(self.label[order], np.arange(len(self.labels) + 1))
        for code, label in enumerate(self.labels):
            rows = order[bounds[code] : bounds[code + 1]]
            for part, inside in parts:
                yield (label, *part), rows[np.broadcast_to(inside, len(self.label))[rows]]


def draw_units(
    corpus: Corpus,
    analysis: AnalysisConfig,
    run: SamplingConfig,
    split: str,
    seed: int,
    scored: NDArray[np.bool_] | None = None,
    first_centre: int = STRETCH // 2,
) -> UnitSamples:
    """Draw at most `instances` of each of the `labels` most frequent labels, for each sample.

    Labels that the target does not know are not drawn, but counted. `scored` (n_utterances,): so
    many instances are drawn of what is scored, and `fit_instances` of what is fitted on.
    `first_centre`: as in `LabelTarget.segments`.
    """
    limits = analysis.sampling
    table, dropped = unit_table(corpus, analysis, scored, first_centre)
    folds = np.stack([draw_sample(table, s, limits, run, seed) for s in range(run.samples)])
    beyond = int((folds < 0).all(0).sum())
    dropped[f"{table.name}: beyond {limits.instances} instances of a label"] = beyond
    if run.samples > 1 and (folds >= 0).all():
        log.warning(
            "all %d %s units are in each of the %d samples: these differ by their folds only, and "
            "not at all for a metric without folds",
            len(table.label),
            table.name,
            run.samples,
        )
    drawn = drawn_rows(table, analysis.unit, folds, dropped)
    if scored is not None:
        return replace(drawn, split="partition")
    return refold(drawn, corpus, run, split, seed)


def drawn_rows(table: UnitTable, unit: str, folds: Index, dropped: dict[str, int]) -> UnitSamples:
    """The rows that any sample has drawn; folds (samples, n) even within each label."""
    kept = (folds >= 0).any(0)
    return UnitSamples(
        unit=unit,
        name=table.name,
        split="frame",
        labels=table.labels,
        utterance=table.utterance[kept],
        start=table.start[kept],
        end=table.end[kept],
        label=table.label[kept],
        folds=folds[:, kept],
        dropped=dropped,
    )


def refold(
    drawn: UnitSamples, corpus: Corpus, run: SamplingConfig, split: str, seed: int
) -> UnitSamples:
    """The same units in folds that keep utterances or speakers together.

    A speaker is in the fold of the same number in all samples, so that the scores of a fold, over
    the samples, are those of its speakers.
    """
    drawn_by = [drawn.utterance[row >= 0] for row in drawn.folds]
    split = resolved_split(split, corpus.utterances, drawn_by, run.folds, drawn.name)
    if split == "frame" or split == drawn.unit:
        return replace(drawn, split=split)  # whole already, and even within each label
    keys = np.array(group_keys([corpus.utterances[u] for u in drawn.utterance], split))
    if split == "speaker":
        rng = generator(seed, "folds", drawn.name, split)
        own = grouped_folds(list(keys), run.folds, split, rng)
        return replace(drawn, folds=np.where(drawn.folds >= 0, own, -1), split=split)
    folds = drawn.folds.copy()
    for sample, row in enumerate(folds):
        rows = np.flatnonzero(row >= 0)
        rng = generator(seed, "folds", drawn.name, split, sample)
        row[rows] = grouped_folds(list(keys[rows]), run.folds, split, rng)
    return replace(drawn, folds=folds, split=split)


def hold_out_types(drawn: UnitSamples, run: SamplingConfig, seed: int) -> UnitSamples:
    """The same units in folds that keep word types apart, and speakers too where there are enough.

    With folds of speakers, trial t is tested on the words of fold t's types by fold t's speakers
    alone, and trains on other words of other speakers: what is tested is new in both ways, and
    trials share neither. That leaves a hundredth of the units to each of ten trials; where that is
    less than `LEAST_CELL`, or fewer than `LEAST_TYPES` types, or folds do not keep speakers apart,
    types alone are kept apart, and there is no interval over speakers. Folds have equally many
    types, up to one, and of the frequent ones too. StrataError where that leaves a fold too few.
    """
    tested = range(min(run.folds, run.tested_folds + 1))
    types = len(drawn.labels)
    if types < LEAST_TYPES * run.folds:
        most = types // LEAST_TYPES
        fewer = f"at most sampling.folds={most}, " if most >= 3 else ""
        raise StrataError(
            f"{run.folds} folds are to keep word types apart, {LEAST_TYPES} or more in each, but "
            f"there are {types} {drawn.name} types: use {fewer}more speech, a lower "
            "sampling.min_instances, or by_type=false (types then lie in training and test, and a "
            "layer scores for knowing which word it is)"
        )
    rng = generator(seed, "folds", drawn.name, "type")
    own = dealt_types(drawn.label, types, run.folds, rng)[drawn.label]
    if drawn.split == "speaker":
        cells = [(row == f) & (own == f) for row in drawn.folds for f in tested]
        units = min(int(np.count_nonzero(cell)) for cell in cells)
        fewest = min(len(np.unique(drawn.label[cell])) for cell in cells)
        if units >= LEAST_CELL and fewest >= LEAST_TYPES:
            return replace(drawn, type_folds=own, split=SPEAKERS_AND_TYPES)
        log.warning(
            "%s: folds keep word types apart, not speakers (split=type): of new types by new "
            "speakers a trial would be tested on %d units of %d types, %d units of %d types are "
            "needed",
            *(drawn.name, units, fewest, LEAST_CELL, LEAST_TYPES),
        )
    folds = np.where(drawn.folds >= 0, own, -1)
    fewest = min(len(np.unique(drawn.label[row == f])) for row in folds for f in tested)
    if fewest < LEAST_TYPES:
        raise StrataError(
            f"{run.folds} folds keep {types} {drawn.name} types apart, but a sample draws units of "
            f"{fewest} in one of them, {LEAST_TYPES} are needed: use more speech, more "
            "sampling.instances, or fewer sampling.folds"
        )
    return replace(drawn, folds=folds, split="type")


def dealt_types(label: Index, types: int, folds: int, rng: np.random.Generator) -> Index:
    """Fold (types,) of each type, dealt out by how often it occurs: there and back again."""
    counts, order = np.bincount(label, minlength=types), rng.permutation(types)
    order = order[np.argsort(-counts[order], kind="stable")]
    there = np.arange(folds)
    fold = np.empty(types, dtype=np.int64)
    fold[order] = np.resize(np.concatenate([there, there[::-1]]), types)
    return fold


def unit_table(
    corpus: Corpus,
    analysis: AnalysisConfig,
    scored: NDArray[np.bool_] | None = None,
    first_centre: int = STRETCH // 2,
) -> tuple[UnitTable, dict[str, int]]:
    """The units whose label is known and frequent enough, and counts of those left out."""
    target = label_target(analysis)
    name = target.unit_name(analysis.unit)
    segments = target.segments(corpus, analysis.unit, first_centre)
    units, dropped = long_enough(name, segments, analysis.sampling)
    counts = Counter(interval.label for _, interval in units)
    if isinstance(target, FromFile):
        counts, unknown = known_only(name, counts, target)
        dropped |= unknown
    labels, infrequent = eligible_labels(name, counts, analysis.sampling)
    codes = {label: code for code, label in enumerate(labels)}
    rows = [(u, iv.start, iv.end, codes[iv.label]) for u, iv in units if iv.label in codes]
    at, start, end, label = np.array(rows, dtype=np.int64).T
    own = None if scored is None else scored[at]
    return UnitTable(name, labels, at, start, end, label, own), dropped | infrequent


def long_enough(
    name: str, units: list[tuple[int, Interval]], sampling: UnitSampling
) -> tuple[list[tuple[int, Interval]], dict[str, int]]:
    """Units that last `min_seconds` and whose label has `min_characters`, and counts of others."""
    shortest, fewest = sampling.min_seconds, sampling.min_characters
    dropped: dict[str, int] = {}
    if shortest is not None:
        kept = [(u, iv) for u, iv in units if iv.end - iv.start >= shortest * SAMPLE_RATE]
        dropped[f"{name}: shorter than {shortest:g} s"] = len(units) - len(kept)
        units = kept
    if fewest is not None:
        kept = [(u, iv) for u, iv in units if len(iv.label) >= fewest]
        dropped[f"{name}: label of less than {fewest} characters"] = len(units) - len(kept)
        units = kept
    if not units:
        why = "; ".join(f"{reason} {count}" for reason, count in dropped.items())
        raise StrataError(
            f"no {name} unit is left to draw ({why or 'the dataset has none'}): use more speech, "
            "or lower sampling.min_seconds and sampling.min_characters"
        )
    return units, dropped


def known_only(
    name: str, counts: Counter[str], target: LabelTarget
) -> tuple[Counter[str], dict[str, int]]:
    """Counts of the labels that the target knows, and how many tokens and types it does not."""
    kept = frozenset(target.known(counts.keys()))
    if not kept:
        examples = ", ".join(label for label, _ in counts.most_common(5))
        raise StrataError(
            f"none of the {len(counts)} {name} labels (as {examples}) is known to the target: "
            "another language, or another kind of file? Give target.path= one of the same words"
        )
    missing = [label for label in counts if label not in kept]
    return Counter({label: count for label, count in counts.items() if label in kept}), {
        f"{name}: not known to the target": sum(counts[label] for label in missing),
        f"{name}: labels not known to the target": len(missing),
    }


def eligible_labels(
    name: str, counts: Counter[str], sampling: UnitSampling
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The most frequent labels that occur often enough, and the number of units without one."""
    least = sampling.min_instances or 1
    frequent = sorted((c for c in counts if counts[c] >= least), key=lambda c: (-counts[c], c))
    labels = tuple(frequent[: sampling.labels])
    if len(labels) < 2:
        raise StrataError(
            f"{len(labels)} {name} label(s) occur {least} times or more among {counts.total()} "
            f"units of {len(counts)} labels: a comparison needs two; use more speech or lower "
            "sampling.min_instances"
        )
    if sampling.labels is not None and len(labels) < sampling.labels and len(counts) > len(labels):
        log.warning(
            "%d %s labels occur %d times or more, %d were asked for",
            len(labels),
            name,
            least,
            sampling.labels,
        )
    rare = sum(counts[c] for c in counts if counts[c] < least)
    outside = sum(counts[c] for c in frequent[len(labels) :])
    return labels, {
        f"{name}: label occurs less than {least} times": rare,
        f"{name}: label outside the {sampling.labels} most frequent": outside,
    }


def draw_sample(
    table: UnitTable, sample: int, limits: UnitSampling, run: SamplingConfig, seed: int
) -> Index:
    """Fold (n,) of every unit that a sample draws, even within each label; -1 for the others."""
    folds = np.full(len(table.label), -1, dtype=np.int64)
    for group, rows in table.groups():
        if len(rows) == 0:
            continue
        instances = limits.instances
        if "fit" in group[1:]:
            instances = limits.fit_instances or instances
        order = generator(seed, "units", table.name, *group).permutation(rows)
        chosen = blocks(order, min(len(rows), instances or len(rows)), run.samples)[sample]
        rng = generator(seed, "folds", table.name, *group, sample)
        offset = int(rng.integers(run.folds))  # or every small label would fill fold 0 first
        folds[rng.permutation(chosen)] = (np.arange(len(chosen)) + offset) % run.folds
    return folds


def check_folds(name: str, folds: Index, run: SamplingConfig) -> None:
    """Every fold that a trial scores or chooses on needs two units."""
    counts = np.bincount(folds[folds >= 0], minlength=run.folds)
    fewest = int(counts[: run.tested_folds + 1].min())
    if fewest < 2:
        raise StrataError(
            f"{int(counts.sum())} {name} units over {run.folds} folds leave {fewest} in one of "
            "them: use more speech, more instances, or fewer sampling.folds and trials"
        )


def draw_single_frames(
    corpus: Corpus,
    sampling: UnitSampling,
    run: SamplingConfig,
    split: str,
    seed: int,
    geometries: Sequence[FrameGeometry],
) -> UnitSamples:
    """Draw `sampling.frames` frames of the utterances that `draw_frames` draws for each sample.

    A frame can be drawn where all of `geometries`, which have one hop, have it. Its fold is the
    one that it has when all frames are taken.
    """
    drawn = draw_frames(corpus, sampling, run, split, seed)
    lengths = [utterance.n_samples for utterance in corpus.utterances]
    counts = np.array([min(g.n_frames(n) for g in geometries) for n in lengths], dtype=np.int64)
    samples = [
        draw_rows(counts, members, sampling.frames, generator(seed, "single frames", sample))
        for sample, members in enumerate(drawn.members.T)
    ]
    kept = np.unique(np.concatenate(samples))
    utterance, frame = place(counts, kept)
    own = folds_of(drawn, utterance, frame, counts)
    hop = geometries[0].hop
    left_out = int(counts[drawn.members.any(1)].sum()) - len(kept)
    return UnitSamples(
        unit="frame",
        name="frame",
        split=drawn.split,
        labels=("frame",),
        utterance=utterance,
        start=geometries[0].centre(0) - hop // 2 + frame * hop,
        end=geometries[0].centre(0) - hop // 2 + (frame + 1) * hop,
        label=np.zeros(len(kept), dtype=np.int64),
        folds=np.stack([np.where(np.isin(kept, rows), own, -1) for rows in samples]),
        dropped={f"frame: beyond the {sampling.frames} of a sample": left_out},
    )


def draw_rows(
    counts: Index, members: NDArray[np.bool_], wanted: int | None, rng: np.random.Generator
) -> Index:
    """Numbers, through the corpus, of frames of the utterances `members` (u,); counts (u,)."""
    there = np.flatnonzero(np.repeat(members, counts))
    return rng.choice(there, min(wanted or len(there), len(there)), replace=False)


def place(counts: Index, rows: Index) -> tuple[Index, Index]:
    """Utterance and frame in it of frames that are numbered through the corpus."""
    ends = np.cumsum(counts)
    utterance = np.searchsorted(ends, rows, side="right")
    return utterance, rows - (ends - counts)[utterance]


def folds_of(drawn: FrameSamples, utterance: Index, frame: Index, counts: Index) -> Index:
    """Fold (n,) of each frame."""
    if drawn.utterance_folds is not None:
        return drawn.utterance_folds[utterance]
    folds = np.zeros(len(frame), dtype=np.int64)
    for u in np.unique(utterance):
        own = utterance == u
        hashed = hashed_folds(drawn.seed, drawn.ids[u], int(counts[u]), drawn.folds)
        folds[own] = hashed[frame[own]]
    return folds


@dataclass(frozen=True, eq=False)
class Stretches:
    """What to keep: s stretches in the order of the corpus, the same for every layer.

    utterance (s,): index in the corpus; start, end (s,): samples, or None for whole utterances.
    """

    utterance: Index
    start: Index | None = None
    end: Index | None = None

    def of(self, utterance: int) -> range:
        """Numbers of an utterance's stretches."""
        first, last = np.searchsorted(self.utterance, [utterance, utterance + 1])
        return range(int(first), int(last))

    def span(self, stretch: int, n_frames: int, geometry: FrameGeometry) -> tuple[int, int]:
        """Half-open frames of a stretch, clipped to the utterance's."""
        if self.start is None or self.end is None:
            return 0, n_frames
        first, last = geometry.span(int(self.start[stretch]), int(self.end[stretch]))
        return min(first, n_frames), min(last, n_frames)

    def reaches_beyond(self, stretch: int, n_frames: int, geometry: FrameGeometry) -> bool:
        """Whether a stretch begins within the utterance's frames and ends after them."""
        if self.start is None or self.end is None:
            return False
        first, last = geometry.span(int(self.start[stretch]), int(self.end[stretch]))
        return first < n_frames < last


@dataclass(frozen=True, eq=False)
class StretchSamples:
    """The stretches of any sample, in the order of the corpus, and which of them each one chose.

    chosen: for each sample the numbers (c,) of its stretches; `intervals` one for each stretch, or
    none where they are whole utterances. `dropped` counts by reason.
    """

    stretches: Stretches
    chosen: tuple[Index, ...]
    intervals: tuple[Interval, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """Hash of the stretches: frames of others, or in another order, are not these."""
        own = self.stretches
        times = () if own.start is None or own.end is None else (own.start, own.end)
        return digest_of(own.utterance, *times)


def draw_stretches(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, seed: int
) -> StretchSamples:
    """Whole utterances with the target's tier for the unit `frame`, else labelled units."""
    if analysis.unit == "frame":
        return draw_utterances(corpus, analysis, run, seed)
    drawn = draw_units(corpus, analysis, run, "frame", seed)
    columns = zip(drawn.start, drawn.end, drawn.label, strict=True)
    return StretchSamples(
        Stretches(drawn.utterance, drawn.start, drawn.end),
        tuple(np.flatnonzero(folds >= 0) for folds in drawn.folds),
        tuple(Interval(int(s), int(e), drawn.labels[code]) for s, e, code in columns),
        drawn.dropped,
    )


def draw_utterances(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, seed: int
) -> StretchSamples:
    """Draw `sampling.utterances` of the utterances whose tier has units, for each sample.

    In the order in which frames of all utterances are drawn: where all have the tier, a forward
    pass serves both.
    """
    tier = label_target(analysis).labelled_by("frame")
    with_tier = np.array([bool(u.tiers.get(tier)) for u in corpus.utterances])
    if not with_tier.any():
        raise StrataError(
            f"dataset {corpus.name} ({corpus.partition}) has no {tier} tier: it has "
            f"{', '.join(corpus.tiers) or 'none'}; choose an experiment on those"
        )
    order = generator(seed, "frames", corpus.fingerprint).permutation(len(with_tier))
    order = order[with_tier[order]]
    wanted = min(len(order), analysis.sampling.utterances or len(order))
    samples = blocks(order, wanted, run.samples)
    utterance = np.unique(np.concatenate(samples))
    chosen = tuple(np.searchsorted(utterance, np.sort(sample)) for sample in samples)
    lost = {f"{tier}: utterance without such units": int((~with_tier).sum())}
    return StretchSamples(Stretches(utterance), chosen, dropped=lost)
