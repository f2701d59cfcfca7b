"""Files of curves: whole at any time, and read as far as they are whole."""

import logging
import math
from pathlib import Path

import pytest

from finetune.curves import Curves, plot_curves, print_curves, read_curves


def log_some(folder: Path) -> Path:
    logger = Curves(folder, name="curves", flush_logs_every_n_steps=1)
    logger.log_hyperparams({})
    logger.log_metrics({"train/loss": 2.0, "epoch": 0.0}, 0)
    logger.log_metrics({"valid/loss": 1.5, "epoch": 0.0}, 3)
    logger.log_metrics({"train/loss": 1.0, "epoch": 0.0}, 4)
    return Path(logger.log_dir) / "metrics.csv"


def test_points_are_read_as_they_were_logged_and_nothing_else_is_written(tmp_path: Path) -> None:
    path = log_some(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["metrics.csv"]
    curves = read_curves(tmp_path)
    assert list(curves.index) == [0, 3, 4]
    assert curves.loc[4, "train/loss"] == 1.0
    assert math.isnan(curves.loc[3, "train/loss"])
    assert curves["valid/loss"].dropna().tolist() == [1.5]


def test_a_file_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = Curves(tmp_path, name="curves", flush_logs_every_n_steps=1)
    logger.log_metrics({"train/loss": 2.0}, 0)
    path = Path(logger.log_dir) / "metrics.csv"
    before = path.read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"valid/loss": 2.0}, 1)
    assert path.read_text() == before


def test_a_damaged_sitting_is_told_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_some(tmp_path)
    broken = log_some(tmp_path)
    for content in (b"", b"step,train/loss\n1,\xff\n", b"step,train/loss\n1,2,3,4\nx\n"):
        broken.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert list(read_curves(tmp_path).index) == [0, 3, 4]
        assert str(broken) in caplog.text
        caplog.clear()
    (tmp_path / "curves/version_0/metrics.csv").write_text("")
    print_curves(tmp_path, "a model")
    assert plot_curves(tmp_path, "a model") == []
