"""`experiment=features`: the files hold the model's own hidden states, in every format."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import h5py
import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from marks import slow
from numpy.typing import NDArray
from running import execute, resolved
from safetensors.numpy import load_file
from transformers import AutoModel

from common.records import StrataError

Arrays = dict[str, NDArray[np.generic]]

LENGTHS = {"one": 9000, "two": 16001, "three": 12345}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def common(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three recordings of noise, and a small model."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for id, length in LENGTHS.items():
        soundfile.write(folder / f"{id}.wav", 0.1 * rng.normal(size=length), 16_000)
    model = ["model=hf", f"model.checkpoint={checkpoint}"]
    data = ["dataset=recordings", f"dataset.audio_root={folder}", "layers.indices=[C7,T2]"]
    return ["experiment=features", *model, *data]


@pytest.fixture(scope="module")
def plain(common: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return execute(folder, *common).folder / "features"


def test_frames_are_the_models_hidden_states_at_their_times(
    plain: Path, common: list[str], checkpoint: Path
) -> None:
    config = resolved(*common)
    model = AutoModel.from_pretrained(checkpoint).eval()
    for utterance in config.dataset.read("raise").utterances:
        found = load_file(plain / f"{utterance.id}.safetensors")
        assert found.keys() == {"C7", "C7.times", "T2", "T2.times"}
        wave = utterance.read()
        normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        with torch.inference_mode():
            states = model(torch.from_numpy(normal)[None], output_hidden_states=True).hidden_states
        np.testing.assert_allclose(found["T2"], states[2][0].numpy(), atol=2e-5)
        frames = np.arange(len(found["T2"]))
        np.testing.assert_allclose(found["T2.times"], (200 + 320 * frames) / 16_000)
        assert found["C7"].shape[0] == len(frames)
    index = (plain / "index.csv").read_text().splitlines()
    assert index[0] == "id,speaker,samples"
    assert len(index) == 4


@pytest.mark.parametrize("format", ["npy", "hdf5", "ark"])
def test_every_format_holds_the_same(
    format: str, plain: Path, common: list[str], tmp_path: Path
) -> None:
    execute(tmp_path, *common, f"features.format={format}")
    folder = tmp_path / "features"
    for id in LENGTHS:
        expected = load_file(plain / f"{id}.safetensors")
        found = reader(format, folder, id)
        assert found.keys() == expected.keys()
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name])
    assert not list(folder.glob("**/.part*"))
    assert not (folder / "utterances").exists()


def reader(format: str, folder: Path, id: str) -> Arrays:
    """What another tool reads."""
    names = ("C7", "C7.times", "T2", "T2.times")
    if format == "npy":
        return {name: np.load(folder / f"{id}.{name}.npy") for name in names}
    if format == "hdf5":
        with h5py.File(folder / "features.h5") as archive:
            return {name: values[()] for name, values in archive[id].items()}
    return {name: kaldiio.load_scp(str(folder / f"{name}.scp"))[id] for name in names}


@pytest.mark.parametrize("format", [slow("safetensors"), "npy", slow("ark")])
def test_a_run_goes_on_where_one_before_it_was_ended(
    format: str, common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And writes nothing twice: after all is there no weights are loaded."""
    place = tmp_path / "there"
    overrides = [*common, f"features.folder={place}", f"features.format={format}"]
    written = []

    def killed(self: object, id: str, arrays: Arrays) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(id)
        original(self, id, arrays)

    with monkeypatch.context() as patch:
        from analysis.extraction.writer import UtteranceFiles

        original = UtteranceFiles.write
        patch.setattr(UtteranceFiles, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "first", *overrides)
    second = execute(tmp_path / "second", *overrides)
    assert second.metadata["forward_pass"]["resumed"] == 1
    assert second.metadata["forward_pass"]["utterances"] == 2

    def never(*_: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr("analysis.extraction.features.load_encoder", never)
    third = execute(tmp_path / "third", *overrides)
    assert not third.passed
    with pytest.raises(StrataError, match=r"holds other features: layers \['C7', 'T2'\] \(now"):
        execute(tmp_path / "fourth", *overrides, "layers.indices=[T1]")


def test_a_disk_without_room_is_told_before_the_weights_are_read(
    common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    with pytest.raises(StrataError, match=r"layers of 3 utterances take about .*features.stored"):
        execute(tmp_path, *common)
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_some_utterances_as_half_precision(plain: Path, common: list[str], tmp_path: Path) -> None:
    more = ["features.stored=float16", "features.utterances=['three']"]
    run = execute(tmp_path, *common, *more)
    (path,) = (tmp_path / "features").glob("**/*.safetensors")
    found, whole = load_file(path), load_file(plain / "three.safetensors")
    assert found["T2"].dtype == np.float16
    np.testing.assert_array_equal(found["T2"], whole["T2"].astype(np.float16))
    settings = json.loads((tmp_path / "features" / "features.json").read_text())
    assert (settings["stored"], settings["utterances"]) == ("float16", 1)
    assert run.metadata["model"]["revision"] == settings["revision"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("features.format=zarr", "features.format=zarr: choose one of safetensors, npy, hdf5, ark"),
        ("features.utterances=[nobody]", "1 of 1 are not among the 3 of .*look like one"),
        ("features.folder=DATA", "is not empty and holds no features.json"),
    ],
)
def test_what_cannot_be_written_is_told(
    override: str, message: str, common: list[str], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.txt").write_text("mine")
    with pytest.raises(StrataError, match=message):
        execute(tmp_path / "run", *common, override.replace("DATA", str(tmp_path / "data")))


def test_half_precision_is_no_type_of_kaldi(common: list[str], tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="Kaldi's matrices are float32"):
        execute(tmp_path, *common, "features.format=ark", "features.stored=float16")
