"""Layer-wise analysis: draw units, run the model once, collect statistics, score each layer.

From Python, as in a notebook: `from analysis import analyse`. The package imports `common` and
nothing of `finetune`.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from common.cache.cache import hashes_folder
from common.config import CONF, register, resolve
from common.file_hashes import hashes_kept
from common.records import StrataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["analyse", "summarise"]


def analyse(*overrides: str, folder: str | Path | None = None) -> "pd.DataFrame":
    """Run one analysis, or several, and return its results.

    `overrides` are those of the command line, and the configuration is composed from the same
    files: `analyse("experiment=cca_phone", "model=wav2vec2_tiny", "dataset=synthetic")` is
    `python run.py experiment=cca_phone model=wav2vec2_tiny dataset=synthetic`. Table, plots and
    metadata are written to `folder`, by default a new one below `paths.runs`, and statistics are
    kept in the same cache.

    Returns the rows of `results.csv`, one for each layer, sample, trial and figure: the columns are
    those of `common.results.results.Row`. `summarise` takes means over samples and trials. Raises
    StrataError as the command line does; an experiment that fails leaves the results of the others
    in the folder that the error names.
    """
    from analysis import experiment  # torch takes seconds to import
    from common.results.results import read_results

    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = compose("config", list(overrides))
    config = resolve(composed)
    if config.task != "analysis":
        raise StrataError(
            f"experiment={config.name} is the task {config.task}, analyse() runs analyses: "
            f"python run.py {' '.join(overrides)}"
        )
    if folder is None:
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        folder = Path(config.paths.runs) / config.name / config.model.name / name
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    raw: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        with hashes_kept(hashes_folder(config)):
            experiment.run(config, place, raw)
    except StrataError as error:
        raise StrataError(f"{error} (folder {place})") from error
    return read_results(place)


def summarise(results: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and standard deviation over samples and trials of each layer's primary figures.

    `results` as `analyse` returns them, or several of them concatenated. One line for each model,
    experiment, control and layer, with the columns `mean`, `std`, `count`, `low` and `high`.
    """
    from common.results.results import summarise as summary

    return summary(results[results["primary"]])
