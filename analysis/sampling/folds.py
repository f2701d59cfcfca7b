"""Utterances drawn for each sample, with a seed, and how folds are cut."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.moments import dev_fold, group_of, groups_for
from common.arrays import Index, Mask
from common.config import SamplingConfig, UnitSampling
from common.records import Corpus, StrataError, Utterance, without_speaker
from common.seeding import generator, hashed_folds

log = logging.getLogger(__name__)

VERSION = 3  # bumped when the same seed would draw something else


@dataclass(frozen=True, eq=False)
class FrameSamples:
    """Utterances drawn for each sample, and the folds of their frames.

    members (n_utterances, samples) bool. `utterance_folds` (n_utterances,) unless each frame has
    a fold of its own (`split: frame`). `split` says how the folds were cut.
    """

    members: Mask
    trials: int
    folds: int
    seed: int
    ids: tuple[str, ...]
    utterance_folds: Index | None
    split: str

    @property
    def groups(self) -> int:
        """Number of groups of folds that are kept apart."""
        return groups_for(self.folds, self.trials)

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
        """The first sample with the same utterances, whose scores are the same."""
        same = (self.members == self.members[:, [sample]]).all(0)
        return int(np.flatnonzero(same)[0])

    def digest(self) -> str:
        """Hash of the utterances of each sample, and of their folds."""
        folds = () if self.utterance_folds is None else (self.utterance_folds,)
        return digest_of(self.members, *folds)

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


def digest_of(*arrays: NDArray[np.generic]) -> str:
    """Short hash of arrays."""
    return hashlib.sha256(b"|".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def draw_frames(
    corpus: Corpus, sampling: UnitSampling, run: SamplingConfig, split: str, seed: int
) -> FrameSamples:
    """Draw `sampling.utterances` utterances for each sample."""
    n = len(corpus.utterances)
    size = min(n, sampling.utterances or n)
    order = generator(seed, "frames", corpus.fingerprint).permutation(n)
    members = np.zeros((n, run.samples), dtype=bool)
    for sample, chosen in enumerate(blocks(order, size, run.samples)):
        members[chosen, sample] = True
    if run.samples > 1 and size == n:
        log.warning(
            "all %d utterances are in each of the %d frame samples: the samples are identical, "
            "their deviation shows the trials only",
            n,
            run.samples,
        )
    drawn = np.flatnonzero(members.any(1))
    samples = [np.flatnonzero(drawn_by) for drawn_by in members.T]
    split = resolved_split(split, corpus.utterances, samples, run.folds, "frame")
    folds = None
    if split != "frame":
        folds = np.full(n, -1, dtype=np.int64)
        keys = group_keys([corpus.utterances[u] for u in drawn], split)
        folds[drawn] = grouped_folds(keys, run.folds, split, generator(seed, "folds", split))
        if empty_folds(folds, samples, run):
            rng, of_drawn = generator(seed, "folds", split), members[drawn]
            folds[drawn] = grouped_folds(keys, run.folds, split, rng, of_drawn)
            log.info(
                "folds of %ss are even in each sample: else one would have an empty fold", split
            )
        check_samples(folds, samples, run, split)
    ids = tuple(u.id for u in corpus.utterances)
    return FrameSamples(members, run.tested_folds, run.folds, seed, ids, folds, split)


def empty_folds(folds: Index, samples: Sequence[Index], run: SamplingConfig) -> dict[int, int]:
    """The first fold without speech that a trial needs, of each sample that has such a fold.

    `samples` are utterances (n,) of the corpus. Folds are cut once for all samples, so that a small
    sample may miss one.
    """
    needed = {f for t in range(run.tested_folds) for f in (t, dev_fold(t, run.folds))}
    empty = [sorted(needed - set(folds[utterances].tolist())) for utterances in samples]
    return {sample: missing[0] for sample, missing in enumerate(empty) if missing}


def check_samples(folds: Index, samples: Sequence[Index], run: SamplingConfig, split: str) -> None:
    """Raise if a sample has no speech in a fold that a trial is tested on or chooses on."""
    for sample, fold in empty_folds(folds, samples, run).items():
        raise StrataError(
            f"sample {sample} has none of its {len(samples[sample])} utterances in fold {fold} of "
            f"{run.folds} (split={split}): use more speech, more sampling.utterances, fewer "
            "sampling.folds or fewer sampling.samples"
        )


def resolved_split(
    split: str, utterances: Sequence[Utterance], samples: Sequence[Index], folds: int, name: str
) -> str:
    """How folds are cut where `split` asks for speakers if there are enough, else utterances.

    Enough: all are known, and every sample (utterances (n,) of the corpus) has one for each fold.
    The choice is logged, with the numbers; `name` is that of the units.
    """
    if split != "speaker_else_utterance":
        return split
    speakers = [{utterances[u].speaker for u in names} for names in samples]
    known = min(len(names - {""}) for names in speakers)
    if not any("" in names for names in speakers) and known >= folds:
        log.info("%s: %d folds keep %d speakers apart (split=speaker)", name, folds, known)
        return "speaker"
    nameless = sum(not utterances[u].speaker for u in np.unique(np.concatenate(samples)))
    why = f", and {nameless} utterances have no speaker" if nameless else ""
    log.warning(
        "%s: %d folds keep utterances apart, not speakers (split=utterance): a sample has %d known "
        "speakers, %d are needed%s. There will be no intervals, tests and advice: they are about "
        "other speakers",
        *(name, folds, known, folds, why),
    )
    return "utterance"


def blocks(order: Index, size: int, samples: int) -> list[Index]:
    """Consecutive blocks of a permutation, wrapping round: samples overlap only where they must."""
    positions = (np.arange(size) + size * np.arange(samples)[:, None]) % len(order)
    return [order[row] for row in positions]


def group_keys(utterances: Sequence[Utterance], split: str) -> list[str]:
    """Group of each utterance that a fold keeps together: itself, or its speaker."""
    if split == "utterance":
        return [u.id for u in utterances]
    if nameless := without_speaker(utterances):
        nameless += ", or use split=utterance (experiments.NAME.split=utterance for one alone)"
        raise StrataError(f"split=speaker: {nameless}")
    return [u.speaker for u in utterances]


def grouped_folds(
    keys: list[str],
    folds: int,
    split: str,
    rng: np.random.Generator,
    members: NDArray[np.bool_] | None = None,
) -> Index:
    """Fold (n,) of each item such that items with the same key share one, folds of even size.

    With `members` (n, samples) folds are of even size in every sample, as far as keys allow it.
    """
    sizes = Counter(keys)
    if len(sizes) < folds:
        raise StrataError(
            f"split={split} cuts {folds} folds but there are {len(sizes)} {split}s: use at most "
            f"sampling.folds={len(sizes)}, more speech, or split=frame "
            "(experiments.NAME.split=frame where one has its own)"
        )
    if members is None:
        members = np.ones((len(keys), 1), dtype=bool)
    sizes_in = {key: np.zeros(members.shape[1]) for key in sizes}
    for key, drawn_by in zip(keys, members, strict=True):
        sizes_in[key] += drawn_by
    names = sorted(sizes)
    order = [names[i] for i in rng.permutation(len(names))]
    fold_of: dict[str, int] = {}
    load = np.zeros((folds, members.shape[1]))
    for key in sorted(order, key=lambda k: -sizes[k]):
        fold_of[key] = int(np.argmin(load @ sizes_in[key]))
        load[fold_of[key]] += sizes_in[key]
    return np.array([fold_of[key] for key in keys], dtype=np.int64)
