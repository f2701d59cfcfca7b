"""A full-size run beside the bare forward pass: what does analysing every layer cost here?

    python benchmarks/full_size.py --sizes base large --precisions fp32 bf16 -- \
        dataset=textgrid dataset.audio_root=… dataset.alignment_root=…

Runs `experiment=paper` on wav2vec 2.0's real configurations with random weights, on the GPU where
there is one, each case in a process of its own after the plain model has seen the same waveforms in
that same process. Without a dataset it takes speech that espeak-ng makes. Prints a table with the
machine's name: seconds that passed, and in brackets seconds of processor time of all cores, which
other jobs on the machine disturb less; below them multiples of the bare pass.

Cases: one sample set of all utterances; three of all of them; three that share little, of a third
of them each.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from omegaconf import OmegaConf  # noqa: E402

from common.config import Config, register, resolve  # noqa: E402
from common.records import Corpus  # noqa: E402

SIZES: dict[str, dict[str, Any]] = {
    "base": {},  # the defaults of Wav2Vec2Config
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    },
}
CASES = {"one set": (1, 1), "three sets": (3, 1), "three distinct": (3, 3)}  # sets, parts of speech
STAGES = ("loading", "reading", "forward", "collecting", "storing", "scoring")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=500)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["base"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="dataset and other overrides, after --")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    columns: dict[str, dict[str, Any]] = {}
    for size in options.sizes:
        for precision in options.precisions:
            for case in options.cases:
                name = f"{size}, {precision}, {case}"
                columns[name] = in_own_process(options, size, precision, case)
                print(table(columns), flush=True)


def in_own_process(
    options: argparse.Namespace, size: str, precision: str, case: str
) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", "--sizes", size, "--precisions", precision]
    command += ["--cases", case, "--utterances", str(options.utterances)]
    command += ["--", *options.overrides]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from analysis import measure
    from analysis.experiment import choose_layers
    from analysis.sampling.speech import read_speech
    from analysis.studies.provide import build_studies, collect
    from analysis.studies.study import Setting
    from common.cache.cache import Cache
    from common.encoder.checkpoint import revision_of
    from common.encoder.encoder import describe
    from common.processes import ALONE
    from common.timing import Stopwatch, peak_memory_bytes

    with tempfile.TemporaryDirectory() as scratch:
        config = configure(options, Path(scratch))
        speech = read_speech(config)
        figures = bare_forward(config, speech.whole)
        figures["peak before"] = peak_memory_bytes()
        watch, start, used = Stopwatch(), perf_counter(), process_time()
        description = describe(config.model)
        chosen = choose_layers(config, description.layers)
        key = measure.statistics_key(config, speech.corpus, revision_of(config.model))
        cache = Cache(Path(scratch))
        studies, *_ = build_studies(Setting(config, speech, description.layers, cache, key))
        collect(config, speech.whole, studies, watch, {})
        passed = process_time() - used
        with watch.stage("scoring"):
            jobs = [list(study.jobs(chosen)) for study in studies]
            workers = measure.workers_for(studies)
            scored, failures = measure.score_together(jobs, workers, ALONE)
        return figures | {
            "total": perf_counter() - start,
            "total used": process_time() - used,
            "pass used": passed,
            "stages": watch.seconds,
            "peak": peak_memory_bytes(),
            "scores": sum(len(one.scores) for one in scored),
            "failures": [failure.why for failure in failures],
        }


def configure(options: argparse.Namespace, scratch: Path) -> Config:
    from hydra import compose, initialize_config_dir
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

    (size,), (precision,), (case,) = options.sizes, options.precisions, options.cases
    samples, parts = CASES[case]
    Wav2Vec2Config(**SIZES[size]).save_pretrained(scratch)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(scratch)
    register()
    overrides = options.overrides or ["dataset=synthetic", "dataset.minutes=40"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(
            "config",
            overrides=[
                "experiment=paper",
                f"model.checkpoint={scratch}",
                "model.random_init=true",
                f"precision={precision}",
                f"sampling.samples={samples}",
                f"dataset.limit={options.utterances}",
                *([f"experiments.cca_mel.sampling.utterances={options.utterances // parts}"]),
                *([f"experiments.cca_intra.sampling.utterances={options.utterances // parts}"]),
                *overrides,
            ],
        )
        OmegaConf.resolve(composed)
        return resolve(composed)


def bare_forward(config: Config, corpus: Corpus) -> dict[str, Any]:
    """What the plain Hugging Face model takes for all utterances, one by one; seconds of audio."""
    import torch
    from transformers import AutoFeatureExtractor

    from common.cores import usable_cores
    from common.encoder.encoder import autocast, load_encoder

    encoder = load_encoder(config.model, config.device, config.precision)
    device = encoder.device
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    on_gpu = device.type == "cuda"
    extractor = AutoFeatureExtractor.from_pretrained(config.model.checkpoint)
    with torch.inference_mode(), autocast(device, config.precision):
        bare, used, samples = 0.0, 0.0, 0
        for utterance in corpus.utterances:
            waveform = utterance.read()
            start, start_used = perf_counter(), process_time()
            inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
            encoder.model(inputs["input_values"].to(device))
            if on_gpu:
                torch.cuda.synchronize(device)
            bare += perf_counter() - start
            used += process_time() - start_used
            samples += len(waveform)
    where = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "CPU"
    machine = f"{where}, {usable_cores()} cores, torch {torch.__version__}"
    return {"machine": machine, "audio": samples / 16_000, "bare": bare, "bare used": used}


def table(columns: dict[str, dict[str, Any]]) -> str:
    """A column for each case."""
    rows: dict[str, list[str]] = {}

    def row(name: str, cells: list[str]) -> None:
        rows[name] = cells

    each = list(columns.values())
    row("speech", [f"{one['audio'] / 60:.1f} min" for one in each])
    row("bare pass", [f"{one['bare']:.0f} s ({one['bare used']:.0f})" for one in each])
    row("… x real time", [f"{one['audio'] / one['bare']:.1f}" for one in each])
    for stage in STAGES:
        row(stage, [f"{one['stages'].get(stage, 0) / one['bare']:.2f}" for one in each])
    row(
        "everything",
        [
            f"{one['total'] / one['bare']:.2f} ({one['total used'] / one['bare used']:.2f})"
            for one in each
        ],
    )
    row("memory", [f"{one['peak'] / 1e9:.1f} GB ({one['peak before'] / 1e9:.1f})" for one in each])
    row("scores", [f"{one['scores']}" for one in each])
    row("failed", [f"{len(one['failures'])}" for one in each])
    lines = [f"{each[0]['machine']}", ""]
    lines.append(" | ".join(["", "", *columns, ""]).strip())
    lines.append("| --- " * (len(columns) + 1) + "|")
    lines += [" | ".join(["", name, *cells, ""]).strip() for name, cells in rows.items()]
    for name, one in columns.items():
        for why, times in Counter(one["failures"]).most_common():
            lines += ["", f"{name}, {times} failed: {why}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
