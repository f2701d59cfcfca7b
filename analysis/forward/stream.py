"""The forward pass: every layer's frames of each utterance go to the consumers."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from time import monotonic

import torch
from threadpoolctl import threadpool_limits

from analysis.forward.consumers import AudioChanged, Consumer, Item
from analysis.forward.pooling import reach_of
from common.cores import usable_cores
from common.encoder.architecture import Layer
from common.encoder.encoder import Encoder
from common.encoder.pair import EncoderPair
from common.processes import ALONE, Processes, lost_process
from common.progress import Progress
from common.records import SAMPLE_RATE, Corpus, StrataError
from common.stopping import deferred_signals, stop, stop_requested
from common.timing import Stopwatch

log = logging.getLogger(__name__)

AnyEncoder = Encoder | EncoderPair

BAR = (
    "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio "
    "[{elapsed}<{remaining}, {rate_noinv_fmt}]"
)
READERS = 4  # threads that read audio and compute targets beside a model on a GPU
WINDOW = 8  # batches read ahead, and sorted by length
SAVE_EVERY = 120.0  # seconds between saves of the state of a pass
CHECK_EVERY = 1.0  # seconds between checks that the other processes of a machine are alive
UNREAD = "utterance: audio could not be read"
NAMED = 10  # unreadable files that an error names


class UnreadableError(StrataError):
    """Utterances of a pass could not be read; the statistics of the others are kept."""

    def __init__(self, failures: Mapping[str, str], total: int) -> None:
        named = "; ".join(f"{id}: {why}" for id, why in list(failures.items())[:NAMED])
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        super().__init__(
            f"{len(failures)} of {total} utterances could not be read: {named}{more}. Repair the "
            "files, or the paths to them, and run again: what was computed of the others is kept "
            "(with cache=on). Or leave them out (every result is marked then): on_error=skip"
        )


class LengthError(StrataError):
    """A waveform that the encoder cannot take."""


@dataclass
class PassReport:
    """What a forward pass did: utterances and seconds of audio, and what it dropped by reason.

    `resumed` utterances were collected by an earlier pass that did not end. `unread`: utterances
    that could not be read, by their number in the pass, and why.
    """

    utterances: int = 0
    audio_seconds: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    unread: dict[int, str] = field(default_factory=dict)

    def drop(self, counts: Mapping[str, int]) -> None:
        """Count what was left out."""
        for reason, count in counts.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def leave_out(self, index: int, id: str, error: StrataError) -> None:
        """Count and log an utterance that the model cannot take or that could not be read."""
        reason = "utterance: too short or too long for the model"
        if not isinstance(error, LengthError):
            reason = UNREAD
            self.unread[index] = str(error)
        log.warning("dropping utterance %s: %s", id, error)
        self.drop({reason: 1})


@torch.inference_mode()
def stream(
    corpus: Corpus,
    encoder: AnyEncoder,
    consumers: Sequence[Consumer],
    watch: Stopwatch,
    on_error: str = "raise",
    failed: dict[Consumer, Exception] | None = None,
    processes: Processes = ALONE,
) -> PassReport:
    """Run every utterance that a consumer needs through the encoder, once.

    Several processes share the utterances. At the end the first one publishes what all have
    collected, and each has the report on all.

    Audio that cannot be read is an error once the rest has been collected and kept, or where
    `on_error` is "skip" left out. A consumer that raises is left out of the rest, and is in
    `failed` with its exception; without `failed`, or where no consumer is left, the exception ends
    the pass.
    """
    for consumer in consumers:
        consumer.divide(processes)
    resumed = max((c.collected_before() for c in consumers), default=0)
    report = PassReport(resumed=resumed)
    one = Pass(corpus, encoder, tuple(consumers), watch, failed, processes, report)
    utterances = processes.first(lambda: sorted(one.needed(), key=lambda u: (*one.order(u), u)))
    other_audio: AudioChanged | None = None
    # numpy's idle threads spin, and so do torch's: taking turns, each slows the other tenfold.
    # The collectors use threads of their own instead.
    with deferred_signals(), threadpool_limits(1, user_api="blas"):
        try:
            one.run(utterances[processes.rank :: processes.size])
            if processes.size > 1:
                one.save_states()  # the others may take long, or fail
        except AudioChanged as error:
            other_audio = error
    one.report = _merge_reports(one.report, other_audio, processes)
    one.leave_out_everywhere()
    if one.report.unread and on_error == "raise" and processes.size == 1:
        one.save_states()
    processes.first(lambda: one.check(len(utterances), on_error))
    with watch.stage("storing"):
        one.call_each(lambda consumer: consumer.record_unread(one.report.unread.keys()))
        if processes.size > 1:
            for consumer in one.consumers:
                consumer.combine(processes)
        one.report = processes.first(one.finished)
        one.leave_out_everywhere()
    return one.report


@dataclass
class Pass:
    """A pass in one process: `everyone` are its consumers, `report` is what it did so far.

    `failed`: see `stream`.
    """

    corpus: Corpus
    encoder: AnyEncoder
    everyone: Sequence[Consumer]
    watch: Stopwatch
    failed: dict[Consumer, Exception] | None
    processes: Processes
    report: PassReport
    saved_at: float = field(default_factory=monotonic)
    checked_at: float = field(default_factory=monotonic)

    @property
    def consumers(self) -> list[Consumer]:
        """Those that have not raised."""
        return [one for one in self.everyone if one not in (self.failed or ())]

    def needed(self) -> set[int]:
        """Utterances that a consumer needs."""
        return {u for consumer in self.consumers for u in consumer.utterances()}

    def order(self, utterance: int) -> tuple[tuple[int, ...], ...]:
        """By which utterances are sorted; a window never mixes those of a different order."""
        return tuple(consumer.order(utterance) for consumer in self.everyone)

    def run(self, utterances: Sequence[int]) -> None:
        """Encode these utterances; their layers go to the consumers as they are computed."""
        total = sum(self.corpus.utterances[u].n_samples for u in utterances) / SAMPLE_RATE
        with Progress("forward pass", round(total), "s of audio", bar_format=BAR) as bar:
            for items in self.windows(utterances):
                for batch in self.encoder.batches([len(item.audio) for item in items]):
                    self.forward([items[i] for i in batch])
                    bar.update(sum(len(items[i].waveform) for i in batch) / SAMPLE_RATE)
                    self.save_if_due()

    def windows(self, utterances: Sequence[int]) -> Iterator[list[Item]]:
        """Utterances with their waveforms, some batches at a time, the next ones read meanwhile."""
        size = WINDOW * self.encoder.batch_size
        windows = [
            window
            for _, run in groupby(utterances, key=self.order)
            for window in _chunks(run, size)
        ]
        # A model on the CPU uses all cores itself.
        on_cpu = self.encoder.device.type == "cpu"
        readers = 1 if on_cpu else max(1, min(READERS, usable_cores() - 1))
        reach, asking = reach_of(self.encoder.layers), tuple(self.consumers)
        with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:

            def submit(window: Sequence[int]) -> list[Future[Item | StrataError]]:
                return [
                    pool.submit(_read, self.corpus, u, self.encoder, reach, asking) for u in window
                ]

            ahead = submit(windows[0]) if windows else []
            for window, following in zip(windows, [*windows[1:], []], strict=True):
                with self.watch.stage("reading"):
                    read = [future.result() for future in ahead]
                ahead = submit(following)
                items = []
                for u, one in zip(window, read, strict=True):
                    if isinstance(one, Item):
                        items.append(one)
                    else:
                        self.report.leave_out(u, self.corpus.utterances[u].id, one)
                yield items

    def forward(self, items: Sequence[Item]) -> None:
        """Run one batch."""

        def emit(layer: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
            with self.watch.stage("collecting"):
                each = zip(items, lengths, strict=True)
                frames = [item.frames(layer, hidden[b, :n]) for b, (item, n) in enumerate(each)]
                self.call_each(lambda consumer: consumer.add(layer, frames))

        with self.watch.stage("collecting"):
            self.call_each(lambda consumer: consumer.begin(items))
        with self.watch.stage("forward"):
            only = {name for consumer in self.consumers for name in consumer.layer_names()}
            if only:
                self.encoder.run([item.audio for item in items], emit, only)
        with self.watch.stage("collecting"):
            self.call_each(lambda consumer: consumer.end())
        self.report.utterances += len(items)
        self.report.audio_seconds += sum(len(item.waveform) for item in items) / SAMPLE_RATE

    def call_each(self, call: Callable[[Consumer], None]) -> None:
        """Call every consumer; one that raises is left out of what follows.

        A full disk, and audio that has changed, end the pass for all of them.
        """
        for consumer in self.consumers:
            try:
                call(consumer)
            except (AudioChanged, OSError):
                raise
            except Exception as error:
                if self.failed is None:
                    raise
                self.failed[consumer] = error
                if not self.consumers:
                    raise

    def leave_out_everywhere(self) -> None:
        """Leave out in every process the consumers that raised in one."""
        if self.failed is None:
            return
        mine = {self.everyone.index(c): f"{type(e).__name__}: {e}" for c, e in self.failed.items()}
        for rank, theirs in enumerate(self.processes.gather(mine)):
            for k in theirs.keys() - mine.keys():
                self.failed[self.everyone[k]] = StrataError(f"process {rank}: {theirs[k]}")
        if self.failed and not self.consumers:
            raise next(iter(self.failed.values()))

    def save_if_due(self) -> None:
        """Between batches: save the state if it is time; end on a signal or a lost process."""
        now, lost = monotonic(), ""
        if stop_requested() or now - self.checked_at >= CHECK_EVERY:
            lost, self.checked_at = self.processes.lost(), now
        if lost or stop_requested() or now - self.saved_at >= SAVE_EVERY:
            self.save_states()
            self.saved_at = monotonic()
        if stop_requested():
            if lost:  # torchrun and Slurm send a signal to those that are left
                log.error("%s", lost_process(lost))
            stop()
        if lost:
            raise lost_process(lost)

    def save_states(self) -> None:
        """Store every consumer's state."""
        with self.watch.stage("storing"):
            for consumer in self.consumers:
                consumer.save_state()

    def check(self, utterances: int, on_error: str) -> None:
        """Raise where audio could not be read, unless it may be left out, or where none could."""
        report = self.report
        if report.unread and on_error == "raise":
            failures = {self.corpus.utterances[u].id: why for u, why in report.unread.items()}
            raise UnreadableError(failures, utterances)
        if report.utterances + report.resumed == 0:
            first = f" (the first: {next(iter(report.unread.values()))})" if report.unread else ""
            raise StrataError(
                f"none of {utterances} utterances could be used: "
                + "; ".join(f"{reason}: {count}" for reason, count in report.dropped.items())
                + first
            )

    def finished(self) -> PassReport:
        """Publish what was collected; the report with what was dropped."""
        self.call_each(lambda consumer: self.report.drop(consumer.finish()))
        return self.report


def _merge_reports(
    report: PassReport, other_audio: AudioChanged | None, processes: Processes
) -> PassReport:
    """The report on what all processes did; raises if one of them read other audio."""
    merged = PassReport(resumed=report.resumed)
    for one, other in processes.gather((report, other_audio)):
        if other is not None:
            raise other
        merged.utterances += one.utterances
        merged.audio_seconds += one.audio_seconds
        merged.drop(one.dropped)
        merged.unread |= one.unread
    return merged


def _chunks(run: Iterator[int], size: int) -> Iterator[list[int]]:
    while chunk := list(islice(run, size)):
        yield chunk


def _read(
    corpus: Corpus, index: int, encoder: AnyEncoder, reach: int, consumers: Sequence[Consumer]
) -> Item | StrataError:
    """An utterance with its waveform and what targets give it, or why it is left out.

    The last frames of a window of a long recording see up to `reach` samples beyond it.
    """
    utterance = corpus.utterances[index]
    try:
        audio = utterance.read()
    except StrataError as error:
        return error
    n = len(audio)
    if n < encoder.min_samples or n > (encoder.max_samples or n):
        return LengthError(
            f"{n} samples; the model takes {encoder.min_samples} to {encoder.max_samples or 'any'}"
        )
    before, after = utterance.context
    item = Item(index, audio, utterance.id, before, n - after + min(reach, after))
    asked = [target for consumer in consumers for target in consumer.targets_of(index)]
    for target in asked:
        with suppress(Exception):  # raised again where a consumer asks for it
            item.values(target)
    return item
