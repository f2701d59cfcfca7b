"""The mission's own command, `python run.py experiment=cca_phone model=wav2vec2_base`, on a Hub."""

import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import pyarrow
import pytest
import safetensors.torch
import soundfile
import torch
from hub import Hub
from pyarrow import parquet
from running import ROOT, Finished

from common.datasets.synthetic import Synthetic
from common.records import SAMPLE_RATE, Interval, Utterance

MODEL = "facebook/wav2vec2-base"
DATA = "gilkeyio/librispeech-alignments"
SHARD = "data/dev_clean-00000-of-00001.parquet"
MISSION = ["experiment=cca_phone", "model=wav2vec2_base"]
TEXT, TIME = {"dtype": "string", "_type": "Value"}, {"dtype": "float64", "_type": "Value"}
FEATURES = {
    **dict.fromkeys(("id", "subset", "sex", "transcript"), TEXT),
    "audio": {"_type": "Audio"},
    "words": [{"word": TEXT, "start": TIME, "end": TIME}],
    "phonemes": [{"phoneme": TEXT, "start": TIME, "end": TIME}],
}


def row(utterance: Utterance) -> dict[str, Any]:
    """An utterance as the Hub's data set has it: FLAC bytes, times in seconds, phones as IY1."""
    speaker, index = utterance.id.removeprefix("s").split("-")

    def intervals(tier: str, key: str) -> list[dict[str, object]]:
        def timed(i: Interval) -> dict[str, object]:
            label = i.label.upper() if tier == "phone" else i.label
            return {key: label, "start": i.start / SAMPLE_RATE, "end": i.end / SAMPLE_RATE}

        return [timed(i) for i in utterance.tiers[tier]]

    soundfile.write(file := io.BytesIO(), utterance.read(), SAMPLE_RATE, format="FLAC")
    return {
        "id": f"{int(speaker) + 84}-121123-{int(index):04d}",
        "subset": "dev-clean",
        "sex": "F",
        "transcript": utterance.text.upper(),
        "audio": {"bytes": file.getvalue(), "path": f"{utterance.id}.flac"},
        "words": intervals("word", "word"),
        "phonemes": intervals("phone", "phoneme"),
    }


def shard(utterances: tuple[Utterance, ...]) -> bytes:
    """Parquet bytes as `push_to_hub` writes them."""
    table = pyarrow.Table.from_pylist([row(u) for u in utterances])
    features = {name: FEATURES[name] for name in table.column_names}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(
        table.replace_schema_metadata(metadata), file := io.BytesIO(), row_group_size=20
    )
    return file.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub with a small random wav2vec 2.0 and two minutes of aligned speech."""
    folder = tmp_path_factory.mktemp("hub")
    hub = Hub(folder / "root", folder / "hf_home")
    models.save("wav2vec2_base", hub.root / "models" / MODEL)
    keys = {"partition": "all", "limit": None, "seed": 3, "write_to": None}
    corpus = Synthetic(minutes=2, speakers=10, **keys).read()
    hub.put("datasets", DATA, {SHARD: shard(corpus.utterances)})
    yield hub
    hub.stop()


def start(hub: Hub, cwd: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Begin a Python command in a folder of its own, with nothing but the environment added."""
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=hub.env | {"OMP_NUM_THREADS": "1", "STRATA_CACHE": str(cwd / "cache")} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """What it said, after at most four minutes."""
    try:
        output = process.communicate(timeout=240)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


def run(hub: Hub, cwd: Path, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`python run.py …` from its start to its end."""
    return end(start(hub, cwd, str(ROOT / "run.py"), *overrides, **env))


@pytest.fixture(scope="module")
def nowhere(
    served: Hub, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.Popen[str], str, Path]:
    """The command without network, its endpoint and HF_HOME; it goes on beside other tests."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    cwd = tmp_path_factory.mktemp("nowhere")
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cwd / "empty")}
    return start(served, cwd, str(ROOT / "run.py"), *MISSION, **env), endpoint, cwd / "empty"


def finished(done: subprocess.CompletedProcess[str], cwd: Path) -> Finished:
    """The one run that a command left in its folder's `runs`."""
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = cwd.glob("runs/cca_phone/wav2vec2_base/*/results.csv")
    printed = [cwd / line for line in done.stdout.splitlines() if line.endswith("results.csv")]
    assert printed == [results]
    return Finished(results.parent)


@pytest.fixture(scope="module")
def online(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The command verbatim, while the first transfer of the weights breaks off in the middle."""
    served.truncate["model.safetensors"] = 1
    cwd = tmp_path_factory.mktemp("online")
    return finished(run(served, cwd, *MISSION), cwd)


def test_the_missions_command_runs_verbatim(served: Hub, online: Finished) -> None:
    rows, metadata = online.rows, online.metadata
    assert list(rows["layer"].unique()) == ["T0", "T1", "T2", "T3"]
    assert set(rows["model"]) == {"wav2vec2_base"}
    assert set(rows["dataset"]) == {"librispeech"}
    assert set(rows["partition"]) == {"dev_clean"}
    assert set(rows["sample"]) == {0, 1, 2}
    assert set(rows["trial"]) == set(range(10))
    assert len(rows) == 4 * 3 * 10
    assert metadata["dataset"]["licence"] == "CC BY 4.0"
    assert metadata["forward_pass"]["dropped"].get("utterance: audio could not be read", 0) == 0


def test_results_carry_the_commits_that_the_hub_resolved(served: Hub, online: Finished) -> None:
    commit = served.commit("models", MODEL)
    assert set(online.rows["revision"]) == {commit}
    assert online.metadata["model"]["revision"] == commit
    assert online.metadata["dataset"]["fingerprint"]


def test_a_broken_transfer_of_the_weights_was_taken_up_again(served: Hub, online: Finished) -> None:
    gets = [r for r in served.requests if re.match(rf"GET /{MODEL}/.*/model.safetensors", r)]
    assert len(gets) == 2
    snapshots = served.home / "hub/models--facebook--wav2vec2-base/snapshots"
    (blob,) = {path.resolve() for path in snapshots.glob("*/model.safetensors")}
    original = served.root / "models" / MODEL / "model.safetensors"
    assert blob.read_bytes() == original.read_bytes()
    assert not list(served.home.rglob("*.incomplete"))


@pytest.mark.slow
@pytest.mark.usefixtures("failures")  # whose runs need the Hub, which is stopped here
def test_offline_the_same_files_give_the_same_numbers(
    served: Hub, online: Finished, tmp_path: Path
) -> None:
    served.stop()
    try:
        again = finished(run(served, tmp_path, *MISSION, HF_HUB_OFFLINE="1"), tmp_path)
    finally:
        served.start()
    assert again.passed  # its own forward pass: the statistics' cache was empty
    assert again.curve("cca_phone") == online.curve("cca_phone")
    assert set(again.rows["revision"]) == set(online.rows["revision"])


# Several command lines in one process, for each costs four seconds of imports: what it exits with
# and what it says, as JSON. Each job's log goes to the file that Hydra sets up.
SEVERAL = """
import contextlib, io, json, runpy, sys
from pathlib import Path
run, each = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, str(Path(run).parent))
for k, overrides in enumerate(each):
    sys.argv = [run, *overrides, f"hydra.run.dir=job{k}"]
    code = 0
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            runpy.run_path(run, run_name="__main__")
        except SystemExit as exit:
            code = exit.code
    log = Path(f"job{k}/run.log").read_text()
    files = [p.name for p in Path(f"job{k}").iterdir()]
    print(json.dumps({"code": code, "said": log + errors.getvalue(), "files": files}))
"""


CASES = {
    name: ["experiment=cca_phone", "model=hf", f"model.checkpoint=lab/{name}"]
    for name in ("gated", "weightless", "silent", "cut", "half", "absent")
}
CASES["revision"] = [*MISSION, "model.revision=v9"]
CASES["dataset"] = [*MISSION, "dataset.repo_id=lab/gated"]


@pytest.fixture(scope="module")
def faulty(
    served: Hub, online: Finished, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.Popen, Path]:
    """Runs on faulty repositories."""
    files = {p.name: p.read_bytes() for p in (served.root / "models" / MODEL).iterdir()}
    weights = files.pop("model.safetensors")
    served.put("models", "lab/gated", files)
    served.put("models", "lab/weightless", files)
    served.put("models", "lab/silent", {"config.json": files["config.json"]})
    index = json.dumps({"weight_map": {"all": "shard.safetensors"}}).encode()
    shards = {"model.safetensors.index.json": index, "shard.safetensors": weights}
    served.put("models", "lab/cut", files | shards)
    served.put("models", "lab/half", files | {"pytorch_model.bin": weights[: len(weights) // 2]})
    served.put("datasets", "lab/gated", {SHARD: b"x" * 99})
    served.gated = {"lab/gated"}
    served.truncate["shard.safetensors"] = 99
    cwd = tmp_path_factory.mktemp("faulty")
    script = ["-c", SEVERAL, str(ROOT / "run.py"), json.dumps(list(CASES.values()))]
    return start(served, cwd, *script, HF_HOME=str(cwd / "home")), cwd / "home"


@pytest.fixture(scope="module")
def failures(
    online: Finished, nowhere: object, faulty: tuple[subprocess.Popen, Path]
) -> dict[str, str]:
    """What is said of each."""
    done = end(faulty[0])
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"code')]
    for answer in answers:
        assert answer["code"] == 1, answer
        assert "results.csv" not in answer["files"]
        assert "Traceback" not in answer["said"]
        assert answer["said"].count("[ERROR]") == 1
        assert "HTTP Request" not in answer["said"]
    return dict(zip(CASES, (answer["said"] for answer in answers), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("gated", ["lab/gated", "access is restricted", "hf auth login", "HF_TOKEN"]),
        ("weightless", ["lab/weightless", "no model.safetensors", "model.random_init=true"]),
        ("silent", ["lab/silent", "no preprocessor_config.json"]),
        ("cut", ["lab/cut", "shard.safetensors", "run again: it resumes"]),
        ("half", ["lab/half", "cannot be read", "cut short", "pytorch_model.bin"]),
        ("absent", ["lab/absent", "no such model", "spelling"]),
        ("revision", [MODEL, "v9", "no such revision", "model.revision=main"]),
        ("dataset", ["lab/gated", "access is restricted", "hf auth login"]),
    ],
)
def test_what_a_repository_lacks_is_told_with_a_remedy(
    case: str, parts: list[str], failures: dict[str, str]
) -> None:
    for part in parts:
        assert part in failures[case]


@pytest.mark.slow
def test_a_transfer_that_keeps_breaking_leaves_no_half_file_in_use(
    failures: dict[str, str], faulty: tuple[subprocess.Popen, Path]
) -> None:
    _, home = faulty
    snapshots = home / "hub/models--lab--cut/snapshots"
    names = {path.name for path in snapshots.glob("*/*")}
    assert {"config.json", "preprocessor_config.json"} <= names
    assert "shard.safetensors" not in names


BOTH = """
import sys

import torch

from common.config import ModelConfig
from common.encoder.encoder import load_encoder

def encoder(revision):
    return load_encoder(ModelConfig(name="shapes", checkpoint="lab/shapes", revision=revision))

main, proposed = encoder("main"), encoder("refs/pr/3")
weights = proposed.model.state_dict()
print(all(torch.equal(x, weights[key]) for key, x in main.model.state_dict().items()))
print(main.revision != proposed.revision)
"""


@pytest.mark.slow
def test_weights_as_bin_on_main_and_as_safetensors_in_a_pull_request(
    served: Hub, tmp_path: Path
) -> None:
    """As wav2vec2-base, HuBERT and WavLM have them on the Hub."""
    files = {p.name: p.read_bytes() for p in (served.root / "models" / MODEL).iterdir()}
    weights = files.pop("model.safetensors")
    torch.save(safetensors.torch.load(weights), old := io.BytesIO())
    served.put("models", "lab/shapes", files | {"pytorch_model.bin": old.getvalue()})
    served.put("models", "lab/shapes-pr-3", files | {"model.safetensors": weights})
    done = end(start(served, tmp_path / "run", "-c", BOTH, PYTHONPATH=str(ROOT)))
    assert done.stdout.split() == ["True", "True"], done.stderr
    fetched = {p.name for p in (served.home / "hub/models--lab--shapes").glob("snapshots/*/*")}
    assert {"pytorch_model.bin", "model.safetensors"} <= fetched


@pytest.mark.slow
def test_without_network_the_error_says_what_to_put_where(
    nowhere: tuple[subprocess.Popen[str], str, Path],
) -> None:
    process, endpoint, home = nowhere
    done = end(process)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in output
    for part in (MODEL, endpoint, f"HF_HOME={home}", "HF_ENDPOINT", "model.checkpoint"):
        assert part in output
