"""How far a long stage is: a bar on a terminal, elsewhere a line in the log each minute."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, final

from tqdm import tqdm

T = TypeVar("T")

EVERY = 60.0  # seconds between two lines in the log

log = logging.getLogger(__name__)


@final
class Progress:
    """A stage of `total` units (None: not known), `initial` of them done already.

    `update` as they are done, between `with`'s begin and end. On a terminal that is a bar. A pipe,
    a file or a queue's log has no use for one: there a line each minute says what is done, also
    while a single unit takes longer than that, and none comes before the first minute has passed.
    `shown`: whether there is a bar, whatever the terminal.
    """

    def __init__(
        self,
        stage: str,
        total: float | None,
        unit: str,
        initial: float = 0,
        *,
        shown: bool | None = None,
        **bar: Any,
    ) -> None:
        self.stage = stage
        self.total = total
        self.unit = unit
        self.initial = initial
        self.done = initial
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._bar: dict[str, Any] = {"unit": f" {unit}", **bar}
        self._ended = Event()

    def __enter__(self) -> Self:
        self._began = monotonic()
        self._terminal: tqdm[Any] = tqdm(
            desc=self.stage,
            total=self.total,
            initial=self.initial,
            disable=not self._shown,
            **self._bar,
        )
        if not self._shown:
            self._lines = Thread(target=self._write_lines, name="progress", daemon=True)
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._terminal.close()
        if not self._shown:
            self._lines.join()

    def update(self, n: float = 1) -> None:
        """`n` more units are done."""
        self.done += n
        self._terminal.update(n)

    def _write_lines(self) -> None:
        while not self._ended.wait(EVERY):
            log.info("%s", self.line(monotonic() - self._began))

    def line(self, seconds: float) -> str:
        """Forward pass: 600 of 2400 s of audio (25 %) in 3 min, about 9 min left."""
        took = f"in {_minutes(seconds)}"
        if not self.total:
            return f"{self.stage}: {self.done:.0f} {self.unit} {took}"
        share = self.done / self.total
        text = f"{self.stage}: {self.done:.0f} of {self.total:.0f} {self.unit} ({share:.0%}) {took}"
        done = self.done - self.initial
        if done <= 0:
            return text
        return f"{text}, about {_minutes(seconds * (self.total - self.done) / done)} left"


def _minutes(seconds: float) -> str:
    """As "3 min", or "1 h 5 min"."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def progress(items: Iterable[T], stage: str, unit: str) -> Iterator[T]:
    """The items, one after another, with the progress of what is done with them."""
    total = len(items) if isinstance(items, Sized) else None
    with Progress(stage, total, unit) as so_far:
        for item in items:
            yield item
            so_far.update()
