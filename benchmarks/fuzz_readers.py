"""Damaged files for every reader: nothing but the project's error may come of one, and no hang.

python benchmarks/fuzz_readers.py --inputs 100000 --seed 0

Each input is a good file of some format, changed by one to eight random edits (bytes flipped,
taken out, doubled, replaced by what has been seen to hurt) and read. A foreign exception, or a
read of more than five seconds, is a finding: the input is kept in --keep and the script ends with
status 1. Audio is among the formats; the system's own faults (full disks) are not tried here.
"""

import argparse
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
from pathlib import Path

import numpy as np
import soundfile
from safetensors.numpy import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.targets.sentence_pairs import read_pairs
from analysis.targets.word_pairs import read_benchmarks
from analysis.targets.word_vectors import read_table
from common import alignments, audio
from common.datasets import files
from common.records import StrataError

SLOW = 5.0  # seconds
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
    tiers = alignments.placed(alignment, 16_000, path, Counter())
    return [alignments.tier("word", rows, 16_000, path, Counter()) for _, rows in tiers]


def _transcript(path: Path) -> object:
    return files.transcript(path.with_suffix(".wav"), (), 16_000)


def _sentences(path: Path) -> object:
    read_pairs.cache_clear()
    return read_pairs(str(path))


def _heard(path: Path) -> object:
    return audio.header(path), audio.read(path)


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
    kinds = list(formats().items())
    for k in range(inputs):
        name, (good, read) = kinds[k % len(kinds)]
        path = folder / name
        path.write_bytes(damaged(good, rng))
        began, found = time.perf_counter(), ""
        try:
            read(path)
        except StrataError:
            pass
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if time.perf_counter() - began > SLOW:
            found += f" {time.perf_counter() - began:.1f} s"
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
