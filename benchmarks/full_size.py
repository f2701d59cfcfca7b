"""A full-size run beside the bare forward pass: what does analysing every layer cost?

    python benchmarks/full_size.py --utterances 500 --samples 1 3 --precision fp32 -- \
        dataset=textgrid dataset.audio_root=… dataset.alignment_root=…

Runs `experiment=paper` on wav2vec2-base's real configuration with random weights, for each number
of sample sets in a process of its own, after the plain model has seen the same waveforms in that
same process. Prints seconds by stage and the ratios to the bare forward pass.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from omegaconf import OmegaConf  # noqa: E402

from common.config import Config, register, resolve  # noqa: E402
from common.records import Corpus  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=500)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="dataset and other overrides, after --")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    for samples in options.samples:
        report(samples, in_own_process(options, samples))


def in_own_process(options: argparse.Namespace, samples: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", "--samples", str(samples)]
    command += ["--utterances", str(options.utterances), "--precision", options.precision]
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
    from common.timing import Stopwatch, peak_memory_bytes

    with tempfile.TemporaryDirectory() as scratch:
        config = configure(options, Path(scratch))
        speech = read_speech(config)
        bare, seconds = bare_forward(config, speech.whole)
        before = peak_memory_bytes()
        watch, start = Stopwatch(), perf_counter()
        description = describe(config.model)
        chosen = choose_layers(config, description.layers)
        key = measure.statistics_key(config, speech.own, revision_of(config.model))
        cache = Cache(Path(scratch))
        studies, *_ = build_studies(Setting(config, speech, description.layers, cache, key))
        collect(config, speech.whole, studies, watch, {})
        with watch.stage("scoring"):
            jobs = [job for study in studies for job in study.jobs(chosen)]
            scored, failures = measure.score(jobs, measure.workers_for(studies))
        return {
            "audio": seconds,
            "bare": bare,
            "total": perf_counter() - start,
            "stages": watch.seconds,
            "peak_before": before,
            "peak": peak_memory_bytes(),
            "scores": sum(len(one.scores) for one in scored),
            "failures": failures,
        }


def configure(options: argparse.Namespace, scratch: Path) -> Config:
    from hydra import compose, initialize_config_dir
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

    Wav2Vec2Config().save_pretrained(scratch)  # its defaults are wav2vec2-base
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(scratch)
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [
            "experiment=paper",
            f"model.checkpoint={scratch}",
            "model.random_init=true",
            f"precision={options.precision}",
            f"sampling.samples={options.samples[0]}",
            f"dataset.limit={options.utterances}",
            *options.overrides,
        ]
        composed = compose("config", overrides=overrides)
        OmegaConf.resolve(composed)
        return resolve(composed)


def bare_forward(config: Config, corpus: Corpus) -> tuple[float, float]:
    """Seconds that the plain Hugging Face model takes for all utterances; seconds of audio."""
    import torch
    from transformers import AutoFeatureExtractor

    from common.encoder.encoder import load_encoder

    encoder = load_encoder(config.model, config.device, config.precision)
    extractor = AutoFeatureExtractor.from_pretrained(config.model.checkpoint)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16")
    with torch.inference_mode(), autocast:
        bare, samples = 0.0, 0
        for utterance in corpus.utterances:
            waveform = utterance.read()
            start = perf_counter()
            inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
            encoder.model(inputs["input_values"])
            bare += perf_counter() - start
            samples += len(waveform)
    return bare, samples / 16_000


def report(samples: int, figures: dict[str, Any]) -> None:
    bare, stages = figures["bare"], figures["stages"]
    print(
        f"{samples} sample set(s): {figures['audio']:.0f} s of audio, {figures['scores']} scores"
        f"{', FAILED: ' + str(figures['failures']) if figures['failures'] else ''}"
    )
    print(f"  bare forward pass {bare:8.1f} s  {figures['audio'] / bare:6.1f} x real time")
    for stage, seconds in stages.items():
        print(f"  {stage:17} {seconds:8.1f} s  {seconds / bare:6.2f} x bare")
    print(f"  {'total':17} {figures['total']:8.1f} s  {figures['total'] / bare:6.2f} x bare")
    peak, before = figures["peak"] / 1e9, figures["peak_before"] / 1e9
    print(f"  peak memory {peak:.2f} GB ({before:.2f} GB in the bare forward pass)")


if __name__ == "__main__":
    main()
