"""Weights & Biases: one run per job, a curve over `layer` for each experiment.

Every run holds the configuration, the code's commit, the datasets' fingerprints (in `metadata`) and
its rows (the table `results`), so that a dashboard needs nothing but the runs.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from common.config import Config, TrackingConfig
from common.records import StrataError
from common.results.results import best_of, pairwise, primary_scores, summarise
from common.writing import write_text

LAYER = "layer"  # the x axis of a curve over the transformer's layers
RESULTS = "results"  # the table of a run's rows
RUN_ID = "checkpoints/wandb.json"  # a training that is begun anew, without them, is a new run
WER = "test/wer"
REINIT_TOP = "reinit_top"  # the x axis of WER


def curve_name(experiment: str, metric: str, part: str = "transformer") -> str:
    """The key of a curve: the same in every run, so that models lie on one panel."""
    name = f"{experiment}/{metric}"
    return name if part == "transformer" else f"{name} ({part})"


def run_name(config: Config) -> str:
    """What a run's curves are called where several models lie on one panel."""
    name = f"{config.model.name} {config.name}"
    if config.task != "ctc":
        return name
    return f"{name} {REINIT_TOP}={config.finetune.reinit_top} seed={config.seed}"


def plain_metadata(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Metadata as W&B keeps it: plain values, and the configuration once (a run has it anyway)."""
    kept = {key: value for key, value in metadata.items() if key != "config"}
    return dict(json.loads(json.dumps(kept, default=str)))


def log_results(
    tracking: TrackingConfig,
    name: str,
    raw: Mapping[str, Any],
    frame: pd.DataFrame,
    metadata: Mapping[str, object],
    folder: Path,
    pictures: Sequence[Path],
) -> str | None:
    """Send a finished run to W&B; returns its address, or the folder of an offline run."""
    if tracking.backend == "none":
        return None
    import wandb

    with _finished_run(tracking, name, raw, metadata, folder) as run:
        _log_curves(run, frame)
        _log_rows(run, frame)
        run.log({path.stem: wandb.Image(str(path)) for path in pictures if path.suffix == ".png"})
        run.summary.update(best_layers(frame))
        return _place(tracking, run)


def log_table(
    tracking: TrackingConfig,
    name: str,
    raw: Mapping[str, Any],
    table_name: str,
    table: pd.DataFrame,
    metadata: Mapping[str, object],
    folder: Path,
) -> str | None:
    """Send a finished run whose result is a table of its own; returns as `log_results`.

    Where the table has a line for each `layer`, every figure is a curve over the transformer's
    layers too, `TABLE_NAME/FIGURE`.
    """
    if tracking.backend == "none":
        return None
    import wandb

    with _finished_run(tracking, name, raw, metadata, folder) as run:
        if LAYER in table.columns:
            figures = table.select_dtypes("number")
            run.define_metric(LAYER)
            for figure in figures.columns:
                run.define_metric(f"{table_name}/{figure}", step_metric=LAYER)
            for layer, line in zip(table[LAYER], figures.to_dict("records"), strict=True):
                if layer.startswith("T"):
                    values = {f"{table_name}/{figure}": value for figure, value in line.items()}
                    run.log({LAYER: int(layer[1:]), **values})
        run.log({table_name: wandb.Table(dataframe=table)})
        return _place(tracking, run)


@contextmanager
def _finished_run(
    tracking: TrackingConfig,
    name: str,
    raw: Mapping[str, Any],
    metadata: Mapping[str, object],
    folder: Path,
) -> Iterator[Any]:
    """A run of its own, with the configuration and the metadata."""
    import wandb

    with _explained(f"The results are safe in {folder}"):
        run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            mode=tracking.mode,  # type: ignore[arg-type]
            name=os.environ.get("WANDB_NAME") or name,
            dir=os.environ.get("WANDB_DIR") or folder,
            config=dict(raw) | {"metadata": plain_metadata(metadata)},
            # A multirun's jobs share this process: each closes its run before the next one starts.
            reinit="finish_previous",
            settings=wandb.Settings(silent=True),
        )
    with run:
        yield run


def _place(tracking: TrackingConfig, run: Any) -> str | None:
    """The address of a run, or the folder of an offline one."""
    if tracking.mode == "online":
        return str(run.url)
    return str(Path(run.dir).parent) if tracking.mode == "offline" else None


@contextmanager
def _explained(safe: str) -> Iterator[None]:
    """W&B's refusal as an error that says what is `safe` and how to go on."""
    import wandb

    try:
        yield
    except wandb.Error as error:
        raise StrataError(
            f"tracking=wandb: {error} {safe}. Log in (wandb login, or WANDB_API_KEY=…), or use "
            "tracking.mode=offline and send the run later: wandb sync"
        ) from error


def _log_rows(run: Any, frame: pd.DataFrame) -> None:
    """Every row, as results.csv has them."""
    import wandb

    # W&B writes JSON, which has no word for an integer that is missing.
    integers = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.Int64Dtype)]
    run.log({RESULTS: wandb.Table(dataframe=frame.astype(dict.fromkeys(integers, "float64")))})


def _log_curves(run: Any, frame: pd.DataFrame) -> None:
    """A point per layer: T layers at 0, 1, …; C layers on curves of their own, at 1, 2, ….

    Experiments that make a matrix, not a curve, are in the table and the pictures alone.
    """
    summary = summarise(primary_scores(frame[~frame["experiment"].isin(pairwise(frame))]))
    for part, curves in summary.groupby("part"):
        step = LAYER if part == "transformer" else f"{part}_{LAYER}"
        run.define_metric(step)
        for index, points in curves.groupby("layer_index"):
            values: dict[str, object] = {step: int(str(index))}
            for point in points.itertuples():
                name = curve_name(point.experiment, point.metric, str(part))
                run.define_metric(name, step_metric=step)
                values[name] = float(point.mean)
            run.log(values)


def best_layers(frame: pd.DataFrame) -> dict[str, object]:
    """For every experiment its best layer and that layer's mean score.

    `best_block` is the best of the transformer's layers as a number, which a bar can show. A layer
    against itself is not the best (`common.results.best_of`).
    """
    summary = summarise(primary_scores(frame))
    best: dict[str, object] = {}
    for row in best_of(summary).itertuples():
        best[f"{row.experiment}/best_layer"] = row.layer
        best[f"{row.experiment}/best_score"] = float(row.mean)
    for row in best_of(summary[summary["part"] == "transformer"]).itertuples():
        best[f"{row.experiment}/best_block"] = int(row.layer_index)
    return best


def log_training(
    run: Any,
    metadata: Mapping[str, object],
    frame: pd.DataFrame | None = None,
    reinit_top: int | None = None,
) -> None:
    """What a training found, into its run: metadata, rows, and error rates over `reinit_top`."""
    run.config.update({"metadata": plain_metadata(metadata)}, allow_val_change=True)
    if frame is None:
        return
    values: dict[str, float] = {
        f"test/{metric}": float(value)
        for metric, value in zip(frame["metric"], frame["value"], strict=True)
    }
    run.define_metric(REINIT_TOP)
    for name in values:
        run.define_metric(name, step_metric=REINIT_TOP)
    run.log(values | {REINIT_TOP: reinit_top or 0})
    _log_rows(run, frame)


def training_logger(
    tracking: TrackingConfig, name: str, raw: Mapping[str, Any], folder: Path
) -> Any | None:
    """Lightning's W&B logger for the curves of a training, or None; its run has begun.

    A training that goes on in `folder` goes on with the same run. (Offline, W&B keeps a folder for
    each start, with the run's id in their names: `wandb sync --append` makes them one again.)
    """
    if tracking.backend == "none":
        return None
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    if wandb.run is not None:  # of an earlier job of this process that failed
        wandb.run.finish()
    # Without `offline=True`, which would set WANDB_MODE for all later runs of this process.
    logger = WandbLogger(
        name=os.environ.get("WANDB_NAME") or name,
        save_dir=os.environ.get("WANDB_DIR") or folder,
        project=tracking.project,
        id=_run_id(folder),
        resume="allow" if tracking.mode == "online" else None,
        config=dict(raw),
        entity=tracking.entity,
        group=tracking.group,
        mode=tracking.mode,
        reinit="finish_previous",
    )
    with _explained(f"Nothing has been trained in this run; what was before is safe in {folder}"):
        _ = logger.experiment
    return logger


def _run_id(folder: Path) -> str:
    """The id of a training's run, the same each time it is started."""
    kept = folder / RUN_ID
    try:
        run_id = str(json.loads(kept.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"id": run_id}))
    return run_id
