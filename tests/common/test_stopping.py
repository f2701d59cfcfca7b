"""Signals that end a run: at once, or when what was done is written down."""

import os
import signal
from collections.abc import Iterator

import pytest

from common import stopping


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    for number in stopping.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_ends_a_run_at_once_with_the_status_of_shells(number: signal.Signals) -> None:
    stopping.handle_signals()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number


def test_what_is_careful_goes_on_until_it_asks() -> None:
    stopping.handle_signals()
    done: list[int] = []

    def work() -> None:
        with stopping.deferred_signals():
            for k in range(9):
                if k == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    os.kill(os.getpid(), signal.SIGTERM)
                done.append(k)
                if k == 5 and stopping.stop_requested():
                    stopping.stop()

    with pytest.raises(SystemExit) as ended:
        work()
    assert (done, ended.value.code) == (list(range(6)), 143)
    with stopping.deferred_signals():
        assert not stopping.stop_requested()  # the next one is asked anew


def test_a_signal_that_nobody_looked_at_ends_the_run_afterwards() -> None:
    stopping.handle_signals()
    done: list[int] = []

    def work() -> None:
        with stopping.deferred_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            done.append(1)

    with pytest.raises(SystemExit):
        work()
    assert done == [1]


def test_other_signal_handlers_are_restored_and_ours_are_removed() -> None:
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    stopping.handle_signals()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a library might
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stopping.restore_handlers()
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGUSR1)


def test_a_worker_process_ignores_the_signals() -> None:
    stopping.ignore_signals()
    for number in stopping.SIGNALS:
        os.kill(os.getpid(), number)
