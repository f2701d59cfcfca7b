"""The tasks through the real configuration, a real small model and real audio."""

import csv
from pathlib import Path

import models
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from running import Finished, execute

from common.audio import read
from common.encoder.architecture import Layer
from common.encoder.encoder import load_encoder
from common.records import StrataError

Array = NDArray[np.float64]

DEBUG = ["dataset=synthetic", "dataset.minutes=2", "dataset.speakers=8", "debug=default"]
SECONDARY = {"boundary_precision", "boundary_recall", "boundary_r_value", "over_segmentation"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small(checkpoint: Path) -> list[str]:
    return ["model=hf", f"model.checkpoint={checkpoint}"]


def figures(run: Finished, experiment: str) -> dict[str, dict[str, float]]:
    """Value of each layer, by metric."""
    scores = run.rows[run.rows["experiment"] == experiment]
    return {
        str(metric): dict(zip(rows["layer"], rows["value"], strict=True))
        for metric, rows in scores.groupby("metric")
    }


@pytest.fixture(scope="module")
def segmented(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Words, and phones in a second run from the first one's frames."""
    folder = tmp_path_factory.mktemp("segmented")
    cache = f"paths.cache={folder / 'cache'}"
    execute(folder / "word", "experiment=word_segmentation", *small, *DEBUG, cache)
    return execute(folder / "phone", "experiment=phone_segmentation", *small, *DEBUG, cache)


def test_phones_and_words_are_segmented_from_the_same_frames(segmented: Finished) -> None:
    word = Finished(segmented.folder.parent / "word")
    assert word.passed
    assert not segmented.passed
    for run, name in ((word, "word_segmentation"), (segmented, "phone_segmentation")):
        found = figures(run, name)
        assert found.keys() == {"boundary_f1", *SECONDARY}
        assert list(found["boundary_f1"]) == ["T0", "T1", "T2", "T3"]
        for layer, f1 in found["boundary_f1"].items():
            p, r = (found[f"boundary_{key}"][layer] for key in ("precision", "recall"))
            assert f1 == pytest.approx(2 * p * r / (p + r))
            assert found["over_segmentation"][layer] == pytest.approx(r / p - 1)
            assert 0.05 < f1 < 1
    chosen = segmented.metadata["scoring"]["phone_segmentation"]["settings_chosen"]
    assert sum(chosen.values()) == 4


def test_phones_have_more_boundaries_than_words(segmented: Finished) -> None:
    word = figures(Finished(segmented.folder.parent / "word"), "word_segmentation")
    phone = figures(segmented, "phone_segmentation")
    assert np.mean(list(phone["boundary_f1"].values())) > np.mean(
        list(word["boundary_f1"].values())
    )


@pytest.mark.slow
def test_phones_are_told_apart_from_the_frames_of_whole_utterances(
    small: list[str], tmp_path: Path
) -> None:
    """The context decides nothing; contexts of phones that two speakers share are kept beside."""
    overrides = [*small, *DEBUG, "metric=abx", "metric.context=any", "controls=true"]
    run = execute(tmp_path, "experiment=abx_phone", *overrides, "layers.indices=[T0,T3]")
    rows = run.rows.fillna({"control": ""})
    found = figures(Finished(run.folder), "abx_phone")
    assert found.keys() == {"abx", "abx_error_within", "abx_error_across"}
    primary = rows[(rows["control"] == "") & rows["primary"]].set_index("layer")["value"]
    error = rows[(rows["control"] == "") & (rows["metric"] == "abx_error_within")]
    assert list(primary.index) == ["T0", "T3"]
    assert (1 - primary).tolist() == pytest.approx(error["value"].tolist())
    assert set(rows["control"]) == {"", "mel", "random_weights"}
    assert rows[rows["control"] == "mel"]["value"].iloc[0] > 0.6
    assert run.metadata["controls"]["without"]["abx_phone"]["shuffled_labels"].endswith("0.5")
    (cells,) = run.metadata["scoring"]["abx_phone"]["within"]
    assert "pairs of phones" in cells


ALL_WARPED = [  # warp all the words that the pooled experiment takes
    f"experiments.word_discrimination_dtw.sampling.{limit}=null"
    for limit in ("labels", "instances", "min_instances")
]


@pytest.mark.slow
def test_words_are_told_apart_pooled_and_warped(small: list[str], tmp_path: Path) -> None:
    run = execute(tmp_path, "experiment=word_discrimination", *small, *DEBUG, *ALL_WARPED)
    pooled = figures(run, "word_discrimination")
    warped = figures(run, "word_discrimination_dtw")
    further = ("", "_swdp", "_across_speakers")
    for found, name in ((pooled, "average_precision"), (warped, "average_precision_dtw")):
        expected = {f"{name}{which}{more}" for which in ("_centred", "") for more in further}
        beside = {"average_precision_pooled", "average_precision_pooled_centred"}
        assert found.keys() == expected | (beside if found is warped else set())
    # Means of frames from disk, and vectors that were pooled as the frames came.
    for layer, value in pooled["average_precision"].items():
        assert warped["average_precision_pooled"][layer] == pytest.approx(value, rel=1e-3)
    pair_counts = [run.metadata["scoring"][name]["pairs"] for name in run.metadata["scoring"]]
    assert pair_counts[0] == pair_counts[1]
    studied = {name: study for study in run.metadata["studies"] for name in study["experiments"]}
    drawn = studied["word_discrimination_dtw"]["drawn"]["word_discrimination_dtw"]
    assert drawn["dropped"]["word: shorter than 0.2 s"] > 0
    assert drawn["segments_per_sample"] == studied["word_discrimination"]["units_per_sample"]


def recordings(folder: Path) -> list[str]:
    """Eight sentences by two speakers each: tones of a sentence's own, under some noise."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for sentence in range(8):
        for speaker in ("jane", "joe"):
            t = np.arange(8000 + 400 * sentence) / 16_000
            tone = np.sin(2 * np.pi * (200 + 300 * sentence) * t)
            wave = 0.3 * tone + 0.02 * rng.normal(size=len(t))
            soundfile.write(folder / "audio" / f"{sentence:02d}_{speaker}.wav", wave, 16_000)
    return [
        "dataset=recordings",
        f"dataset.audio_root={folder / 'audio'}",
        "dataset.speaker=suffix",
        "experiment=spoken_sts",
    ]


def pairs_file(folder: Path, rows: list[tuple[str, str, float]]) -> str:
    path = folder / "pairs.tsv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("id_a", "id_b", "score"), *rows])
    return f"target.path={path}"


def by_the_encoder(folder: Path, model: Path, layer: str) -> dict[tuple[int, int], float]:
    """Mean cosine of every pair of sentences over all pairs of their recordings."""
    encoder = load_encoder(models.configured(model), "cpu")
    means: dict[int, list[Array]] = {}

    def keep(this: Layer, hidden: torch.Tensor, lengths: tuple[int, ...]) -> None:
        if this.name == layer:
            mean = hidden[0, : lengths[0]].double().mean(0).numpy()
            means.setdefault(sentence, []).append(mean / np.linalg.norm(mean))

    for path in sorted((folder / "audio").iterdir()):
        sentence = int(path.name[:2])
        encoder.run([read(path)], keep)
    return {
        (i, j): float(np.mean([x @ y for x in means[i] for y in means[j]]))
        for i in means
        for j in range(i)
    }


def test_judges_who_hear_as_one_layer_does_agree_with_it(
    checkpoint: Path, small: list[str], tmp_path: Path
) -> None:
    overrides = recordings(tmp_path)
    similarities = by_the_encoder(tmp_path, checkpoint, "T2")
    rows = [(f"{i:02d}", f"{j:02d}", 100 * value) for (i, j), value in similarities.items()]
    table = pairs_file(tmp_path, [*rows, ("00", "elsewhere", 3)])
    run = execute(tmp_path / "run", *overrides, *small, table)
    found = figures(run, "spoken_sts")["sentence_spearman"]  # as the judges hear: uncentred
    assert found["T2"] == pytest.approx(1, abs=2e-3)
    assert found["T0"] < found["T2"]
    assert run.metadata["scoring"]["spoken_sts"] == {"pairs_scored": {"28 of 29": 12}}


@pytest.mark.slow
def test_controls_stand_beside(small: list[str], tmp_path: Path) -> None:
    overrides = [*small, *DEBUG, "layers=single", "layers.index=3", "controls=true"]
    more = "+analysis@experiments.word_segmentation=word_segmentation"
    run = execute(tmp_path, "experiment=word_discrimination", more, *overrides)
    rows = run.rows.fillna({"control": ""})
    found = {
        name: set(scores["control"]) - {""}
        for name, scores in rows.groupby("experiment", sort=False)
    }
    controls = {"mel", "random_weights", "shuffled_labels"}
    assert found["word_discrimination"] == found["word_discrimination_dtw"] == controls
    assert found["word_segmentation"] == {"mel", "comb", "random_weights"}
    comb = rows[(rows["control"] == "comb") & rows["primary"]]
    assert comb[["layer", "metric", "dim"]].to_numpy().tolist() == [["comb", "boundary_r_value", 0]]
    (mel,) = rows[(rows["control"] == "mel") & (rows["metric"] == "boundary_f1")].itertuples()
    assert (mel.layer, mel.dim) == ("mel", 80)
    warped = rows[rows["metric"] == "average_precision_dtw_centred"].set_index("control")["value"]
    assert warped["mel"] > 1.5 * warped["shuffled_labels"]


# Errors that come before the forward pass


def fails(folder: Path, message: str, *overrides: str) -> None:
    with pytest.raises(StrataError, match=message):
        execute(folder, *overrides, "cache=off")
    assert not (folder / "results.csv").exists()


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr("analysis.studies.provide.load_encoders", never)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("experiment", "tier"),
    [
        ("word_segmentation", "word"),
        ("phone_segmentation", "phone"),
        ("abx_phone", "phone"),
        ("word_discrimination", "word"),
    ],
)
def test_no_such_tier(experiment: str, tier: str, small: list[str], tmp_path: Path) -> None:
    overrides = recordings(tmp_path)[:-1]
    message = f"has no {tier} tier: it has none"
    fails(tmp_path / "run", message, f"experiment={experiment}", *overrides, *small)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.min_seconds=30", "no word unit is left to draw"),
        ("experiments.word_discrimination.sampling.labels=1", "1 word label.s. occur"),
        ("experiments.word_discrimination_dtw.pooling=max", "takes all frames of a segment"),
        ("experiments.word_discrimination_dtw.fit_partition=train", "in folds of one partition"),
    ],
)
def test_nothing_to_discriminate(
    override: str, message: str, small: list[str], tmp_path: Path
) -> None:
    overrides = [*small, *DEBUG, "dataset.minutes=1", override]
    fails(tmp_path, message, "experiment=word_discrimination", *overrides)


@pytest.mark.usefixtures("no_weights")
def test_one_speaker_cannot_be_halved(small: list[str], tmp_path: Path) -> None:
    overrides = [*small, *DEBUG, "dataset.minutes=1", "dataset.speakers=1"]
    fails(tmp_path, "of 1 speaker", "experiment=word_segmentation", *overrides)


@pytest.mark.usefixtures("no_weights")
def test_a_table_that_shares_no_sentence(small: list[str], tmp_path: Path) -> None:
    table = pairs_file(tmp_path, [("x", "y", 1), ("y", "z", 2)])
    fails(tmp_path / "run", "is known to the target", *recordings(tmp_path), *small, table)


@pytest.mark.usefixtures("no_weights")
def test_no_table_says_how_to_get_one(small: list[str], tmp_path: Path) -> None:
    fails(tmp_path / "run", "columns id_a, id_b, score", *recordings(tmp_path), *small)


@pytest.mark.slow
def test_the_mean_over_words_from_frames_scores_as_pooled_vectors_do(
    small: list[str], tmp_path: Path
) -> None:
    """The same words in the same folds, by another way."""
    both = ["experiment=cca_word_parts", "+analysis@experiments.cca_word=cca_word"]
    exact = ["experiments.cca_word_parts.stored=float32", "layers.indices=[T2]"]
    limits = [f"experiments.{name}.sampling.labels=20" for name in ("cca_word", "cca_word_parts")]
    run = execute(tmp_path, *both, *small, *DEBUG, *exact, *limits)
    (pooled,) = figures(run, "cca_word").values()
    parts = figures(run, "cca_word_parts")
    assert parts["pwcca_all_frames"] == pytest.approx(pooled, abs=1e-6)
    assert len(parts) == 8
    rows = run.rows
    assert rows.groupby("experiment")["split"].unique().map(list).to_dict() == {
        "cca_word": ["speaker"],
        "cca_word_parts": ["speaker"],
    }
