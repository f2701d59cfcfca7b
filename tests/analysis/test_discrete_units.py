"""`experiment=units`: clusters as text, and figures that an independent count confirms."""

from collections import Counter, defaultdict
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from running import Finished, execute, resolved

from analysis.extraction.units import Centroids, deduplicated, labels
from analysis.metrics.kmeans import nearest
from common.encoder.frames import FrameGeometry
from common.records import Interval, StrataError

LAYERS = ["T1", "T3"]
GEOMETRY = FrameGeometry(receptive_field=400, hop=320)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def common(checkpoint: Path) -> list[str]:
    model = ["model=hf", f"model.checkpoint={checkpoint}", "units.clusters=20", "units.batch=300"]
    speech = ["dataset=synthetic", "dataset.minutes=1", "dataset.speakers=2"]
    return ["experiment=units", *model, *speech, "layers.indices=[T1,T3]"]


@pytest.fixture(scope="module")
def done(common: list[str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return execute(tmp_path_factory.mktemp("units"), *common)


@pytest.fixture(scope="module")
def frames(common: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same layers by the task that writes them."""
    folder = tmp_path_factory.mktemp("frames")
    overrides = [o for o in common[1:] if not o.startswith("units.")]
    execute(folder, "experiment=features", "features.format=npy", *overrides)
    return folder / "features"


def units_of(folder: Path, name: str = "units.txt") -> dict[str, list[int]]:
    """As a tool would read `ID|UNITS`."""
    lines = (folder / name).read_text().splitlines()
    return {id: [int(u) for u in text.split()] for id, text in (ln.split("|") for ln in lines)}


@pytest.mark.parametrize("layer", LAYERS)
def test_units_are_the_nearest_centroids_of_the_frames(
    layer: str, done: Finished, frames: Path
) -> None:
    arrays = np.load(done.folder / layer / "centroids.npz")
    assert arrays["centroids"].shape == (20, arrays["centroids"].shape[1])
    assert str(arrays["layer"]) == layer
    assert str(arrays["revision"]) == done.metadata["model"]["revision"]
    for id, found in units_of(done.folder / layer).items():
        rows = np.load(frames / f"{id}.{layer}.npy").astype(float)
        far = ((rows[:, None] - arrays["centroids"].astype(float)) ** 2).sum(2)
        assert far.argmin(1).tolist() == found


@pytest.mark.parametrize("layer", LAYERS)
def test_files_of_hubert_and_of_textless_tools_say_the_same(layer: str, done: Finished) -> None:
    units = units_of(done.folder / layer)
    short = units_of(done.folder / layer, "deduplicated.txt")
    assert short == {id: [u for u, _ in groupby(found)] for id, found in units.items()}
    km = (done.folder / layer / "units.km").read_text().splitlines()
    root, *manifest = (done.folder / layer / "units.tsv").read_text().splitlines()
    assert root == "."
    ids, samples = zip(*(line.split("\t") for line in manifest), strict=True)
    assert dict(zip(ids, ([int(u) for u in line.split()] for line in km), strict=True)) == units
    assert [(int(n) - 400) // 320 + 1 for n in samples] == [len(units[id]) for id in ids]
    dictionary = (done.folder / layer / "dict.km.txt").read_text().splitlines()
    assert dictionary == [f"{k} 1" for k in range(20)]


def by_hand(units: dict[str, list[int]], common: list[str]) -> dict[str, float]:
    """Information, purities and bits from plain counts."""
    pairs: Counter[tuple[int, str]] = Counter()
    bits, seconds = 0.0, 0.0
    for utterance in resolved(*common).dataset.read("raise").utterances:
        seconds += utterance.n_samples / 16_000
        for k, unit in enumerate(units[utterance.id]):
            inside = [p for p in utterance.tiers["phone"] if p.start <= 200 + 320 * k < p.end]
            pairs.update((unit, p.label) for p in inside)
    n = pairs.total()
    of_unit: dict[int, list[int]] = defaultdict(list)
    of_phone: dict[str, list[int]] = defaultdict(list)
    for (unit, phone), count in pairs.items():
        of_unit[unit].append(count)
        of_phone[phone].append(count)
    information = sum(
        c / n * np.log(c * n / sum(of_unit[u]) / sum(of_phone[p])) for (u, p), c in pairs.items()
    )
    entropy = -sum(sum(c) / n * np.log(sum(c) / n) for c in of_phone.values())
    every = Counter(u for found in units.values() for u in found)
    bits = -sum(c * np.log2(c / every.total()) for c in every.values())
    return {
        "pnmi": information / entropy,
        "phone_purity": sum(map(max, of_unit.values())) / n,
        "cluster_purity": sum(map(max, of_phone.values())) / n,
        "bitrate": bits / seconds,
        "frames_in_phones": n,
    }


def test_figures_are_those_of_plain_counts(done: Finished, common: list[str]) -> None:
    table = pd.read_csv(done.folder / "units.csv").set_index("layer")
    assert list(table.index) == LAYERS
    for layer in LAYERS:
        for name, expected in by_hand(units_of(done.folder / layer), common).items():
            assert table.loc[layer, name] == pytest.approx(expected, rel=1e-9)
    assert (table["pnmi"] > table["pnmi_shuffled"]).all()
    assert (table["phone_purity"] > table["phone_purity_shuffled"]).all()
    assert (table["bitrate_deduplicated"] < table["bitrate"]).all()


@pytest.mark.slow
def test_centroids_of_a_run_before_give_its_units_and_fit_nothing(
    done: Finished, common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("something was fitted")

    monkeypatch.setattr("analysis.extraction.units.fit", never)
    given = done.folder / "T3" / "centroids.npz"
    run = execute(tmp_path, *common, f"units.centroids={given}")
    assert units_of(run.folder / "T3") == units_of(done.folder / "T3")
    assert not (run.folder / "T1").exists()


def test_centroids_that_are_not_this_models_are_refused(
    done: Finished, common: list[str], tmp_path: Path
) -> None:
    arrays = dict(np.load(done.folder / "T3" / "centroids.npz"))
    np.savez(tmp_path / "other.npz", **(arrays | {"revision": np.array("another")}))
    np.savez(tmp_path / "mean.npz", mean=np.zeros(3))
    for name, message in {
        "other": "20 centres of .* numbers of layer T3 of another, and this model is",
        "mean": "mean.npz: not the centroids that experiment=units writes",
        "absent": "there is no such file",
    }.items():
        with pytest.raises(StrataError, match=message):
            execute(tmp_path / "run", *common, f"units.centroids={tmp_path / name}.npz")


def test_too_few_frames_for_so_many_clusters(common: list[str], tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"100 frames of T1 are too few for 20 .*units.clusters"):
        execute(tmp_path, *common, "units.fit_frames=100")
    assert not list(tmp_path.glob(".statistics-*"))


def test_runs_are_one_and_an_utterance_may_be_empty() -> None:
    assert deduplicated(np.array([3, 3, 1, 1, 1, 3])).tolist() == [3, 1, 3]
    assert deduplicated(np.array([], dtype=np.int64)).tolist() == []


def test_a_frame_has_the_phone_in_which_it_is_centred() -> None:
    phones = [Interval(201, 520, "a"), Interval(520, 840, "b"), Interval(1000, 1160, "c")]
    assert list(labels(phones, GEOMETRY, 5)) == [None, "b", None, None, None]
    assert list(labels((), GEOMETRY, 2)) == [None, None]


def test_the_nearest_centre_is_that_of_the_least_distance() -> None:
    rng = np.random.default_rng(0)
    rows: NDArray[np.float64] = rng.normal(size=(50, 4)) + 100
    centres = (rng.normal(size=(7, 4)) + 100).astype(np.float32)
    expected = ((rows[:, None] - centres) ** 2).sum(2).argmin(1)
    assert nearest(rows, centres).tolist() == expected.tolist()
    assert Centroids(centres, "T1", "r", 50).centres.shape == (7, 4)
