"""An analysis run: draw units, collect statistics in one forward pass, score, write."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.describe import describe_measured, describe_model, describe_speech, to_rows
from analysis.forward.consumers import step_of
from analysis.measure import Measured, ModelRun, measure, measure_untrained
from analysis.plots import plot_layers, plot_pairs
from analysis.report.advice.advise import advise, lines_of
from analysis.sampling.speech import read_speech
from analysis.studies.second_model import describe_other
from analysis.targets.layers import AnotherLayer
from common.cache.cache import open_cache
from common.cache.locks import clear_left_over, scratch_folder
from common.config import Config
from common.datasets.faults import NOT_COMPLETE
from common.encoder.architecture import Layer, ModelDescription, describe
from common.processes import ALONE, Processes
from common.records import StrataError
from common.results import results
from common.results.pair_table import print_pairs
from common.results.score_table import print_table
from common.timing import Stopwatch
from common.tracking import log_results, run_name

log = logging.getLogger(__name__)


def run(
    config: Config, folder: Path, raw: Mapping[str, Any], processes: Processes = ALONE
) -> results.Figure | None:
    """Score every experiment of the run on every layer; files go to `folder`.

    Returns the best layer's score, of each experiment where there are several.
    If an experiment cannot be scored, the others are written before the error is raised.
    With several processes, the first writes and returns; the others return None.
    """
    watch = Stopwatch()
    with watch.stage("preparing"), processes.first_before_others():
        description = describe(config.model)
        chosen = choose_layers(config, description.layers)
        speech = read_speech(config, limits(config, description))
    if config.model.random_init:
        log.warning(
            "%s has random weights (model.random_init=true): an untrained control",
            config.model.name,
        )
    processes.first(lambda: clear_left_over(Path(config.paths.runs).expanduser()))
    with scratch_folder(folder) if processes.leads else nullcontext(folder) as shared_scratch:
        scratch = processes.first(lambda: shared_scratch)
        cache = processes.first(lambda: open_cache(config, scratch))
        processes.see_same_disk(cache.root)
        model_run = ModelRun(config, speech, description, chosen, cache, watch, processes)
        measured, untrained = measure(model_run), None
        if config.controls and not config.model.random_init:
            untrained = measure_untrained(model_run, measured)
    if not processes.leads:
        return None
    run_key = results.config_key(raw)
    each = [measured, untrained] if untrained else [measured]
    rows = results.to_frame([row for one in each for row in to_rows(config, speech, one, run_key)])
    matrices = results.pairwise(rows)
    metadata = {
        "model": describe_model(config, description, measured.revision),
        "dataset": describe_speech(speech),
        **describe_measured(config, measured, untrained),
        "not_comparable": results.incomparable(rows[~rows["experiment"].isin(matrices)]),
        **results.describe_process(watch, processes.size),
        "config": raw,
    }
    publish(config, folder, raw, rows, metadata, measured, matrices)
    print_unread((untrained.unread if untrained else {}) | measured.unread, speech.whole.dropped)
    if measured.failures:
        raise StrataError(
            "; ".join(f"{name} was not scored: {why}" for name, why in measured.failures.items())
        )
    return results.best_scores(rows)


def limits(config: Config, model: ModelDescription) -> list[int | None]:
    """Longest input of each model of the run, in samples; None: no limit."""
    second = any(analysis.target.needs_second_model for analysis in config.experiments.values())
    if config.other is None or not second:
        return [model.max_samples]
    return [model.max_samples, describe_other(config.other).max_samples]


def print_unread(unread: Mapping[str, Sequence[str]], dropped: Mapping[str, int]) -> None:
    """Print which results lack a part of the speech.

    `unread`: experiment -> utterances whose audio could not be read; `dropped`: what listing the
    dataset left out, by reason.
    """
    for reason in NOT_COMPLETE:
        if dropped.get(reason):
            message = f"NOT COMPLETE: {dropped[reason]} left out of the dataset ({reason})"
            log.warning("%s", message)
            print(message)
    lost: dict[tuple[str, ...], list[str]] = {}
    for name, ids in unread.items():
        lost.setdefault(tuple(ids), []).append(name)
    for ids, names in lost.items():
        some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        message = (
            f"NOT COMPLETE: {len(ids)} utterances could not be read ({some}): {', '.join(names)}"
        )
        log.warning("%s", message)
        print(message)


def publish(
    config: Config,
    folder: Path,
    raw: Mapping[str, Any],
    rows: pd.DataFrame,
    metadata: Mapping[str, object],
    measured: Measured,
    matrices: Sequence[str],
) -> None:
    """Write and show the results: files, tracking, the table, and where everything is."""
    paths = results.write_results(folder, rows, metadata)
    if rows.empty:
        return
    title = f"{config.model.name} on {rows['dataset'].iloc[0]} ({rows['partition'].iloc[0]})"
    curves = rows[~rows["experiment"].isin(matrices)]
    asks = {name: analysis.asks for name, analysis in config.experiments.items()}
    pictures = plot_layers(curves, folder, title, asks) if len(curves) else []
    pictures += plot_pairs(rows, matrices, folder, title, asks) if matrices else []
    for name in matrices:
        print_pairs(rows, name, title, measured.without_intervals.get(name, ""))
    if len(curves) or measured.left_out:
        without = {n: why for n, why in measured.without_intervals.items() if n not in matrices}
        print_table(curves, title, measured.left_out, without)
    for line in lines_of(advise(curves)):
        print(line)
    for path in (*paths, *pictures):
        print(path)
    tracked = log_results(config.tracking, run_name(config), raw, rows, metadata, folder, pictures)
    if tracked:
        print(tracked)


def choose_layers(config: Config, layers: tuple[Layer, ...]) -> dict[str, list[str]]:
    """Names of the layers that each experiment scores; raises where a target layer does not fit."""
    by_name = {layer.name: layer for layer in layers}
    selected = config.layers.choose(by_name)
    chosen = {}
    for name, analysis in config.experiments.items():
        covered = [layer for layer in selected if by_name[layer].part in analysis.parts]
        if isinstance(analysis.target, AnotherLayer):
            target = analysis.target.layer
            if target not in by_name:
                raise StrataError(
                    f"experiments.{name}.target.layer={target}: this model has {', '.join(by_name)}"
                )
            step = 10 * step_of(by_name[target])
            for layer in covered:  # frames are paired one to one
                if 10 * step_of(by_name[layer]) != step:
                    raise StrataError(
                        f"{name}: {layer} has a frame every {10 * step_of(by_name[layer])} ms and "
                        f"its target {target} every {step} ms: choose layers and target of one "
                        "frame rate"
                    )
        chosen[name] = covered
    if not any(chosen.values()):
        raise StrataError(
            f"layers={config.layers.select} leaves nothing to score: {', '.join(chosen)} cover "
            "other parts of the model. For its convolutional layers, all that some codecs have: "
            f"experiments.{next(iter(chosen))}.parts=[cnn]"
        )
    for name in [name for name, layers in chosen.items() if not layers]:
        log.warning("%s scores none of the chosen layers", name)
    return chosen
