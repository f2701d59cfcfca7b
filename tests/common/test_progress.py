"""Progress of long stages: a bar on a terminal, a line in the log elsewhere."""

import logging
import time

import pytest

from common import progress as module
from common.progress import Progress, progress


def test_off_a_terminal_each_interval_has_a_line_also_within_a_long_unit(
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.02)
    caplog.set_level(logging.INFO)
    for _ in progress([1, 2], "scoring", "layers"):
        time.sleep(0.1)
    lines = [record.message for record in caplog.records]
    assert len(lines) >= 4
    assert lines[0] == "scoring: 0 of 2 layers (0%) in 0 min"
    assert any(line.startswith("scoring: 1 of 2 layers (50%)") for line in lines)
    assert capsys.readouterr().err == ""
    time.sleep(0.05)
    assert len(caplog.records) == len(lines)  # it has ended


def test_nothing_is_told_before_the_first_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(progress(iter("ab"), "reading", "utterances")) == ["a", "b"]
    assert not caplog.records


def test_its_thread_ends_with_an_exception_in_what_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    with pytest.raises(RuntimeError, match="full disk"), Progress("a", 2, "b") as so_far:
        raise RuntimeError("full disk")
    assert not so_far._lines.is_alive()


def test_a_line_says_how_much_is_left() -> None:
    so_far = Progress("training", 1000, "steps", initial=200)
    so_far.done = 400
    assert so_far.line(600) == "training: 400 of 1000 steps (40%) in 10 min, about 30 min left"
    assert so_far.line(7_800) == (
        "training: 400 of 1000 steps (40%) in 2 h 10 min, about 6 h 30 min left"
    )
    assert Progress("x", None, "B").line(60) == "x: 0 B in 1 min"


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("forward pass", 2, "s of audio", shown=True) as so_far:
        so_far.update(2)
    assert "forward pass: 100%" in capsys.readouterr().err
