"""The studies of a run, and their statistics: from the cache, or computed in one forward pass."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial

import torch

from analysis.forward.consumers import AUDIO_HASHES, AudioChanged, Consumer, read_audio_hashes
from analysis.forward.stream import AnyEncoder, PassReport, UnreadableError, stream
from analysis.metrics.base import FrameMetric, MomentMetric
from analysis.sampling.speech import log_dropped
from analysis.studies import frames, moments, vectors
from analysis.studies.frames import FrameStudy
from analysis.studies.moments import MomentStudy
from analysis.studies.study import Failure, Setting, Study, failure_of, metric_of
from analysis.studies.vectors import VectorStudy
from analysis.targets.base import LabelTarget
from analysis.targets.layers import SecondModel
from common.cache.cache import FULL, Held
from common.config import AnalysisConfig, Config
from common.encoder.encoder import pick_device
from common.encoder.pair import load_encoders
from common.memory import free_memory
from common.processes import ALONE, Processes
from common.records import Corpus, StrataError
from common.timing import Stopwatch

log = logging.getLogger(__name__)

TRIES = 5  # passes for an entry that other jobs keep changing
# Versions of the stages that compute an entry; one with other versions is stale.
VERSIONS = {
    vectors.KIND: vectors.VERSIONS,
    moments.KIND: moments.VERSIONS,
    frames.KIND: frames.VERSIONS,
    vectors.KIND_OF_TWO: vectors.VERSIONS_OF_TWO,
    moments.KIND_OF_TWO: moments.VERSIONS,
}


def study_of(analysis: AnalysisConfig) -> type[Study]:
    """The kind of study, by what the metric consumes: moments, vectors of units, or frames."""
    metric = metric_of(analysis)
    if isinstance(metric, FrameMetric):
        return FrameStudy
    target = analysis.target
    every_pair = isinstance(target, SecondModel) and target.pairs == "all"
    labelled = isinstance(target, LabelTarget) and not isinstance(target, SecondModel)
    every_frame = analysis.unit == "frame" and not every_pair and not labelled
    if isinstance(metric, MomentMetric) and every_frame:
        return MomentStudy
    return VectorStudy


def build_studies(setting: Setting) -> tuple[list[Study], dict[str, str], list[Failure]]:
    """Draw every sample and find every cache entry, before any weights are read.

    Experiments with the same statistics share a study. Also returns the experiments that cannot
    run and why (without `leave_out` the first of them is an error), and those that failed.
    """
    studies: dict[tuple[type[Study], object], Study] = {}
    left_out: dict[str, str] = {}
    failures: list[Failure] = []
    for name, analysis in setting.config.experiments.items():
        kind = study_of(analysis)
        try:
            study = kind.build(setting, name, analysis)
        except StrataError as error:
            if not setting.config.leave_out:
                raise
            left_out[name] = str(error)
            continue
        except Exception as error:  # the other experiments continue
            failures.append(failure_of(name, "drawing units", error))
            continue
        key = kind, study.entry.folder
        studies[key] = studies[key].joined(study) if key in studies else study
    return list(studies.values()), left_out, failures


def provide(
    config: Config,
    corpus: Corpus,
    studies: Sequence[Study],
    held: Held,
    watch: Stopwatch,
    failed: dict[Study, Exception],
    processes: Processes = ALONE,
) -> PassReport | None:
    """Run the forward pass if a study lacks statistics; None if the cache had them all.

    A study whose statistics cannot be computed goes into `failed` with the exception; the others
    go on. On return the locks are held for reading, so that no job deletes the statistics. With
    several processes, the first holds the locks for all.
    """
    held.read()
    anew = config.cache == "refresh"
    if not anew and processes.first(lambda: all(is_ready(study) for study in studies)):
        for study in studies:
            log_cached(study)
        return None
    passed = None
    for _ in range(TRIES):
        held.change()
        processes.first(partial(prepare, studies, corpus, config.on_error, anew))
        anew = False
        remaining = [study for study in studies if study not in failed]
        passed = collect(config, corpus, remaining, watch, failed, processes) or passed
        held.read()
        remaining = [study for study in studies if study not in failed]
        if all(processes.first(partial(completed, remaining))):
            for study in remaining:
                processes.see(study.complete, study.entry.folder)
            return passed
    raise StrataError(
        f"after {TRIES} passes the cache still lacks statistics: does another job delete them? "
        "Run again, or with a folder of its own: paths.cache="
    )


def prepare(studies: Sequence[Study], corpus: Corpus, on_error: str, anew: bool) -> None:
    """Delete what is unusable in the studies' entries; with `anew`, all that they hold."""
    for study in studies:
        if anew:
            study.entry.clear()
        review(study, corpus, on_error)


def completed(studies: Sequence[Study]) -> list[bool]:
    """Which studies' entries hold all that their experiments need."""
    return [study.complete() for study in studies]


def is_ready(study: Study) -> bool:
    """Whether the entry has all statistics, undamaged, of all the speech drawn."""
    entry = study.entry
    if not study.complete() or not entry.has(AUDIO_HASHES) or entry.damaged():
        return False
    return not read_audio_hashes(entry)[1]


def review(study: Study, corpus: Corpus, on_error: str) -> None:
    """Delete damaged arrays of an entry, or all if it lacks audio that can be read by now."""
    entry, names = study.entry, ", ".join(study.experiments)
    for name, why in entry.damaged().items():
        log.warning(
            "%s: %s in %s is damaged (%s): it is computed again", names, name, entry.folder, why
        )
        entry.discard(name)
    if not entry.names():
        return
    if not entry.has(AUDIO_HASHES):
        log.warning(
            "%s: no hashes of the audio that the cached statistics are of: computed again", names
        )
        entry.clear()
        return
    failures = {}
    unread = read_audio_hashes(entry)[1]
    for number in unread:
        utterance = corpus.utterances[study.utterance(number)]
        try:
            utterance.read()
        except StrataError as error:
            failures[utterance.id] = str(error)
    if len(failures) < len(unread):
        log.warning(
            "%s: %d utterances that could not be read can be read now: all is computed again",
            names,
            len(unread) - len(failures),
        )
        entry.clear()
    elif failures and on_error == "raise":
        raise UnreadableError(failures, len(read_audio_hashes(entry)[0]) + len(failures))


def collect(
    config: Config,
    corpus: Corpus,
    studies: Sequence[Study],
    watch: Stopwatch,
    failed: dict[Study, Exception],
    processes: Processes = ALONE,
) -> PassReport | None:
    """Run the pass for what the studies' entries lack, whose locks are held exclusively."""
    encoder: AnyEncoder | None = None
    while True:
        complete = processes.first(partial(completed, studies))
        lacking = [study for study, done in zip(studies, complete, strict=True) if not done]
        for study in studies:
            if study not in lacking and encoder is None:
                log_cached(study)
        if not lacking:
            return None
        processes.first(partial(check_room, lacking, processes.size))
        check_memory(lacking, pick_device(config.device), processes.place.local_size)
        processes.wait()  # before a model takes memory
        if encoder is None:
            with watch.stage("loading"):
                encoder = load_encoders(config, any(study.needs_second_model for study in lacking))
        try:
            with full_disk_explained(lacking):
                consumers: list[Consumer] = []
                for study in lacking:
                    rank, size = processes.rank, processes.size
                    own = replace(study, entry=replace(study.entry, writer=rank, writers=size))
                    consumers.append(own.consumer(encoder.device))
                broken: dict[Consumer, Exception] = {}
                passed = stream(
                    corpus,
                    encoder,
                    consumers,
                    watch,
                    config.on_error,
                    failed=broken,
                    processes=processes,
                )
        except AudioChanged as otherwise:
            names = [", ".join(s.experiments) for s in lacking if s.entry == otherwise.entry]
            log.warning(
                "%s: this pass read %s, so that what the cache holds cannot be added to: all of "
                "it is computed anew",
                *(names, otherwise),
            )
            processes.first(otherwise.entry.clear)
            continue
        for study, consumer in zip(lacking, consumers, strict=True):
            if consumer in broken:
                failed[study] = broken[consumer]
            elif processes.leads:
                study.entry.note(asdict(passed))
        log_dropped(passed.dropped)
        return passed


def log_cached(study: Study) -> None:
    """Log that a study's statistics are cached, and what was dropped when they were computed."""
    log.info("%s: statistics come from the cache", ", ".join(study.experiments))
    log_dropped(study.entry.notes().get("dropped", {}))


def check_room(studies: Sequence[Study], processes: int = 1) -> None:
    """Raise StrataError where the disk has less room than a pass needs.

    With several processes, each also saves its own part before the first merges them.
    """
    needed = sum(study.disk_bytes() for study in studies)
    if processes > 1:
        needed += sum(max(s.disk_bytes(), processes * s.memory_bytes()) for s in studies)
    folder = studies[0].entry.folder
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StrataError(
            f"the statistics of {sum(len(study.experiments) for study in studies)} experiments "
            f"take about {needed / 1e9:.2f} GB and {folder.parents[1]} has {free / 1e9:.2f} GB "
            "free. Make room (experiment=cache clear=stale), name another disk (paths.cache=), or "
            "draw less (sampling.instances, sampling.utterances)"
        )


def check_memory(studies: Sequence[Study], device: torch.device, sharing: int = 1) -> None:
    """Raise where the statistics of a pass would not fit into memory, before a model is loaded.

    `sharing`: how many processes of the run are on this machine, each with sums of its own.
    """
    held = torch.device("cpu") if device.type == "mps" else device  # mps has no float64
    needed, free = sum(study.memory_bytes() for study in studies), free_memory(held)
    needed *= sharing if held.type == "cpu" else 1
    if needed > free:
        where = "this machine" if held.type == "cpu" else f"the GPU ({held})"
        widest = max((layer for study in studies for layer in study.layers), key=lambda x: x.dim)
        raise StrataError(
            f"the moments of {len(studies[0].layers)} layers of up to {widest.dim} columns take "
            f"about {needed / 1e9:.2f} GB beside the model, and {where} has {free / 1e9:.2f} GB "
            "free. Take fewer sample sets (sampling.samples=1), fewer experiments, or fewer folds "
            f"(sampling.folds=5){'' if held.type == 'cpu' else ', or the CPU (device=cpu)'}"
        )


@contextmanager
def full_disk_explained(studies: Sequence[Study]) -> Iterator[None]:
    """Explain a full disk during the pass by a StrataError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        folder = studies[0].entry.folder
        needed = sum(study.disk_bytes() for study in studies)
        free = shutil.disk_usage(folder).free
        raise StrataError(
            f"{folder}: {error.strerror} ({free / 1e9:.2f} GB free; the statistics of this pass "
            f"take about {needed / 1e9:.2f} GB). Make room (experiment=cache clear=stale), or name "
            "another disk (paths.cache=), and run again: the pass resumes where its state was "
            "last saved"
        ) from error


def unread_of(studies: Sequence[Study], corpus: Corpus) -> dict[str, list[str]]:
    """Utterances that each experiment is without because they could not be read."""
    lost: dict[str, list[str]] = {}
    for study in studies:
        unread = read_audio_hashes(study.entry)[1]
        if unread:
            ids = [corpus.utterances[study.utterance(number)].id for number in unread]
            lost |= dict.fromkeys(study.experiments, ids)
    return lost
