"""Learnt layer weights: planted layers, scales that do not matter, whole runs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import execute, resolved
from sklearn.linear_model import LogisticRegression
from units import planted

from analysis.metrics.units import Units
from analysis.metrics.weighted_sum import WeightedSum
from common.metric import Score
from common.records import StrataError

METRIC = WeightedSum(rate=1e-2, batch=128, epochs=40, patience=4)


def layers(*holds: float, seed: int = 0) -> dict[str, Units]:
    """The same units in layers that hold so much of their label, from noise on."""
    plain = planted(n=1500, noise=0.0, seed=seed, trials=2)
    rng = np.random.default_rng(seed + 1)
    noise = rng.normal(size=(len(holds), *plain.vectors.shape)).astype(np.float32)
    return {
        f"T{k}": replace(plain, vectors=np.float32(hold) * plain.vectors + noise[k])
        for k, hold in enumerate(holds)
    }


def weights(units: dict[str, Units]) -> np.ndarray:
    """(layers, trials)."""
    return weights_of(METRIC.score(units))


def weights_of(found: Mapping[str, list[Score]]) -> np.ndarray:
    return np.array([[s.value for s in scores if not s.metric] for scores in found.values()])


def test_the_layer_that_holds_the_label_gets_the_weight() -> None:
    units_of = layers(0, 0.6, 0, 0)
    found = METRIC.score(units_of)
    by_layer = weights_of(found)
    np.testing.assert_allclose(by_layer.sum(0), 1, rtol=1e-5)
    assert (by_layer.argmax(0) == 1).all()
    assert by_layer[1].min() > 0.6
    accuracies = [s.value for s in found["T0"] if s.metric == "weighted_sum_accuracy"]
    assert accuracies == [s.value for s in found["T3"] if s.metric == "weighted_sum_accuracy"]
    # Nearly as good as scikit-learn's probe of the layer that holds the label alone.
    units = units_of["T1"]
    for trial, accuracy in enumerate(accuracies):
        train, test = (units.fold != trial) & (units.fold != trial + 1), units.fold == trial
        probe = LogisticRegression(max_iter=500).fit(units.vectors[train], units.label[train])
        assert accuracy > probe.score(units.vectors[test], units.label[test]) - 0.06


def test_sums_of_layers_with_noise_of_their_own_use_all_of_them() -> None:
    by_layer = weights(layers(0.5, 0.5, 0.5, 0))
    assert by_layer[:3].min() > 0.15
    assert by_layer[3].max() < by_layer[:3].min()


@pytest.mark.slow
def test_scale_and_shift_of_a_layer_do_not_matter() -> None:
    plain = layers(0, 0.6, 0.3)
    moved = plain | {"T0": replace(plain["T0"], vectors=1000 * plain["T0"].vectors - 50)}
    np.testing.assert_allclose(weights(moved), weights(plain), atol=0.02)


def test_shuffled_labels_leave_chance() -> None:
    shuffled = {name: units.shuffled() for name, units in layers(0.6, 0.6, 0.6).items()}
    found = METRIC.score(shuffled)
    accuracies = [s.value for s in found["T0"] if s.metric == "weighted_sum_accuracy"]
    assert np.mean(accuracies) == pytest.approx(1 / 6, abs=0.06)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    first = layers(0.3, 0.6)
    assert (weights(first) == weights(first)).all()
    other = {name: replace(units, seed=7) for name, units in first.items()}
    assert (weights(first) != weights(other)).any()


def test_wrong_settings_and_vectors_are_refused() -> None:
    for key, wrong in (("rate", 0), ("batch", 0), ("epochs", 0), ("patience", 0)):
        with pytest.raises(StrataError, match=rf"metric\.{key}="):
            resolved("experiment=weighted_sum", f"experiments.weighted_sum.metric.{key}={wrong}")
    both = layers(0.5, 0.5)
    constant = replace(both["T1"], vectors=np.ones_like(both["T1"].vectors))
    with pytest.raises(StrataError, match="have the same vector in a layer"):
        METRIC.score(both | {"T1": constant})


@pytest.mark.slow
def test_from_end_to_end_beside_the_probe_of_each_layer(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    run = ["experiment=weighted_sum", "+analysis@experiments.probe_phone=probe_phone"]
    done = execute(tmp_path / "run", *run, *common, cache, "controls=true")
    rows = done.rows[done.rows["experiment"] == "weighted_sum"]
    primary = rows[rows["primary"]]
    assert set(primary["control"]) == {"", "random_weights", "shuffled_labels"}
    sums = primary.groupby(["control", "sample", "trial"])["value"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    accuracy = rows[rows["metric"] == "weighted_sum_accuracy"]
    assert accuracy["value"].between(0, 1).all()
    assert "mel is one view" in str(done.metadata["controls"]["without"]["weighted_sum"])


def test_layers_of_several_widths_have_no_sum(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    parts = "experiments.weighted_sum.parts=[cnn,transformer]"
    with pytest.raises(StrataError, match="dimensions have no sum"):
        execute(tmp_path, "experiment=weighted_sum", *common, cache, parts)
