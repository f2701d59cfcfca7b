"""Fixtures that every part's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub


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
