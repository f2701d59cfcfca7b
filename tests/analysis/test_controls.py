"""Controls: what chance gives, what untrained weights give, and mel in a layer's place."""

from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from marks import slow
from numpy.typing import NDArray
from running import Finished, execute

from analysis.metrics.cca import PWCCA, MeanCCA
from analysis.metrics.cka import LinearCKA
from analysis.metrics.units import Units
from analysis.moments import fold_views
from analysis.targets.base import one_hot

Array = NDArray[np.float64]
N, LABELS, SHUFFLES = 240, 6, 300


def separable() -> Units:
    """Units whose labels lie far apart, in more dimensions than they need."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, LABELS, N)
    vectors = 3 * rng.normal(size=(LABELS, 10))[label] + rng.normal(size=(N, 10))
    return Units(
        vectors=vectors.astype(np.float32),
        label=label,
        labels=tuple("abcdef"),
        speaker=np.zeros(N, dtype=np.int64),
        speakers=("s",),
        utterance=np.arange(N),
        fold=rng.permutation(np.arange(N) % 10),
        scored=np.ones(N, dtype=bool),
        seed=0,
    )


def shuffled_values(metric: LinearCKA | PWCCA | MeanCCA) -> Array:
    """A value for each of many shuffles, each under a seed of its own."""
    units, values = separable(), []
    for seed in range(SHUFFLES):
        shuffled = replace(units, seed=seed).shuffled()
        folds = fold_views(shuffled.vectors, one_hot(shuffled.label), shuffled.fold, 1)
        values.append(np.mean([score.value for score in metric.score(folds)]))
    return np.array(values)


def test_shuffled_labels_give_cka_the_level_of_theory() -> None:
    """Over all permutations E ||X'PY||^2 = tr(Kx) tr(Ky) / (n - 1), for centred x and y.

    Each entry of P K P' is on average tr(K) / n on the diagonal and -tr(K) / (n (n - 1)) off it.
    """
    units = separable()
    x = units.vectors.astype(np.float64)
    y = one_hot(units.label)
    x, y = x - x.mean(0), y - y.mean(0)
    numerator = (x**2).sum() * (y**2).sum() / (N - 1)
    expected = numerator / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    values = shuffled_values(LinearCKA())
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / np.sqrt(SHUFFLES))
    whole = LinearCKA().score(fold_views(x, y, units.fold, 1))[0].value
    assert whole > 20 * expected


@pytest.mark.parametrize("metric", [PWCCA(((1e-4, 1e-4),)), slow(MeanCCA(((1e-4, 1e-4),)))])
def test_shuffled_labels_give_a_held_out_correlation_of_nothing(metric: PWCCA | MeanCCA) -> None:
    """What was fitted to noise correlates with other noise by 0 on average, not by its fit."""
    values = shuffled_values(metric)
    assert values.mean() == pytest.approx(0, abs=4 * values.std() / np.sqrt(SHUFFLES))
    assert values.std() < 0.2


# Whole runs


@pytest.fixture(scope="module")
def common(common: tuple[str, ...], cache: str) -> tuple[str, ...]:
    """One cache for all runs here, which score the lowest layer and the top one."""
    return (*common, cache, "metric=cka", "layers.indices=[T0,T3]")


@pytest.fixture(scope="module")
def paper(common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return execute(tmp_path_factory.mktemp("paper"), "experiment=paper", *common, "controls=true")


@pytest.fixture(scope="module")
def full(common: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return execute(tmp_path_factory.mktemp("full"), "experiment=full", *common)


def levels(run: Finished, experiment: str, control: str = "") -> dict[str, float]:
    rows = run.rows[(run.rows["experiment"] == experiment) & (run.rows["control"] == control)]
    rows = rows[rows["primary"]]
    return dict(zip(rows["layer"], rows["value"], strict=True))


@pytest.mark.parametrize("name", ["paper", slow("full")])
def test_every_experiment_has_the_controls_that_it_can_have(
    name: str, request: pytest.FixtureRequest
) -> None:
    run: Finished = request.getfixturevalue(name)
    rows = run.rows
    found = {name: set(scores["control"]) - {""} for name, scores in rows.groupby("experiment")}
    assert found["cca_phone"] == {"mel", "random_weights", "shuffled_labels"}
    assert found["cca_intra"] == {"mel", "random_weights"}
    assert found["cca_mel"] == {"random_weights"}
    assert set(rows.loc[rows["control"] == "mel", "layer"]) == {"mel"}
    assert set(rows.loc[rows["control"] == "mel", "dim"]) == {80}
    without = run.metadata["controls"]["without"]
    assert "no labels" in without["cca_intra"]["shuffled_labels"]
    assert "target itself" in without["cca_mel"]["mel"]
    assert "cca_phone" not in without
    assert run.metadata["controls"]["not_scored"] == {}


def test_random_weights_are_those_of_an_untrained_model(
    paper: Finished, common: tuple[str, ...], tmp_path: Path
) -> None:
    untrained = execute(tmp_path, "experiment=cca_phone", *common, "model.random_init=true")
    assert not untrained.passed  # it is the control's pass, cached under its own revision
    assert levels(untrained, "cca_phone") == levels(paper, "cca_phone", "random_weights")
    assert levels(paper, "cca_phone") != levels(paper, "cca_phone", "random_weights")
    revisions = paper.rows.groupby("control")["revision"].unique()
    (random,) = revisions["random_weights"]
    assert random.startswith("random:0:")
    assert revisions[""] == revisions["mel"] == revisions["shuffled_labels"]


@pytest.mark.slow
def test_random_weights_are_no_floor_where_the_model_is_given_the_spectrum(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    """Decided by what the model takes in, not by its name."""
    folder = models.save("wav2vec2_bert", tmp_path / "model")
    mel = ["experiment=paper", f"model.checkpoint={folder}", "controls=true"]
    run = execute(tmp_path, *common, *mel)
    found = {name: set(scores["control"]) for name, scores in run.rows.groupby("experiment")}
    assert found["cca_mel"] == {""}
    assert "random_weights" in found["cca_phone"]
    metadata = run.metadata["controls"]["without"]["cca_mel"]["random_weights"]
    assert "mel spectrum" in metadata
    alone = execute(tmp_path / "alone", "experiment=cca_mel", *common, *mel[1:])
    assert set(alone.rows["control"]) == {""}


@pytest.mark.slow
def test_an_untrained_model_is_its_own_control(common: tuple[str, ...], tmp_path: Path) -> None:
    more = ["model.random_init=true", "controls=true"]
    run = execute(tmp_path, "experiment=cca_phone", *common, *more)
    assert set(run.rows["control"]) == {"", "mel", "shuffled_labels"}
    assert "random weights" in run.metadata["controls"]["without"]["cca_phone"]["random_weights"]


def test_mel_in_a_layers_place_is_what_that_layer_is_against_mel(paper: Finished) -> None:
    """CKA does not care which view comes first, and both experiments hear the same utterances."""
    mel = levels(paper, "cca_intra", "mel")["mel"]
    assert mel == pytest.approx(levels(paper, "cca_mel")["T0"], abs=1e-9)


def test_shuffling_takes_the_labels_share_away(paper: Finished) -> None:
    plain, shuffled = levels(paper, "cca_phone"), levels(paper, "cca_phone", "shuffled_labels")
    assert plain.keys() == shuffled.keys()
    assert all(shuffled[layer] < plain[layer] / 2 for layer in plain)


# What `full` leaves out


@pytest.mark.slow
def test_full_says_what_it_left_out_and_why(
    full: Finished, common: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    left_out = full.metadata["left_out"]
    assert "download glove" in left_out["cca_glove"]
    assert "experiments.cca_glove.target.path is not given" in left_out["cca_glove"]
    assert {"cca_mel", "cca_intra", "cca_phone", "cca_word"} <= set(full.rows["experiment"])
    more = ("dataset.word_tier=none", "controls=false", "layers.indices=[T1]")
    bare = execute(tmp_path, "experiment=full", *common, *more)
    assert "no word tier" in bare.metadata["left_out"]["cca_word"]
    assert "cca_word" not in set(bare.rows["experiment"])
    foot = capsys.readouterr().out
    assert "left out cca_word: dataset textgrid" in foot


@pytest.mark.slow
def test_full_with_a_table_takes_it_in(common: tuple[str, ...], tmp_path: Path) -> None:
    """Four words are too few for folds of word types: they are let into training and test here."""
    (tmp_path / "table.txt").write_text("the 0.1 0.2\na 0.3 -0.4\nand 0.5 0.1\nof 0.2 0.9\n")
    path = f"experiments.cca_glove.target.path={tmp_path / 'table.txt'}"
    least = "experiments.cca_glove.sampling.min_instances=2"
    more = (path, "controls=false", "by_type=false", least, "layers.indices=[T1]")
    run = execute(tmp_path / "run", "experiment=full", *common, *more)
    assert "cca_glove" not in run.metadata["left_out"]
    assert "cca_glove" in set(run.rows["experiment"])
