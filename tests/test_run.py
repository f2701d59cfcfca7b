"""The command line: what it prints, and how it answers what is wrong."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from marks import slow
from options import OPTIONS
from running import ROOT, SLOW_TO_IMPORT, command, python

Demo = tuple[subprocess.CompletedProcess[str], Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    overrides = ["debug=default", "dataset.minutes=1", f"hydra.run.dir={folder / 'run'}"]
    return command(*overrides, STRATA_CACHE=str(folder / "cache")), folder / "run"


def test_the_default_command_prints_a_table_and_the_paths_of_what_it_wrote(
    demo: Demo,
) -> None:
    done, folder = demo
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("cca_mel", "cca_intra", "cca_phone", "cca_word"):
        assert any(name in line for line in lines)
    for layer in (*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(7))):
        assert any(re.search(rf"\b{layer}\b", line) for line in lines), layer
    assert "Traceback" not in done.stderr
    names = ("results.csv", "metadata.json", "layers.png", "layers.svg")
    assert [Path(line) for line in lines if line.startswith("/")] == [folder / n for n in names]
    assert all((folder / n).is_file() for n in names)
    assert sorted(p.name for p in (folder / ".hydra").iterdir()) == [
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    ]
    assert not list(folder.glob(".statistics-*"))  # nor any other scratch


def test_a_run_that_is_not_watched_draws_no_bars_and_says_once_that_a_control_is_untrained(
    demo: Demo,
) -> None:
    done, _ = demo
    output = done.stdout + done.stderr
    assert "%|" not in output
    assert "\r" not in output
    assert output.count("on random weights, in a pass of their own") == 1
    assert "has random weights" not in output  # as a model with model.random_init=true is warned of


def test_help_lists_groups_and_options() -> None:
    done = listed("--help")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].split() == ["IMPORTED"]
    for group, name in OPTIONS:
        if "/" not in group:
            line = re.search(rf"^{group}: (.+)$", done.stdout, re.MULTILINE)
            assert line is not None, group
            assert name in line[1].split(", ")


def test_a_wrong_experiment_is_answered_with_what_there_is() -> None:
    done = command("experiment=cca_fone")
    assert done.returncode != 0
    for group, name in OPTIONS:
        assert name in done.stderr or group != "experiment"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["hydra.run.dir", slow("hydra.sweep.dir")])
def test_a_run_folder_that_cannot_be_written_to_fails_at_once(key: str) -> None:
    sweep = ["-m"] if "sweep" in key else []
    done = command(*sweep, "experiment=demo", f"{key}=/proc/nothing/run")
    assert done.returncode == 1
    assert f"{key}=/proc/nothing/run: results cannot be written there" in done.stderr
    assert "Traceback" not in done.stderr


# Runs run.py as the command line does, and says at its end which of some modules it imported.
LISTED = """
import atexit, json, runpy, sys
slow = set(json.loads(sys.argv[1]))
atexit.register(lambda: print("IMPORTED", *sorted(slow & set(sys.modules))))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def listed(*overrides: str) -> subprocess.CompletedProcess[str]:
    return python("-c", LISTED, json.dumps(SLOW_TO_IMPORT), str(ROOT / "run.py"), *overrides)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["dataset=textgrid", "dataset.audio_root=/no/where"], ["dataset.audio_root=/no/where"]),
        slow(["split=words"], ["split=words", "speaker"]),
        slow(["model=wav2vec3"], ["model/wav2vec3", "wav2vec2_base", "hubert_base"]),
    ],
)
def test_a_missing_root_or_wrong_name_fails_at_once(
    overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    done = listed(*overrides, f"hydra.run.dir={tmp_path}")
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert all(part in output for part in parts), output
    assert "Traceback" not in output
    assert done.stdout.splitlines()[-1].split() == ["IMPORTED"]


# Runs run.py, and says at its end how often Hydra composed the configuration.
COUNTED = """
import atexit, runpy, sys
from hydra._internal.hydra import Hydra
counts = []
compose = Hydra.compose_config
Hydra.compose_config = lambda *args, **keys: counts.append(1) or compose(*args, **keys)
atexit.register(lambda: print("COMPOSED", len(counts)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("mode", "times"), [([], 1), slow(["hydra.mode=RUN"], 2)])
def test_a_configuration_is_composed_once_unless_the_mode_is_named(
    mode: list[str], times: int, tmp_path: Path
) -> None:
    refused = ["experiment=cca_glove", "target.path=/no/where", f"hydra.run.dir={tmp_path}"]
    done = python("-c", COUNTED, str(ROOT / "run.py"), *refused, *mode)
    assert "target.path=/no/where" in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"COMPOSED {times}"
