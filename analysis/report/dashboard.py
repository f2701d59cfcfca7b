"""The task `dashboard`: a W&B workspace over the runs of a project, or its specification."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from common.config import Config, TrackingConfig
from common.records import StrataError
from common.tracking import LAYER, REINIT_TOP, WER, curve_name

log = logging.getLogger(__name__)

NAME = "Strata"
SPECIFICATION = "workspace.json"
SHOWN = 100  # runs on a panel
OFFLINE = "not-logged-in"  # a specification that was not sent has no entity


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:
    """Write the workspace's specification, and build it if that is asked for and can be done."""
    ws, _ = libraries()
    tracking = config.tracking
    entity = tracking.entity or OFFLINE
    sections = [
        layer_section(curves_of(config, raw)),
        best_section(list(raw["experiments"])),
        recognition_section(),
    ]
    workspace = ws.Workspace(
        entity=entity,
        project=tracking.project,
        name=NAME if tracking.group is None else f"{NAME}: {tracking.group}",
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters="" if tracking.group is None else ws.And(ws.Metric("Group") == tracking.group)
        ),
    )
    path = folder / SPECIFICATION
    path.write_text(workspace._model.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    print(path)
    if tracking.backend == "wandb" and tracking.mode == "online":
        print(build(workspace, tracking, path))
    else:
        log.info("nothing was sent: tracking.mode=online builds the workspace")


def libraries() -> tuple[Any, Any]:
    """wandb-workspaces: its workspaces and its panels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, at its import
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise StrataError(
            f"experiment=dashboard needs wandb-workspaces ({error}): "
            "pip install 'strata[dashboard]'"
        ) from error
    return ws, wr


def build(workspace: Any, tracking: TrackingConfig, path: Path) -> str:
    """Save the workspace at W&B; its address."""
    import wandb

    try:
        if tracking.entity is None:
            workspace.entity = wandb.Api().default_entity
        workspace.save()
    except (wandb.Error, ValueError, OSError) as error:
        raise StrataError(
            f"experiment=dashboard: {error} The specification is in {path}. Log in (wandb login, "
            "or WANDB_API_KEY=…), or use tracking.mode=offline for the specification alone"
        ) from error
    return str(workspace.url)


def curves_of(config: Config, raw: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """(key, part) of the curves of every experiment, as `log_results` names them."""
    found = {}
    for name, node in raw["experiments"].items():
        analysis = config.experiments.get(name)  # not there if it lacks a file: its runs had one
        metric = analysis.metric if analysis else instantiate(node["metric"], _convert_="all")
        parts: Sequence[str] = node["parts"]
        found[name] = [(curve_name(name, metric.name, part), part) for part in parts]
    return found


def layer_section(curves: Mapping[str, Sequence[tuple[str, str]]]) -> Any:
    """A panel for every experiment and part: all runs' curves over the layers."""
    ws, wr = libraries()
    panels = [
        wr.LinePlot(
            title=name if part == "transformer" else f"{name} ({part})",
            x=LAYER if part == "transformer" else f"{part}_{LAYER}",
            y=[key],
            title_x=LAYER,
            title_y=key.split("/")[1],
            smoothing_type="none",
            max_runs_to_show=SHOWN,
            legend_template="${run:displayName}",
        )
        for name, rows in curves.items()
        for key, part in rows
    ]
    return ws.Section(name="Layers", panels=panels, is_open=True)


def best_section(experiments: Sequence[str]) -> Any:
    """Two panels of bars for every experiment: its best transformer layer, its best score."""
    ws, wr = libraries()
    panels = [
        wr.BarPlot(
            title=f"{name}: {title}",
            metrics=[f"{name}/{key}"],
            max_runs_to_show=SHOWN,
            max_bars_to_show=SHOWN,
            legend_template="${run:displayName}",
        )
        for name in experiments
        for key, title in (("best_block", "best layer, T"), ("best_score", "best score"))
    ]
    return ws.Section(name="Best layers", panels=panels, is_open=True)


def recognition_section() -> Any:
    """WER against re-initialised blocks: a line per model over seeds, a point per run; training."""
    ws, wr = libraries()
    titles = {"title_x": "blocks re-initialised", "title_y": "WER"}
    panels = [
        wr.LinePlot(
            title="WER by model, mean and range over runs",
            x=REINIT_TOP,
            y=[WER],
            groupby=wr.Config("model.name"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            smoothing_type="none",
            max_runs_to_show=SHOWN,
            **titles,
        ),
        wr.ScatterPlot(
            title="WER of every run", x=wr.SummaryMetric(REINIT_TOP), y=wr.SummaryMetric(WER)
        ),
        wr.LinePlot(
            title="WER in training",
            x="trainer/global_step",
            y=["valid/wer"],
            smoothing_type="none",
            max_runs_to_show=SHOWN,
            legend_template="${run:displayName}",
        ),
    ]
    return ws.Section(name="Recognition", panels=panels, is_open=True)
