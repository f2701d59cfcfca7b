"""The processes of one run: one, or as many as torchrun or Slurm's srun started for it.

Each is given the same command. They communicate through torch.distributed, which Lightning Fabric
sets up.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from common.cores import usable_cores
from common.place import Place, place
from common.records import StrataError

if TYPE_CHECKING:
    import psutil
    import torch

T = TypeVar("T")

ENDING = 5.0  # seconds that a process may take to end
SEEN = 120.0  # seconds after which a file that another machine wrote is seen on a shared disk
PATIENCE = timedelta(days=30)  # one process may score, or wait for another job, while others wait

log = logging.getLogger(__name__)


def lost_process(which: str) -> StrataError:
    """The error where another process of the run has ended early."""
    return StrataError(
        f"{which} ended before the run did: its error, if it had time for one, is in what it "
        "printed. The statistics of the others are saved (with cache=on): give the same "
        "command again, with the same number of processes or another, and it goes on from there"
    )


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them. `peers`: the others of its machine."""

    place: Place
    peers: "Mapping[int, psutil.Process]" = field(default_factory=dict, compare=False)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.place.rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.place.size

    @property
    def leads(self) -> bool:
        """Whether this is the first one, which decides and writes."""
        return self.place.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each process has, by rank, in every process. It must be picklable."""
        if self.size == 1:
            return [value]
        import torch.distributed

        every: list[Any] = [None] * self.size
        with self.together():
            torch.distributed.all_gather_object(every, value)
        return every

    def first(self, ask: Callable[[], T]) -> T:
        """Call `ask` in the first process alone; every process gets its result.

        An exception is raised in every process too; an error that ends the run is left to the first
        one to report.
        """
        if self.size == 1:
            return ask()
        answers: list[T] = []
        raised: Exception | None = None
        if self.leads:
            try:
                answers = [ask()]
            except Exception as error:
                raised = error
        # Errors with arguments of their own cannot be made again from their text.
        sent = StrataError(str(raised)) if isinstance(raised, StrataError) else raised
        answers, theirs = self.gather((answers, sent))[0]
        if theirs is None:
            return answers[0]
        if isinstance(theirs, (StrataError, OSError)) and not self.leads:
            logging.disable(logging.CRITICAL)
        raise raised or theirs

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process goes through the block before the others do; its error ends them."""
        if not self.leads:
            self.first(lambda: None)
        raised: Exception | None = None
        try:
            yield
        except Exception as error:
            if not self.leads:
                raise
            raised = error
        if self.leads:
            self.first(lambda: _raise(raised))

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.gather(None)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of the items that is this process's: neighbours, and about as many for each."""
        n = len(items)
        return items[n * self.rank // self.size : n * (self.rank + 1) // self.size]

    def add(self, tensors: "Sequence[torch.Tensor]", owner: int | None = None) -> None:
        """Add up the tensors of all processes, in place, in every one.

        With `owner`, in that one alone: those of the others then hold no useful values.
        """
        if self.size == 1:
            return
        import torch.distributed

        with self.together():
            for tensor in tensors:
                if owner is None:
                    torch.distributed.all_reduce(tensor)
                else:
                    torch.distributed.reduce(tensor, owner)

    def see(self, ask: Callable[[], bool], what: Path) -> None:
        """Wait until this process sees a file that the first one wrote, which a disk may delay."""
        until = monotonic() + SEEN
        while not ask():
            if monotonic() > until:
                raise StrataError(
                    f"process {self.rank} on {socket.gethostname()} does not see {what}, which the "
                    "first one has written: all processes need a disk that they share for the "
                    "cache (paths.cache=), and with cache=off for the run's folder (hydra.run.dir=)"
                )
            sleep(0.2)

    def see_same_disk(self, folder: Path) -> None:
        """Raise where the processes do not share the disk of a folder."""
        if self.size == 1:
            return
        probe = folder / self.first(lambda: f".shared.{socket.gethostname()}.{os.getpid()}")
        if self.leads:
            probe.touch()
        self.wait()
        self.see(probe.exists, probe)
        self.wait()
        if self.leads:
            probe.unlink()

    def lost(self) -> str:
        """Which processes of this machine have ended; "" if none has. Without communication."""
        ended = [rank for rank, peer in self.peers.items() if has_ended(peer)]
        here = socket.gethostname()
        named = (f"process {r} of {self.size} (pid {self.peers[r].pid} on {here})" for r in ended)
        return " and ".join(named)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within it a lost connection is an error that names the process, as far as it is known."""
        try:
            yield
        except RuntimeError as error:  # torch's own errors of communication are among these
            until, lost = monotonic() + ENDING, self.lost()
            while not lost and monotonic() < until:  # its connection ends before the process
                sleep(0.1)
                lost = self.lost()
            far = f"a process of the {self.size}, on another machine than process {self.rank},"
            raise lost_process(lost or far) from error


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def has_ended(process: "psutil.Process") -> bool:
    """Whether a process has ended, even if its parent has not collected it."""
    import psutil

    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def meet(seat: Place) -> Processes:
    """The processes of a group that is set up.

    Of those on a machine of this name, only those that this process can see are its peers: they
    may be in containers of their own.
    """
    import psutil

    here, this = socket.gethostname(), psutil.Process()
    every = Processes(seat).gather((here, this.pid, this.create_time()))
    log.info("%d processes on %d machines", seat.size, len({machine for machine, _, _ in every}))
    peers = {}
    for rank, (machine, pid, created) in enumerate(every):
        with suppress(psutil.NoSuchProcess):
            if machine == here and rank != seat.rank:
                peer = psutil.Process(pid)
                if peer.create_time() == created:
                    peers[rank] = peer
    return Processes(seat, peers)


ALONE = Processes(Place())


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes of the run, connected; `ALONE` where there is one.

    Each takes a GPU of its own; they communicate by nccl there, by gloo on CPUs.
    """
    this = place()
    if this.size == 1:
        yield ALONE
        return
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    from common.encoder.encoder import pick_device

    kind = pick_device(device).type
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, this.local_size)
    if this.local_size > available:
        raise StrataError(
            f"{this.local_size} processes on this machine: each takes a device of its own, and "
            f"this one sees {available} of {kind}. Start as many as there are, or use device=cpu"
        )
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    fabric = Fabric(
        accelerator=kind,
        devices=this.local_size,
        num_nodes=this.size // this.local_size,
        strategy=DDPStrategy(process_group_backend=backend, timeout=PATIENCE),
    )
    fabric.launch()
    torch.set_num_threads(usable_cores())  # torchrun sets one, Slurm all of the machine's
    yield meet(this)
    torch.distributed.destroy_process_group()
