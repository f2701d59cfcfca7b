"""Which runs of a report go together, and what is refused with both runs and their values."""

from pathlib import Path
from typing import Any

import pytest
from marks import slow
from report_runs import analysis_config, curve, gathered, training, two, write_run

from common.records import StrataError


def changed(key: str, value: object) -> dict[str, Any]:
    config = analysis_config(["cca_phone"])
    node = config if key in config else config["experiments"]["cca_phone"]
    node[key] = value
    return config


CORPUS = {"partition": "all", "fingerprint": "f" * 64, "utterances": 7, "hours": 0.1}
STAGES = [{"experiments": ["cca_phone"], "versions": {"sampling": 2}}]
UNLIKE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "split": ({"split": "frame"}, ("split", "speaker", "frame")),
    "metric": ({"metric": "cka"}, ("metric", "pwcca", "cka")),
    "seed": ({"seed": 3}, ("seed", "0", "3")),
    "pooling": ({"config": changed("pooling", "max")}, ("pooling", "mean", "max")),
    "folds": (
        {"config": changed("sampling", {"samples": 1, "folds": 8, "trials": 3})},
        ("sampling.folds", "10", "8"),
    ),
    "speech": ({"metadata": {"dataset": CORPUS}}, ("speech of all", "20 utt", "7 utt")),
}


@pytest.mark.parametrize(
    "name", [name if name in ("split", "speech") else slow(name) for name in UNLIKE]
)
def test_what_was_not_made_alike_is_refused_with_both_runs_and_values(
    tmp_path: Path, name: str
) -> None:
    keys, words = UNLIKE[name]
    two(tmp_path, **dict(keys))
    with pytest.raises(StrataError) as error:
        gathered(tmp_path)
    for word in (*words, "in one", "in two", "report.mix=true"):
        assert word in str(error.value)
    mixed = gathered(tmp_path, mix=True)
    assert len(mixed.frame) == 24
    assert len(mixed.notes) == 1
    if name != "metric":  # which has a panel of its own
        assert all("[" in model for model in mixed.frame["model"])


def test_another_version_of_a_stage_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "one", curve(), studies=STAGES)
    newer = [{"experiments": ["cca_phone"], "versions": {"sampling": 3}}]
    write_run(tmp_path / "two", curve(model="b", revision="b"), studies=newer)
    with pytest.raises(StrataError, match=r"version of sampling is [23] in"):
        gathered(tmp_path)


def test_other_models_layers_datasets_and_experiments_go_together(tmp_path: Path) -> None:
    two(tmp_path)
    config = analysis_config(["cca_phone"], layers={"select": "last4"})
    write_run(tmp_path / "layers", curve(["T3", "T4"], model="c", revision="c"), config)
    write_run(tmp_path / "data", curve(dataset="another"), dataset=CORPUS)
    write_run(tmp_path / "words", curve(experiment="cca_word"))
    assert gathered(tmp_path).frame["run"].nunique() == 5


def test_mixed_protocols_of_one_model_are_never_one_curve(tmp_path: Path) -> None:
    write_run(tmp_path / "one", curve())
    write_run(tmp_path / "two", curve(split="frame", config_key="l"))
    frame = gathered(tmp_path, mix=True).frame
    assert set(frame["model"]) == {"small [split frame]", "small [split speaker]"}


@pytest.mark.slow
def test_a_sweep_over_blocks_and_seeds_goes_together_but_two_recipes_do_not(
    tmp_path: Path,
) -> None:
    for top in (0, 1):
        for seed in (0, 1):
            training(tmp_path / f"{top}_{seed}", top, seed, 0.5 - 0.1 * top)
    assert len(gathered(tmp_path).frame) == 8
    training(tmp_path / "longer", 2, 0, 0.1, updates=99)
    with pytest.raises(StrataError, match=r"ctc of small .*finetune.updates is (8|99) in"):
        gathered(tmp_path)


def test_a_rerun_after_a_change_supersedes_the_old_one_instead_of_being_refused(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "old", curve(), age=100, studies=STAGES)
    newer = [{"experiments": ["cca_phone"], "versions": {"sampling": 3}}]
    write_run(tmp_path / "new", curve(), studies=newer)
    assert gathered(tmp_path).duplicates == {"old": 12}


def test_a_module_of_another_name_is_no_other_protocol(tmp_path: Path) -> None:
    targets = [f"analysis.targets.{module}.Label" for module in ("own_labels", "user_labels")]
    one, other = ({"config": changed("target", {"_target_": name})} for name in targets)
    write_run(tmp_path / "one", curve(), **one)
    write_run(tmp_path / "two", curve(model="b", revision="b"), **other)
    assert gathered(tmp_path).frame["run"].nunique() == 2


def test_a_filter_makes_room_where_runs_would_be_refused(tmp_path: Path) -> None:
    two(tmp_path, split="frame")
    assert set(gathered(tmp_path, models=["small"]).frame["split"]) == {"speaker"}
