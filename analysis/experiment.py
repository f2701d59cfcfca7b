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

from analysis.consumers import step_of
from analysis.plots import plot_layers
from analysis.stream import PassReport, stream
from analysis.studies import ExperimentError, Scored, Study, build_studies, metric_of, target_label
from common import results
from common.architecture import Layer, ModelDescription, describe
from common.cache import Cache, cache_root
from common.checkpoint import revision_of
from common.config import Config
from common.encoder import load_encoder
from common.records import Corpus, StrataError
from common.timing import Stopwatch, peak_memory_bytes
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
    with TemporaryDirectory(dir=folder, prefix=".statistics-") as scratch:
        cache = Cache(cache_root(config) if config.cache != "off" else Path(scratch))
        with watch.stage("preparing"):
            key = statistics_key(config, corpus)
            studies = build_studies(config, corpus, description.layers, cache, key)
        passed = collect(config, corpus, studies, cache, watch)
        with watch.stage("scoring"):
            scored, failures = score(studies, chosen)
        studied = [study.describe() | {"statistics": study.entry.notes()} for study in studies]
    rows = results.to_frame(to_rows(config, corpus, scored, key, results.config_key(raw)))
    metadata = {
        "model": describe_model(config, description, key),
        "dataset": describe_corpus(corpus),
        "studies": studied,
        "forward_pass": asdict(passed) if passed else "none: all statistics came from the cache",
        "scoring": summarise_scoring(config, scored),
        "not_scored": failures,
        **describe_process(watch),
        "config": raw,
    }
    publish(config, folder, raw, rows, metadata)
    if failures:
        raise StrataError(
            "; ".join(f"{name} was not scored: {why}" for name, why in failures.items())
        )


def choose_layers(config: Config, layers: tuple[Layer, ...]) -> dict[str, list[str]]:
    """Names of the layers that each experiment scores; checks target layers on the way."""
    by_name = {layer.name: layer for layer in layers}
    wanted = config.layers.choose(by_name)
    chosen = {}
    for name, analysis in config.experiments.items():
        own = [layer for layer in wanted if by_name[layer].part in analysis.parts]
        target = analysis.target.layer
        if target is not None:
            if target not in by_name:
                raise StrataError(
                    f"experiments.{name}.target.layer={target}: this model has {', '.join(by_name)}"
                )
            check_same_grid(name, [by_name[layer] for layer in own], by_name[target])
        chosen[name] = own
    if not any(chosen.values()):
        raise StrataError(
            f"layers={config.layers.select} leaves nothing to score: {', '.join(chosen)} cover "
            "other parts of the model (experiments.NAME.parts)"
        )
    for name in [name for name, own in chosen.items() if not own]:
        log.warning("%s scores none of the chosen layers", name)
    return chosen


def check_same_grid(name: str, layers: list[Layer], target: Layer) -> None:
    """Frames of two layers can be paired only where both have one frame for each other's."""
    for layer in layers:
        if step_of(layer) != step_of(target):
            raise StrataError(
                f"{name}: {layer.name} has a frame every {10 * step_of(layer)} ms and its target "
                f"{target.name} every {10 * step_of(target)} ms: choose layers and target of one "
                "frame rate"
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


def statistics_key(config: Config, corpus: Corpus) -> dict[str, object]:
    """What every statistic of a forward pass depends on: the model and the speech."""
    return {
        "revision": revision_of(config.model),
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
            encoder = load_encoder(config.model, config.device, config.precision)
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


def to_rows(
    config: Config, corpus: Corpus, scored: list[Scored], key: Mapping[str, object], run_key: str
) -> list[results.Row]:
    """A row per score."""
    commit = results.git_commit()
    rows = []
    for one in scored:
        analysis = config.experiments[one.experiment]
        metric = metric_of(analysis)
        rows += [
            results.Row(
                model=config.model.name,
                dataset=corpus.name,
                partition=corpus.partition,
                experiment=one.experiment,
                unit=analysis.unit,
                target=target_label(analysis),
                metric=metric.name,
                split=config.split,
                layer=one.layer.name,
                layer_index=one.layer.index,
                part=one.layer.part,
                sample=one.sample,
                trial=trial if metric.held_out else None,
                value=score.value,
                n=one.n,
                dim=one.layer.dim,
                seed=config.seed,
                revision=str(key["revision"]),
                config_key=run_key,
                git_commit=commit,
            )
            for trial, score in enumerate(one.scores)
        ]
    return rows


def describe_model(
    config: Config, description: ModelDescription, key: Mapping[str, object]
) -> dict[str, object]:
    """Which model it was, for the metadata."""
    return asdict(config.model) | {
        "revision": key["revision"],
        "architecture": description.architecture,
        "parameters": description.n_parameters,
    }


def describe_process(watch: Stopwatch) -> dict[str, object]:
    """What the run took, and what ran it."""
    return {
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": results.versions(),
        "git_commit": results.git_commit(),
    }


def describe_corpus(corpus: Corpus) -> dict[str, object]:
    """What was listed, for the metadata."""
    return {
        "name": corpus.name,
        "partition": corpus.partition,
        "licence": corpus.licence,
        "fingerprint": corpus.fingerprint,
        "utterances": len(corpus.utterances),
        "hours": round(corpus.hours, 4),
        "speakers": len({u.speaker for u in corpus.utterances}),
        "dropped": dict(corpus.dropped),
    }


def summarise_scoring(config: Config, scored: list[Scored]) -> dict[str, object]:
    """What each experiment's metric has to say of its choices."""
    summaries: dict[str, object] = {}
    for name, analysis in config.experiments.items():
        scores = [score for one in scored if one.experiment == name for score in one.scores]
        summaries[name] = metric_of(analysis).summary(scores, name)
    return summaries


def publish(
    config: Config,
    folder: Path,
    raw: Mapping[str, Any],
    rows: pd.DataFrame,
    metadata: Mapping[str, object],
) -> None:
    """Write and show the results: files, tracking, the table, and where everything is."""
    paths = results.write_results(folder, rows, metadata)
    if rows.empty:
        return
    title = f"{config.model.name} on {rows['dataset'].iloc[0]} ({rows['partition'].iloc[0]})"
    pictures = plot_layers(rows, folder, title)
    results.print_table(rows, title)
    for path in (*paths, *pictures):
        print(path)
    tracked = log_results(config.tracking, config.name, raw, rows, metadata, folder, pictures)
    if tracked:
        print(tracked)
