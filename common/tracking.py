"""Weights & Biases: one run per job, a curve over `layer` for each experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config import TrackingConfig
from common.records import StrataError
from common.results import best_of, own_figures, summarise


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

    try:
        run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            mode=tracking.mode,  # type: ignore[arg-type]
            name=name,
            dir=folder,
            config=dict(raw) | {"metadata": dict(metadata)},
            # A multirun's jobs share this process: each closes its run before the next one starts.
            reinit="finish_previous",
            settings=wandb.Settings(silent=True),
        )
    except wandb.Error as error:
        raise StrataError(
            f"tracking=wandb: {error} The results are safe in {folder}. Log in (wandb login, or "
            "WANDB_API_KEY=…), or use tracking.mode=offline and send the run later: wandb sync"
        ) from error
    with run:
        _log_curves(run, frame)
        run.log({"results": wandb.Table(dataframe=frame.astype({"trial": "float64"}))})
        run.log({path.stem: wandb.Image(str(path)) for path in pictures if path.suffix == ".png"})
        run.summary.update(best_layers(frame))
        if tracking.mode == "online":
            return run.url
        return str(Path(run.dir).parent) if tracking.mode == "offline" else None


def _log_curves(run: Any, frame: pd.DataFrame) -> None:
    """A point per layer: T layers at 0, 1, …; C layers on curves of their own, at 1, 2, …."""
    summary = summarise(own_figures(frame))
    for part, curves in summary.groupby("part"):
        step = "layer" if part == "transformer" else f"{part}_layer"
        run.define_metric(step)
        for index, points in curves.groupby("layer_index"):
            values: dict[str, object] = {step: int(str(index))}
            for point in points.itertuples():
                name = f"{point.experiment}/{point.metric}"
                name = name if part == "transformer" else f"{name} ({part})"
                run.define_metric(name, step_metric=step)
                values[name] = float(point.mean)
            run.log(values)


def best_layers(frame: pd.DataFrame) -> dict[str, object]:
    """For every experiment its best layer and that layer's mean score."""
    return {
        key: value
        for row in best_of(summarise(own_figures(frame))).itertuples()
        for key, value in (
            (f"{row.experiment}/best_layer", row.layer),
            (f"{row.experiment}/best_score", float(row.mean)),
        )
    }


def training_logger(
    tracking: TrackingConfig, name: str, raw: Mapping[str, Any], folder: Path
) -> Any | None:
    """Lightning's W&B logger for the curves of a training, or None."""
    if tracking.backend == "none":
        return None
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    if (
        wandb.run is not None
    ):  # of an earlier job of this process that failed: not to be gone on with
        wandb.run.finish()
    return WandbLogger(
        name=name,
        save_dir=folder,
        project=tracking.project,
        offline=tracking.mode == "offline",
        config=dict(raw),
        entity=tracking.entity,
        group=tracking.group,
        mode=tracking.mode,
        reinit="finish_previous",
    )
