"""Damaged input for every reader: nothing but the project's error may come of one, and no hang.

python benchmarks/fuzz_readers.py --inputs 100000 --seed 0

Each input is a good file of some format, changed by one to eight random edits (bytes flipped,
taken out, doubled, replaced by what has been seen to hurt) and read. A foreign exception, or a
read that takes the processor for more than five seconds, is a finding: the input is kept in --keep
and the script ends with status 1. Audio is among the formats, and so are a run's results beside
another run's in a report, and command lines, of which Hydra's own errors, which it prints as such,
are no finding either. The system's own faults (full disks) are not tried here.
"""

import argparse
import dataclasses
import gzip
import io
import json
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from safetensors.numpy import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.report.advice.advise import advise
from analysis.report.content import page_content
from analysis.report.gather import gather
from analysis.report.page import as_json
from analysis.targets.sentence_pairs import read_pairs
from analysis.targets.word_pairs import read_benchmarks
from analysis.targets.word_vectors import read_table
from common import alignments, audio
from common.config import CONF, ReportConfig, register, resolve
from common.datasets import files
from common.records import StrataError
from common.results.results import METADATA, RESULTS, Row, to_frame, write_results

SLOW = 5.0  # seconds of processor time
RARELY = ("results.csv", "metadata.json", "command.line")  # they take half a second each
RARE = 60  # inputs of each other kind to one of these
PIECES = (
    *(b"\0", b"\n", b"\t", b'"', b'""', b"-", b"-5", b"1e999", b"nan", b"Infinity", b"\xe9"),
    *("²".encode(), b"0" * 400, b"[" * 2000, b"{}", b"[]", b"null", b"\xff\xfe", b"!", b"<exists>"),
    *(b"99999999999999999999", b"intervals: size = 9", b",", b" ", b"\xef\xbb\xbf", b"1.5"),
)
LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "she"
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "said ""no"""
'''
SHORT = """"ooTextFile"
"TextGrid"
0\n1\n<exists>\n1
"IntervalTier"
"phones"
0\n1\n1\n0\n1
"ah"
"""
TABLE = "the 0.1 0.2 0.3\nof 0.4 0.5 0.6\nand 0.7 0.8 0.9\n" * 2
HUB = {"words": [{"word": "a", "start": 0.1, "end": 0.2}, {"word": "b", "start": 0.2, "end": 0.4}]}
MFA = {"start": 0, "end": 1, "tiers": {"words": {"type": "interval", "entries": [[0, 1, "a"]]}}}

COMMAND = """experiment=paper
model=hubert_tiny
dataset=synthetic
dataset.minutes=2
dataset.only_speakers=['0001','0002']
layers.indices=[C7,T3]
layers=last4
sampling.samples=2
sampling.min_seconds=0.1
experiments.cca_phone.sampling.instances=20
metric=cka
split=speaker
model.max_seconds=30
hydra.run.dir=runs/mine
+plugins=[mine]
debug=default
"""

Reader = Callable[[Path], object]


def formats() -> dict[str, tuple[bytes, Reader]]:
    """Name of a file -> a good one, and what reads it."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("t.txt", TABLE)
    npz = io.BytesIO()
    np.savez(npz, words=np.array(["a", "b"]), vectors=np.ones((2, 3), np.float32))
    words = np.frombuffer(b"a\nb\n", np.uint8)
    safe = save({"words": words, "vectors": np.ones((2, 3), np.float32)})
    texts: dict[str, tuple[bytes, Reader]] = {
        "long.TextGrid": (LONG.encode(), _aligned),
        "short.TextGrid": (SHORT.encode(), _aligned),
        "utf16.TextGrid": (LONG.encode("utf-16"), _aligned),
        "hub.json": (json.dumps(HUB).encode(), _aligned),
        "mfa.json": (json.dumps(MFA).encode(), _aligned),
        "sx1.phn": (b"0 2260 h#\n2260 3000 sh\n3000 4000 ix\n", _aligned),
        "said.lab": (b"she said no\n", _transcript),
        "glove.txt": (TABLE.encode(), read_table),
        "word2vec.txt": (("6 3\n" + TABLE).encode(), read_table),
        "glove.gz": (gzip.compress(TABLE.encode(), mtime=0), read_table),
        "glove.zip": (zipped.getvalue(), read_table),
        "table.npz": (npz.getvalue(), read_table),
        "table.safetensors": (safe, read_table),
        "tags.features": (b'dog\t{"n": 1.0}\nrun\t{"v": 0.75, "n": 0.25}\n', read_table),
        "words.csv": (b"word1,word2,similarity\nsun,moon,3.5\nsea,lake,7\n", read_benchmarks),
        "ids.csv": (b"id_a,id_b,score\n1a,1b,3.8\n2a,2b,0.4\n", _sentences),
        "texts.tsv": (b"text_a\ttext_b\tscore\nshe had\tshe has\t4\n", _sentences),
    }
    table, metadata = _results()
    texts |= {
        RESULTS: (table, _reported),
        METADATA: (metadata, _reported),
        "command.line": (COMMAND.encode(), _composed),
    }
    kinds = ("wav", "flac", "ogg")
    sounds: dict[str, tuple[bytes, Reader]] = {
        f"sound.{kind}": (_sound(noise, kind), _heard) for kind in kinds
    }
    return texts | sounds


def _sound(noise: "np.ndarray[tuple[int], np.dtype[np.float64]]", kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise, 16_000, format=kind)
    return file.getvalue()


def _aligned(path: Path) -> object:
    alignment = alignments.read(path)
    tiers = alignments.in_audio_time(alignment, 16_000, path, Counter())
    return [alignments.tier("word", rows, 16_000, path, Counter()) for _, rows in tiers]


def _transcript(path: Path) -> object:
    return files.transcript(path.with_suffix(".wav"), (), 16_000)


def _sentences(path: Path) -> object:
    read_pairs.cache_clear()
    return read_pairs(str(path))


def _heard(path: Path) -> object:
    return audio.header(path), audio.read(path)


@lru_cache
def _results() -> tuple[bytes, bytes]:
    """The files of a run with a curve of three layers."""
    names = {"model": "small", "dataset": "toy", "partition": "all", "experiment": "cca_phone"}
    names |= {"unit": "phone", "target": "phone", "metric": "pwcca", "split": "speaker"}
    names |= {"revision": "sha256:0", "config_key": "key", "git_commit": "commit"}
    place = {"layer": "T0", "layer_index": 0, "part": "transformer", "sample": 0, "trial": 0}
    numbers = {"value": 0.5, "n": 900, "dim": 32, "seed": 0}
    row = Row(**names, **place, **numbers)  # type: ignore[arg-type]
    places = [(layer, trial) for layer in range(3) for trial in range(3)]
    rows = [
        dataclasses.replace(
            row, layer=f"T{k}", layer_index=k, trial=trial, value=0.5 + 0.1 * k + 0.01 * trial
        )
        for k, trial in places
    ]
    analysis = {"unit": "phone", "target": {"kind": "phone"}, "metric": {"_target_": "a.PWCCA"}}
    config = {
        "task": "analysis",
        "experiments": {"cca_phone": analysis | {"sampling": {"instances": 200}}},
        "sampling": {"samples": 1, "folds": 10, "trials": 3},
        "layers": {"select": "all", "index": None, "indices": None},
    }
    corpus = {"partition": "all", "fingerprint": "0", "utterances": 9, "dropped": {"phone: x": 2}}
    metadata = {
        "dataset": corpus,
        "model": {"checkpoint": "hub/small", "blocks": 2},
        "reinit": {"layers": ["T2"]},
        "studies": [
            {"experiments": ["cca_phone"], "versions": {"encoder": 3}, "dropped": {"y": 1}}
        ],
        "not_scored": {"cca_word": "no words"},
        "not_complete": {"cca_phone": ["u1"]},
        "versions": {"torch": "2"},
        "config": config,
    }
    with tempfile.TemporaryDirectory() as folder:
        write_results(Path(folder), to_frame(rows), metadata)
        return (Path(folder) / RESULTS).read_bytes(), (Path(folder) / METADATA).read_bytes()


def _reported(path: Path) -> object:
    """The report of a good run and of one with this file in the place of its own."""
    runs = path.parent / "runs"
    for name in ("good", "bad"):
        (runs / name).mkdir(parents=True, exist_ok=True)
        for file, content in zip((RESULTS, METADATA), _results(), strict=True):
            written = path.read_bytes() if name == "bad" and path.name == file else content
            (runs / name / file).write_bytes(written)
    gathered = gather(ReportConfig(runs=[str(runs)], mix=True))
    return as_json(page_content(gathered, advise(gathered.frame)))


def _composed(path: Path) -> object:
    """The configuration of a command line, an override a line: those that were damaged, if any."""
    lines = path.read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape").split("\n")
    lines = [line for line in lines if line not in COMMAND.split("\n")] or COMMAND.split()
    lines = ["model=hubert_tiny", "dataset=synthetic", *lines]
    register()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            cfg = compose("config", [line for line in lines if line])
    except (HydraException, OmegaConfBaseException) as error:
        raise StrataError(str(error)) from error
    return resolve(cfg)


def damaged(good: bytes, rng: random.Random) -> bytes:
    """A file after one to eight random edits."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 8)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 8, 64)))
        edit = rng.randrange(6)
        if edit == 0:
            data[start:end] = b""
        elif edit == 1:
            data[start:end] = data[start:end] * 2
        elif edit == 2:
            data[start:start] = rng.choice(PIECES)
        elif edit == 3:
            data[start:end] = rng.choice(PIECES)
        elif edit == 4:
            data[start:end] = rng.randbytes(end - start)
        else:
            del data[rng.choice((start, len(data))) :]
    return bytes(data)


def findings(inputs: int, seed: int, folder: Path) -> Iterator[tuple[Path, str]]:
    """Files in `folder` on which a reader raised something else than StrataError, or was slow."""
    rng = random.Random(seed)
    kinds = formats()
    quick = [name for name in kinds if name not in RARELY]
    names = [*quick * RARE, *RARELY]
    for k in range(inputs):
        name = names[k % len(names)]
        good, read = kinds[name]
        path = folder / name
        path.write_bytes(damaged(good, rng))
        began, found = time.process_time(), ""
        try:
            read(path)
        except StrataError:
            pass
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if time.process_time() - began > SLOW:
            found += f" {time.process_time() - began:.1f} s"
        if found:
            yield path, found


def main() -> int:
    """The command line: 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that hurt")
    options = parser.parse_args()
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for path, found in findings(options.inputs, options.seed, Path(folder)):
            print(f"{path.name}: {found[:300]}")
            count += 1
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{count}.{path.name}").write_bytes(path.read_bytes())
    print(f"{options.inputs} inputs, seed {options.seed}: {count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
