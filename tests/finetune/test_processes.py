"""A training in several sittings or several processes is the training of one."""

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from models import save
from running import Finished, composed
from safetensors.torch import load_file
from test_ctc import SMALL, finetune

from common.config import resolve
from common.records import StrataError
from finetune import processes
from finetune.curves import read_curves
from finetune.module import Recogniser

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

PARTS = ["finetune.checkpoint_minutes=0.0001", "finetune.layerdrop=0.3", "finetune.accumulate=2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that nothing disturbs: masks, dropout, layer drop, frozen updates, accumulation."""
    return finetune(tmp_path_factory.mktemp("whole"), model, *PARTS)


def assert_same_training(one: Finished, other: Finished) -> None:
    first, second = (load_file(r.folder / "model" / "model.safetensors") for r in (one, other))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    curves, others = (read_curves(run.folder) for run in (one, other))
    columns = curves.columns.sort_values()
    pd.testing.assert_frame_equal(curves[columns], others[columns])
    assert one.rows["value"].tolist() == other.rows["value"].tolist()


def test_two_processes_train_what_one_does_in_as_many_parts(
    whole: Finished, model: Path, tmp_path: Path
) -> None:
    """Each has its part of every update and of the validation speech, and its random numbers."""
    own = [*PARTS[:-1], "finetune.processes=2"]
    assert_same_training(whole, finetune(tmp_path, model, *own))
    assert not torch.distributed.is_initialized()


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends before it is ready; threads in the place of processes are as quick as they."""

    class Thread(threading.Thread):
        exitcode, kill = -9, lambda _: None
        pid = property(lambda self: self.ident)

        def __init__(self, target: Any, args: Any, daemon: bool) -> None:
            self.end, self.sentinel = multiprocessing.Pipe()
            super().__init__(target=target, args=(*args, self.end), daemon=daemon)

    context = type("Context", (), {"Process": Thread, "Pipe": multiprocessing.Pipe})
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: context)

    def dies(place: processes.Place, ready: Any, end: Any) -> None:
        if place.rank == 1:
            ready.send(None)
        end.send(None)

    with pytest.raises(StrataError, match=r"process 2 beside this one .* exit code -9"):
        processes.together(3, dies).__enter__()

    def lives(place: processes.Place, ready: Any, end: Any) -> None:
        ready.send(None)

    def fail() -> None:
        with processes.together(2, lives) as place:
            assert place is not None
            assert (place.rank, place.world) == (0, 2)
            raise RuntimeError("connection closed by peer")

    with pytest.raises(StrataError, match="process 1 beside this one"):
        fail()


def test_a_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(processes, "pick_device", lambda _: torch.device("cuda"))
    config = resolve(composed((*SMALL, "model.checkpoint=x", "finetune.processes=3")))
    with pytest.raises(StrataError, match=r"processes=3: .* there are 2 of cuda"):
        processes.check_processes(config)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    whole: Finished, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Recogniser.training_step

    def killed(self: Recogniser, batch: Any, number: int) -> torch.Tensor:
        if self.global_step == 4 and number % 2:
            raise KeyError("the machine went away")
        return learn(self, batch, number)

    monkeypatch.setattr(Recogniser, "training_step", killed)
    with pytest.raises(KeyError, match="went away"):
        finetune(tmp_path / "halves", model, *PARTS)
    assert not (tmp_path / "halves" / "model").exists()
    other = r"got to step 4, with other settings: finetune\.reinit_top=1 \(was 0\)\. Give"
    with pytest.raises(StrataError, match=other):
        finetune(tmp_path / "halves", model, *PARTS, "finetune.reinit_top=1")
    monkeypatch.setattr(Recogniser, "training_step", learn)
    assert_same_training(whole, finetune(tmp_path / "halves", model, *PARTS))
