"""The folder of a run is tried before anything is computed."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from common.writing import try_writing


class CheckRunFolder(Callback):
    """Ends the program with one line where nothing could be written at the end of a run."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the folder of a single run."""
        check(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the folder of all runs of a sweep."""
        check(Path(config.hydra.sweep.dir), "hydra.sweep.dir")


def check(folder: Path, key: str) -> None:
    """Make the folder, and a file in it that is deleted again."""
    try:
        try_writing(folder)
    except OSError as error:
        print(
            f"{key}={folder}: results cannot be written there ({error.strerror}). Name a folder "
            f"that can be written to: {key}=, or paths.runs= for all runs",
            file=sys.stderr,
        )
        sys.exit(1)  # no exception: Hydra would report that as a fault of the callback, and go on
