"""Scores from tensors of a device are those of the CPU, which stands in where there is no room."""

from pathlib import Path

import pytest
import torch
from running import Finished, execute

from analysis import measure
from common.config import Config
from common.records import StrataError

CPU = torch.device("cpu")
EXPERIMENTS = "experiment=paper"


@pytest.fixture(scope="module")
def runs(common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """One cache for all of them: the same statistics."""
    return (EXPERIMENTS, *common, f"paths.cache={tmp_path_factory.mktemp('cache')}")


@pytest.fixture(scope="module")
def by_numpy(runs: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return execute(tmp_path_factory.mktemp("numpy"), *runs)


def values(run: Finished) -> list[tuple[str, str, float]]:
    return list(run.rows[["experiment", "layer", "value"]].itertuples(index=False, name=None))


@pytest.mark.slow
def test_tensors_give_the_scores_of_arrays(
    runs: tuple[str, ...], by_numpy: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "scoring_device", lambda *_: CPU)
    on_tensors = values(execute(tmp_path, *runs))
    expected = values(by_numpy)
    assert [row[:2] for row in on_tensors] == [row[:2] for row in expected]
    for (name, _, found), (_, _, value) in zip(on_tensors, expected, strict=True):
        # 45 words for 32 columns: training correlations are nearly all 1, and any rotation of such
        # directions is as canonical.
        assert found == pytest.approx(value, abs=1e-5 if name == "cca_word" else 1e-9)


@pytest.mark.slow
def test_where_the_gpu_is_full_the_cpu_scores(
    runs: tuple[str, ...],
    by_numpy: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure, "scoring_device", lambda *_: CPU)
    monkeypatch.setattr("analysis.moments.on_device", full)
    assert values(execute(tmp_path, *runs)) == values(by_numpy)
    assert "cca_mel: cpu is full: scored on the CPU" in caplog.text


class Study:
    def device_bytes(self) -> int:
        return 2_000_000_000


@pytest.mark.parametrize(
    ("device", "scoring", "free", "expected"),
    [
        ("auto", "auto", 3_000_000_000, "cuda"),
        ("auto", "auto", 1_000_000_000, None),
        ("cuda", "cpu", 3_000_000_000, None),
        ("cpu", "auto", 3_000_000_000, None),
    ],
)
def test_the_gpu_scores_where_it_may_and_has_room(
    device: str,
    scoring: str,
    free: int,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(measure, "free_memory", lambda _: free)
    config = Config.__new__(Config)
    config.device, config.scoring = device, scoring
    with caplog.at_level("INFO"):
        found = measure.scoring_device(config, [Study()])  # type: ignore[list-item]
    assert found == (torch.device(expected) if expected else None)
    if free < 2_000_000_000:
        assert "scoring on the CPU: a job takes about 2.0 GB of 1.0 GB free" in caplog.text


def test_scoring_takes_two_words(runs: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="scoring=gpu"):
        execute(tmp_path, *runs, "scoring=gpu")
