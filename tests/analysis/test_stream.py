"""The forward pass: what it reads, in which order, what it leaves out, and what it forgets."""

import gc
import sys
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import current_thread

import models
import numpy as np
import pytest
import torch

from analysis.forward.consumers import FILTERBANK, Consumer, Item, MomentConsumer
from analysis.forward.stream import WINDOW, UnreadableError, stream
from analysis.sampling.folds import draw_frames
from analysis.targets.base import FrameTarget
from analysis.targets.mel import Mel
from common.cache.cache import Entry
from common.config import SamplingConfig, UnitSampling
from common.encoder.encoder import Encoder, Layer, load_encoder
from common.processes import ALONE, Processes
from common.records import Corpus, StrataError, Utterance, Waveform
from common.timing import Stopwatch

pytestmark = pytest.mark.usefixtures("one_thread")


def unreadable() -> Waveform:
    raise StrataError("u.flac: cannot be decoded")


def utterance(index: int, n: int = 4000) -> Utterance:
    return Utterance(f"u{index}", "s", "", n, {}, lambda: models.noise(n, index))


def corpus_of(utterances: Iterable[Utterance]) -> Corpus:
    return Corpus("toy", "all", "none", tuple(utterances), {}, "fingerprint")


LAYERS = [*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(4))]


class Spy(Consumer):
    """Wants some utterances, perhaps by class, and writes down what it is given."""

    def __init__(
        self, wanted: Sequence[int], classes: int = 1, needed: Sequence[str] = LAYERS
    ) -> None:
        self.wanted, self.classes, self.needed = wanted, classes, needed
        self.batches: list[list[int]] = []
        self.lengths: dict[int, int] = {}
        self.layers: list[str] = []
        self.frames: dict[str, list[tuple[int, ...]]] = {}
        self.open = False
        self.finished = 0
        self.kept = 0
        self.lost: set[int] | None = None

    def utterances(self) -> Iterable[int]:
        return self.wanted

    def layer_names(self) -> Sequence[str]:
        return self.needed

    def targets_of(self, utterance: int) -> Collection[FrameTarget]:
        return [FILTERBANK] if utterance in self.utterances() else []

    def order(self, utterance: int) -> tuple[int, ...]:
        return (utterance % self.classes,)

    def begin(self, items: Sequence[Item]) -> None:
        assert not self.open
        self.open, self.layers = True, []
        self.batches.append([item.index for item in items])
        self.lengths |= {item.index: len(item.waveform) for item in items}

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        assert self.open
        assert len(frames) == len(self.batches[-1])
        self.layers.append(layer.name)
        self.frames.setdefault(layer.name, []).extend(tuple(f.shape) for f in frames)

    def end(self) -> None:
        self.open = False

    def finish(self) -> Mapping[str, int]:
        self.finished += 1
        return {"spy: dropped": 2}

    def save_state(self) -> None:
        self.kept += 1

    def record_unread(self, utterances: Collection[int]) -> None:
        self.lost = set(utterances)

    def collected_before(self) -> int:
        return 0

    def divide(self, processes: Processes) -> None:
        assert processes == ALONE

    def combine(self, processes: Processes) -> None:
        raise AssertionError(f"there is nothing to combine of {processes}")

    @property
    def seen(self) -> list[int]:
        return [u for batch in self.batches for u in batch]


def test_every_layer_of_every_wanted_utterance_comes_once(encoder: Encoder) -> None:
    corpus = corpus_of(utterance(i, 4000 + 500 * (i % 3)) for i in range(12))
    spies = [Spy([0, 2, 5]), Spy([5, 2, 9])]
    watch = Stopwatch()
    report = stream(corpus, encoder, spies, watch)
    names = [layer.name for layer in encoder.layers]
    for spy in spies:
        assert spy.seen == [0, 2, 5, 9]  # one pass for both
        assert spy.layers == names
        assert spy.finished == 1
    assert spies[0].lengths == {0: 4000, 2: 5000, 5: 5000, 9: 4000}
    for layer in encoder.layers:
        expected = [(layer.geometry.n_frames(n), layer.dim) for n in (4000, 5000, 5000, 4000)]
        assert spies[0].frames[layer.name] == expected
    assert report.utterances == 4
    assert report.audio_seconds == pytest.approx(18_000 / 16_000)
    assert report.dropped == {"spy: dropped": 4}
    assert set(watch.seconds) == {"reading", "forward", "collecting", "storing"}


@pytest.mark.parametrize("needed", [["T1", "C2"], []], ids=["two layers", "none"])
def test_the_model_computes_only_the_layers_that_a_consumer_needs(
    needed: list[str], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(map(utterance, range(6)))
    runs: list[int] = []
    run = Encoder.run
    monkeypatch.setattr(Encoder, "run", lambda *given: runs.append(1) or run(*given))
    spies = [Spy([0, 2], needed=needed[:1]), Spy([2, 5], needed=needed[1:])]
    report = stream(corpus, encoder, spies, Stopwatch())
    assert report.utterances == 3
    assert [set(spy.frames) for spy in spies] == [set(needed)] * 2
    assert len(runs) == (3 if needed else 0)


def test_utterances_that_a_consumer_wants_apart_are_not_mixed(checkpoint: Path) -> None:
    encoder = load_encoder(models.configured(checkpoint, batch_size=4), "cpu")
    spy = Spy(range(20), classes=3)
    stream(corpus_of(map(utterance, range(20))), encoder, [spy], Stopwatch())
    assert max(len(batch) for batch in spy.batches) == 4
    classes = [{u % 3 for u in batch} for batch in spy.batches]
    assert all(len(members) == 1 for members in classes)
    assert [min(members) for members in classes] == sorted(min(members) for members in classes)
    assert sorted(spy.seen) == list(range(20))


def test_two_consumers_each_get_their_classes_in_batches_of_one_class(checkpoint: Path) -> None:
    encoder = load_encoder(models.configured(checkpoint, batch_size=4), "cpu")
    two, three = Spy(range(24), classes=2), Spy(range(24), classes=3)
    stream(corpus_of(map(utterance, range(24))), encoder, [two, three], Stopwatch())
    assert all(len({(u % 2, u % 3) for u in batch}) == 1 for batch in two.batches)
    assert two.batches == three.batches


def test_a_batch_holds_utterances_of_one_length(checkpoint: Path) -> None:
    encoder = load_encoder(models.configured(checkpoint, batch_size=4), "cpu")
    spy = Spy(range(16))
    corpus = corpus_of(utterance(i, 4000 + 700 * (i % 2)) for i in range(16))
    stream(corpus, encoder, [spy], Stopwatch())
    assert [len(batch) for batch in spy.batches] == [4] * 4
    assert all(len({spy.lengths[u] for u in batch}) == 1 for batch in spy.batches)


def test_what_cannot_be_used_is_counted_and_the_others_go_on(
    encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    good = [utterance(i) for i in range(6)]
    broken = [Utterance(f"bad{i}", "s", "", 4000, {}, unreadable) for i in range(2)]
    spy = Spy(range(9))
    report = stream(
        corpus_of([*good[:3], *broken, utterance(5, 399), *good[3:]]),
        encoder,
        [spy],
        Stopwatch(),
        on_error="skip",
    )
    assert (spy.finished, spy.kept, spy.lost) == (1, 0, {3, 4})
    assert report.unread == dict.fromkeys((3, 4), "u.flac: cannot be decoded")
    assert spy.seen == [0, 1, 2, 6, 7, 8]
    assert report.utterances == 6
    assert report.dropped == {
        "utterance: audio could not be read": 2,
        "utterance: too short or too long for the model": 1,
        "spy: dropped": 2,
    }
    assert "dropping utterance bad0: u.flac: cannot be decoded" in caplog.text
    assert "399 samples; the model takes 400 to any" in caplog.text


def test_audio_longer_than_a_model_takes_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whisper = load_encoder(models.configured(models.save("whisper", tmp_path)), "cpu")
    assert whisper.max_samples == 32_000
    spy = Spy(range(3), needed=["T1"])
    corpus = corpus_of([utterance(0, 32_000), utterance(1, 32_001), utterance(2, 8000)])
    report = stream(corpus, whisper, [spy], Stopwatch())
    assert spy.seen == [0, 2]
    assert report.dropped["utterance: too short or too long for the model"] == 1
    assert "to 32000" in caplog.text


def test_no_usable_utterance_is_an_error_that_says_why(encoder: Encoder) -> None:
    broken = [Utterance(f"bad{i}", "s", "", 4000, {}, unreadable) for i in range(3)]
    spy = Spy(range(4))
    with pytest.raises(
        StrataError, match=r"none of 4 utterances could be used.*could not be read: 3.*too short"
    ):
        stream(corpus_of([*broken, utterance(3, 10)]), encoder, [spy], Stopwatch(), on_error="skip")
    assert spy.finished == 0  # nothing half done is stored


def test_unreadable_files_are_an_error_after_the_rest_is_collected_and_kept(
    encoder: Encoder,
) -> None:
    broken = [Utterance(f"bad{i}", "s", "", 4000, {}, unreadable) for i in range(12)]
    spy = Spy(range(15))
    with pytest.raises(UnreadableError, match=r"^12 of 15 .*bad0: u.flac.*bad9: .*; and 2 more"):
        stream(corpus_of([*broken, *map(utterance, range(12, 15))]), encoder, [spy], Stopwatch())
    assert spy.seen == [12, 13, 14]
    assert (spy.kept, spy.finished) == (1, 0)


def test_a_pass_writes_down_how_far_it_is(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.forward.stream.SAVE_EVERY", 0.0)
    spy = Spy(range(4))
    stream(corpus_of(map(utterance, range(4))), encoder, [spy], Stopwatch())
    assert spy.kept == 4


def test_a_bug_in_reading_is_not_taken_for_a_bad_file(encoder: Encoder) -> None:
    def bug() -> Waveform:
        raise TypeError("not the file's fault")

    corpus = corpus_of([utterance(0), Utterance("u1", "s", "", 4000, {}, bug)])
    with pytest.raises(TypeError, match="not the file's fault"):
        stream(corpus, encoder, [Spy(range(2))], Stopwatch())


def test_progress_is_a_bar_on_a_terminal_alone(
    encoder: Encoder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(map(utterance, range(4)))
    stream(corpus, encoder, [Spy(range(4))], Stopwatch())
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    stream(corpus, encoder, [Spy(range(4))], Stopwatch())
    assert "s of audio" in capsys.readouterr().err


# Memory


class Watcher(Spy):
    """Holds weak references to what passes by, and counts what is alive when more comes."""

    def __init__(self, wanted: Sequence[int]) -> None:
        super().__init__(wanted)
        self.passed: list[weakref.ref[torch.Tensor]] = []
        self.alive: list[int] = []
        self.bytes: list[int] = []

    def begin(self, items: Sequence[Item]) -> None:
        super().begin(items)
        gc.collect()
        self.alive.append(sum(ref() is not None for ref in self.passed))
        storages = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in gc.get_objects()
            if type(one) is torch.Tensor
        }
        self.bytes.append(sum(storages.values()))

    def add(self, layer: Layer, frames: Sequence[torch.Tensor]) -> None:
        super().add(layer, frames)
        self.passed += [weakref.ref(f) for f in frames]


@pytest.fixture
def only_new_objects(encoder: Encoder) -> None:
    """Let the collector pass over all that was there before: it would take half a second a time."""
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("only_new_objects")
def test_frames_are_forgotten_and_memory_does_not_grow_with_utterances(
    encoder: Encoder, tmp_path: Path
) -> None:
    n = 5 * WINDOW
    corpus = corpus_of(map(utterance, range(n)))
    samples = draw_frames(corpus, UnitSampling(utterances=n), SamplingConfig(samples=1), "frame", 0)
    crosses = [(layer.name, "mel") for layer in encoder.layers]
    real = MomentConsumer(samples, Entry(tmp_path), encoder.layers, crosses, encoder.device)
    watcher = Watcher(range(n))
    stream(corpus, encoder, [watcher, real], Stopwatch())
    assert len(watcher.passed) == n * len(encoder.layers)
    assert watcher.alive == [0] * n
    # The first utterance leaves each view's shift behind, and every utterance the order of its
    # rows, replaced by the next; after that there are only the filterbanks of utterances that are
    # read ahead, of two windows at most. What the reading thread has in hand comes and goes: the
    # least of many counts is without it.
    one = FILTERBANK.frames(corpus.utterances[0].read(), "u0").nbytes
    early, late = watcher.bytes[2 : n // 2], watcher.bytes[n // 2 :]
    assert min(late) - min(early) <= 2 * WINDOW * one


def test_waveforms_are_read_a_few_windows_ahead_not_all(encoder: Encoder) -> None:
    n = 6 * WINDOW
    alive: list[int] = []
    read: list[weakref.ref[Waveform]] = []

    def reading(index: int) -> Utterance:
        def one() -> Waveform:
            waveform = np.array(models.noise(1000, index))
            read.append(weakref.ref(waveform))
            alive.append(sum(ref() is not None for ref in read))
            return waveform

        return Utterance(f"u{index}", "s", "", 1000, {}, one)

    stream(corpus_of(map(reading, range(n))), encoder, [Spy(range(n))], Stopwatch())
    assert len(alive) == n
    assert max(alive) <= 3 * WINDOW  # one in use, one waiting, one being read


def test_targets_are_computed_once_and_on_the_thread_that_reads(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def recorded_frames(target: Mel, waveform: Waveform, utterance: str) -> torch.Tensor:
        threads.append(current_thread().name)
        return compute(target, waveform, utterance)

    compute = Mel.frames
    monkeypatch.setattr(Mel, "frames", recorded_frames)
    corpus = corpus_of(map(utterance, range(6)))
    samples = draw_frames(corpus, UnitSampling(utterances=6), SamplingConfig(samples=1), "frame", 0)
    entries = [Entry(tmp_path / name) for name in "ab"]
    for entry in entries:
        entry.folder.mkdir()
    crosses = [("T1", "mel")]
    real = [MomentConsumer(samples, e, encoder.layers, crosses, encoder.device) for e in entries]
    stream(corpus, encoder, real, Stopwatch())
    assert len(threads) == 6
    assert all(name.startswith("read") for name in threads)
