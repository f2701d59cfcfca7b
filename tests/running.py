"""Runs as tests want them: in this process for speed, or through the real command line."""

import atexit
import copy
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from common import alignments
from common.config import Config, register, resolve
from common.datasets.synthetic import Synthetic
from common.results.results import METADATA, read_results
from common.steps import steps_of

ROOT = Path(__file__).resolve().parents[1]

# None of these is needed to answer --help or a wrong name.
SLOW_TO_IMPORT = (
    *("torch", "transformers", "pytorch_lightning", "datasets", "wandb", "matplotlib", "pandas"),
    *("pyarrow", "sklearn", "scipy.linalg", "scipy.special", "scipy.stats", "requests"),
)


@dataclass(frozen=True)
class Finished:
    """A run's folder and what it wrote there."""

    folder: Path

    @cached_property
    def rows(self) -> pd.DataFrame:
        return read_results(self.folder)

    @property
    def metadata(self) -> dict[str, Any]:
        return json.loads((self.folder / METADATA).read_text())

    @property
    def passed(self) -> bool:
        """Whether it made a forward pass of its own."""
        return isinstance(self.metadata["forward_pass"], dict)

    def curve(self, experiment: str) -> dict[str, float]:
        """Mean value of each layer."""
        scores = self.rows[self.rows["experiment"] == experiment]
        return scores.groupby("layer", sort=False)["value"].mean().to_dict()


@lru_cache(maxsize=1)
def registered(conf: Path) -> None:
    """Make the experiments of that configuration known, in the place of another's."""
    register()


@cache
def merge_once() -> None:
    """Have Hydra read a file, and merge the same files in the same order, once: two thirds of it.

    Files are known by their paths: a test that writes its own configuration has its own folder.
    """
    read, merge = ConfigRepository.load_config, ConfigLoaderImpl._compose_config_from_defaults_list
    files: dict[tuple[str, ...], ConfigResult | None] = {}
    merged: dict[tuple[str, str], DictConfig] = {}

    def folders(repository: Any) -> tuple[str, ...]:
        return tuple(f"{source.provider} {source.path}" for source in repository.get_sources())

    def load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        key = (config_path, *folders(self))
        if key not in files:
            files[key] = read(self, config_path)
        return copy.deepcopy(files[key])

    def compose_config(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        key = (repr(defaults), repr(folders(repo)))
        if key not in merged:
            merged[key] = merge(self, defaults, repo)
        return copy.deepcopy(merged[key])

    ConfigRepository.load_config = load_config
    ConfigLoaderImpl._compose_config_from_defaults_list = compose_config


@cache
def parse_once() -> None:
    """Have a file of alignments parsed once for as long as it stays as it is."""
    parse = alignments.read
    parsed: dict[tuple[Path, int, int], alignments.Alignment] = {}

    def read(path: Path) -> alignments.Alignment:
        if not path.is_file():
            return parse(path)
        about = path.stat()
        key = (path, about.st_mtime_ns, about.st_size)
        if key not in parsed:
            parsed[key] = parse(path)
        return parsed[key]

    alignments.read = read


@lru_cache
def composed(overrides: tuple[str, ...], conf: Path = ROOT / "conf") -> DictConfig:
    registered(conf)
    merge_once()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        return compose("config", list(overrides))


def resolved(*overrides: str) -> Config:
    """The configuration of a run, checked."""
    return resolve(composed(overrides))


def execute(
    folder: Path, *overrides: str, conf: Path = ROOT / "conf", pictures: bool = False
) -> Finished:
    """What run.py does, without Hydra's command line and logging.

    Figures are made, but only with `pictures` drawn and written: a fifth of a small run.
    """
    from run import TASKS

    parse_once()
    cfg = composed(overrides, conf)
    config = resolve(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    raw = OmegaConf.to_container(cfg, resolve=True)
    with nullcontext() if pictures else patch("matplotlib.figure.Figure.savefig"):
        for task, step, place, step_raw in steps_of(config, folder, raw):
            import_module(TASKS[task]).run(step, place, step_raw)
    return Finished(folder)


def environment(**more: str) -> dict[str, str]:
    """One thread each, and no word to a hub."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


def python(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """A process of this Python to its end; what it reads with -c may import the project."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@lru_cache
def server() -> subprocess.Popen[str]:
    """The process that `forked` asks, ended with this one."""
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/forking.py")],
        env=environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(started.communicate)
    return started


def forked(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """As `python`, from a process that has imported the project: it takes a tenth of the time."""
    asked = server()
    assert asked.stdin is not None
    assert asked.stdout is not None
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "env": environment(**env),
            "streams": [out.name, err.name],
        }
        print(json.dumps(request), file=asked.stdin, flush=True)
        status = int(asked.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


# Forks as many processes as the first argument says, which run the rest of the arguments with the
# environment that torchrun gives; before that each runs the code of the second argument. Says at
# the end how each of them ended.
SEVERAL = """
import json, os, runpy, signal, sys
from lightning_fabric.plugins.environments.lightning import find_free_network_port

size, before, *sys.argv = int(sys.argv[1]), *sys.argv[2:]
shared = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": find_free_network_port()}
children = []
for rank in range(size):
    if child := os.fork():
        children.append(child)
        continue
    signal.alarm(200)
    environment = shared | {"RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in environment.items()})
    exec(before, {"rank": rank})
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print("\\n" + json.dumps(statuses))
"""


def several(
    size: int, *overrides: str, before: str = "", **env: str
) -> tuple[list[int], subprocess.CompletedProcess[str]]:
    """`torchrun --nproc-per-node=SIZE run.py …`: the exit status of each process, and what all say.

    Each first runs the code `before`, which finds its number in `rank`.
    """
    done = forked("-c", SEVERAL, str(size), before, str(ROOT / "run.py"), *overrides, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done


def command(*overrides: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """`python run.py …` to its end."""
    return forked(str(ROOT / "run.py"), *overrides, cwd=cwd, **env)


def write_corpus(folder: Path, minutes: float = 1.5, speakers: int = 6) -> list[str]:
    """Synthetic speech as a folder of FLAC files and TextGrids; overrides that read it."""
    keys = {"partition": "all", "limit": None, "seed": 0, "write_to": str(folder)}
    Synthetic(minutes=minutes, speakers=speakers, **keys).read()
    return textgrids(folder)


def textgrids(folder: Path) -> list[str]:
    """Overrides that read a folder which `write_corpus` filled."""
    return [
        "dataset=textgrid",
        f"dataset.audio_root={folder / 'audio'}",
        f"dataset.alignment_root={folder / 'alignments'}",
    ]
