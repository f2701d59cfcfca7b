"""Analogies of phones: the published criterion, planted features, phones without features."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from running import execute
from units import planted

from analysis.metrics.analogies import (
    PhoneAnalogies,
    analogies_of,
    difference_auc,
    nearest_to,
)
from analysis.metrics.units import Units
from analysis.targets.phonology import IPA_OF_ARPABET, features_of
from common.phones import ARPABET
from common.records import StrataError

PHONES = "pbtdkɡfvszmnŋiu"
METRIC = PhoneAnalogies(draws=300, repeats=5)


def made(noise: float, linear: bool = True, mean: float = 0.0, seed: int = 0) -> Units:
    """Phones whose vectors are sums of their features' directions, or are unrelated."""
    rng = np.random.default_rng(seed)
    phones = sorted(PHONES)
    signs = features_of(phones).astype(float)
    centres = signs @ rng.normal(size=(signs.shape[1], 32))
    if not linear:
        centres = rng.normal(size=(len(phones), 32)) * np.linalg.norm(centres) / (15 * 32) ** 0.5
    units = planted(n=3000, labels=len(phones), seed=seed)
    vectors = centres[units.label] + noise * rng.normal(size=(3000, 32)) + mean
    return replace(units, vectors=vectors.astype(np.float32), labels=tuple(phones))


def values(units: Units) -> dict[str, float]:
    return {score.metric or "own": score.value for score in METRIC.score(units)}


def test_analogies_are_those_of_a_search_through_all_quadruples() -> None:
    numeric = features_of(PHONES)
    both = np.c_[numeric == 1, numeric == -1].astype(int)
    difference = both[:, None] - both
    same = (difference[:, :, None, None] == difference).all(-1)
    expected = {
        (a, *sorted((b, c)), d)
        for a, b, c, d in permutations(range(len(PHONES)), 4)
        if same[a, b, c, d]
    }
    found = analogies_of(numeric)
    assert {tuple(one) for one in found} == expected
    assert len(found) == len(expected)
    names = {"".join(PHONES[k] for k in one) for one in found}
    assert "bpdt" in names  # [b] = [p] + [d] - [t]
    assert "sztd" not in names


def test_planted_features_hold_and_unrelated_phones_do_not() -> None:
    linear, unrelated = values(made(noise=2.0)), values(made(noise=2.0, linear=False))
    assert linear["own"] > 0.9
    assert linear["analogy_nearest"] > 0.9
    assert linear["difference_auc"] > 0.95
    assert unrelated["own"] < 0.7
    assert unrelated["analogy_nearest"] < 0.4
    assert unrelated["difference_auc"] == pytest.approx(0.5, abs=0.15)


def test_shuffled_labels_hold_nothing_even_with_a_large_common_mean() -> None:
    for mean in (0.0, 20.0):
        shuffled = values(made(noise=2.0, mean=mean).shuffled())
        assert shuffled["own"] < 0.1
        assert shuffled["analogy_nearest"] < 0.3


def test_scale_and_rotation_do_not_matter() -> None:
    units = made(noise=2.0)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(32, 32)))[0]
    moved = replace(units, vectors=(5 * units.vectors @ turn).astype(np.float32))
    assert values(moved) == pytest.approx(values(units), abs=0.02)


def test_the_nearest_of_the_others_and_the_area_against_counting() -> None:
    means = np.random.default_rng(1).normal(size=(9, 5))
    analogies = analogies_of(features_of("pbtdkɡfvs"))
    one = analogies[0]
    wanted = means[one.b] + means[one.c] - means[one.d]
    others = [k for k in range(9) if k not in one[1:]]
    cosine = [means[k] @ wanted / np.linalg.norm(means[k]) for k in others]
    assert nearest_to(means, one) == others[int(np.argmax(cosine))]
    assert 0 <= difference_auc(means, analogies) <= 1


def test_every_phone_of_arpabet_but_the_double_ones_is_a_segment() -> None:
    features = features_of(IPA_OF_ARPABET.values())  # raises for what is not one
    assert features.shape == (len(IPA_OF_ARPABET), 24)
    assert set(ARPABET) - set(IPA_OF_ARPABET) == {"aw", "ay", "er", "ey", "ow", "oy"}


def test_what_has_no_analogies_or_no_features_is_refused() -> None:
    units = replace(made(noise=1.0), vectors=np.zeros((3000, 0), np.float32))
    METRIC.check(units)
    with pytest.raises(StrataError, match="no analogy among the phones b i m"):
        METRIC.check(replace(units, label=units.label % 3, labels=("b", "i", "m")))
    with pytest.raises(StrataError, match="has no direction"):
        METRIC.score(replace(units, vectors=np.zeros((3000, 4), np.float32)))


@pytest.mark.slow
def test_from_end_to_end(common: tuple[str, ...], cache: str, tmp_path: Path) -> None:
    few = "sampling.min_instances=8"
    run = execute(tmp_path, "experiment=phone_analogies", *common, cache, few, "controls=true")
    assert run.rows["value"].between(0, 1).all()
    assert {"mel", "random_weights", "shuffled_labels"} <= set(run.rows["control"])
    (study,) = run.metadata["studies"]
    assert study["dropped"]["phone: without a label"] > 0  # the diphthongs
    assert set(study["units_per_label"]) <= set(IPA_OF_ARPABET.values())
    with pytest.raises(StrataError, match=r"phones written as as_is have no known features"):
        execute(
            tmp_path / "as_is", "experiment=phone_analogies", *common, cache, "dataset.phones=as_is"
        )
