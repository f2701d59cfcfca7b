"""Fixtures that every part's tests share."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from order import COMMANDS, LONGEST

# Searching for garbage among all that is imported takes up to a fifth of the time.
gc.set_threshold(100_000, 20, 100)


def pytest_collection_finish() -> None:
    """Have all that was imported never searched again: it is there to the end.

    Hypothesis is imported first, by its plugin at the latest: it asks who holds random generators,
    which of what is frozen nobody can say.
    """
    import hypothesis  # noqa: F401

    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs first; the order within a file stays."""
    places = {name: place for place, name in enumerate((*COMMANDS, *LONGEST))}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` one process has each file, and one has all of `COMMANDS`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "commands" if Path(file).name in COMMANDS else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A run that names no cache has one of this session's, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(tmp_path_factory.mktemp("session_cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; tests that read it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}")
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A loopback Hub serving `hub.root`, and the environment that points a subprocess at it."""
    server = Hub(tmp_path / "hub", tmp_path / "hf_home")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread; imported here, since it takes seconds and not every test needs it."""
    import models

    with models.one_thread():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small wav2vec 2.0 with random weights, not to be changed."""
    import models

    return models.save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def small(checkpoint: Path) -> tuple[str, ...]:
    """Overrides of a run of the small model that takes seconds."""
    return ("debug=default", "model=hf", "model.name=small", f"model.checkpoint={checkpoint}")


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of synthetic speech of six speakers, not to be changed."""
    import running

    folder = tmp_path_factory.mktemp("speech")
    running.write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def common(small: tuple[str, ...], speech: Path) -> tuple[str, ...]:
    """Overrides of a run of the small model on that speech; where its cache is, is left to say."""
    import running

    return (*small, *running.textgrids(speech))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The override that names an empty cache, one for the runs of a file."""
    return f"paths.cache={tmp_path_factory.mktemp('cache')}"
