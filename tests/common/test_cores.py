"""The processors that a process may use: affinity, a container's quota, Slurm."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from common.cores import SLURM, SLURM_NODE, usable_cores

QUOTA = "/sys/fs/cgroup/cpu.max"


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 128 processors, on all of which this process may run."""
    for name in (SLURM, SLURM_NODE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)))
    quota(monkeypatch, "max 100000\n")


def quota(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What a container's file of the second version of cgroups says."""
    exists, read = os.path.exists, open

    def opened(file: Any, *rest: Any, **more: Any) -> Any:
        return io.StringIO(text) if file == QUOTA else read(file, *rest, **more)

    monkeypatch.setattr(os.path, "exists", lambda path: path == QUOTA or exists(path))
    monkeypatch.setattr("builtins.open", opened)


def test_without_limits_all_processors_count() -> None:
    assert usable_cores() == 128


def test_affinity_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 64})
    assert usable_cores() == 3


@pytest.mark.parametrize(("text", "cores"), [("400000 100000", 4), ("150000 100000", 2)])
def test_a_container_limits(text: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quota(monkeypatch, text)
    assert usable_cores() == cores  # a processor and a half keep two busy


@pytest.mark.parametrize(("allotted", "cores"), [("8", 8), ("256", 128), ("", 128), ("0", 128)])
def test_slurm_limits(allotted: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLURM, allotted)
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({"TORCHELASTIC_RUN_ID": "none"}, 16),
        ({"TORCHELASTIC_RUN_ID": "none", SLURM: "64"}, 8),  # one task, in which torchrun starts 8
        ({"SLURM_STEP_NUM_TASKS": "16", SLURM: "12"}, 12),  # a task is a process
        ({"SLURM_STEP_NUM_TASKS": "16", SLURM_NODE: "96"}, 12),
        ({"SLURM_STEP_NUM_TASKS": "16", SLURM_NODE: "4"}, 1),
    ],
)
def test_processes_of_a_machine_share_its_processors(
    environment: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "16", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"}
    srun = {"SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NTASKS_PER_NODE": "8"}
    for name, value in {**torchrun, **srun, **environment}.items():
        monkeypatch.setenv(name, value)
    assert usable_cores() == cores


def test_nothing_else_counts_processors() -> None:
    root = Path(__file__).parents[2]
    for package in ("analysis", "common", "finetune", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            assert "cpu_count()" not in path.read_text() or path.name == "cores.py", path
