"""SIGTERM, and the SIGUSR1 that Slurm can send before a time limit: a run ends without loss."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, final

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(SystemExit):  # it is no error, but an end that was asked for
    """The end that a signal asked for, with the exit status of shells: 128 + number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@final
class _Signals:
    """Which signal came, and whether code is running that will stop by itself."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False

    def handle(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.deferred:
            log.warning("%s: ending at once", name)
            raise Stopped(number)
        log.warning("%s: ending as soon as what was done is written down", name)
        self.received = number


_signals = _Signals()
_handlers: dict[int, Any] = {}


def handle_signals() -> None:
    """Handle both signals, unless something else does, such as a launcher that requeues jobs."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _signals.handle)
            _handlers[number] = signal.getsignal(number)


def restore_handlers() -> None:
    """Restore the handlers that a library has replaced."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in _handlers.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """For worker processes: the leading one handles the signals and decides for all."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """In the body a signal only sets `received`; the code in it calls `stop` when it can."""
    _signals.deferred, _signals.received = True, None
    try:
        yield
    finally:
        _signals.deferred = False
    if _signals.received is not None:  # it came too late to be handled in the body
        stop()


def stop_requested() -> bool:
    """Whether a signal came that is to end the run."""
    return _signals.received is not None


def stop() -> NoReturn:
    """End the run: what was done is written down."""
    number = _signals.received or signal.SIGTERM
    log.warning(
        "stopped by %s: the same command (of a training with hydra.run.dir= of this run) goes on",
        signal.Signals(number).name,
    )
    raise Stopped(number)
