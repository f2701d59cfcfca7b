"""Which process of a run this is: what torchrun or Slurm's srun says in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.records import StrataError

TORCHRUN = "TORCHELASTIC_RUN_ID"  # set by torchrun
STEP = "SLURM_STEP_NUM_TASKS"  # set by srun; a batch script has none, whatever was allotted to it


@dataclass(frozen=True)
class Place:
    """Which process of how many this is, of all and on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Rank and size as torchrun, or else srun, gives them; a single process without either."""
    if TORCHRUN in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return Place(*(int(environment[name]) for name in names))
    if int(environment.get(STEP, 1)) == 1:
        return Place()
    if "SLURM_NTASKS_PER_NODE" not in environment:
        raise StrataError(
            f"srun started {environment[STEP]} processes and does not say how many for each "
            "machine: ask with --ntasks-per-node= instead of --ntasks="
        )
    names = ("SLURM_PROCID", STEP, "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
    return Place(*(int(environment[name]) for name in names))
