"""Time and memory of a run against how much speech it takes.

    python benchmarks/growing_speech.py --minutes 60 120 240 --picture growth.png

Runs `experiment=paper` on wav2vec2_tiny and speech that espeak-ng makes, all of it in one sample
set for what is scored on frames, and equally many phones and words whatever the amount; each amount
in a process of its own with an empty cache. Prints seconds that passed, seconds of
processor time and peak memory of each, and what they are for each minute of the least.

Peak memory is given twice: all of it, and without the pages of mapped files (the cache's arrays,
libraries), which the system takes back when it needs room. The second is looked at ten times a
second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
FRAMES = ("cca_mel", "cca_intra")  # experiments on frames
MANY = 10**6  # utterances: all there are
LABELS = {"cca_phone": 30, "cca_word": 100}  # so frequent that an hour has all instances of them


class Measured(NamedTuple):
    """One run: seconds that passed, seconds of processor time, and peaks of memory in bytes."""

    wall: float
    processor: float
    peak: int
    unmapped: int  # without the pages of mapped files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--picture", type=Path, help="a file to draw into")
    parser.add_argument("overrides", nargs="*", help="other overrides, after --")
    options = parser.parse_args()
    runs: list[Measured] = []
    for minutes in options.minutes:
        run = measure(minutes, options.overrides)
        runs.append(run)
        first = runs[0]
        linear = first.processor / options.minutes[0] * minutes
        print(
            f"{minutes:4} min: {run.wall:7.0f} s, {run.processor:7.0f} s of processor time "
            f"({run.processor / linear:.2f} a minute of the first's), "
            f"peak {run.peak / 1e9:.3f} GB ({run.peak / first.peak:.3f} of the first's), "
            f"without mapped files {run.unmapped / 1e9:.3f} GB "
            f"({run.unmapped / first.unmapped:.3f} of the first's)",
            flush=True,
        )
    if options.picture:
        draw(options.minutes, runs, options.picture)


def measure(minutes: int, overrides: list[str]) -> Measured:
    """One run on so much speech, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run.py"), "experiment=paper", "model=wav2vec2_tiny"]
        command += ["dataset=synthetic", f"dataset.minutes={minutes}", "sampling.samples=1"]
        command += [f"experiments.{name}.sampling.utterances={MANY}" for name in FRAMES]
        command += [f"experiments.{name}.sampling.labels={n}" for name, n in LABELS.items()]
        command += [f"paths.cache={folder}/cache", f"hydra.run.dir={folder}/run", *overrides]
        start = perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
        watched = psutil.Process(process.pid)
        unmapped = status = ended = 0
        while not ended:
            with suppress(psutil.Error):
                memory = watched.memory_info()
                unmapped = max(unmapped, memory.rss - getattr(memory, "shared", 0))
            sleep(0.1)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} ended with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    processor = usage.ru_utime + usage.ru_stime
    return Measured(wall, processor, usage.ru_maxrss * scale, unmapped)


def draw(minutes: list[int], runs: list[Measured], path: Path) -> None:
    """Processor time and peak memory against minutes of speech."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    time, memory = figure.subplots(1, 2)
    time.plot(minutes, [run.processor for run in runs], "o-")
    time.set(xlabel="minutes of speech", ylabel="processor time [s]", xlim=0, ylim=0)
    memory.plot(minutes, [run.peak / 1e9 for run in runs], "o-", label="all")
    memory.plot(minutes, [run.unmapped / 1e9 for run in runs], "o-", label="without mapped files")
    memory.legend()
    memory.set(xlabel="minutes of speech", ylabel="peak memory [GB]", xlim=0, ylim=0)
    figure.savefig(path)


if __name__ == "__main__":
    main()
