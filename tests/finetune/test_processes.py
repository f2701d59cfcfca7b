"""A training in several sittings or several processes is the training of one."""

import multiprocessing
import threading
from typing import Any

import pytest
import torch
from running import composed
from test_ctc import SMALL

from common.config import resolve
from common.records import StrataError
from finetune import processes

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")


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
