"""The speech of a run: utterances of every partition that one of its experiments names."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from common.arrays import Index, Mask
from common.config import AnalysisConfig, Config
from common.file_hashes import save_hashes
from common.records import Corpus, StrataError, Utterance, counts_of
from common.windows import in_windows, longest_input

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ExperimentSpeech:
    """The speech of one experiment, and where it is among all of the run's.

    places (n_utterances,); scored (n_utterances,): False for what may only be fitted on.
    """

    corpus: Corpus
    places: Index
    scored: Mask

    @property
    def split(self) -> bool:
        """Whether one partition is fitted on and another one scored on."""
        return not bool(self.scored.all())


@dataclass(frozen=True, eq=False)
class RunSpeech:
    """Corpora by partition, that of `dataset` first; `whole` holds each of their utterances once.

    An utterance of `corpus` has the same number there as in `whole`.
    """

    partitions: Mapping[str, Corpus]
    places: Mapping[str, Index]
    whole: Corpus

    @property
    def corpus(self) -> Corpus:
        """The partition that `dataset` names."""
        return next(iter(self.partitions.values()))

    def part(self, analysis: AnalysisConfig) -> ExperimentSpeech:
        """What an analysis fits and scores on."""
        default = next(iter(self.partitions))
        fit, score = partitions_of(analysis, default)
        derived = analysis.target.partition(default, analysis.sampling)
        if derived != default:
            fit = score = derived
        if fit == score:
            corpus = self.partitions[fit]
            return ExperimentSpeech(
                corpus, self.places[fit], np.ones(len(corpus.utterances), dtype=bool)
            )
        shared = np.intersect1d(self.places[fit], self.places[score])
        if len(shared):
            raise StrataError(
                f"fit_partition={fit} and score_partition={score} share {len(shared)} utterances "
                f"(as {self.whole.utterances[shared[0]].id}): the score would be of what was "
                "fitted; choose partitions apart"
            )
        one, other = self.partitions[fit], self.partitions[score]
        scored = np.repeat([False, True], [len(one.utterances), len(other.utterances)])
        places = np.concatenate([self.places[fit], self.places[score]])
        return ExperimentSpeech(
            together([one, other], one.utterances + other.utterances), places, scored
        )


def partitions_of(analysis: AnalysisConfig, default: str) -> tuple[str, str]:
    """What an analysis fits on and what it scores on; not given: the dataset's own partition."""
    return analysis.fit_partition or default, analysis.score_partition or default


def together(corpora: Iterable[Corpus], utterances: tuple[Utterance, ...]) -> Corpus:
    """Several partitions as one corpus of these utterances."""
    first, *others = corpora
    dropped = dict(first.dropped)
    for corpus in others:
        for reason, count in corpus.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return replace(
        first,
        partition="+".join(c.partition for c in (first, *others)),
        utterances=utterances,
        dropped=dropped,
        fingerprint="+".join(c.fingerprint for c in (first, *others)),
    )


def read_speech(config: Config, limits: Iterable[int | None] = ()) -> RunSpeech:
    """List every partition, and log what it holds and what was left out of it.

    `limits`: how many samples each model can take at once, None for any number.
    """
    default = config.dataset.partition
    names = dict.fromkeys(
        (default, *(p for a in config.experiments.values() for p in partitions_of(a, default)))
    )
    longest = longest_input(config.model.max_seconds, limits)
    partitions = {name: read_corpus(config, name, longest) for name in names}
    save_hashes()
    for analysis in config.experiments.values():
        derived = analysis.target.partition(default, analysis.sampling)
        if derived != default:
            partitions[derived] = analysis.target.derived(
                partitions[default], analysis.sampling, config.seed
            )
    places: dict[str, Index] = {}
    utterances: list[Utterance] = []
    numbers: dict[str, list[int]] = {}
    for name, corpus in partitions.items():
        found = []
        for utterance in corpus.utterances:
            known = numbers.setdefault(PurePosixPath(utterance.id).name, [])
            same = [k for k in known if is_same(utterances[k], utterance)]
            found.append(same[0] if same else len(utterances))
            if not same:
                known.append(len(utterances))
                utterances.append(utterance)
        places[name] = np.array(found, dtype=np.int64)
    return RunSpeech(partitions, places, together(partitions.values(), tuple(utterances)))


def is_same(one: Utterance, other: Utterance) -> bool:
    """Whether two utterances of one file name are one recording, listed in two partitions.

    A folder taken for a partition may give another id and no speaker; equal times are no accident.
    """
    same = one.n_samples == other.n_samples and one.text == other.text and one.tiers == other.tiers
    return same and (one.speaker == other.speaker or any(one.tiers.values()))


def read_corpus(config: Config, partition: str, longest: int) -> Corpus:
    """List one partition of the dataset; recordings of over `longest` samples as their windows."""
    corpus: Corpus = replace(config.dataset, partition=partition).read(config.on_error)
    if not corpus.utterances:
        raise StrataError(f"dataset {corpus.name} ({corpus.partition}) holds no utterances")
    corpus = in_windows(corpus, longest)
    log.info(
        "%s (%s): %d utterances, %.1f min, %d speakers",
        corpus.name,
        corpus.partition,
        len(corpus.utterances),
        60 * corpus.hours,
        len(corpus.speakers),
    )
    log_dropped(corpus.dropped)
    return corpus


def log_dropped(dropped: Mapping[str, int]) -> None:
    """Log the counts of what was left out, and of what was changed, in one line."""
    if counts := counts_of(dropped):
        log.info("%s", counts)
