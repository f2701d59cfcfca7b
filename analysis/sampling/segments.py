"""Segments drawn before the forward pass, with a seed: phones, words, frames, whole utterances."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from analysis.sampling.folds import (
    FrameSamples,
    blocks,
    digest_of,
    draw_frames,
    group_keys,
    grouped_folds,
    resolved_split,
)
from analysis.targets.base import FRAME, LabelTarget, Segment, label_target, no_tier
from common.arrays import Index, Mask
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.config.analysis import SPEAKERS_AND_TYPES
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance
from common.seeding import generator, hashed_folds
from common.target import FromFile

log = logging.getLogger(__name__)


LEAST_CELL = 30  # units that a trial is tested on where folds are crossed
LEAST_TYPES = 3  # word types that a trial is tested on: all correlations of two are 1 or -1


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of a corpus, one row each, in its order: phones, words, single frames, utterances.

    utterance, start, end, label, place: (n,). `start` and `end` are samples; `label` is an index
    into `labels`, which is empty where segments have none; `place` counts within the intervals of
    `tier` in the utterance, -1 where there is no tier: the interval after it, for instance, is
    `utterance.tiers[tier][place + 1]`, also where labels were shuffled. folds (samples, n): -1
    where a sample has not drawn a segment; `split` says how they were cut. `type_folds` (n,): where
    folds of word types are crossed with them, each segment's; else None. `name` is what errors and
    counts call the segments, `dropped` counts by reason those left out.
    """

    unit: str
    name: str
    tier: str
    labels: tuple[str, ...]
    utterance: Index
    start: Index
    end: Index
    label: Index
    place: Index
    folds: Index
    split: str = "frame"
    dropped: dict[str, int] = field(default_factory=dict)
    type_folds: Index | None = None

    def digest(self) -> str:
        """Hash of the rows: what is stored of other rows, or in another order, is not theirs."""
        return digest_of(self.utterance, self.start, self.end)

    def of(self, utterance: int) -> range:
        """Rows of one utterance."""
        first, last = np.searchsorted(self.utterance, [utterance, utterance + 1])
        return range(int(first), int(last))

    def drawn(self, sample: int) -> Index:
        """Rows that a sample has drawn."""
        return np.flatnonzero(self.folds[sample] >= 0)

    def of_sample(self, sample: int) -> "Segments":
        """The segments that a sample has drawn, in its folds (1, n) alone."""
        drawn = self.take(self.drawn(sample))
        return replace(drawn, folds=drawn.folds[[sample]])

    def take(self, rows: Index) -> "Segments":
        """Some of the rows."""
        return replace(
            self,
            utterance=self.utterance[rows],
            start=self.start[rows],
            end=self.end[rows],
            label=self.label[rows],
            place=self.place[rows],
            folds=self.folds[:, rows],
            type_folds=None if self.type_folds is None else self.type_folds[rows],
        )

    def span(self, row: int, n_frames: int, geometry: FrameGeometry) -> tuple[int, int]:
        """Half-open frames of a segment in an utterance of `n_frames`; may reach beyond them.

        Of a single frame the one that is centred nearest to its middle.
        """
        if self.unit == "utterance":  # its length may be known only now
            return 0, n_frames
        start, end = int(self.start[row]), int(self.end[row])
        if self.unit == "frame":
            nearest = geometry.nearest((start + end) // 2)
            return nearest, nearest + 1
        return geometry.span(start, end)


def draw_units(
    corpus: Corpus,
    analysis: AnalysisConfig,
    run: SamplingConfig,
    split: str,
    seed: int,
    scored: Mask | None = None,
    first_centre: int = FRAME // 2,
) -> Segments:
    """Draw at most `instances` of each of the `labels` most frequent labels, for each sample.

    Labels that the target does not know are not drawn, but counted. `scored` (n_utterances,) tells
    what is scored from what is fitted on, of which `fit_instances` are drawn.
    `first_centre`: as in `LabelTarget.segments`.
    """
    limits = analysis.sampling
    table = labelled_segments(corpus, analysis, first_centre)
    groups = list(drawing_groups(table, None if scored is None else scored[table.utterance]))
    samples = [draw_sample(table, groups, s, limits, run, seed) for s in range(run.samples)]
    table = replace(table, folds=np.stack(samples))
    drawn = (table.folds >= 0).any(0)
    beyond = {f"{table.name}: beyond {limits.instances} instances of a label": int((~drawn).sum())}
    if run.samples > 1 and (table.folds >= 0).all():
        log.warning(
            "all %d %s units are in each of the %d samples: these differ by their folds only, and "
            "not at all for a metric without folds",
            len(table.label),
            table.name,
            run.samples,
        )
    table = replace(table.take(np.flatnonzero(drawn)), dropped=table.dropped | beyond)
    if scored is not None:
        return replace(table, split="partition")
    return refold(table, corpus, run, split, seed)


def refold(drawn: Segments, corpus: Corpus, run: SamplingConfig, split: str, seed: int) -> Segments:
    """The same units in folds that keep utterances or speakers together.

    A speaker is in the fold of the same number in all samples, so that the scores of a fold, over
    the samples, are those of its speakers.
    """
    drawn_by = [drawn.utterance[drawn.drawn(sample)] for sample in range(len(drawn.folds))]
    split = resolved_split(split, corpus.utterances, drawn_by, run.folds, drawn.name)
    if split == "frame" or split == drawn.unit:
        return replace(drawn, split=split)  # whole already, and even within each label
    keys = np.array(group_keys([corpus.utterances[u] for u in drawn.utterance], split))
    if split == "speaker":
        rng = generator(seed, "folds", drawn.name, split)
        fold = grouped_folds(list(keys), run.folds, split, rng)
        return replace(drawn, folds=np.where(drawn.folds >= 0, fold, -1), split=split)
    folds = drawn.folds.copy()
    for sample, row in enumerate(folds):
        rows = np.flatnonzero(row >= 0)
        rng = generator(seed, "folds", drawn.name, split, sample)
        row[rows] = grouped_folds(list(keys[rows]), run.folds, split, rng)
    return replace(drawn, folds=folds, split=split)


def hold_out_types(drawn: Segments, run: SamplingConfig, seed: int) -> Segments:
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
    type_fold = dealt_types(drawn.label, types, run.folds, rng)[drawn.label]
    if drawn.split == "speaker":
        cells = [(row == f) & (type_fold == f) for row in drawn.folds for f in tested]
        units = min(int(np.count_nonzero(cell)) for cell in cells)
        fewest = min(len(np.unique(drawn.label[cell])) for cell in cells)
        if units >= LEAST_CELL and fewest >= LEAST_TYPES:
            return replace(drawn, type_folds=type_fold, split=SPEAKERS_AND_TYPES)
        log.warning(
            "%s: folds keep word types apart, not speakers (split=type): of new types by new "
            "speakers a trial would be tested on %d units of %d types, %d units of %d types are "
            "needed",
            *(drawn.name, units, fewest, LEAST_CELL, LEAST_TYPES),
        )
    folds = np.where(drawn.folds >= 0, type_fold, -1)
    fewest = min(len(np.unique(drawn.label[row == f])) for row in folds for f in tested)
    if fewest < LEAST_TYPES:
        raise StrataError(
            f"{run.folds} folds keep {types} {drawn.name} types apart, but a sample draws units of "
            f"{fewest} in one of them, {LEAST_TYPES} are needed: use more speech, more "
            "sampling.instances, or fewer sampling.folds"
        )
    return replace(drawn, folds=folds, split="type")


def dealt_types(label: Index, types: int, folds: int, rng: np.random.Generator) -> Index:
    """Fold (types,) of each type: in order of frequency, to folds 0 … k, then k … 0, and so on."""
    counts, order = np.bincount(label, minlength=types), rng.permutation(types)
    order = order[np.argsort(-counts[order], kind="stable")]
    order_of_folds = np.arange(folds)
    fold = np.empty(types, dtype=np.int64)
    fold[order] = np.resize(np.concatenate([order_of_folds, order_of_folds[::-1]]), types)
    return fold


def labelled_segments(
    corpus: Corpus, analysis: AnalysisConfig, first_centre: int = FRAME // 2
) -> Segments:
    """The segments whose label is known and frequent enough; others are counted as dropped."""
    target = label_target(analysis)
    name = target.unit_name(analysis.unit)
    segments = target.segments(corpus, analysis.unit, first_centre)
    segments, dropped = long_enough(name, segments, analysis.sampling)
    counts = Counter(segment.label for segment in segments)
    if isinstance(target, FromFile):
        counts, unknown = known_only(name, counts, target)
        dropped |= unknown
    labels, infrequent = eligible_labels(name, counts, analysis.sampling)
    codes = {label: code for code, label in enumerate(labels)}
    rows = [
        (s.utterance, s.start, s.end, codes[s.label], s.place) for s in segments if s.label in codes
    ]
    utterance, start, end, label, place = np.array(rows, dtype=np.int64).T
    return Segments(
        unit=analysis.unit,
        name=name,
        tier=target.tier_of(analysis.unit),
        labels=labels,
        utterance=utterance,
        start=start,
        end=end,
        label=label,
        place=place,
        folds=np.zeros((0, len(rows)), dtype=np.int64),
        dropped=dropped | infrequent,
    )


def long_enough(
    name: str, units: list[Segment], sampling: UnitSampling
) -> tuple[list[Segment], dict[str, int]]:
    """Units with a label, of `min_characters`, that last `min_seconds`, and counts of others."""
    shortest, fewest = sampling.min_seconds, sampling.min_characters
    kept = [one for one in units if one.label]
    dropped = {f"{name}: without a label": len(units) - len(kept)} if len(kept) < len(units) else {}
    units = kept
    if shortest is not None:
        kept = [one for one in units if one.end - one.start >= shortest * SAMPLE_RATE]
        dropped[f"{name}: shorter than {shortest:g} s"] = len(units) - len(kept)
        units = kept
    if fewest is not None:
        kept = [one for one in units if len(one.label) >= fewest]
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


def drawing_groups(table: Segments, scored: Mask | None) -> Iterator[tuple[tuple[str, ...], Index]]:
    """Rows that are sampled separately, with the name of each group: its label, its partition.

    scored (n,), or None where all segments are of one partition.
    """
    parts: list[tuple[tuple[str, ...], Mask]] = [((), np.ones(len(table.label), dtype=bool))]
    if scored is not None:
        parts = [(("fit",), ~scored), (("score",), scored)]
    order = np.argsort(table.label, kind="stable")
    bounds = np.searchsorted(table.label[order], np.arange(len(table.labels) + 1))
    for code, label in enumerate(table.labels):
        rows = order[bounds[code] : bounds[code + 1]]
        for part, inside in parts:
            yield (label, *part), rows[inside[rows]]


def draw_sample(
    table: Segments,
    groups: Sequence[tuple[tuple[str, ...], Index]],
    sample: int,
    limits: UnitSampling,
    run: SamplingConfig,
    seed: int,
) -> Index:
    """Fold (n,) of every segment that a sample draws, even within each label; -1 for the others."""
    folds = np.full(len(table.label), -1, dtype=np.int64)
    for group, rows in groups:
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
    """Raise unless every fold that a trial scores or chooses on has two units."""
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
) -> Segments:
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
    fold = folds_of(drawn, utterance, frame, counts)
    geometry = geometries[0]
    lead = geometry.centre(0) - int(geometry.hop // 2)
    left_out = int(counts[drawn.members.any(1)].sum()) - len(kept)
    return Segments(
        unit="frame",
        name="frame",
        tier="",
        split=drawn.split,
        labels=("frame",),
        utterance=utterance,
        start=lead + geometry.steps(frame),
        end=lead + geometry.steps(frame + 1),
        label=np.zeros(len(kept), dtype=np.int64),
        place=np.full(len(kept), -1),
        folds=np.stack([np.where(np.isin(kept, rows), fold, -1) for rows in samples]),
        dropped={f"frame: beyond the {sampling.frames} of a sample": left_out},
    )


def draw_rows(counts: Index, members: Mask, most: int | None, rng: np.random.Generator) -> Index:
    """Draw at most `most` frames, numbered through the corpus, of the utterances `members` (u,).

    counts (u,): how many frames each utterance has.
    """
    candidates = np.flatnonzero(np.repeat(members, counts))
    return rng.choice(candidates, min(most or len(candidates), len(candidates)), replace=False)


def place(counts: Index, rows: Index) -> tuple[Index, Index]:
    """The utterance of each frame of `rows`, numbered through the corpus, and its number there."""
    ends = np.cumsum(counts)
    utterance = np.searchsorted(ends, rows, side="right")
    return utterance, rows - (ends - counts)[utterance]


def folds_of(drawn: FrameSamples, utterance: Index, frame: Index, counts: Index) -> Index:
    """Fold (n,) of each frame."""
    if drawn.utterance_folds is not None:
        return drawn.utterance_folds[utterance]
    folds = np.zeros(len(frame), dtype=np.int64)
    for u in np.unique(utterance):
        inside = utterance == u
        hashed = hashed_folds(drawn.seed, drawn.ids[u], int(counts[u]), drawn.folds)
        folds[inside] = hashed[frame[inside]]
    return folds


def draw_utterances(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, seed: int
) -> Segments:
    """Draw `sampling.utterances` of the utterances whose tier has intervals, for each sample.

    They are whole, and have no labels. In the order in which frames of all utterances are drawn:
    where all have the tier, a forward pass serves both.
    """
    tier = label_target(analysis).tier_of("frame")
    with_tier = np.array([bool(u.tiers.get(tier)) for u in corpus.utterances])
    if not with_tier.any():
        raise no_tier(corpus, tier)
    order = generator(seed, "frames", corpus.fingerprint).permutation(len(with_tier))
    order = order[with_tier[order]]
    size = min(len(order), analysis.sampling.utterances or len(order))
    samples = blocks(order, size, run.samples)
    drawn = np.unique(np.concatenate(samples))
    return replace(
        whole_utterances(corpus.utterances, drawn),
        folds=np.stack([np.where(np.isin(drawn, sample), 0, -1) for sample in samples]),
        dropped={f"{tier}: utterance without such units": int((~with_tier).sum())},
    )


def whole_utterances(utterances: Sequence[Utterance], rows: Index) -> Segments:
    """Some of a corpus's utterances as one sample of segments without labels."""
    n = len(rows)
    return Segments(
        unit="utterance",
        name="utterance",
        tier="",
        labels=(),
        utterance=rows,
        start=np.zeros(n, dtype=np.int64),
        end=np.array([utterances[row].n_samples for row in rows], dtype=np.int64),
        label=np.zeros(n, dtype=np.int64),
        place=np.full(n, -1),
        folds=np.zeros((1, n), dtype=np.int64),
    )
