"""Several processes of one machine that train together: this one is the first of them."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import final

import torch
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from common.config import Config
from common.encoder import pick_device
from common.records import StrataError

LINGER = 60  # seconds that a process gets to end by itself once the first one has


@final
class Place(ClusterEnvironment):
    """One of `world` processes on this machine, told to Lightning, which starts none itself."""

    def __init__(self, rank: int, world: int, port: int) -> None:
        super().__init__()
        self.rank = rank
        self.world = world
        self.port = port

    @property
    def creates_processes_externally(self) -> bool:
        """They are there already."""
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
        """Never found by itself: it is given."""
        return False

    def world_size(self) -> int:
        """How many processes."""
        return self.world

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        """Which one this is."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """Which one this is."""
        return self.rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def check_processes(config: Config) -> None:
    """A process each for so many GPUs, or any number on a CPU."""
    count, device = config.finetune.processes, pick_device(config.device).type
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, count)
    if count > there:
        raise StrataError(
            f"finetune.processes={count}: a process takes a device of its own, and there are "
            f"{there} of {device}. Use finetune.processes={there}, or device=cpu"
        )


@contextmanager
def together(world: int, follow: Callable[..., None], *args: object) -> Iterator[Place | None]:
    """The place of this process, the first of `world`; the others run `follow(place, *args)`.

    What they get must be picklable. They are started anew instead of forked: a process that has
    threads or a GPU cannot be forked. None where there are no others.
    """
    if world == 1:
        yield None
        return
    port, threads = find_free_network_port(), torch.get_num_threads()
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=follow, args=(Place(rank, world, port), *args), daemon=True)
        for rank in range(1, world)
    ]
    for other in others:
        other.start()
    try:
        yield Place(0, world, port)
        for other in others:
            other.join(LINGER)
    except StrataError:
        raise
    except Exception as error:
        _tell_failure(others, error)
        raise
    finally:
        for other in others:
            other.kill()
            other.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)  # Lightning divides them


def _tell_failure(others: Sequence[BaseProcess], error: Exception) -> None:
    """Where another process failed first, its error is the one to read."""
    for rank, other in enumerate(others, start=1):
        other.join(1)  # the first process hears of it at once
        if other.exitcode:
            raise StrataError(
                f"process {rank} of finetune.processes={len(others) + 1} ended with exit code "
                f"{other.exitcode}: its error is above, if it had time for one. The last "
                "checkpoint is sound: the same command with the same hydra.run.dir goes on from it"
            ) from error
