"""Folders of runs as Strata writes them, with scores that are made up."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rows import placed, row

from analysis.report.gather import Gathered, gather
from common.config.report import ReportConfig
from common.results.results import Row, to_frame, write_results

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>$x$"
ASKS = {"cca_phone": "phonetic", "cca_word": "word", "cca_mel": "acoustic"}
TARGETS = {"cca_phone": "phone", "cca_word": "word", "cca_mel": "mel"}


def curve(layers: Sequence[str] = ("T0", "T1", "T2", "T3"), **keys: Any) -> list[Row]:
    """Three trials a layer, highest at T2."""
    return [
        row(
            **placed(layer),
            trial=trial,
            value=0.5 - 0.1 * abs(int(layer[1:]) - 2) + 0.004 * trial,
            **keys,
        )
        for layer in layers
        for trial in range(3)
    ]


def analysis_config(experiments: Sequence[str], **keys: Any) -> dict[str, Any]:
    members = {
        name: {
            "unit": "phone",
            "target": {"kind": TARGETS.get(name, "phone"), "path": None},
            "metric": {"_target_": "analysis.metrics.cca.PWCCA", "ridges": [[0.1, 0.1]]},
            "sampling": {"instances": 200, "labels": 39},
            "pooling": "mean",
            "asks": ASKS.get(name, "other"),
        }
        for name in experiments
    }
    sampling = {"samples": 1, "folds": 10, "trials": 3, "instances": None}
    same = {"name": "paper", "task": "analysis", "sampling": sampling, "precision": "fp32"}
    return same | {"experiments": members, "layers": {"select": "all"}} | keys


def write_run(
    folder: Path,
    rows: Sequence[Row],
    config: Mapping[str, Any] | None = None,
    age: float = 0,
    **metadata: Any,
) -> Path:
    """A finished run, `age` seconds old."""
    (folder / ".hydra").mkdir(parents=True)
    names = list(dict.fromkeys(one.experiment for one in rows))
    config = dict(config or analysis_config(names))
    corpus = {"partition": "all", "fingerprint": "0" * 64, "utterances": 20, "hours": 0.5}
    described = {"dataset": corpus, "model": {"checkpoint": "hub/small", "blocks": 3}}
    write_results(folder, to_frame(rows), described | {"config": config} | metadata)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".hydra" / "overrides.yaml").write_text("- experiment=paper\n")
    stamp = 1_700_000_000 - age
    os.utime(folder / "results.csv", (stamp, stamp))
    return folder


def training(folder: Path, top: int, seed: int, value: float, **recipe: Any) -> Path:
    """A finished fine-tuning with the last `top` of three blocks drawn anew."""
    same = {"experiment": "ctc", "unit": "utterance", "target": "text", "split": "speaker"}
    same |= {"layer": "", "layer_index": 0, "part": "", "trial": None, "seed": seed}
    key = f"{top} {seed} {json.dumps(recipe)}"
    rows = [
        row(metric=metric, value=rate, primary=metric == "wer", config_key=key, **same)
        for metric, rate in (("wer", value), ("cer", value / 2))
    ]
    finetune = {"reinit_top": top, "subset": "10m", "train": {"subset": None}, "updates": 8}
    config = {"name": "ctc", "task": "ctc", "experiments": {}, "finetune": finetune | recipe}
    corpus = {"name": "toy", "fingerprint": "1" * 64, "utterances": 30, "hours": 1.0}
    part = {"corpus": corpus, "utterances": 5, "minutes": 0.5, "speakers": ["a", "b"]}
    layers = [f"T{3 - k}" for k in range(top)]
    data = {"train": part, "test": part}
    return write_run(folder, rows, config, reinit={"layers": layers}, data=data)


def unfinished(folder: Path, task: str = "analysis", log: str = "") -> Path:
    """A run that was killed, or that failed with what its log says."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(f"task: {task}\n")
    (folder / "run.log").write_text(log)
    return folder


def write_runs(folder: Path) -> None:
    """Two models with controls, one of them hostile, a matrix, a sweep, a half-written run."""
    layers = ["T0", "T1", "T2", "T3"]
    rows = curve(layers, low=0.1, high=0.9) + curve(layers, experiment="cca_word")
    rows += curve(layers, control="random_weights", revision="random:0")
    rows += [row(layer="mel", part="", layer_index=0, control="mel", trial=k) for k in range(3)]
    write_run(folder / "one", rows)
    write_run(folder / "two", curve(layers, model=HOSTILE, revision="x"))
    pairs = [
        one
        for other in layers
        for one in curve(layers, experiment="cca_inter", target=f"small:{other}", model="b")
    ]
    write_run(folder / "inter", pairs)
    for top in range(3):
        for seed in range(2):
            training(folder / f"ctc_{top}_{seed}", top, seed, 0.5 - 0.1 * top + 0.02 * seed)
    unfinished(folder / "killed")


def gathered(*runs: Path | str, **keys: Any) -> Gathered:
    """What a report of these runs would gather."""
    return gather(ReportConfig(runs=[str(run) for run in runs], **keys))


def two(tmp_path: Path, config: dict[str, Any] | None = None, **keys: Any) -> tuple[Path, Path]:
    """A run and one of another model, which differs from it in `keys` too."""
    metadata = keys.pop("metadata", {})
    one = write_run(tmp_path / "one", curve())
    rows = curve(**({"model": "large", "revision": "sha256:l"} | keys))
    return one, write_run(tmp_path / "two", rows, config, **metadata)
