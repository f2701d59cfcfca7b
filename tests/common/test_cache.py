"""Entries of the cache: whole or absent, one writer at a time, named by what their key means."""

import threading
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from filelock import FileLock, Timeout

from common.cache import Cache, Entry, cache_root
from common.config import Config, PathsConfig

KEY = {"revision": "abc", "sampling": {"instances": 20, "labels": None}, "samples": 3}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def entry(cache: Cache) -> Entry:
    return cache.entry("vectors", KEY)


def partials(entry: Entry) -> list[str]:
    return [path.name for path in entry.folder.iterdir() if "part" in path.name]


def test_equal_keys_are_one_entry_whatever_their_order(cache: Cache, entry: Entry) -> None:
    turned = {"samples": 3, "sampling": {"labels": None, "instances": 20}, "revision": "abc"}
    assert cache.entry("vectors", turned).folder == entry.folder
    assert cache.entry("moments", KEY).folder != entry.folder


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "abd"},
        {"samples": 4},
        {"samples": "3"},
        {"sampling": {"instances": 20}},
        {"sampling": {"instances": 20, "labels": 1}},
        {"more": None},
    ],
    ids=str,
)
def test_any_difference_of_keys_is_another_entry(
    cache: Cache, entry: Entry, change: dict[str, object]
) -> None:
    assert cache.entry("vectors", KEY | change).folder != entry.folder


def test_the_key_is_kept_in_clear(entry: Entry) -> None:
    assert entry.key() == KEY
    assert entry.kind == "vectors"
    (entry.folder / "key.json").write_text("{damaged")
    assert entry.key() == {}


def test_named_arrays_come_back_as_they_were(entry: Entry) -> None:
    arrays = {"mean": np.arange(3.0), "n": np.array([5])}
    entry.save("sample0.T1.mel", arrays)  # points in a name belong to it
    back = entry.load("sample0.T1.mel")
    assert back.keys() == arrays.keys()
    assert all(
        np.array_equal(back[k], arrays[k]) and back[k].dtype == arrays[k].dtype for k in back
    )
    assert entry.has("sample0.T1.mel")
    assert not entry.has("sample0.T1")
    assert partials(entry) == []


def test_an_array_filled_row_by_row_is_there_once_it_is_published(entry: Entry) -> None:
    rows = entry.create("T1", (4, 2))
    rows[:] = 7
    assert not entry.has("T1")
    entry.publish("T1")
    assert entry.has("T1")
    read = entry.open("T1")
    assert read.dtype == np.float32
    assert np.array_equal(read, np.full((4, 2), 7))
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 0


def test_a_write_that_breaks_off_leaves_the_old_content(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry.save("T1", {"x": np.zeros(2)})

    def broken(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space"):
        entry.save("T1", {"x": np.ones(2)})
    assert np.array_equal(entry.load("T1")["x"], np.zeros(2))
    with pytest.raises(OSError, match="No space"):
        entry.save("T2", {"x": np.ones(2)})
    assert not entry.has("T2")


def test_what_a_killed_job_left_goes_when_the_next_one_holds_the_lock(
    cache: Cache, entry: Entry
) -> None:
    entry.save("T0", {"x": np.zeros(2)})
    entry.create("T1", (100, 100))
    assert partials(entry) != []
    assert entry.size() > 40_000
    with cache.locked([entry]):
        assert partials(entry) == []
        assert entry.has("T0")
        entry.create("T1", (2, 2))
        entry.publish("T1")
    assert entry.open("T1").shape == (2, 2)


def test_clear_deletes_arrays_and_keeps_the_key(cache: Cache, entry: Entry) -> None:
    entry.save("T0", {"x": np.zeros(2)})
    entry.create("T1", (2, 2))
    entry.publish("T1")
    entry.clear()
    assert not entry.has("T0")
    assert not entry.has("T1")
    assert entry.key() == KEY


def test_entries_lists_every_kind_and_delete_removes_whole(cache: Cache, entry: Entry) -> None:
    other = cache.entry("moments", KEY)
    assert {e.folder for e in cache.entries()} == {entry.folder, other.folder}
    assert cache.delete(entry)
    assert cache.entries() == [other]
    assert Cache(cache.root / "absent").entries() == []


def test_an_entry_in_use_is_not_deleted(cache: Cache, entry: Entry) -> None:
    with cache.locked([entry]):
        assert not cache.delete(entry)
    assert entry.folder.is_dir()


def test_two_jobs_that_lock_the_same_entries_take_turns(cache: Cache, entry: Entry) -> None:
    """In opposite orders: locks are taken in one order, or both would wait for ever."""
    other = cache.entry("moments", KEY)
    inside, most = 0, 0
    count = threading.Lock()

    def job(entries: list[Entry]) -> None:
        nonlocal inside, most
        for _ in range(5):
            with cache.locked(entries):
                with count:
                    inside += 1
                    most = max(most, inside)
                sleep(0.002)
                with count:
                    inside -= 1

    threads = [
        threading.Thread(target=job, args=(entries,), daemon=True)
        for entries in ([entry, other], [other, entry, other])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 1


def test_locks_are_released_when_the_job_fails(cache: Cache, entry: Entry) -> None:
    lock = FileLock(entry.folder / ".lock")

    def failing_job() -> None:
        with cache.locked([entry]):
            with pytest.raises(Timeout):
                lock.acquire(timeout=0)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        failing_job()
    with lock.acquire(timeout=0):
        pass


def test_who_waits_says_so(cache: Cache, entry: Entry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lock = FileLock(entry.folder / ".lock")
    lock.acquire()
    release = threading.Timer(0.2, lock.release)
    held = threading.Thread(target=lambda: cache.locked([entry]).__enter__(), daemon=True)
    held.start()
    release.run()
    held.join(10)
    assert f"waiting for another job that computes {entry.folder.name}" in caplog.text


def test_the_root_is_the_users_own_or_the_one_named() -> None:
    paths = PathsConfig(runs="runs", cache="~/statistics")
    assert cache_root(Config(paths=paths, task="cache")) == Path.home() / "statistics"
