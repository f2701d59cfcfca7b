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
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance, Waveform
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
    batch_size: int = 1,
    on_error: str = "raise",
    show_progress: bool | None = None,
    failed: dict[Consumer, Exception] | None = None,
    processes: Processes = ALONE,
) -> PassReport:
    """Run every utterance that a consumer needs through the encoder, once.

    Several processes share the utterances. At the end the first one publishes what all have
    collected, and each has the report on all.

    Audio that cannot be read is an error once the rest has been collected and kept, or where
    `on_error` is "skip" left out. Progress in seconds of audio; by default shown only on a
    terminal. A consumer that raises is left out of the rest, and is in `failed` with its exception;
    without `failed`, or where no consumer is left, the exception ends the pass.
    """
    consumers = list(consumers)
    everyone = tuple(consumers)
    for consumer in consumers:
        consumer.divide(processes)
    report = PassReport(resumed=max((c.collected_before() for c in consumers), default=0))
    utterances = processes.first(
        lambda: sorted(
            {u for consumer in consumers for u in consumer.utterances()},
            key=lambda u: (*(consumer.order(u) for consumer in consumers), u),
        )
    )
    mine = utterances[processes.rank :: processes.size]
    total = sum(corpus.utterances[u].n_samples for u in mine) / SAMPLE_RATE
    other_audio: AudioChanged | None = None
    # numpy's idle threads spin, and so do torch's: taking turns, each slows the other tenfold.
    # The collectors use threads of their own instead.
    with (
        deferred_signals(),
        threadpool_limits(1, user_api="blas"),
        Progress(
            "forward pass", round(total), "s of audio", shown=show_progress, bar_format=BAR
        ) as bar,
    ):
        saver = StateSaver(consumers, watch, processes)
        try:
            for items in _windows(corpus, encoder, consumers, mine, watch, report, batch_size):
                for batch in encoder.batches([len(item.audio) for item in items]):
                    _forward([items[i] for i in batch], encoder, consumers, watch, report, failed)
                    bar.update(sum(len(items[i].waveform) for i in batch) / SAMPLE_RATE)
                    saver.save_if_due()
            if processes.size > 1:
                save_states(consumers, watch)  # the others may take long, or fail
        except AudioChanged as error:
            other_audio = error
    report = _merge_reports(report, other_audio, processes)
    _leave_out_everywhere(everyone, consumers, failed, processes)
    if report.unread and on_error == "raise" and processes.size == 1:
        save_states(consumers, watch)
    processes.first(lambda: _check(report, corpus, len(utterances), on_error))
    with watch.stage("storing"):
        _call_each(consumers, failed, lambda consumer: consumer.record_unread(report.unread.keys()))
        if processes.size > 1:
            for consumer in consumers:
                consumer.combine(processes)
        report = processes.first(lambda: _finish(consumers, failed, report))
        _leave_out_everywhere(everyone, consumers, failed, processes)
    return report


@dataclass
class StateSaver:
    """Between batches: saves the state of the pass, and ends it on a signal or a lost process."""

    consumers: Sequence[Consumer]
    watch: Stopwatch
    processes: Processes
    saved_at: float = field(default_factory=monotonic)
    checked_at: float = field(default_factory=monotonic)

    def save_if_due(self) -> None:
        """Save the state if it is time, or if a signal or a lost process ends the pass here."""
        now, lost = monotonic(), ""
        if stop_requested() or now - self.checked_at >= CHECK_EVERY:
            lost, self.checked_at = self.processes.lost(), now
        if lost or stop_requested() or now - self.saved_at >= SAVE_EVERY:
            save_states(self.consumers, self.watch)
            self.saved_at = monotonic()
        if stop_requested():
            if lost:  # torchrun and Slurm send a signal to those that are left
                log.error("%s", lost_process(lost))
            stop()
        if lost:
            raise lost_process(lost)


def _finish(
    consumers: list[Consumer], failed: dict[Consumer, Exception] | None, report: PassReport
) -> PassReport:
    """Publish what was collected; the report with what was dropped."""
    _call_each(consumers, failed, lambda consumer: report.drop(consumer.finish()))
    return report


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


def _leave_out_everywhere(
    everyone: Sequence[Consumer],
    consumers: list[Consumer],
    failed: dict[Consumer, Exception] | None,
    processes: Processes,
) -> None:
    """Leave out in every process the consumers that raised in one."""
    if failed is None:
        return
    mine = {everyone.index(one): f"{type(e).__name__}: {e}" for one, e in failed.items()}
    for rank, theirs in enumerate(processes.gather(mine)):
        for k in theirs.keys() - mine.keys():
            failed[everyone[k]] = StrataError(f"process {rank}: {theirs[k]}")
    consumers[:] = [one for one in consumers if one not in failed]
    if failed and not consumers:
        raise next(iter(failed.values()))


def _check(report: PassReport, corpus: Corpus, utterances: int, on_error: str) -> None:
    """Raise where audio could not be read, unless it may be left out, or where none could."""
    if report.unread and on_error == "raise":
        failures = {corpus.utterances[u].id: why for u, why in report.unread.items()}
        raise UnreadableError(failures, utterances)
    if report.utterances + report.resumed == 0:
        first = f" (the first: {next(iter(report.unread.values()))})" if report.unread else ""
        raise StrataError(
            f"none of {utterances} utterances could be used: "
            + "; ".join(f"{reason}: {count}" for reason, count in report.dropped.items())
            + first
        )


def _call_each(
    consumers: list[Consumer],
    failed: dict[Consumer, Exception] | None,
    call: Callable[[Consumer], None],
) -> None:
    """Call every consumer; one that raises is left out of what follows.

    A full disk, and audio that has changed, end the pass for all of them.
    """
    for consumer in list(consumers):
        try:
            call(consumer)
        except (AudioChanged, OSError):
            raise
        except Exception as error:
            if failed is None:
                raise
            failed[consumer] = error
            consumers.remove(consumer)
            if not consumers:
                raise


def save_states(consumers: Sequence[Consumer], watch: Stopwatch) -> None:
    """Store every consumer's state."""
    with watch.stage("storing"):
        for consumer in consumers:
            consumer.save_state()


def _forward(
    items: Sequence[Item],
    encoder: AnyEncoder,
    consumers: list[Consumer],
    watch: Stopwatch,
    report: PassReport,
    failed: dict[Consumer, Exception] | None,
) -> None:
    """Run one batch; its layers go to the consumers as they are computed."""

    def emit(layer: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
        with watch.stage("collecting"):
            each = zip(items, lengths, strict=True)
            frames = [item.frames(layer, hidden[b, :n]) for b, (item, n) in enumerate(each)]
            _call_each(consumers, failed, lambda consumer: consumer.add(layer, frames))

    with watch.stage("collecting"):
        _call_each(consumers, failed, lambda consumer: consumer.begin(items))
    with watch.stage("forward"):
        only = {name for consumer in consumers for name in consumer.layer_names()}
        if only:
            encoder.run([item.audio for item in items], emit, only)
    with watch.stage("collecting"):
        _call_each(consumers, failed, lambda consumer: consumer.end())
    report.utterances += len(items)
    report.audio_seconds += sum(len(item.waveform) for item in items) / SAMPLE_RATE


def _windows(
    corpus: Corpus,
    encoder: AnyEncoder,
    consumers: Sequence[Consumer],
    utterances: Sequence[int],
    watch: Stopwatch,
    report: PassReport,
    batch_size: int,
) -> Iterator[list[Item]]:
    """Utterances with their waveforms, some batches at a time, the next ones read meanwhile.

    A window never mixes utterances of a different `order`.
    """
    runs = groupby(utterances, key=lambda u: tuple(consumer.order(u) for consumer in consumers))
    size = WINDOW * batch_size
    windows = [window for _, run in runs for window in _chunks(run, size)]
    # A model on the CPU uses all cores itself.
    readers = 1 if encoder.device.type == "cpu" else max(1, min(READERS, usable_cores() - 1))
    reach, asking = reach_of(encoder.layers), tuple(consumers)
    with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:

        def submit(window: Sequence[int]) -> list[Future[Item | StrataError]]:
            return [pool.submit(_read, corpus, u, encoder, reach, asking) for u in window]

        ahead = submit(windows[0]) if windows else []
        for window, following in zip(windows, [*windows[1:], []], strict=True):
            with watch.stage("reading"):
                read = [future.result() for future in ahead]
            ahead = submit(following)
            items = []
            for u, one in zip(window, read, strict=True):
                if isinstance(one, Item):
                    items.append(one)
                else:
                    report.leave_out(u, corpus.utterances[u].id, one)
            yield items


def _chunks(run: Iterator[int], size: int) -> Iterator[list[int]]:
    while chunk := list(islice(run, size)):
        yield chunk


def _read(
    corpus: Corpus, index: int, encoder: AnyEncoder, reach: int, consumers: Sequence[Consumer]
) -> Item | StrataError:
    """An utterance with its waveform and what targets give it, or why it is left out."""
    utterance = corpus.utterances[index]
    try:
        item = _item(index, utterance, _checked(utterance.read(), encoder), reach)
    except StrataError as error:
        return error
    asked = [target for consumer in consumers for target in consumer.targets_of(index)]
    for target in asked:
        with suppress(Exception):  # raised again where a consumer asks for it
            item.values(target)
    return item


def _item(index: int, utterance: Utterance, audio: Waveform, reach: int) -> Item:
    """An utterance of which `audio` was read, with what its last frames see beyond it."""
    before, after = utterance.context
    return Item(index, audio, utterance.id, before, len(audio) - after + min(reach, after))


class LengthError(StrataError):
    """A waveform that the encoder cannot take."""


def _checked(waveform: Waveform, encoder: AnyEncoder) -> Waveform:
    n = len(waveform)
    if n < encoder.min_samples or n > (encoder.max_samples or n):
        raise LengthError(
            f"{n} samples; the model takes {encoder.min_samples} to {encoder.max_samples or 'any'}"
        )
    return waveform
