"""One run in several processes: the numbers of one, and what happens when one of them is lost."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from running import Finished, execute, several

# Moments of frames in three sets that share some utterances, vectors of units, frames of words.
EXPERIMENTS = (
    "experiment=paper",
    "+analysis@experiments.word_discrimination_dtw=word_discrimination_dtw",
    "sampling.samples=3",
    "sampling.reduced.utterances=10",
)


@pytest.fixture(scope="module")
def run(common: tuple[str, ...]) -> tuple[str, ...]:
    return (*EXPERIMENTS, *common)


@pytest.fixture(scope="module")
def alone(run: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run of one process, with its cache beside it."""
    folder = tmp_path_factory.mktemp("alone")
    return execute(folder / "run", *run, f"paths.cache={folder / 'cache'}")


def same(one: Finished, other: Finished, layers: Sequence[str] = ()) -> None:
    """The rows of two runs, in the same order; of some `layers`, if they are named."""
    a, b = (run.rows.drop(columns=["config_key", "git_commit"]) for run in (one, other))
    if layers:
        a, b = (rows[rows["layer"].isin(layers)].reset_index(drop=True) for rows in (a, b))
    pd.testing.assert_frame_equal(a, b, rtol=0, atol=1e-9)


def files(cache: Path) -> list[str]:
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.name != "files.json")


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_give_the_numbers_and_the_cache_of_one(
    size: int, run: tuple[str, ...], alone: Finished, tmp_path: Path
) -> None:
    at, cache = f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache={tmp_path / 'cache'}"
    statuses, done = several(size, *run, at, cache)
    assert statuses == [0] * size, done.stdout + done.stderr
    together = Finished(tmp_path / "run")
    same(together, alone)
    assert together.metadata["processes"] == size
    passed, expected = (one.metadata["forward_pass"] for one in (together, alone))
    assert passed == {**expected, "audio_seconds": pytest.approx(expected["audio_seconds"])}
    assert files(tmp_path / "cache") == files(alone.folder.parent / "cache")
    if size == 4:
        return
    # One process on the cache of several, and several on that of one: neither hears a thing.
    few = (*run, "layers.indices=[T1]")
    execute(tmp_path / "one", *few, cache)
    theirs = f"paths.cache={alone.folder.parent / 'cache'}"
    statuses, done = several(size, *few, theirs, f"hydra.run.dir={tmp_path / 'many'}")
    assert statuses == [0] * size, done.stdout + done.stderr
    for name in ("one", "many"):
        found = Finished(tmp_path / name)
        assert not found.passed
        same(found, alone, layers=["T1"])


# One process kills itself in the pass, which is written down after every batch.
KILLED = """
import os, signal
from analysis.forward import stream
from analysis.forward.consumers import MomentConsumer
stream.SAVE_EVERY = stream.CHECK_EVERY = 0.0
end, ends = MomentConsumer.end, iter(range(100))
def counted(self):
    end(self)
    if rank == {rank} and next(ends) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
MomentConsumer.end = counted
"""


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_any_number_of_them_goes_on(
    run: tuple[str, ...], alone: Finished, tmp_path: Path
) -> None:
    cached_run = (*run, f"paths.cache={tmp_path / 'cache'}")
    utterances = alone.metadata["forward_pass"]["utterances"]
    for size, rank, after in ((1, 0, 4), (4, 2, 1), (2, 1, 2)):
        at, before = f"hydra.run.dir={tmp_path / str(size)}", KILLED.format(rank=rank, after=after)
        statuses, done = several(size, *cached_run, at, before=before)
        expected = [1] * size
        expected[rank] = -signal.SIGKILL
        assert statuses == expected, done.stdout + done.stderr
        mentions = done.stdout.count(f"process {rank} of {size} (pid ")
        assert mentions == size - 1, done.stdout
        assert done.stdout.count("it goes on from there") == size - 1
    assert sorted({p.name.split(".")[1] for p in tmp_path.glob("cache/*/*/.part*")}) == [
        *("part", "part1")
    ]
    last = execute(tmp_path / "last", *cached_run)
    same(last, alone)
    passed = last.metadata["forward_pass"]
    assert passed["resumed"] + passed["utterances"] == utterances
    assert passed["resumed"] >= 4 + 2 + 2
    assert files(tmp_path / "cache") == files(alone.folder.parent / "cache")


# Files of one speaker cannot be read.
UNREADABLE = """
from common import audio
from common.records import StrataError
read = audio.read
def broken(source, name=None):
    if source.parent.name == "s0000":
        raise StrataError(f"{source}: no such file")
    return read(source, name)
audio.read = broken
"""


def test_files_that_some_processes_could_not_read_are_told_once_and_read_again(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    phone = ("experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}")
    statuses, done = several(2, *phone, f"hydra.run.dir={tmp_path / 'run'}", before=UNREADABLE)
    assert statuses == [1, 1]
    assert re.findall(r"\d+ of \d+ utterances could not be read: s0000", done.stdout) == [
        "4 of 24 utterances could not be read: s0000"
    ]
    again = execute(tmp_path / "again", *phone)
    assert again.metadata["forward_pass"]["utterances"] == 4
    assert again.metadata["forward_pass"]["resumed"] == 20


@pytest.mark.slow
def test_processes_share_the_utterances_of_features_and_the_first_one_packs_them(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    features = ("experiment=features", *common, "layers.indices=[T1]", "dataset.limit=5")
    execute(tmp_path / "alone", *features)
    statuses, done = several(2, *features, f"hydra.run.dir={tmp_path / 'together'}")
    assert statuses == [0, 0], done.stdout + done.stderr
    one, two = (tmp_path / name / "features" for name in ("alone", "together"))
    assert files(one) == files(two)
    for name in files(one):
        if (one / name).is_file():
            assert (one / name).read_bytes() == (two / name).read_bytes()
