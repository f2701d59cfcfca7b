"""One model, measured: its pass over the speech, and the scores of every experiment."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import torch
from threadpoolctl import threadpool_limits

from analysis.forward.stream import PassReport
from analysis.sampling.speech import RunSpeech
from analysis.studies.provide import build_studies, provide, unread_of
from analysis.studies.study import Failure, Job, Scored, Setting, Study, failure_of
from analysis.targets.mel import Mel
from common.cache.cache import Cache
from common.config import Config
from common.cores import usable_cores
from common.encoder.architecture import ModelDescription
from common.encoder.checkpoint import revision_of
from common.encoder.encoder import pick_device
from common.memory import free_memory
from common.processes import ALONE, Processes
from common.progress import progress
from common.records import Corpus, StrataError
from common.timing import Stopwatch

log = logging.getLogger(__name__)

SCORING_BYTES = 4 << 30  # memory of all jobs that run at the same time


@dataclass(frozen=True, eq=False)
class ModelRun:
    """One model and what it is measured on. `chosen`: experiment -> names of its layers."""

    config: Config
    speech: RunSpeech
    model: ModelDescription
    chosen: Mapping[str, Sequence[str]]
    cache: Cache
    watch: Stopwatch
    processes: Processes = ALONE


@dataclass(frozen=True, eq=False)
class Measured:
    """Results of one model. `failures` and `control_failures`: experiment -> in which layers it
    was not scored, and why.

    `without_controls`: experiment -> control -> why it cannot have it. `without_intervals`:
    experiment -> why its scores have no 95 % interval. `unread`: experiment -> utterances that it
    lacks because they could not be read.
    """

    revision: str
    passed: PassReport | None
    studies: list[dict[str, object]]
    scored: list[Scored]
    failures: dict[str, str]
    control_failures: dict[str, str]
    left_out: dict[str, str]
    without_controls: dict[str, dict[str, str]]
    without_intervals: dict[str, str]
    unread: dict[str, list[str]]

    def describe_pass(self) -> dict[str, object] | str:
        """What the forward pass did, for the metadata."""
        return asdict(self.passed) if self.passed else "none: all statistics came from the cache"


def measure(model_run: ModelRun) -> Measured:
    """Draw units, compute what the cache lacks, score; with `controls`, score these too."""
    config, speech, watch = model_run.config, model_run.speech, model_run.watch
    cache, processes = model_run.cache, model_run.processes
    with watch.stage("preparing"), processes.first_before_others():
        revision = revision_of(config.model)
        key = statistics_key(config, speech.corpus, revision)
        setting = Setting(config, speech, model_run.model.layers, cache, key)
        studies, unfit, failures = build_studies(setting)
        left_out = log_left_out(config, unfit)
    check_same(studies, processes)
    without_intervals = {n: why for s in studies for n, why in s.no_interval.items() if why}
    for name, why in without_intervals.items():
        log.info("%s: no 95 %% intervals: %s", name, why)
    with cache.held([study.entry for study in studies if processes.leads]) as held:
        broken: dict[Study, Exception] = {}
        passed = provide(config, speech.whole, studies, held, watch, broken, processes)
        for study, error in broken.items():
            names = study.experiments
            failures += [failure_of(name, "forward pass", error) for name in names]
        studies = [study for study in studies if study not in broken]
        with watch.stage("scoring"):
            device = scoring_device(config, studies)
            studies = [replace(study, scored_on=device) for study in studies]
            workers = workers_for(studies)
            jobs = [list(study.jobs(model_run.chosen)) for study in studies]
            scored, scoring_failures = score_together(jobs, workers, processes)
            jobs = [list(s.control_jobs(model_run.chosen)) for s in studies if config.controls]
            controls, control_failures = score_together(jobs, workers, processes)
        unread = unread_of(studies, speech.whole)
        processes.wait()  # the first one's locks are those of all
    return Measured(
        revision=revision,
        passed=passed,
        studies=[
            study.describe()
            | {"versions": study.entry.key().get("versions"), "statistics": study.entry.notes()}
            for study in studies
        ],
        scored=scored + controls,
        failures=by_experiment(failures + scoring_failures),
        control_failures=by_experiment(control_failures),
        left_out=left_out,
        unread=unread,
        without_controls=without_controls(model_run, studies),
        without_intervals=without_intervals,
    )


def check_same(studies: Sequence[Study], processes: Processes) -> None:
    """Raise if the processes of a run would compute different statistics."""
    folders = [study.entry.folder for study in studies]
    for rank, theirs in enumerate(processes.gather(folders)):
        if theirs != folders:
            raise StrataError(
                f"processes {processes.rank} and {rank} would compute other statistics "
                f"({', '.join(f.name for f in folders)}; {', '.join(f.name for f in theirs)}): "
                "the code, the model's files or the speech differ between the machines"
            )


def without_controls(model_run: ModelRun, studies: Sequence[Study]) -> dict[str, dict[str, str]]:
    """For each experiment the controls that it cannot have, and why.

    In a model that takes a mel spectrum, random weights are no floor for it: random projections of
    80 numbers keep them, and training can only lose some.
    """
    without = {n: dict(why) for s in studies for n, why in s.without_controls().items()}
    for name, analysis in model_run.config.experiments.items():
        if isinstance(analysis.target, Mel) and model_run.model.takes_spectrum:
            why = "the model takes a mel spectrum, which random weights keep: they are no floor"
            without.setdefault(name, {})["random_weights"] = why
    return without


def measure_untrained(model_run: ModelRun, measured: Measured) -> Measured | None:
    """The same experiments on the same architecture with random weights; None if none has them."""
    experiments = {
        name: analysis
        for name, analysis in model_run.config.experiments.items()
        if name not in measured.left_out
        and "random_weights" not in measured.without_controls.get(name, {})
    }
    if not experiments:
        return None
    untrained = replace(
        model_run.config,
        model=replace(model_run.config.model, random_init=True),
        experiments=experiments,
        controls=False,
        left_out={},
    )
    log.info("control: the same experiments on random weights, in a pass of their own")
    control = measure(replace(model_run, config=untrained))
    return replace(
        control, scored=[replace(one, control="random_weights") for one in control.scored]
    )


def log_left_out(config: Config, unfit: Mapping[str, str]) -> dict[str, str]:
    """Log which analyses of the run are left out, and why; StrataError where none is left."""
    left_out = config.left_out | dict(unfit)
    for name, why in left_out.items():
        log.warning("left out %s: %s", name, why)
    if not set(config.experiments) - set(unfit):
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StrataError(f"none of the run's analyses can be run: {reasons}")
    return left_out


def statistics_key(config: Config, corpus: Corpus, revision: str) -> dict[str, object]:
    """What every statistic of a forward pass depends on: the model and the speech."""
    return {
        "revision": revision,
        "final_norm": config.model.final_norm,
        "dataset": corpus.fingerprint,
        "precision": config.precision,
    }


def scoring_device(config: Config, studies: Sequence[Study]) -> torch.device | None:
    """The GPU of the pass if it has room for a job; None: score on the CPU."""
    allowed = config.scoring == "auto" and config.device in ("auto", "cuda")
    if not allowed or not torch.cuda.is_available():
        return None
    device = pick_device("cuda")
    torch.cuda.empty_cache()  # what the model took
    needed = max((study.device_bytes() for study in studies), default=0)
    free = free_memory(device)
    room = f"a job takes about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free on {device}"
    if needed > free:
        log.warning("scoring on the CPU: %s", room)
        return None
    log.info("scoring on %s: %s", device, room)
    return device


def workers_for(studies: Sequence[Study]) -> int:
    """How many jobs run side by side: one for each core, as far as memory allows."""
    largest = max((study.job_bytes() for study in studies), default=0)
    workers = max(1, min(usable_cores(), SCORING_BYTES // max(largest, 1)))
    for study in studies:
        if study.scored_on is not None:
            workers = min(workers, free_memory(study.scored_on) // max(study.device_bytes(), 1))
    return max(1, workers)


def score_together(
    jobs: Sequence[Sequence[Job]], workers: int, processes: Processes
) -> tuple[list[Scored], list[Failure]]:
    """Scores of every study's jobs, which the processes share.

    Layers are scored side by side on single-threaded BLAS: LAPACK's own threads gain less.
    """
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        futures = [[pool.submit(job.run) for job in processes.share(of_study)] for of_study in jobs]
        for future in progress([f for of_study in futures for f in of_study], "scoring", "layers"):
            future.result()
        each = processes.gather([[f.result() for f in of_study] for of_study in futures])
    # Each process takes consecutive jobs of a study: rows come in the order of a single process.
    found = [one for k in range(len(jobs)) for theirs in each for job in theirs[k] for one in job]
    failures = [one for one in found if isinstance(one, Failure)]
    return [one for one in found if isinstance(one, Scored)], failures


def by_experiment(failures: Sequence[Failure]) -> dict[str, str]:
    """Experiment -> in which layers it failed and why, each reason once with all its layers."""
    layers: dict[str, dict[str, list[str]]] = {}
    for one in failures:
        layers.setdefault(one.experiment, {}).setdefault(one.why, [])
        if one.layer not in layers[one.experiment][one.why]:
            layers[one.experiment][one.why].append(one.layer)
    return {
        name: "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        for name, reasons in layers.items()
    }
