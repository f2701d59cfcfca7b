"""Clusters, probes and word similarity from end to end, and what they refuse before the pass."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from running import Finished, execute
from speech import write_audio, write_textgrid

from analysis.studies import provide as collect
from common.records import StrataError

MEASURES = ["mi_phone", "mi_phone_frame", "mi_word", "probe_phone", "probe_word", "probe_speaker"]
FIGURES = {
    "mi": {
        "mutual_information_adjusted",
        "pnmi",
        "pnmi_shuffled",
        "cluster_purity",
        "cluster_purity_shuffled",
        "clusters_in_use",
        "bitrate",
        "bitrate_labels",
    },
    "probe": {"probe", "probe_balanced"},
}


@pytest.fixture(scope="module")
def common(small: tuple[str, ...], cache: str) -> list[str]:
    """A small model and three speakers: of debug's 24 utterances eight are from each."""
    return [*small, "dataset=synthetic", "dataset.speakers=3", "dataset.minutes=2", cache]


@pytest.fixture(scope="module")
def done(common: list[str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """All of them beside cca_phone and cca_word, from one pass."""
    mounted = [f"+analysis@experiments.{name}={name}" for name in (*MEASURES, "cca_word")]
    overrides = ["experiment=cca_phone", *mounted, "sampling.min_instances=2"]
    return execute(tmp_path_factory.mktemp("run"), *overrides, *common)


def figures(done: Finished, name: str) -> dict[str, list[float]]:
    scores = done.rows[done.rows["experiment"] == name]
    return scores.groupby("metric")["value"].apply(list).to_dict()


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_runs_from_end_to_end(name: str, done: Finished) -> None:
    found = figures(done, name)
    family, label, *_ = name.split("_")
    purity = {f"{label}_purity", f"{label}_purity_shuffled"} if family == "mi" else set()
    assert found.keys() == FIGURES[family] | purity
    for figure, values in found.items():
        assert len(values) == 4  # T0 … T3, one sample, one trial
        assert all(-1 < value <= (500 if "bitrate" in figure else 1) for value in values)
    assert any(found["mutual_information_adjusted" if family == "mi" else "probe"])
    assert done.metadata["scoring"][name]


def test_measures_of_the_same_units_share_their_vectors(done: Finished) -> None:
    together = [set(study["experiments"]) for study in done.metadata["studies"]]
    for tier in ("phone", "word"):
        assert {f"cca_{tier}", f"mi_{tier}", f"probe_{tier}"} in together
    splits = done.rows.groupby("experiment")["split"].first()
    assert splits["probe_phone"] == splits["mi_phone"] == "speaker"
    assert (splits["probe_speaker"], splits["cca_phone"]) == ("utterance", "speaker")


def test_faiss_clusters_the_vectors_that_are_there(
    done: Finished, common: list[str], tmp_path: Path
) -> None:
    run = ["experiment=mi_phone", "clusterer=faiss", "sampling.min_instances=2"]
    other = execute(tmp_path, *run, *common)
    assert not other.passed
    assert other.metadata["scoring"]["mi_phone"]["clusterer"] == "faiss"
    assert done.metadata["scoring"]["mi_phone"]["clusterer"] == "minibatch"
    assert other.curve("mi_phone") != done.curve("mi_phone")


def test_an_unknown_clusterer(common: list[str], tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="clusterer=dbscan: choose one of minibatch, faiss"):
        execute(tmp_path, "experiment=mi_phone", "clusterer=dbscan", *common)


def write_pairs(path: Path, words: list[str]) -> Path:
    """Each word with the next; scores in order."""
    rows = [f"{i},{a},{b},{i}" for i, (a, b) in enumerate(pairwise(words))]
    path.write_text("\n".join([",word1,word2,similarity", *rows, "x,new york,a,1", "y,,,"]))
    return path


def test_word_similarity_from_end_to_end(done: Finished, common: list[str], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    words = next(
        list(study["units_per_label"])
        for study in done.metadata["studies"]
        if "cca_word" in study["experiments"]
    )
    write_pairs(tmp_path / "pairs/some.csv", words)
    write_pairs(tmp_path / "pairs/none.csv", ["chien", "chat"])
    path, least = f"target.path={tmp_path / 'pairs'}", "metric.min_pairs=3"
    run = ["experiment=word_similarity", path, f"experiments.word_similarity.{least}"]
    done = execute(tmp_path / "1", *run, *common)
    found = figures(done, "word_similarity")
    for figure in ("word_similarity", "word_similarity_centred"):
        for name in (f"{figure}_macro", f"{figure}_some"):
            assert found[name] == pytest.approx(found[figure])
    assert len(np.unique(found["word_similarity"])) > 1
    (coverage,) = done.metadata["scoring"]["word_similarity"]["coverage"]
    pairs = len(words) - 1
    assert coverage == {
        "none": "0 of 3, left out (a word not drawn 1, several words in one 1, incomplete 1)",
        "some": f"{pairs} of {pairs + 2} (several words in one 1, incomplete 1)",
    }


# What cannot be scored is said before the forward pass.


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "load_encoders", lambda *_: pytest.fail("loaded a model"))


def corpus(folder: Path, words: list[list[str]], speakers: int = 4) -> list[str]:
    """Noise of a second each, cut evenly into some words."""
    for k, spoken in enumerate(words):
        times = np.linspace(0, 1, len(spoken) + 1).tolist()
        tier = [(*span, word) for span, word in zip(pairwise(times), spoken, strict=True)]
        path = folder / f"s{k % speakers}" / f"u{k}"
        write_audio(path.with_suffix(".wav"), seed=k)
        write_textgrid(path.with_suffix(".TextGrid"), words=tier)
    return ["dataset=textgrid", f"dataset.audio_root={folder}"]


ONE_LABEL = [["she", "she"]] * 12
ONCE_EACH = [[f"w{2 * k}", f"w{2 * k + 1}"] for k in range(12)]
FEW = [["she", "had"]] * 12
HOSTILE = {
    "one label": (ONE_LABEL, "mi_word", [], r"1 word label\(s\) occur 5 times or more"),
    "one instance": (ONCE_EACH, "mi_word", [], r"0 word label\(s\) occur 5 times or more"),
    "one instance of each": (
        ONCE_EACH,
        "probe_word",
        ["sampling.min_instances=1"],
        "more units than labels|none with a label that it trains on",
    ),
    "few units": (
        FEW,
        "mi_word",
        ["sampling.instances=6"],
        r"units to fit on are too few for 5000 clusters, even for two",
    ),
    "no words": (
        FEW,
        "mi_word",
        ["dataset.phone_tier=words", "dataset.word_tier=x"],
        "no word tier",
    ),
    "no phones": (FEW, "probe_phone", [], "no phone tier"),
    "no phones for frames": (FEW, "mi_phone_frame", [], "no phone tier"),
    "one speaker": (FEW, "probe_speaker", ["dataset.speaker=none"], "have no speaker"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_corpora_are_refused_before_the_pass(
    case: str, small: tuple[str, ...], no_pass: None, tmp_path: Path
) -> None:
    words, name, more, message = HOSTILE[case]
    overrides = [*small, *corpus(tmp_path / "speech", words), "cache=off", *more]
    with pytest.raises(StrataError, match=message):
        execute(tmp_path / "run", f"experiment={name}", *overrides)


def test_pairs_of_other_words_are_refused_before_the_pass(
    common: list[str], no_pass: None, tmp_path: Path
) -> None:
    path = write_pairs(tmp_path / "pairs.csv", ["chien", "chat", "cheval"])
    overrides = ["experiment=word_similarity", f"target.path={path}", *common]
    with pytest.raises(StrataError, match=r"none of the \d+ word labels"):
        execute(tmp_path / "1", *overrides)
    write_pairs(path, ["the", "a", "cheval"])
    with pytest.raises(StrataError, match=r"no benchmark has 20 pairs .*\(pairs 1 of 4\)"):
        execute(tmp_path / "2", *overrides)
    path.unlink()
    with pytest.raises(StrataError, match=r"no such file or folder: a \.csv with columns"):
        execute(tmp_path / "3", *overrides)
