"""Several processes of one machine that train together: this one is the first of them."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import final

import torch
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from common.config import Config
from common.encoder.encoder import pick_device
from common.records import StrataError

LINGER = 60  # seconds that a process gets to end by itself once the first one has


@final
class Place(ClusterEnvironment):
    """One of `world` processes on this machine, given to Lightning, which starts none itself."""

    def __init__(self, rank: int, world: int, port: int) -> None:
        super().__init__()
        self.rank = rank
        self.world = world
        self.port = port

    @property
    def creates_processes_externally(self) -> bool:
        """The processes are started by `together`."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where the first process listens."""
        return self.port

    @staticmethod
    def detect() -> bool:
        """Not detected: it is passed to Lightning."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self.world

    def set_world_size(self, size: int) -> None:
        """Nothing: it is given."""

    def global_rank(self) -> int:
        """Number of this process."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is given."""

    def local_rank(self) -> int:
        """Number of this process."""
        return self.rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def check_processes(config: Config) -> None:
    """A process for each GPU, or any number of processes on a CPU."""
    count, device = config.finetune.processes, pick_device(config.device).type
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, count)
    if count > available:
        raise StrataError(
            f"finetune.processes={count}: a process takes a device of its own, and there are "
            f"{available} of {device}. Use finetune.processes={available}, or device=cpu"
        )


@contextmanager
def together(world: int, follow: Callable[..., None], *args: object) -> Iterator[Place | None]:
    """The place of this process, the first of `world`; others run `follow(place, ready, *args)`.

    Each calls `ready.send(None)` once it can train. Arguments must be picklable. Processes are
    spawned, not forked: a process that has threads or a GPU cannot be forked. None where there are
    no others.
    """
    if world == 1:
        yield None
        return
    port, threads = find_free_network_port(), torch.get_num_threads()
    others, connections = _others(world, port, follow, args)
    try:
        _start(others, connections)
        yield Place(0, world, port)
        for other in others:
            other.join(LINGER)
    except StrataError:
        raise
    except Exception as error:
        _raise_first_failure(others, error)
        raise
    finally:
        _end(others)
        torch.set_num_threads(threads)  # Lightning divides them


def _others(
    world: int, port: int, follow: Callable[..., None], args: tuple[object, ...]
) -> tuple[list[SpawnProcess], list[Connection]]:
    """Processes, not started yet, and where each says that it is ready."""
    context = multiprocessing.get_context("spawn")
    others, connections = [], []
    for rank in range(1, world):
        connection, ready = context.Pipe(duplex=False)
        arguments = (Place(rank, world, port), ready, *args)
        others.append(context.Process(target=follow, args=arguments, daemon=True))
        connections.append(connection)
    return others, connections


def _start(others: Sequence[SpawnProcess], connections: Sequence[Connection]) -> None:
    """Start them all and wait until they are ready; one that ends before raises."""
    for other in others:
        other.start()
    for rank, (other, connection) in enumerate(zip(others, connections, strict=True), start=1):
        wait([connection, other.sentinel])
        if not _is_ready(connection):
            other.join()
            raise _failed(rank, other.exitcode)


def _is_ready(connection: Connection) -> bool:
    """Whether a process reported that it is ready; the end of a process ends its connection too."""
    try:
        return connection.poll() and connection.recv() is None
    except EOFError:
        return False


def _raise_first_failure(others: Sequence[SpawnProcess], error: Exception) -> None:
    """Where another process failed first, its error is the one to read."""
    for rank, other in enumerate(others, start=1):
        other.join(1)
        if other.exitcode:
            raise _failed(rank, other.exitcode) from error


def _end(others: Sequence[SpawnProcess]) -> None:
    for other in others:
        if other.pid is not None:
            other.kill()
            other.join()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _failed(rank: int, exit_code: int | None) -> StrataError:
    return StrataError(
        f"process {rank} beside this one (finetune.processes) ended with exit code {exit_code}: "
        "its error is above, if it had time for one. The last checkpoint, if there is one, is "
        "sound: the same command with the same hydra.run.dir goes on from it"
    )
