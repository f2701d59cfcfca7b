"""How many processors this process may use."""

import os

from common.place import TORCHRUN, place

SLURM = "SLURM_CPUS_PER_TASK"
SLURM_NODE = "SLURM_CPUS_ON_NODE"  # of all tasks of a job on this machine


def usable_cores() -> int:
    """Processors of the affinity mask, within a container's quota and Slurm's share of a task.

    `os.cpu_count()` counts the machine's, of which a job on a cluster may have few. Processes of
    one run on one machine share them, unless Slurm gave each its own.
    """
    import joblib  # only now: it takes a tenth of the time in which a wrong name is refused

    cores, sharing = int(joblib.cpu_count()), place().local_size
    cores = min(cores, _number(SLURM) or cores)
    if TORCHRUN in os.environ:
        return max(1, cores // sharing)
    if sharing > 1 and not _number(SLURM) and _number(SLURM_NODE):
        return max(1, min(cores, _number(SLURM_NODE) // sharing))
    return cores


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
