"""The cache from run to run: off, anew, listed, deleted, and after a job that was killed."""

import json
import signal
from pathlib import Path

import pytest
from running import ROOT, Finished, execute, python

from analysis.studies import VERSIONS


@pytest.fixture(scope="module")
def uncached(common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run beside a folder for a cache that it is not to use."""
    folder = tmp_path_factory.mktemp("uncached")
    cache = f"paths.cache={folder / 'cache'}"
    return execute(folder / "run", "experiment=cca_phone", *common, cache, "cache=off")


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


# Runs run.py as the command line does, up to the tenth utterance.
KILLED = """
import os, runpy, signal, sys
from analysis.consumers import UnitConsumer
ends = iter(range(10))
UnitConsumer.end = lambda self: next(ends) < 9 or os.kill(os.getpid(), signal.SIGKILL)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_job_killed_in_the_middle_leaves_nothing_that_is_believed(
    uncached: Finished, common: tuple[str, ...], tmp_path: Path
) -> None:
    phone = ["experiment=cca_phone", *common, f"paths.cache={tmp_path / 'cache'}"]
    killed = f"hydra.run.dir={tmp_path / 'killed'}"
    done = python("-c", KILLED, str(ROOT / "run.py"), *phone, killed)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (entry,) = (tmp_path / "cache/vectors").iterdir()
    assert list(entry.glob(".part.*"))  # it was in the middle
    assert not list(entry.glob("*.np[yz]"))
    again = execute(tmp_path / "again", *phone)
    assert again.passed
    assert again.curve("cca_phone") == uncached.curve("cca_phone")
    assert not list(entry.glob(".part.*"))  # nor does what it left stay for ever
