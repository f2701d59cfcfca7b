"""Draw utterances and units before the forward pass, from the alignments, with a seed."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.moments import group_of
from common.config import AnalysisConfig, SamplingConfig, UnitSampling
from common.records import Corpus, Interval, StrataError, Utterance
from common.seeding import generator, hashed_folds

log = logging.getLogger(__name__)

VERSION = 2  # bumped when the same seed would draw something else
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FrameSamples:
    """Which utterances lend their frames to which sample, and how their frames are folded.

    members (n_utterances, samples) bool. `utterance_folds` (n_utterances,) unless each frame has
    a fold of its own (`split: frame`).
    """

    members: NDArray[np.bool_]
    trials: int
    folds: int
    seed: int
    ids: tuple[str, ...]
    utterance_folds: Index | None

    @property
    def groups(self) -> int:
        """Number of groups of folds that are kept apart."""
        return 2 * self.trials + 1

    def groups_of(self, utterance: int, rows: int) -> Index:
        """Group (rows,) of each frame of an utterance.

        A frame's fold is a hash of (utterance, frame): the same in every sample, so that a frame
        drawn by several samples is accumulated once.
        """
        if self.utterance_folds is None:
            folds = hashed_folds(self.seed, self.ids[utterance], rows, self.folds)
        else:
            folds = np.full(rows, self.utterance_folds[utterance])
        return group_of(folds, self.trials)

    def representative(self, sample: int) -> int:
        """The first sample with just the same utterances: its numbers are this one's numbers."""
        same = (self.members == self.members[:, [sample]]).all(0)
        return int(np.flatnonzero(same)[0])

    def digest(self) -> str:
        """Hash of who lends frames to which sample, and of their folds."""
        folds = () if self.utterance_folds is None else (self.utterance_folds,)
        return _digest(self.members, *folds)

    def distinct(self) -> list[int]:
        """One sample of each set of equal ones."""
        return sorted({self.representative(s) for s in range(self.members.shape[1])})

    def patterns(self) -> dict[int, tuple[int, ...]]:
        """For each utterance that is drawn, the distinct samples that share it."""
        distinct = self.distinct()
        return {
            int(u): tuple(s for s in distinct if self.members[u, s])
            for u in np.flatnonzero(self.members.any(1))
        }


@dataclass(frozen=True, eq=False)
class UnitSamples:
    """Labelled units drawn by any sample, one row each, in the order of the corpus.

    utterance, start, end, label: (n,); folds (samples, n), -1 where a sample has not drawn a unit.
    """

    tier: str
    labels: tuple[str, ...]
    utterance: Index
    start: Index
    end: Index
    label: Index
    folds: Index
    dropped: dict[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """Hash of the rows: pooled vectors of other rows, or in another order, are not these."""
        return _digest(self.utterance, self.start, self.end)

    def of(self, utterance: int) -> slice:
        """Rows of one utterance."""
        first, last = np.searchsorted(self.utterance, [utterance, utterance + 1])
        return slice(int(first), int(last))


def _digest(*arrays: NDArray[np.generic]) -> str:
    return hashlib.sha256(b"|".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def draw_frames(
    corpus: Corpus, sampling: UnitSampling, run: SamplingConfig, split: str, seed: int
) -> FrameSamples:
    """Draw `sampling.utterances` utterances for each sample."""
    n = len(corpus.utterances)
    wanted = min(n, sampling.utterances or n)
    order = generator(seed, "frames", corpus.fingerprint).permutation(n)
    members = np.zeros((n, run.samples), dtype=bool)
    for sample, chosen in enumerate(blocks(order, wanted, run.samples)):
        members[chosen, sample] = True
    if run.samples > 1 and wanted == n:
        log.warning(
            "all %d utterances are in each of the %d frame samples: the samples are identical, "
            "their deviation shows the trials only",
            n,
            run.samples,
        )
    drawn = np.flatnonzero(members.any(1))
    folds = None
    if split != "frame":
        folds = np.full(n, -1, dtype=np.int64)
        keys = group_keys([corpus.utterances[u] for u in drawn], split)
        folds[drawn] = grouped_folds(keys, run.folds, split, generator(seed, "folds", split))
    ids = tuple(u.id for u in corpus.utterances)
    return FrameSamples(members, run.trials, run.folds, seed, ids, folds)


@dataclass(frozen=True, eq=False)
class UnitTable:
    """Every unit of a tier that could be drawn; arrays (n,); `label` indexes `labels`."""

    tier: str
    labels: tuple[str, ...]
    utterance: Index
    start: Index
    end: Index
    label: Index


def draw_units(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, split: str, seed: int
) -> UnitSamples:
    """Draw at most `instances` of each of the `labels` most frequent labels, for each sample."""
    tier, instances = analysis.unit, analysis.sampling.instances
    table, dropped = unit_table(corpus, tier, analysis.sampling)
    folds = np.stack([draw_sample(table, s, instances, run, seed) for s in range(run.samples)])
    if split != "frame":
        keys = group_keys(corpus.utterances, split)
        for sample, row in enumerate(folds):
            drawn = np.flatnonzero(row >= 0)
            rng = generator(seed, "folds", tier, split, sample)
            own = [keys[u] for u in table.utterance[drawn]]
            row[drawn] = grouped_folds(own, run.folds, split, rng)
    for row in folds:
        check_folds(tier, row, run)
    kept = (folds >= 0).any(0)
    dropped[f"{tier}: beyond {instances} instances of a label"] = int((~kept).sum())
    return UnitSamples(
        tier=tier,
        labels=table.labels,
        utterance=table.utterance[kept],
        start=table.start[kept],
        end=table.end[kept],
        label=table.label[kept],
        folds=folds[:, kept],
        dropped=dropped,
    )


def unit_table(
    corpus: Corpus, tier: str, sampling: UnitSampling
) -> tuple[UnitTable, dict[str, int]]:
    """The units of a tier whose label is frequent enough, and counts of those left out."""
    if tier not in corpus.tiers:
        raise StrataError(
            f"dataset {corpus.name} ({corpus.partition}) has no {tier} tier: it has "
            f"{', '.join(corpus.tiers) or 'none'}; choose an experiment on those"
        )
    units = [
        (index, interval)
        for index, u in enumerate(corpus.utterances)
        for interval in u.tiers.get(tier, ())
    ]
    labels, dropped = eligible_labels(tier, units, sampling)
    codes = {label: code for code, label in enumerate(labels)}
    rows = [(u, iv.start, iv.end, codes[iv.label]) for u, iv in units if iv.label in codes]
    return UnitTable(tier, labels, *np.array(rows, dtype=np.int64).T), dropped


def eligible_labels(
    tier: str, units: Sequence[tuple[int, Interval]], sampling: UnitSampling
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The most frequent labels that occur often enough, and the number of units without one."""
    counts = Counter(interval.label for _, interval in units)
    least = sampling.min_instances or 1
    frequent = sorted((c for c in counts if counts[c] >= least), key=lambda c: (-counts[c], c))
    labels = tuple(frequent[: sampling.labels])
    if len(labels) < 2:
        raise StrataError(
            f"{len(labels)} {tier} label(s) occur {least} times or more among {len(units)} units "
            f"of {len(counts)} labels: a comparison needs two; use more speech or lower "
            "sampling.min_instances"
        )
    if sampling.labels is not None and len(labels) < sampling.labels and len(counts) > len(labels):
        log.warning(
            "%d %s labels occur %d times or more, %d were asked for",
            len(labels),
            tier,
            least,
            sampling.labels,
        )
    rare = sum(counts[c] for c in counts if counts[c] < least)
    outside = sum(counts[c] for c in frequent[len(labels) :])
    return labels, {
        f"{tier}: label occurs less than {least} times": rare,
        f"{tier}: label outside the {sampling.labels} most frequent": outside,
    }


def draw_sample(
    table: UnitTable, sample: int, instances: int | None, run: SamplingConfig, seed: int
) -> Index:
    """Fold (n,) of every unit that a sample draws, even within each label; -1 for the others."""
    folds = np.full(len(table.label), -1, dtype=np.int64)
    for code, label in enumerate(table.labels):
        rows = np.flatnonzero(table.label == code)
        order = generator(seed, "units", table.tier, label).permutation(rows)
        chosen = blocks(order, min(len(rows), instances or len(rows)), run.samples)[sample]
        rng = generator(seed, "folds", table.tier, label, sample)
        offset = int(rng.integers(run.folds))  # or every small label would fill fold 0 first
        folds[rng.permutation(chosen)] = (np.arange(len(chosen)) + offset) % run.folds
    return folds


def check_folds(tier: str, folds: Index, run: SamplingConfig) -> None:
    """Every fold that a trial scores needs two units."""
    counts = np.bincount(folds[folds >= 0], minlength=run.folds)
    fewest = int(counts[: 2 * run.trials].min())
    if fewest < 2:
        raise StrataError(
            f"{int(counts.sum())} {tier} units over {run.folds} folds leave {fewest} in one of "
            "them: use more speech, more instances, or fewer sampling.folds and trials"
        )


def blocks(order: Index, size: int, samples: int) -> list[Index]:
    """Consecutive blocks of a permutation, wrapping round: samples overlap only where they must."""
    positions = (np.arange(size) + size * np.arange(samples)[:, None]) % len(order)
    return [order[row] for row in positions]


def group_keys(utterances: Sequence[Utterance], split: str) -> list[str]:
    """What must not be torn apart by a fold: the utterance or its speaker."""
    if split == "utterance":
        return [u.id for u in utterances]
    unknown = [u.id for u in utterances if not u.speaker]
    if unknown:
        raise StrataError(
            f"split=speaker: {len(unknown)} of {len(utterances)} utterances have no speaker (the "
            f"first is {unknown[0]}): a folder of audio for each speaker names them, or use "
            "split=utterance"
        )
    return [u.speaker for u in utterances]


def grouped_folds(keys: list[str], folds: int, split: str, rng: np.random.Generator) -> Index:
    """Fold (n,) of each item such that items with the same key share one, folds of even size."""
    sizes = Counter(keys)
    if len(sizes) < folds:
        raise StrataError(
            f"split={split} cuts {folds} folds but there are {len(sizes)} {split}s: use at most "
            f"sampling.folds={len(sizes)}, more speech, or split=frame"
        )
    names = sorted(sizes)
    order = [names[i] for i in rng.permutation(len(names))]
    fold_of: dict[str, int] = {}
    load = np.zeros(folds)
    for key in sorted(order, key=lambda k: -sizes[k]):
        fold_of[key] = int(np.argmin(load))
        load[fold_of[key]] += sizes[key]
    return np.array([fold_of[key] for key in keys], dtype=np.int64)
