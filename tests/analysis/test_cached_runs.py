"""The cache from run to run: off, anew, listed, deleted, and after a job that was killed."""

import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from marks import slow
from running import ROOT, Finished, execute, forked, textgrids

from analysis.metrics.cca import PWCCA
from analysis.studies.provide import VERSIONS
from common import audio
from common.metric import Score
from common.records import StrataError, Waveform


@pytest.fixture(scope="module")
def uncached(common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run beside a folder for a cache that it is not to use."""
    folder = tmp_path_factory.mktemp("uncached")
    cache = f"paths.cache={folder / 'cache'}"
    return execute(folder / "run", "experiment=cca_phone", *common, cache, "cache=off")


@pytest.fixture(scope="module")
def whole(
    uncached: Finished, common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Finished]:
    """Runs of the kinds of experiment that nothing disturbs, each made once."""
    runs = {"cca_phone": uncached}

    def run(experiment: str) -> Finished:
        if experiment not in runs:
            folder = tmp_path_factory.mktemp("whole")
            cache = f"paths.cache={folder / 'cache'}"
            runs[experiment] = execute(folder / "run", f"experiment={experiment}", *common, cache)
        return runs[experiment]

    return run


def test_cache_off_stores_nothing_and_refresh_computes_anew(
    uncached: Finished, common: tuple[str, ...], tmp_path: Path
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    assert uncached.passed
    assert not (uncached.folder.parent / "cache").exists()
    assert [p.name for p in uncached.folder.iterdir() if p.name.startswith(".")] == []
    on = execute(tmp_path / "on", *phone)
    (stored,) = (tmp_path / "cache").glob("vectors/*/T1.npy")
    before = stored.stat().st_mtime_ns
    refreshed = execute(tmp_path / "refreshed", *phone, "cache=refresh")
    assert refreshed.passed
    assert stored.stat().st_mtime_ns > before
    expected = uncached.curve("cca_phone")
    assert on.curve("cca_phone") == refreshed.curve("cca_phone") == expected


def test_the_cache_is_listed_and_deleted_only_when_asked(
    common: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "cache"
    at = f"paths.cache={root}"
    phone = ["experiment=cca_phone", *common, at]

    def listed(*overrides: str) -> str:
        capsys.readouterr()
        execute(tmp_path / "list", "experiment=cache", at, *overrides)
        return capsys.readouterr().out

    assert "0 entries" in listed()
    execute(tmp_path / "old", *phone)
    with monkeypatch.context() as patch:
        patch.setitem(VERSIONS["vectors"], "pooling", 99)  # as if pooling meant something else
        newer = execute(tmp_path / "newer", *phone)
        assert newer.passed
        text = listed()
        assert "2 entries" in text
        assert (text.count("stale"), text.count("current")) == (1, 1)
        assert len(list(root.glob("vectors/*/T0.npy"))) == 2
        assert "deleted stale" in listed("clear=stale")
        (kept,) = root.glob("vectors/*/T0.npy")
        assert not execute(tmp_path / "again", *phone).passed
    assert json.loads((kept.parent / "key.json").read_text())["versions"]["pooling"] == 99
    assert "0 entries, 0.0 MB" in listed("clear=all")
    assert list(root.glob("*/*")) == []


# Runs run.py as the command line does, up to an utterance, writing down how far it is after each.
KILLED = """
import os, runpy, signal, sys
from analysis.forward import stream
from analysis.forward.{module} import {consumer} as Consumer
stream.SAVE_EVERY = {every}
ends = iter(range(100))
Consumer.end = lambda self, end=Consumer.end: (
    end(self), next(ends) < {after} or os.kill(os.getpid(), signal.{how}))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CONSUMERS = {
    "cca_phone": ("consumers", "VectorConsumer"),
    "cca_mel": ("consumers", "MomentConsumer"),
    "word_discrimination_dtw": ("consumers", "FrameConsumer"),
}
ONE_IN_SHORT = ["cca_phone", *map(slow, ("cca_mel", "word_discrimination_dtw"))]


def kill(
    experiment: str,
    after: int,
    folder: Path,
    *overrides: str,
    every: float = 0.0,
    how: str = "SIGKILL",
    status: int = -signal.SIGKILL,
) -> None:
    module, consumer = CONSUMERS[experiment]
    code = KILLED.format(module=module, consumer=consumer, after=after, every=every, how=how)
    at = f"hydra.run.dir={folder}"
    done = forked("-c", code, str(ROOT / "run.py"), f"experiment={experiment}", *overrides, at)
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", slow("SIGUSR1")])
def test_a_pass_ended_by_a_signal_keeps_what_it_collected(
    name: str, common: tuple[str, ...], tmp_path: Path
) -> None:
    """Slurm sends one of the two before a time limit; the status is the one that shells give."""
    overrides = [*common, f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}"]
    status = 128 + signal.Signals[name]
    folder = tmp_path / "runs/a/b/stopped"
    kill("cca_phone", 9, folder, *overrides, every=1e9, how=name, status=status)
    log_text = (folder / "run.log").read_text()
    assert f"{name}: ending as soon as what was done is written down" in log_text
    assert not list(folder.glob(".statistics-*"))
    again = execute(tmp_path / "again", "experiment=cca_phone", *overrides)
    assert again.metadata["forward_pass"]["resumed"] == 10


@pytest.mark.parametrize("experiment", ONE_IN_SHORT)
def test_a_killed_pass_goes_on_where_it_was_and_gives_the_same_bits(
    experiment: str, whole: Callable[[str], Finished], common: tuple[str, ...], tmp_path: Path
) -> None:
    runs = f"paths.runs={tmp_path / 'runs'}"
    killed = [*common, f"paths.cache={tmp_path / 'cache'}", runs]
    kill(experiment, 9, tmp_path / "runs/a/b/killed", *killed)
    (entry,) = (tmp_path / "cache").glob("*/*")
    assert list(entry.glob(".part.*"))
    assert not list(entry.glob("*.sum"))  # nothing that another run would believe
    assert list((tmp_path / "runs/a/b/killed").glob(".statistics-*"))
    again = execute(tmp_path / "again", f"experiment={experiment}", *killed)
    passed = again.metadata["forward_pass"]
    expected = whole(experiment)
    assert passed["resumed"] in (8, 9)
    read = expected.metadata["forward_pass"]["utterances"]
    assert passed["resumed"] + passed["utterances"] == read
    assert again.curve(experiment) == expected.curve(experiment)
    assert not list(entry.glob(".part.*"))  # nor does what it left stay for ever
    assert not list((tmp_path / "runs/a/b/killed").glob(".statistics-*"))


@pytest.mark.slow
def test_a_pass_that_was_killed_before_it_wrote_anything_down_begins_again(
    uncached: Finished, common: tuple[str, ...], tmp_path: Path
) -> None:
    cache = f"paths.cache={tmp_path / 'cache'}"
    kill("cca_phone", 9, tmp_path / "killed", *common, cache, every=60.0)
    again = execute(tmp_path / "again", "experiment=cca_phone", *common, cache)
    assert again.metadata["forward_pass"]["resumed"] == 0
    assert again.curve("cca_phone") == uncached.curve("cca_phone")


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
def test_damaged_arrays_are_reported_and_computed_again(
    uncached: Finished,
    common: tuple[str, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    execute(tmp_path / "first", *phone)
    (entry,) = (tmp_path / "cache/vectors").iterdir()
    damage(entry / "T1.npy")
    damage(entry / "T2.valid.npz")
    again = execute(tmp_path / "again", *phone)
    assert again.passed
    assert again.curve("cca_phone") == uncached.curve("cca_phone")
    for name in ("T1", "T2", "T2.valid"):
        assert f"cca_phone: {name} in {entry} is damaged" in caplog.text
    assert not execute(tmp_path / "third", *phone).passed


# Files that cannot be read


@contextmanager
def without(*speakers: str) -> Iterator[list[str]]:
    """Files of these speakers can be listed but not be read; gives the names of all that are."""
    read, asked = audio.read, []

    def broken(source: Path, name: str | None = None) -> Waveform:
        asked.append(source.stem)
        if source.parent.name in speakers:
            raise StrataError(f"{source}: no such file")
        return read(source, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "read", broken)
        yield asked


@pytest.mark.parametrize("experiment", ONE_IN_SHORT)
def test_a_rerun_reads_only_the_files_that_could_not_be_read(
    experiment: str, whole: Callable[[str], Finished], common: tuple[str, ...], tmp_path: Path
) -> None:
    command = [f"experiment={experiment}", *common, f"paths.cache={tmp_path / 'cache'}"]
    with (
        without("s0000") as asked,
        pytest.raises(StrataError, match=r"^\d of \d+ utterances could not be read: s0000-\d+: "),
    ):
        execute(tmp_path / "first", *command)
    lost = [name for name in asked if name.startswith("s0000")]
    assert not (tmp_path / "first/results.csv").exists()
    with without() as asked:
        again = execute(tmp_path / "again", *command)
    assert asked == lost
    assert again.curve(experiment) == pytest.approx(whole(experiment).curve(experiment), rel=1e-9)


@pytest.mark.slow
def test_results_of_a_part_of_the_speech_say_so_until_all_of_it_can_be_read(
    uncached: Finished,
    common: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    for k in range(2):  # the second is from the cache, and says the same
        with without("s0000"):
            part = execute(tmp_path / f"part{k}", *phone, "on_error=skip")
        assert part.passed == (k == 0)
        (lost,) = part.metadata["not_complete"].values()
        assert lost
        assert all(name.startswith("s0000") for name in lost)
        message = f"NOT COMPLETE: {len(lost)} utterances could not be read"
        assert message in capsys.readouterr().out
        assert message in caplog.text
        caplog.clear()
    assert part.curve("cca_phone") != uncached.curve("cca_phone")
    with without("s0000"), pytest.raises(StrataError, match="could not be read: s0000"):
        execute(tmp_path / "refused", *phone)
    whole = execute(tmp_path / "whole", *phone, "on_error=skip")
    assert whole.passed
    assert whole.metadata["not_complete"] == {}
    assert whole.curve("cca_phone") == uncached.curve("cca_phone")
    assert "can be read now: all is computed again" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("experiment", CONSUMERS)
def test_layers_that_come_later_are_of_the_same_speech(
    experiment: str, common: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Or the layers that were there are computed again, with them."""
    command = [f"experiment={experiment}", *common, "on_error=skip"]
    at = f"paths.cache={tmp_path / 'cache'}"
    few = f"experiments.{experiment}.parts=[transformer]"
    all_ = f"experiments.{experiment}.parts=[cnn,transformer]"
    execute(tmp_path / "few", *command, at, few)
    with without("s0000"):
        grown = execute(tmp_path / "grown", *command, at, all_)
        at = f"paths.cache={tmp_path / 'new'}"
        fresh = execute(tmp_path / "fresh", *command, at, all_)
    assert grown.curve(experiment) == fresh.curve(experiment)
    assert grown.metadata["not_complete"] == fresh.metadata["not_complete"] != {}
    assert "cannot be added to: all of it is computed anew" in caplog.text
    assert execute(tmp_path / "few again", *command, at, few).metadata["not_complete"] == {}


@pytest.mark.slow
def test_what_listing_left_out_is_told_beside_the_results_as_well(
    small: tuple[str, ...],
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copied = Path(shutil.copytree(speech, tmp_path / "speech"))
    sorted((copied / "audio").rglob("*.flac"))[0].write_bytes(b"no audio")
    phone = [
        "experiment=cca_phone",
        *small,
        *textgrids(copied),
        f"paths.cache={tmp_path / 'cache'}",
    ]
    with pytest.raises(StrataError, match="cannot be decoded"):
        execute(tmp_path / "refused", *phone)
    part = execute(tmp_path / "part", *phone, "on_error=skip")
    assert "NOT COMPLETE: 1 left out of the dataset" in capsys.readouterr().out
    reason = "utterance: a file of it could not be read"
    assert part.metadata["dataset"]["dropped"][reason] == 1


# Caches that cannot be written to, full disks, other jobs


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_to_is_used_and_left_as_it_is(
    uncached: Finished,
    common: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    some = "experiments.cca_phone.parts=[cnn]"
    execute(tmp_path / "first", *phone, some)
    before = sorted((tmp_path / "cache").rglob("*"))

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert not execute(tmp_path / "same", *phone, some).passed
    assert "cannot be written to (Read-only file system): what it holds is used" in caplog.text
    more = execute(tmp_path / "more", *phone)
    assert more.passed
    assert more.curve("cca_phone") == uncached.curve("cca_phone")
    assert sorted((tmp_path / "cache").rglob("*")) == before
    assert not list((tmp_path / "more").glob(".statistics-*"))


def test_a_disk_without_room_is_an_error_before_the_pass(
    common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr("analysis.studies.provide.load_encoders", None)
    at = f"paths.cache={tmp_path / 'cache'}"
    for experiment in CONSUMERS:
        with pytest.raises(StrataError, match=r"take about \d.* GB and .* has 0\.00 GB free"):
            execute(tmp_path / experiment, f"experiment={experiment}", *common, at)


# Runs run.py where no file may grow beyond a size: what a full disk is for the program.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("experiment", CONSUMERS)
def test_a_disk_that_is_full_in_the_pass_is_an_error_that_says_so(
    experiment: str, common: tuple[str, ...], tmp_path: Path
) -> None:
    command = [f"experiment={experiment}", *common, f"paths.cache={tmp_path / 'cache'}"]
    at = f"hydra.run.dir={tmp_path / 'run'}"
    done = forked("-c", LIMITED, "20000", str(ROOT / "run.py"), *command, at)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stdout + done.stderr
    assert "Make room" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_a_run_scores_from_is_not_taken_away(
    common: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = f"paths.cache={tmp_path / 'cache'}"
    scoring, score = [], PWCCA.score

    def clearing(self: PWCCA, *args: Any) -> list[Score]:
        if not scoring:
            scoring.append(True)
            execute(tmp_path / "clear", "experiment=cache", at, "clear=all")
        return score(self, *args)

    monkeypatch.setattr(PWCCA, "score", clearing)
    execute(tmp_path / "run", "experiment=cca_phone", *common, at)
    assert scoring
    assert "deleted all: 0.0 MB" in capsys.readouterr().out
    assert not execute(tmp_path / "again", "experiment=cca_phone", *common, at).passed
    (entry,) = (tmp_path / "cache/vectors").iterdir()
    (entry / "key.json").unlink()  # what is listed as nothing would never be deleted
    capsys.readouterr()
    execute(tmp_path / "last", "experiment=cache", at, "clear=all")
    assert "deleted all: 0.0 MB" not in capsys.readouterr().out
    assert not entry.exists()
