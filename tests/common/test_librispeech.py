import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from hub import Hub
from pyarrow import parquet
from speech import PHONES, WORDS

from common.datasets.librispeech import LibriSpeech
from common.records import StrataError

REPO = "gilkeyio/librispeech-alignments"
IDS = [f"{84 + i // 4}-121123-{i:04d}" for i in range(10)]
SHARD = "data/dev_clean-00000-of-00001.parquet"

# Reads the partition named on the command line and says what it got, as JSON.
SCRIPT = """
import json, pickle, sys, warnings
warnings.simplefilter("error")
# A C extension that datasets loads announces its own types without a module, whatever we do.
warnings.filterwarnings("ignore", message="builtin type .* has no __module__")
from common.datasets.librispeech import LibriSpeech
from common.records import StrataError
def show(keys):
    corpus = LibriSpeech(**keys).read()
    utterances = [pickle.loads(pickle.dumps(u)) for u in corpus.utterances]
    return {
        "ids": [u.id for u in utterances],
        "speakers": sorted({u.speaker for u in utterances}),
        "texts": [u.text for u in utterances],
        "n_samples": [u.n_samples for u in utterances],
        "lengths": [len(u.read()) for u in utterances],
        "sums": [round(float(abs(u.read()).sum()), 2) for u in utterances],
        "words": [[(i.start, i.end, i.label) for i in u.tiers["word"]] for u in utterances],
        "phones": [i.label for i in utterances[0].tiers["phone"]],
        "attributes": [dict(u.attributes) for u in utterances],
        "dropped": dict(corpus.dropped),
        "fingerprint": corpus.fingerprint,
        "imported": sorted({"torch", "torchcodec", "torchaudio"} & set(sys.modules)),
    }
for keys in json.loads(sys.argv[1]):
    try:
        print(json.dumps(show(keys)))
    except StrataError as error:
        print(json.dumps({"error": str(error)}))
"""


def flac(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, 16000).clip(-1, 1)
    soundfile.write(file, noise, 16000, format="FLAC")
    return file.getvalue()


def dicts(rows: list[tuple[float, float, str]], key: str) -> list[dict[str, object]]:
    return [{"start": start, "end": end, key: label} for start, end, label in rows]


def shard(ids: list[str], **attributes: str) -> bytes:
    """Parquet bytes as `push_to_hub` writes them: row groups, the features in the metadata."""
    rows = [
        {
            **attributes,
            "id": id,
            "audio": {"bytes": flac(IDS.index(id)), "path": f"{id}.flac"},
            "transcript": "SHE HAD",
            "words": dicts(WORDS, "word"),
            "phonemes": dicts(PHONES, "phoneme"),
        }
        for id in ids
    ]
    text, time = {"dtype": "string", "_type": "Value"}, {"dtype": "float64", "_type": "Value"}
    lists = {
        key: [{"start": time, "end": time, label: text}]
        for key, label in (("words", "word"), ("phonemes", "phoneme"))
    }
    plain = dict.fromkeys([*attributes, "id", "transcript"], text)
    features = {**plain, "audio": {"_type": "Audio"}, **lists}
    table = pyarrow.Table.from_pylist(rows)
    ordered = {name: features[name] for name in table.column_names}
    metadata = {"huggingface": json.dumps({"info": {"features": ordered}})}
    file = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), file, row_group_size=4)
    return file.getvalue()


@pytest.fixture
def libri(hub: Hub) -> Hub:
    listed = shard(IDS, sex="F", subset="dev-clean")
    hub.put("datasets", REPO, {SHARD: listed, "README.md": b"---\nlicense: cc-by-4.0\n---\n"})
    hub.put("datasets", REPO, {"data/dev_other-00000-of-00002.parquet": shard(IDS[:3])})
    hub.put("datasets", REPO, {"data/dev_other-00001-of-00002.parquet": shard(IDS[3:5])})
    return hub


def read_each(hub: Hub, each: list[dict], env: dict[str, str] | None = None) -> list[dict]:
    """What `SCRIPT` says of each set of keys, from one process."""
    defaults = {"partition": "dev_clean", "repo_id": REPO, "revision": "main", "streaming": False}
    root = str(Path(__file__).parents[2])
    environment = hub.env | {"PYTHONPATH": root} | (env or {})
    command = [sys.executable, "-c", SCRIPT, json.dumps([defaults | keys for keys in each])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def read(hub: Hub, env: dict[str, str] | None = None, **keys) -> dict:
    return read_each(hub, [keys], env)[0]


def blobs(hub: Hub) -> list[Path]:
    return [p for p in hub.home.rglob("*.parquet") if p.is_file()]


@pytest.mark.slow
def test_a_broken_download_resumes_and_offline_and_streamed_agree(libri: Hub) -> None:
    libri.truncate = {SHARD: 1}
    listed = read(libri)
    assert sum(line.startswith("GET") and SHARD in line for line in libri.requests) == 2
    assert listed["ids"] == IDS
    assert listed["speakers"] == ["84", "85", "86"]
    assert listed["texts"] == ["SHE HAD"] * 10
    assert listed["n_samples"] == listed["lengths"] == [16000] * 10
    assert listed["words"] == [[[1600, 6400, "she"], [6400, 14400, "had"]]] * 10
    assert listed["phones"] == ["sh", "iy", "hh", "ae", "d"]
    assert listed["attributes"] == [{"gender": "f", "subset": "dev-clean"}] * 10
    assert listed["dropped"] == {"word: silence": 20, "phone: silence": 20}
    assert listed["imported"] == []
    assert len(set(listed["sums"])) == 10  # every row its own audio
    assert not any("dev_other" in line for line in libri.requests)
    libri.requests.clear()
    streamed = read(libri, streaming=True, partition="dev-clean")
    audio_free = [k for k in streamed if k != "imported"]
    assert {k: streamed[k] for k in audio_free} == {k: listed[k] for k in audio_free}
    libri.stop()
    assert read(libri) == listed  # nobody said that the server is gone
    keys = [{}, {"partition": "dev_other"}]
    offline, other = read_each(libri, keys, {"HF_HUB_OFFLINE": "1"})
    assert offline == listed
    assert "HF_HOME" in other["error"]
    assert "librispeech_local" in other["error"]


@pytest.mark.slow
def test_streaming_leaves_no_audio_on_disk(libri: Hub) -> None:
    listed = read(libri, streaming=True, limit=2, partition="dev_other")
    assert listed["ids"] == [IDS[0], IDS[2]]
    assert listed["dropped"]["utterance: beyond dataset.limit"] == 3
    assert blobs(libri) == []


@pytest.mark.slow
def test_a_transfer_that_keeps_breaking_leaves_no_half_file(libri: Hub) -> None:
    libri.truncate = {SHARD: 99}
    error = read(libri, limit=1)["error"]
    assert f"{REPO}@main" in error
    assert "run again: it resumes" in error
    assert blobs(libri) == []


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_no_network_says_what_was_tried_and_what_to_do(libri: Hub, streaming: bool) -> None:
    libri.stop()
    error = read(libri, streaming=streaming)["error"]
    for part in (f"127.0.0.1:{libri.port}", f"HF_HOME={libri.home}", "HF_ENDPOINT", "_local"):
        assert part in error


def test_gated_missing_and_incomplete_repositories(libri: Hub) -> None:
    (libri.root / "datasets" / REPO / "data/dev_other-00001-of-00002.parquet").unlink()
    libri.put("datasets", "ldc/gated", {SHARD: b"x" * 99})
    libri.gated = {"ldc/gated"}
    table = pyarrow.table({"id": IDS, "audio": IDS, "transcript": IDS, "words": IDS})
    parquet.write_table(table, file := io.BytesIO())
    libri.put("datasets", "other/columns", {SHARD: file.getvalue()})
    missing, revision, partition, incomplete, gated, streamed, *columns = read_each(
        libri,
        [
            {"repo_id": "nobody/nothing"},
            {"revision": "v9"},
            {"partition": "test_clean"},
            {"partition": "dev_other", "streaming": True},
            {"repo_id": "ldc/gated"},
            {"repo_id": "ldc/gated", "streaming": True},
            {"repo_id": "other/columns"},
            {"repo_id": "other/columns", "streaming": True},
        ],
    )
    assert "nobody/nothing@main: no such dataset" in missing["error"]
    assert "@v9: no such revision" in revision["error"]
    assert "0 of 1 or more files data/test_clean" in partition["error"]
    assert "1 of 2 or more files" in incomplete["error"]
    for answer in columns:
        assert "no column phonemes among id, audio, transcript, words" in answer["error"]
    for answer in (gated, streamed):
        assert "ldc/gated@main: access is restricted" in answer["error"]
        assert "hf auth login" in answer["error"]


@pytest.mark.slow
def test_the_fingerprint_follows_the_revision(libri: Hub) -> None:
    before = read(libri, limit=1, streaming=True)["fingerprint"]
    libri.put("datasets", REPO, {"README.md": b"changed"})
    assert read(libri, limit=1, streaming=True)["fingerprint"] != before


def test_wrong_keys_fail_without_importing_the_hub() -> None:
    keys = {"repo_id": REPO, "revision": "main", "streaming": False}
    with pytest.raises(StrataError, match=r"dataset\.partition=dev: LibriSpeech has none such"):
        LibriSpeech(**{**keys, "partition": "dev"})
    with pytest.raises(StrataError, match=r"dataset\.repo_id=/data/x: not the id"):
        LibriSpeech(**{**keys, "partition": "dev_clean", "repo_id": "/data/x"})
