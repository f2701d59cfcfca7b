"""How many processors this process may use."""

import os

import joblib

SLURM = "SLURM_CPUS_PER_TASK"


def usable_cores() -> int:
    """Processors of the affinity mask, within a container's quota and Slurm's share of a task.

    `os.cpu_count()` counts the machine's, of which a job on a cluster may have few.
    """
    cores = int(joblib.cpu_count())
    allotted = os.environ.get(SLURM, "")
    return min(cores, int(allotted)) if allotted.isdecimal() and int(allotted) else cores
