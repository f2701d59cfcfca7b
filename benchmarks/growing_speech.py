"""Time and memory of a run against how much speech it takes.

    python benchmarks/growing_speech.py --minutes 60 120 240 --picture growth.png

Runs `experiment=paper` on wav2vec2_tiny and speech that espeak-ng makes, all of it in one sample
set, each amount in a process of its own with an empty cache. Prints seconds that passed, seconds of
processor time and peak memory of each, and what they are for each minute of the least.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
FRAMES = ("cca_mel", "cca_intra")  # experiments on frames; those on units draw as many as ever
MANY = 10**6  # utterances: all there are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--picture", type=Path, help="a file to draw into")
    parser.add_argument("overrides", nargs="*", help="other overrides, after --")
    options = parser.parse_args()
    figures = []
    for minutes in options.minutes:
        figures.append(measure(minutes, options.overrides))
        wall, processor, peak = figures[-1]
        first = options.minutes[0] / figures[0][1]
        print(
            f"{minutes:4} min: {wall:7.0f} s, {processor:7.0f} s of processor time "
            f"({processor / minutes * first:.2f} a minute of the first's), "
            f"peak {peak / 1e9:.2f} GB ({peak / figures[0][2]:.3f} of the first's)",
            flush=True,
        )
    if options.picture:
        draw(options.minutes, figures, options.picture)


def measure(minutes: int, overrides: list[str]) -> tuple[float, float, int]:
    """Seconds that passed, seconds of processor time, and the largest resident size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run.py"), "experiment=paper", "model=wav2vec2_tiny"]
        command += ["dataset=synthetic", f"dataset.minutes={minutes}", "sampling.samples=1"]
        command += [f"experiments.{name}.sampling.utterances={MANY}" for name in FRAMES]
        command += [f"paths.cache={folder}/cache", f"hydra.run.dir={folder}/run", *overrides]
        start = perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} ended with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale


def draw(minutes: list[int], figures: list[tuple[float, float, int]], path: Path) -> None:
    """Processor time and peak memory against minutes of speech."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    time, memory = figure.subplots(1, 2)
    time.plot(minutes, [processor for _, processor, _ in figures], "o-")
    time.set(xlabel="minutes of speech", ylabel="processor time [s]", xlim=0, ylim=0)
    memory.plot(minutes, [peak / 1e9 for *_, peak in figures], "o-")
    memory.set(xlabel="minutes of speech", ylabel="peak memory [GB]", xlim=0, ylim=0)
    figure.savefig(path)


if __name__ == "__main__":
    main()
