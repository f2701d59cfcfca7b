"""Do two versions of the code give the same numbers? Record one, check the other, bit for bit.

    python benchmarks/same_numbers.py record FOLDER     # before a change of structure
    python benchmarks/same_numbers.py check FOLDER      # after it; exit code 1 where one differs

A fixed set of small runs of every kind of experiment on generated speech, each as a user types it.
Compared are every value of every `results.csv` (apart from the commit and the hash of the
configuration), the exported weights, and the names of the cache entries: a run of the later code
finds what the earlier one kept. `--only NAME …` takes some of the runs alone.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IGNORED = ("git_commit", "config_key", "run", "revision")  # of the code, the folder, the checkout
SPEECH = ("dataset=synthetic", "dataset.minutes=4", "dataset.speakers=14")
# An experiment is refused a limit that it does not draw by.
FEW_UTTERANCES = ("sampling.samples=2", "sampling.utterances=40")
FEW_UNITS = ("sampling.samples=2", "sampling.instances=15", "sampling.labels=30")
SMALL = (*FEW_UTTERANCES, *FEW_UNITS[1:])
# Words of generated speech are shorter than those that are told apart in recordings.
SHORT = tuple(
    f"experiments.{name}.sampling.{limit}"
    for name in ("word_discrimination", "word_discrimination_dtw")
    for limit in ("min_seconds=0.2", "min_characters=3")
)
TABLES = (
    *(f"experiments.cca_{n}.target.path={{tables}}/vectors.txt" for n in ("glove", "agwe")),
    *(
        f"experiments.cca_{n}.target.path={{tables}}/features.txt"
        for n in ("semantic", "syntactic")
    ),
    "experiments.word_similarity.target.path={tables}/pairs.csv",
    "experiments.spoken_sts.target.path={tables}/sentences.csv",
)
PAPER = ("experiment=paper", "model=wav2vec2_tiny", *SPEECH, *SMALL)
INTER = ("experiment=cca_inter", "model=wav2vec2_tiny", "model@other=hubert_tiny", *SPEECH, *SMALL)
TRAINED = ("debug=default", "seed=3")

# In this order: growth analyses what pretrain made, and report reads the runs before it.
RUNS: Mapping[str, tuple[str, ...]] = {
    "demo": ("dataset.minutes=4", "dataset.speakers=14", *SMALL),
    "paper_frame": (*PAPER, "split=frame"),
    "paper_utterance": (*PAPER, "split=utterance"),
    "paper_speaker": (*PAPER, "split=speaker"),
    "paper_controls": (*PAPER, "split=speaker", "controls=true"),
    "full": ("experiment=full", "model=hubert_tiny", *SPEECH, *SMALL, *SHORT, *TABLES),
    # What `full` leaves out unless heavy=true.
    "abx_phone": ("experiment=abx_phone", "model=hubert_tiny", *SPEECH, *FEW_UTTERANCES),
    "context": ("experiment=context", "model=hubert_tiny", *SPEECH, *FEW_UTTERANCES),
    "cca_word_parts": ("experiment=cca_word_parts", "model=hubert_tiny", *SPEECH, *FEW_UNITS),
    "inter_same": (*INTER, "target.pairs=same"),
    "inter_all": (*INTER, "target.pairs=all", "sampling.frames=900", "layers.indices=[T0,T3,T6]"),
    "inter_word": (*INTER, "experiments.cca_inter.unit=word", "target.pairs=same"),
    "pretrain": ("experiment=pretrain", "model=hubert_tiny", *TRAINED),
    "growth": (
        "experiment=growth",
        "model=hubert_tiny",
        "snapshots={runs}/pretrain/snapshots",
        *TRAINED,
    ),
    "ctc": ("experiment=ctc", "finetune.reinit_top=2", *TRAINED),
    "report": ("experiment=report", "report.runs={runs}/paper_speaker"),
}


def main() -> None:
    """Record or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("folder", type=Path, help="where the recorded numbers are")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    now = folder / ("before" if arguments.what == "record" else "after")
    make_tables(folder / "tables")
    wrong = 0
    for name in arguments.only:
        started = time.monotonic()
        found = run(name, now, folder / "tables")
        record = folder / f"{name}.json"
        if arguments.what == "record":
            record.write_text(json.dumps(found, indent=1))
            verdict = f"recorded {len(found['rows'])} rows, {len(found['entries'])} cache entries"
        else:
            differences = compare(json.loads(record.read_text()), found)
            wrong += bool(differences)
            verdict = "; ".join(differences[:5]) or f"the same {len(found['rows'])} rows"
        print(f"{name:16} {time.monotonic() - started:5.0f} s  {verdict}", flush=True)
    sys.exit(1 if wrong else 0)


def run(name: str, folder: Path, tables: Path) -> dict[str, Any]:
    """One run, as typed on a command line, with a cache of its own; what came of it."""
    out, cache = folder / "runs" / name, folder / "cache" / name
    for path in (out, cache):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    places = {"runs": folder / "runs", "tables": tables}
    overrides = [override.format(**places) for override in RUNS[name]]
    command = [sys.executable, "run.py", *overrides, f"hydra.run.dir={out}", f"paths.cache={cache}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return {
        "rows": [row for path in sorted(out.rglob("results*.csv")) for row in rows_of(path)],
        "weights": {
            str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*.safetensors"))
        },
        "entries": sorted(str(p.parent.relative_to(cache)) for p in cache.glob("*/*/key.json")),
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table as written, without what differs between any two checkouts."""
    with path.open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in IGNORED}
            for row in csv.DictReader(file)
        ]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs, in words; columns that only the later code has are no difference."""
    differences = []
    if len(before["rows"]) != len(after["rows"]):
        differences.append(f"{len(after['rows'])} rows instead of {len(before['rows'])}")
    pairs = zip(sorted(before["rows"], key=place), sorted(after["rows"], key=place), strict=False)
    for number, (old, new) in enumerate(pairs, 1):
        for column, value in old.items():
            if new.get(column) != value:
                where = " ".join(
                    old.get(key, "") for key in ("experiment", "layer", "control", "metric")
                )
                differences.append(f"row {number} ({where}): {column} {value} -> {new.get(column)}")
    for what in ("weights", "entries"):
        if before[what] != after[what]:
            differences.append(f"other {what}: {before[what]} -> {after[what]}")
    return differences


def place(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row is of, whatever the order of the experiments in its file."""
    keys = ("experiment", "control", "target", "layer", "metric", "sample", "trial", "step")
    return tuple(row.get(key, "") for key in keys)


def make_tables(folder: Path) -> None:
    """Word vectors, word features, word pairs and sentence pairs for words of the made speech."""
    sys.path.insert(0, str(ROOT))
    from common.datasets.synthetic import Synthetic

    folder.mkdir(parents=True, exist_ok=True)
    corpus = Synthetic(minutes=4, speakers=14, seed=0, write_to=None).read()
    texts = sorted({utterance.text for utterance in corpus.utterances})
    words = sorted({interval.label for u in corpus.utterances for interval in u.tiers["word"]})
    rng = random.Random(0)
    lines = [" ".join([word, *(f"{rng.gauss(0, 1):.4f}" for _ in range(10))]) for word in words]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    kinds = ("noun", "verb", "other", "rest")
    shares = [(word, {kind: round(rng.random(), 3) for kind in kinds}) for word in words]
    lines = [f"{word}\t{json.dumps(share)}" for word, share in shares]
    (folder / "features.txt").write_text("\n".join(lines) + "\n")
    pairs = [(*rng.sample(words, 2), round(10 * rng.random(), 2)) for _ in range(400)]
    lines = [f"{first},{second},{score}" for first, second, score in pairs]
    (folder / "pairs.csv").write_text("\n".join(["word1,word2,similarity", *lines]) + "\n")
    with (folder / "sentences.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text_a", "text_b", "score"))
        writer.writerows((*rng.sample(texts, 2), round(5 * rng.random(), 2)) for _ in range(60))


if __name__ == "__main__":
    main()
