"""Which process of how many this is, as torchrun and Slurm tell it, and what is asked of them."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

import run
from common import processes
from common.encoder.encoder import pick_device
from common.place import Place, place
from common.processes import ALONE, Processes, joined
from common.records import StrataError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "16",
    "RANK": "11",
    "LOCAL_WORLD_SIZE": "8",
    "LOCAL_RANK": "3",
    "GROUP_RANK": "1",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_NTASKS": "16",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NAME": "strata",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("started", [TORCHRUN, SRUN], indirect=True, ids=["torchrun", "srun"])
@pytest.mark.usefixtures("started")
def test_a_process_has_the_place_that_fabric_gives_it() -> None:
    environment = TorchElasticEnvironment() if "RANK" in os.environ else SLURMEnvironment()
    assert type(environment).detect()
    this = place()
    assert this == Place(rank=11, size=16, local_rank=3, local_size=8)
    assert this.rank == environment.global_rank()
    assert this.size == environment.world_size()
    assert this.local_rank == environment.local_rank()
    assert environment.node_rank() == this.rank // this.local_size


def test_without_either_and_in_a_batch_script_there_is_one() -> None:
    script = {"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for environment in ({}, script, {"SLURM_STEP_NUM_TASKS": "1"}, {"RANK": "1"}):
        assert place(environment) == Place()
    with joined("cpu") as alone:
        assert alone is ALONE


def test_slurm_must_say_how_many_processes_a_machine_has() -> None:
    with pytest.raises(StrataError, match="ask with --ntasks-per-node="):
        place({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"})


@pytest.mark.parametrize("started", [TORCHRUN], indirect=True)
@pytest.mark.usefixtures("started")
def test_a_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    device = pick_device("auto")
    assert (device.type, device.index) == ("cuda", 3)
    message = "8 processes on this machine: .* sees 4 of cuda"
    with pytest.raises(StrataError, match=message), joined("auto"):
        pass


@pytest.mark.parametrize("started", [TORCHRUN], indirect=True)
@pytest.mark.usefixtures("started")
def test_what_one_process_does_is_refused_before_anything_is_loaded() -> None:
    from running import resolved

    paper = resolved("experiment=paper", "model=wav2vec2_tiny", "dataset=synthetic")
    run.check_shared(paper, multirun=False)
    with pytest.raises(StrataError, match=r"16 processes .* for a sweep.*leave out -m"):
        run.check_shared(paper, multirun=True)
    with pytest.raises(StrataError, match=r"the task ctc is done by one.*finetune\.processes="):
        run.check_shared(resolved("experiment=ctc", "model=wav2vec2_tiny"), multirun=False)
    with pytest.raises(StrataError, match="the task cache is done by one"):
        run.check_shared(resolved("experiment=cache"), multirun=False)
    assert run.follower_overrides()[0].startswith("hydra.run.dir=")


def test_a_process_that_has_ended_is_named() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    peers = {1: psutil.Process(child), 2: psutil.Process(os.getppid())}
    this = Processes(Place(0, 3, 0, 3), peers)
    assert this.lost() == ""
    os.kill(child, signal.SIGKILL)
    while not this.lost():  # a zombie first
        pass
    named = f"process 1 of 3 (pid {child} on {socket.gethostname()})"
    assert this.lost() == named
    os.waitpid(child, 0)
    assert this.lost() == named
    with pytest.raises(StrataError, match=r"^process 1 of 3 .* it goes on"), this.together():
        raise RuntimeError("Connection closed by peer")


def test_a_disk_that_is_not_shared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SEEN", 0.0)
    with pytest.raises(StrataError, match=r"process 2 on .* does not see .*probe.*paths\.cache="):
        Processes(Place(2, 4, 2, 4)).see((tmp_path / "probe").exists, tmp_path / "probe")


def test_shares_are_neighbours_and_leave_nothing_out() -> None:
    shares = [Processes(Place(rank, 4)).share(range(10)) for rank in range(4)]
    assert [list(share) for share in shares] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
