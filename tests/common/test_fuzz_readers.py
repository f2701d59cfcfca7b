"""A small share of benchmarks/fuzz_readers.py, which tries as many damaged files as one likes."""

from pathlib import Path

from benchmarks.fuzz_readers import findings, formats


def test_good_files_are_read(tmp_path: Path) -> None:
    for name, (good, read) in formats().items():
        (tmp_path / name).write_bytes(good)
        assert read(tmp_path / name), name


def test_damaged_files_give_the_projects_error_alone(tmp_path: Path) -> None:
    assert [(path.name, found) for path, found in findings(600, 1, tmp_path)] == []
