"""Entries of the cache: whole or absent, one writer at a time, named by what their key means."""

import json
import shutil
import threading
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from common.cache.cache import Cache, Entry, cache_root
from common.cache.locks import FolderLock
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


def test_arrays_are_read_as_numpy_reads_them(entry: Entry) -> None:
    """Any shape, order and type; larger than what is read at once; and their records with them."""
    arrays = {
        "large": np.arange(300_000, dtype=np.float64).reshape(10, 300, 100),
        "columns": np.asfortranarray(np.arange(15, dtype=np.float32).reshape(5, 3)),
        "text": np.array("naïve"),
        "mask": np.array([True, False]),
        "number": np.array(3),
        "empty": np.zeros((0, 3), dtype=np.int64),
    }
    entry.prepare()
    entry.save("all", arrays)
    with np.load(entry.folder / "all.npz") as expected:
        for name, array in entry.load("all").items():
            assert array.dtype == expected[name].dtype
            assert array.shape == expected[name].shape
            assert array.flags.c_contiguous == expected[name].flags.c_contiguous
            assert array.flags.writeable
            np.testing.assert_array_equal(array, expected[name])
    record = json.loads((entry.folder / "all.sum").read_text())
    assert record["arrays"] == {n: [list(a.shape), a.dtype.str] for n, a in arrays.items()}


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
    with cache.held([entry]) as held:
        held.read()
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
            with cache.held(entries) as held:
                held.change()
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


def test_readers_share_an_entry_and_who_changes_it_waits_for_them(
    cache: Cache, entry: Entry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    changed = threading.Event()

    def change() -> None:
        with cache.held([entry]) as held:
            held.change()
            changed.set()

    job = threading.Thread(target=change, daemon=True)
    with cache.held([entry]) as one, cache.held([entry]) as other:
        one.read()
        other.read()
        assert not cache.delete(entry)
        job.start()
        assert not changed.wait(0.2)
        assert f"waiting for another job that uses {entry.folder.name}" in caplog.text
    job.join(10)
    assert changed.is_set()


def test_locks_are_released_when_the_job_fails(cache: Cache, entry: Entry) -> None:
    def failing_job() -> None:
        with cache.held([entry]) as held:
            held.change()
            assert not FolderLock(entry.folder).take(exclusive=False, wait=False)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        failing_job()
    assert cache.delete(entry)


def test_who_waited_for_an_entry_that_was_deleted_finds_it_made_anew(
    cache: Cache, entry: Entry
) -> None:
    """A lock on a file that is no longer in the folder would keep nobody out."""
    deleting = FolderLock(entry.folder)
    assert deleting.take(exclusive=True)
    taken = threading.Event()

    def wait() -> None:
        with cache.held([entry]) as held:
            held.change()
            assert entry.key() == KEY
            assert not FolderLock(entry.folder).take(exclusive=False, wait=False)
            taken.set()

    job = threading.Thread(target=wait, daemon=True)
    job.start()
    sleep(0.1)
    shutil.rmtree(entry.folder)
    deleting.release()
    assert taken.wait(10)
    job.join(10)


DAMAGE = {
    "a flipped bit": lambda data: data[:-3] + bytes([data[-3] ^ 4]) + data[-2:],
    "a zeroed half": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "cut": lambda data: data[:-100],
    "empty": lambda data: b"",  # noqa: ARG005
    "another type": lambda data: data.replace(b"<f4", b"<i4"),
    "another shape": lambda data: data.replace(b"(40, 2)", b"(20, 4)"),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["T1", "heard"])
def test_every_damage_to_an_array_is_found(entry: Entry, how: str, name: str) -> None:
    entry.create("T1", (40, 2))[:] = np.arange(80).reshape(40, 2)
    entry.save("T1.valid", {"valid": np.ones(40, dtype=bool)})
    entry.publish("T1", needs="T1.valid")
    entry.save("heard", {"digest": np.arange(80, dtype="<f4").reshape(40, 2)})
    assert entry.damaged() == {}
    (path,) = entry.folder.glob(f"{name}.np?")
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    assert entry.damaged().keys() == {name}
    entry.discard(name)
    assert not entry.has(name)
    assert entry.damaged() == {}


def test_an_array_is_damaged_where_the_one_that_it_needs_is(entry: Entry) -> None:
    entry.create("T1", (4, 2))[:] = 1
    entry.save("T1.valid", {"valid": np.ones(4, dtype=bool)})
    entry.publish("T1", needs="T1.valid")
    (entry.folder / "T1.valid.npz").unlink()
    assert entry.damaged() == {
        "T1.valid": "it is missing",
        "T1": "T1.valid is missing or damaged",
    }
    (entry.folder / "T1.sum").write_text("{}")
    assert entry.damaged()["T1"] == "its record cannot be read"


def test_a_pass_goes_on_only_where_one_of_its_kind_left_off(entry: Entry) -> None:
    rows = entry.create("T1", (4, 2))
    rows[:2] = 7
    entry.save_state("T1", {"n": np.array(2)})
    state = entry.load_state("T1")
    assert state is not None
    assert state["n"] == 2
    assert entry.create("T1", (4, 2))[:].tolist() == [[7, 7], [7, 7], [0, 0], [0, 0]]
    (entry.folder / ".part.T1.npy").unlink()  # its rows are gone
    assert entry.load_state("T1") is None
    entry.create("T1", (4, 2))
    entry.save_state("T1", {"n": np.array(2)})
    assert entry.load_state("T1 and T2") is None
    assert partials(entry) == []


def test_room_for_an_array_is_taken_before_it_is_filled(entry: Entry) -> None:
    """A sparse file on a full disk kills the process that writes to it."""
    entry.create("T1", (1000, 100))
    (path,) = entry.folder.glob(".part.T1.npy")
    assert path.stat().st_blocks * 512 >= 400_000


# Read-only caches


@pytest.fixture
def over(cache: Cache, entry: Entry, tmp_path: Path) -> tuple[Cache, Entry]:
    """A cache above one that is not to be changed, and its entry."""
    for name in ("T1", "T2"):
        entry.create(name, (2, 2))[:] = 1
        entry.publish(name)
    cache_over = Cache(tmp_path / "own", cache.root)
    return cache_over, cache_over.entry("vectors", KEY)


def contents(cache: Cache) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in cache.root.rglob("*") if p.is_file()}


def test_what_a_read_only_cache_lacks_is_beside_it(
    cache: Cache, entry: Entry, over: tuple[Cache, Entry]
) -> None:
    lower, above = over
    before = contents(cache)
    with lower.held([above]) as held:
        held.change()
        assert above.open("T1").tolist() == [[1, 1], [1, 1]]
        above.create("T3", (1, 1))[:] = 5
        above.publish("T3")
        above.create("T1", (1, 1))[:] = 6
        above.publish("T1")
    assert above.names() == ["T1", "T3", "T2"]
    assert above.open("T1").tolist() == [[6]]
    above.discard("T2")
    assert not above.has("T2")
    above.clear()
    assert above.names() == []
    assert {k: v for k, v in contents(cache).items() if ".lock" not in k} == before
    assert entry.names() == ["T1", "T2"]


def test_the_root_is_the_users_own_or_the_one_named() -> None:
    paths = PathsConfig(runs="runs", cache="~/statistics")
    assert cache_root(Config(paths=paths, task="cache")) == Path.home() / "statistics"
    empty = PathsConfig(runs="runs", cache="")  # STRATA_CACHE= in the environment
    assert cache_root(Config(paths=empty, task="cache")) == Path.home() / ".cache/strata"
