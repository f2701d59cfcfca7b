"""What an analysis of much speech will take: time, memory and disk, computed from measured rates.

    python benchmarks/cost_plan.py --hours 960.9 --gpus 8 --models 20

Runs nothing. Operations are counted on the real architectures without weights, memory and disk by
the arithmetic with which a run plans its pass; rates of the CPU are those measured in
docs/results.md and docs/speed.md; rates of a GPU, a disk and a network are assumptions that options
change. Every line of the table says which of these it is.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2Model

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analysis.forward.consumers import MEL, MissingMoments, vector_bytes  # noqa: E402
from analysis.sampling.folds import FrameSamples  # noqa: E402
from benchmarks.full_size import SIZES, configure  # noqa: E402
from common.cache.cache import Entry  # noqa: E402
from common.config import Config  # noqa: E402
from common.encoder.architecture import Layer, describe  # noqa: E402

UTTERANCE = (
    12.3  # seconds, the mean of LibriSpeech's training speech: 960.9 h in 281,241 utterances
)
SAMPLES = 3  # sample sets of the default protocol
# Measured with two cores on 38.5 minutes of speech, fp32: docs/results.md, "What a run costs".
FORWARD_CORE_SECONDS = 385 / (38.5 * 60)  # of a core, for a second of audio: wav2vec2-base
# Seconds of a core for one layer and sample set: docs/speed.md, "Scoring".
READING = 0.0027  # of a core, for a second of audio: FLAC and mel frames, one core with AVX2
SCORING = {
    "base": {"mel": 0.48, "another layer": 4.11, "phones": 0.40, "words": 1.83},
    "large": {"mel": 0.91, "another layer": 9.33, "phones": 0.85, "words": 2.77},
}
UNITS = {"phones": 39 * 200, "words": 500 * 15}  # drawn for a sample set, at most


@dataclass(frozen=True)
class Plan:
    """What one model of a size needs. Operations are for a second of audio, memory in bytes.

    `memory`: what each process holds of the moments; `moments`, `vectors`: files of the cache.
    `scoring`: seconds of a core.
    """

    forward: float
    products: float
    memory: int
    moments: int
    vectors: int
    scoring: float


def plan(size: str, scratch: Path) -> Plan:
    """Count for `experiment=paper` on all frames of a corpus."""
    options = argparse.Namespace(
        sizes=[size], precisions=["fp32"], cases=["one set"], utterances=1, overrides=[]
    )
    config = configure(options, scratch)
    layers = describe(config.model).layers
    parts = {name: of_parts(config, name, layers) for name in config.experiments}
    crosses = [(layer.name, MEL.name) for layer in parts["cca_mel"]]
    crosses += [(layer.name, "T0") for layer in parts["cca_intra"]]
    everything = samples_of_all(config)
    entry = Entry(scratch)
    missing = MissingMoments.of(entry, everything, layers, crosses)
    products = sum(
        2 * missing.dims[x] * missing.dims[y] * 100 / step
        for step, pairs in missing.pairs.items()
        for x, y in pairs
    )
    rows = SAMPLES * sum(UNITS.values())
    scoring = sum(
        seconds * len(parts[name]) * (SAMPLES if what in UNITS else 1)
        for (what, seconds), name in zip(
            SCORING[size].items(), ("cca_mel", "cca_intra", "cca_phone", "cca_word"), strict=True
        )
    )
    return Plan(
        forward=forward_operations(size),
        products=products,
        memory=missing.memory_bytes(),
        moments=missing.disk_bytes(),
        vectors=vector_bytes(entry, parts["cca_phone"], rows),
        scoring=scoring,
    )


def of_parts(config: Config, experiment: str, layers: tuple[Layer, ...]) -> list[Layer]:
    return [layer for layer in layers if layer.part in config.experiments[experiment].parts]


def samples_of_all(config: Config) -> FrameSamples:
    """Every utterance in every sample set: the sets are then one, and collected once."""
    run = config.sampling
    return FrameSamples(
        members=np.ones((1, SAMPLES), dtype=bool),
        trials=run.tested_folds,
        folds=run.folds,
        seed=0,
        ids=("utterance",),
        utterance_folds=np.zeros(1, dtype=np.int64),
        split="speaker",
    )


def forward_operations(size: str) -> float:
    """Of the bare model, for a second of audio, counted on tensors without contents."""
    with torch.device("meta"):
        model = Wav2Vec2Model(Wav2Vec2Config(**SIZES[size])).eval()
        waveform = torch.zeros(1, round(UTTERANCE * 16_000))
        normed = model.encoder.pos_conv_embed.conv  # its weights are computed, which is not counted
        model.encoder.pos_conv_embed.conv = torch.nn.Conv1d(
            normed.in_channels,
            normed.out_channels,
            normed.kernel_size[0],
            padding=normed.padding[0],
            groups=normed.groups,
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(waveform)
    return counter.get_total_flops() / UTTERANCE


def table(options: argparse.Namespace) -> str:
    """A column for each size."""
    plans = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            plans[size] = plan(size, Path(scratch))
    seconds, gpus = options.hours * 3600, options.gpus
    readers = max(1, min(4, options.cores - 1))
    rows: list[tuple[str, str, list[float]]] = []

    def row(name: str, source: str, values: list[float]) -> None:
        rows.append((name, source, values))

    each = list(plans.values())
    row("operations of the model, 10⁹ for 1 s", "counted", [p.forward / 1e9 for p in each])
    row("products in float64, 10⁹ for 1 s", "counted", [p.products / 1e9 for p in each])
    forward = [seconds * p.forward / (gpus * options.tflops * 1e12) for p in each]
    products = [seconds * p.products / (gpus * options.tflops64 * 1e12) for p in each]
    reading = [seconds * options.reading / (gpus * readers)] * len(each)
    row("model, min", "assumed rate", [t / 60 for t in forward])
    row("products, min", "assumed rate", [t / 60 for t in products])
    row("reading and mel, min, beside them", "measured rate", [t / 60 for t in reading])
    passed = [max(f + m, r) for f, m, r in zip(forward, products, reading, strict=True)]
    written = [gpus * p.memory / (options.disk * 1e9) for p in each]
    added = [p.moments / (options.network * 1e9) for p in each]
    row("states to disk at the end, s", "assumed rate", written)
    row("adding up, s", "assumed rate", added)
    scoring = [p.scoring / (gpus * options.cores) for p in each]
    row("scoring on the CPUs, s", "measured rate", scoring)
    total = [sum(parts) for parts in zip(passed, written, added, scoring, strict=True)]
    row("**one model, min**", "arithmetic", [t / 60 for t in total])
    row(
        f"**{options.models} models one after another, h**",
        "arithmetic",
        [options.models * t / 3600 for t in total],
    )
    alone = [gpus * (p + s) for p, s in zip(passed, scoring, strict=True)]
    rounds = ceil(options.models / gpus)
    row(
        f"{options.models} models, a GPU each, {gpus} at once, h",
        "arithmetic",
        [rounds * t / 3600 for t in alone],
    )
    row("moments in each process, GB", "planned", [p.memory / 1e9 for p in each])
    row("… of all processes, GB", "planned", [gpus * p.memory / 1e9 for p in each])
    cache = [p.moments + p.vectors for p in each]
    row("cache of one model, GB", "planned", [c / 1e9 for c in cache])
    left = [gpus * p.memory + p.vectors for p in each]
    row("… beside it until a pass is over, GB", "planned", [n / 1e9 for n in left])
    row(
        f"cache of {options.models} models, GB",
        "arithmetic",
        [options.models * c / 1e9 for c in cache],
    )
    by_base = FORWARD_CORE_SECONDS / forward_operations("base")  # of a core, for an operation
    row(
        f"the model alone on {gpus * options.cores} CPU cores instead, h",
        "measured rate",
        [options.hours * by_base * p.forward / (gpus * options.cores) for p in each],
    )
    lines = ["| | from | " + " | ".join(plans) + " |", "| --- | --- |" + " --- |" * len(plans)]
    for name, source, values in rows:
        lines.append(f"| {name} | {source} | " + " | ".join(f"{x:,.1f}" for x in values) + " |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--hours", type=float, default=960.9, help="of speech")
    parser.add_argument("--gpus", type=int, default=8, help="a process for each")
    parser.add_argument("--cores", type=int, default=16, help="of the CPU for each process")
    parser.add_argument("--models", type=int, default=20, help="of a sweep")
    numbers = {
        "tflops": (20, "10¹² operations a second that a GPU does of the model (assumed)"),
        "tflops64": (20, "… and of the products in float64 (assumed)"),
        "reading": (READING, "seconds of a core to read a second of audio and its mel frames"),
        "disk": (1, "GB a second that all processes write together (assumed)"),
        "network": (1, "GB a second at which sums are added up (assumed)"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=text)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(table(parse()))
