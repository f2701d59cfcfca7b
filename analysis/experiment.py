"""An analysis run: draw, stream once, score, write."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from os import cpu_count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from analysis.layer_choice import choose_layers
from analysis.metadata import (
    describe_corpus,
    describe_model,
    describe_process,
    summarise_scoring,
)
from analysis.plots import plot_layers
from analysis.rows import to_rows
from analysis.stream import PassReport, stream
from analysis.studies import build_studies
from analysis.study import ExperimentError, Scored, Setting, Study
from common import results
from common.architecture import describe
from common.cache import Cache, cache_root
from common.checkpoint import revision_of
from common.config import Config
from common.encoder_pair import load_encoders
from common.records import Corpus, StrataError
from common.timing import Stopwatch
from common.tracking import log_results

log = logging.getLogger(__name__)


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:
    """Score every experiment of the run on every layer; files go to `folder`.

    An experiment that cannot be scored does not take the others' results with it.
    """
    watch = Stopwatch()
    with watch.stage("preparing"):
        description = describe(config.model)
        chosen = choose_layers(config, description.layers)
        corpus = read_corpus(config)
        revision = revision_of(config.model)
    with TemporaryDirectory(dir=folder, prefix=".statistics-") as scratch:
        cache = Cache(cache_root(config) if config.cache != "off" else Path(scratch))
        with watch.stage("preparing"):
            key = statistics_key(config, corpus, revision)
            studies, unfit = build_studies(Setting(config, corpus, description.layers, cache, key))
            left_out = tell_left_out(config, unfit)
        passed = collect(config, corpus, studies, cache, watch)
        with watch.stage("scoring"):
            scored, failures = score(studies, chosen)
        studied = [study.describe() | {"statistics": study.entry.notes()} for study in studies]
    rows = results.to_frame(to_rows(config, corpus, scored, revision, results.config_key(raw)))
    metadata = {
        "model": describe_model(config, description, revision),
        "dataset": describe_corpus(corpus),
        "studies": studied,
        "forward_pass": asdict(passed) if passed else "none: all statistics came from the cache",
        "scoring": summarise_scoring(config, scored),
        "left_out": left_out,
        "not_scored": failures,
        **describe_process(watch),
        "config": raw,
    }
    publish(config, folder, raw, rows, metadata, left_out)
    if failures:
        raise StrataError(
            "; ".join(f"{name} was not scored: {why}" for name, why in failures.items())
        )


def read_corpus(config: Config) -> Corpus:
    """List the dataset, and say what it holds and what was left out of it."""
    corpus: Corpus = config.dataset.read()
    if not corpus.utterances:
        raise StrataError(f"dataset {corpus.name} ({corpus.partition}) holds no utterances")
    if config.model.random_init:
        log.warning(
            "%s has random weights (model.random_init=true): an untrained control",
            config.model.name,
        )
    speakers = len({u.speaker for u in corpus.utterances})
    log.info(
        "%s (%s): %d utterances, %.1f min, %d speakers",
        corpus.name,
        corpus.partition,
        len(corpus.utterances),
        60 * corpus.hours,
        speakers,
    )
    log_dropped(corpus.dropped)
    return corpus


def log_dropped(dropped: Mapping[str, int]) -> None:
    """One line for all that was left out; nothing goes without a count."""
    counts = [f"{reason} {count}" for reason, count in dropped.items() if count]
    if counts:
        log.info("left out: %s", "; ".join(counts))


def tell_left_out(config: Config, unfit: Mapping[str, str]) -> dict[str, str]:
    """Say which analyses of the run cannot be had, and why; none left at all is an error."""
    left_out = config.left_out | dict(unfit)
    for name, why in left_out.items():
        log.warning("left out %s: %s", name, why)
    if not set(config.experiments) - set(unfit):
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StrataError(f"none of the run's analyses can be had: {reasons}")
    return left_out


def statistics_key(config: Config, corpus: Corpus, revision: str) -> dict[str, object]:
    """What every statistic of a forward pass depends on: the model and the speech."""
    return {
        "revision": revision,
        "final_norm": config.model.final_norm,
        "dataset": corpus.fingerprint,
        "precision": config.precision,
    }


def collect(
    config: Config, corpus: Corpus, studies: list[Study], cache: Cache, watch: Stopwatch
) -> PassReport | None:
    """Run the forward pass if a study lacks statistics; None if the cache had them all."""
    with cache.locked([study.entry for study in studies]):
        if config.cache == "refresh":
            for study in studies:
                study.entry.clear()
        lacking = [study for study in studies if not study.complete()]
        for study in studies:
            if study not in lacking:
                log.info("%s: statistics come from the cache", ", ".join(study.experiments))
                log_dropped(study.entry.notes().get("dropped", {}))
        if not lacking:
            return None
        with watch.stage("loading"):
            encoder = load_encoders(config, any(study.hears_both for study in lacking))
        consumers = [study.consumer(encoder.device) for study in lacking]
        passed = stream(corpus, encoder, consumers, watch, config.model.batch_size)
        for study in lacking:
            study.entry.note(asdict(passed))
    log_dropped(passed.dropped)
    return passed


def score(
    studies: list[Study], chosen: Mapping[str, list[str]]
) -> tuple[list[Scored], dict[str, str]]:
    """Scores of every experiment, and for those that failed the reason.

    Layers are scored side by side on single-threaded BLAS: LAPACK's own threads gain less.
    """
    jobs = [job for study in studies for job in study.jobs(chosen)]
    scored: list[Scored] = []
    failures: dict[str, str] = {}
    with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
        futures = [pool.submit(job) for job in jobs]
        for future in tqdm(futures, desc="scoring", unit="layer", disable=None):
            try:
                scored += future.result()
            except ExperimentError as error:
                failures.setdefault(error.experiment, str(error))
    return [one for one in scored if one.experiment not in failures], failures


def publish(
    config: Config,
    folder: Path,
    raw: Mapping[str, Any],
    rows: pd.DataFrame,
    metadata: Mapping[str, object],
    left_out: Mapping[str, str],
) -> None:
    """Write and show the results: files, tracking, the table, and where everything is."""
    paths = results.write_results(folder, rows, metadata)
    if rows.empty:
        return
    title = f"{config.model.name} on {rows['dataset'].iloc[0]} ({rows['partition'].iloc[0]})"
    pictures = plot_layers(rows, folder, title)
    results.print_table(rows, title, left_out)
    for path in (*paths, *pictures):
        print(path)
    tracked = log_results(config.tracking, config.name, raw, rows, metadata, folder, pictures)
    if tracked:
        print(tracked)
