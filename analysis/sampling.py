"""Draw utterances and units before the forward pass, from the alignments, with a seed."""

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

VERSION = 1  # bumped when the same seed would draw something else
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

    def of(self, utterance: int) -> slice:
        """Rows of one utterance."""
        first, last = np.searchsorted(self.utterance, [utterance, utterance + 1])
        return slice(int(first), int(last))


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


def draw_units(
    corpus: Corpus, analysis: AnalysisConfig, run: SamplingConfig, split: str, seed: int
) -> UnitSamples:
    """Draw at most `instances` of each of the `labels` most frequent labels, for each sample."""
    tier, sampling = analysis.unit, analysis.sampling
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
    kept = [
        (index, interval, codes[interval.label])
        for index, interval in units
        if interval.label in codes
    ]
    utterance, start, end, label = (
        np.array(column, dtype=np.int64)
        for column in zip(*((i, iv.start, iv.end, code) for i, iv, code in kept), strict=True)
    )
    keys = None if split == "frame" else group_keys(corpus.utterances, split)
    folds = np.stack(
        [
            _draw_sample(label, utterance, keys, sample, run, split, seed, sampling.instances)
            for sample in range(run.samples)
        ]
    )
    drawn = (folds >= 0).any(0)
    dropped[f"{tier}: beyond {sampling.instances} instances of a label"] = int((~drawn).sum())
    return UnitSamples(
        tier,
        labels,
        utterance[drawn],
        start[drawn],
        end[drawn],
        label[drawn],
        folds[:, drawn],
        dropped,
    )


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


def _draw_sample(
    label: Index,
    utterance: Index,
    keys: list[str] | None,
    sample: int,
    run: SamplingConfig,
    split: str,
    seed: int,
    instances: int | None,
) -> Index:
    """Fold (n,) of every unit that this sample draws; -1 for the others."""
    folds = np.full(len(label), -1, dtype=np.int64)
    for code in range(int(label.max()) + 1):
        rows = np.flatnonzero(label == code)
        order = generator(seed, "units", code).permutation(rows)
        chosen = blocks(order, min(len(rows), instances or len(rows)), run.samples)[sample]
        shuffled = generator(seed, "folds", code, sample)
        offset = int(shuffled.integers(run.folds))  # or every small label would fill fold 0 first
        folds[shuffled.permutation(chosen)] = (np.arange(len(chosen)) + offset) % run.folds
    if keys is not None:
        drawn = np.flatnonzero(folds >= 0)
        unit_keys = [keys[u] for u in utterance[drawn]]
        folds[drawn] = grouped_folds(
            unit_keys, run.folds, split, generator(seed, "folds", split, sample)
        )
    counts = np.bincount(folds[folds >= 0], minlength=run.folds)
    fewest = int(counts[: 2 * run.trials].min())
    if fewest < 2:
        raise StrataError(
            f"{int(counts.sum())} units over {run.folds} folds leave {fewest} in one of "
            "them: use more speech, more instances, or fewer sampling.folds and trials"
        )
    return folds


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
