from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from geometries import WAV2VEC2
from models import noise

from common.records import Corpus, StrataError, Utterance, Waveform
from finetune.ctc.recordings import delete_unused, record
from finetune.pretrain.acoustics import frame_mfcc
from finetune.pretrain.speech import INDEX, PretrainingSpeech, prepare


def corpus(name: str, *reads: Callable[[], Waveform]) -> Corpus:
    utterances = tuple(
        Utterance(f"{name}{k}", "s", "", 16_000, {}, read) for k, read in enumerate(reads)
    )
    return Corpus(name, "all", "none", utterances, {}, f"fingerprint of {name}")


def spoken(n: int, seed: int) -> Callable[[], Waveform]:
    return lambda: noise(n, seed)


def two(folder: Path, **weights: float) -> PretrainingSpeech:
    corpora = {
        "a": corpus("a", spoken(16_000, 1), spoken(48_000, 2)),
        "b": corpus("b", spoken(24_000, 3), spoken(20_001, 4)),
    }
    return prepare(corpora, {"a": 1.0, "b": 1.0} | weights, WAV2VEC2, folder)


def test_what_was_written_is_what_was_spoken(tmp_path: Path) -> None:
    speech = two(tmp_path)
    assert speech.lengths.tolist() == [16_000, 48_000, 24_000, 20_001]
    for u, seed in enumerate((1, 2, 3, 4)):
        waveform = noise(int(speech.lengths[u]), seed)
        assert speech.crop(u, 0, len(waveform)) == pytest.approx(waveform, abs=2 / 2**15)
        rows = speech.first_frame(u, 0) + np.arange(speech.frames[u])
        assert speech.acoustics[rows] == pytest.approx(frame_mfcc(waveform, WAV2VEC2), rel=1e-2)
    assert speech.crop(1, 640, 320) == pytest.approx(noise(48_000, 2)[640:960], abs=2 / 2**15)


def test_normalised_cepstra_have_mean_0_and_deviation_1(tmp_path: Path) -> None:
    speech = two(tmp_path)
    rows = speech.normalised(np.arange(len(speech.units)))
    assert rows.dtype == np.float32
    assert rows.mean(0) == pytest.approx(np.zeros(39), abs=1e-3)
    assert rows.std(0) == pytest.approx(np.ones(39), abs=1e-3)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_each_corpus_gives_its_part_and_each_utterance_by_its_length(
    tmp_path: Path, weight: float
) -> None:
    speech = two(tmp_path, a=weight)
    drawn = speech.draw(20_000, 0, np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / 20_000
    of_a = weight / (weight + 1)
    expected = [of_a / 4, of_a * 3 / 4, (1 - of_a) * 24_000 / 44_001, (1 - of_a) * 20_001 / 44_001]
    assert shares == pytest.approx(expected, abs=0.012)
    assert speech.share.sum() == pytest.approx(1)


def test_a_length_leaves_out_the_shorter_and_those_not_to_be_learnt_from(tmp_path: Path) -> None:
    speech = two(tmp_path)
    rng = np.random.default_rng(0)
    assert set(speech.draw(500, 24_000, rng)) == {1, 2}
    assert set(speech.draw(500, 24_001, rng)) == {1}
    kept = speech.only(np.array([True, False, True, False]))
    assert set(kept.draw(500, 0, rng)) == {0, 2}


def test_a_second_run_reads_no_audio_again(tmp_path: Path) -> None:
    read: list[int] = []

    def counted() -> Waveform:
        read.append(1)
        return noise(16_000)

    one = {"main": corpus("main", counted, counted)}
    prepare(one, {"main": 1.0}, WAV2VEC2, tmp_path)
    prepare(one, {"main": 1.0}, WAV2VEC2, tmp_path)
    assert len(read) == 2
    other = {"main": replace(one["main"], fingerprint="another")}
    prepare(other, {"main": 1.0}, WAV2VEC2, tmp_path)
    assert len(read) == 4
    (tmp_path / INDEX).write_bytes(b"cut short")
    prepare(other, {"main": 1.0}, WAV2VEC2, tmp_path)
    assert len(read) == 6


def test_what_cannot_be_learnt_from_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Waveform:
        raise StrataError("cannot be decoded")

    mixed = {"main": corpus("main", broken, spoken(2000, 0), spoken(16_000, 1))}
    with pytest.raises(StrataError, match="cannot be decoded"):
        prepare(mixed, {"main": 1.0}, WAV2VEC2, tmp_path)
    assert list(tmp_path.iterdir()) == []
    speech = prepare(mixed, {"main": 1.0}, WAV2VEC2, tmp_path, "skip")
    assert speech.lengths.tolist() == [16_000]
    assert "audio could not be read 1" in caplog.text
    assert "shorter than 0.5 s 1" in caplog.text
    with pytest.raises(StrataError, match=r"empty: no utterance of 0.5 s or more"):
        prepare({"empty": corpus("e", spoken(100, 0))}, {"empty": 1.0}, WAV2VEC2, tmp_path)


def test_recordings_that_cannot_be_read_are_an_error_or_have_no_samples(tmp_path: Path) -> None:
    """An error leaves nothing behind that a rerun, the files back in place, would take for all."""
    back = False

    def away() -> Waveform:
        if not back:
            raise StrataError("a.wav: no such file")
        return noise(16_000, 3)

    spoken_of = corpus("main", spoken(16_000, 1), away).utterances
    with pytest.raises(StrataError, match="no such file"):
        record(spoken_of, "f", tmp_path / "train")
    assert list(tmp_path.iterdir()) == []
    assert record(spoken_of, "f", tmp_path / "skipped", "skip").lengths == (16_000, 0)
    back = True
    assert record(spoken_of, "f", tmp_path / "train").lengths == (16_000, 16_000)


def test_jobs_that_need_the_same_recordings_share_one_copy_while_one_needs_it(
    tmp_path: Path,
) -> None:
    read: list[int] = []

    def counted() -> Waveform:
        read.append(1)
        return noise(16_000)

    utterances = corpus("main", counted, spoken(8000, 1)).utterances
    shared, paths = tmp_path / "shared", [tmp_path / f"job{k}" for k in range(3)]
    shared.mkdir()
    one, two = (record(utterances, "f", path, shared=shared) for path in paths[:2])
    assert len(read) == 1
    assert one.lengths == two.lengths == (16_000, 8000)
    assert one.path.samefile(two.path)
    record(utterances[:1], "f", paths[2], shared=shared)  # other ones
    assert len(read) == 2
    assert len(list(shared.iterdir())) == 2
    paths[0].unlink()
    delete_unused(shared)
    assert len(list(shared.iterdir())) == 2
    assert two.read([1])[0] == pytest.approx(noise(8000, 1), abs=1e-4)
    record(utterances, "f", paths[0], shared=shared)
    assert len(read) == 2
    for path in paths:
        path.unlink()
    delete_unused(shared)
    assert list(shared.iterdir()) == []


def test_a_damaged_copy_is_made_anew_and_left_to_those_who_have_it(tmp_path: Path) -> None:
    utterances = corpus("main", spoken(16_000, 1)).utterances
    (shared := tmp_path / "shared").mkdir()
    one = record(utterances, "f", tmp_path / "one", shared=shared)
    with one.path.open("r+b") as file:
        file.write(b"damage")
    two = record(utterances, "f", tmp_path / "two", shared=shared)
    assert not one.path.samefile(two.path)
    assert two.read([0])[0] == pytest.approx(noise(16_000, 1), abs=1e-4)
