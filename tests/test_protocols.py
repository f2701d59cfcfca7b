"""The group `protocol`: what held_out and published set, and what the command line lays over it."""

import logging
from pathlib import Path

import pytest
from marks import slow
from running import execute, resolved

from common.config import Config

LIBRISPEECH = "dataset=librispeech"


def metrics(config: Config) -> dict[str, str]:
    return {name: analysis.metric.name for name, analysis in config.experiments.items()}


def test_held_out_is_the_default_and_tests_on_every_fold() -> None:
    config = resolved("experiment=paper")
    assert (config.protocol.name, config.split, config.by_type) == (
        "held_out",
        "speaker_else_utterance",
        True,
    )
    assert config.sampling.tested_folds == config.sampling.folds == 10
    assert set(metrics(config).values()) == {"pwcca"}
    assert resolved("experiment=paper", "sampling.folds=5").sampling.tested_folds == 5


def test_published_sets_every_switch_of_the_paper_and_no_other_metric() -> None:
    config = resolved("experiment=full", LIBRISPEECH, "protocol=published")
    assert (config.split, config.by_type, config.sampling.tested_folds) == ("frame", False, 3)
    held_out = metrics(resolved("experiment=full", LIBRISPEECH))
    for name, metric in metrics(config).items():
        assert metric == ("pwcca_published" if held_out[name] == "pwcca" else held_out[name]), name
    fitted = {
        n
        for n, analysis in config.experiments.items()
        if analysis.fit_partition == "train_clean_100"
    }
    assert fitted == {"mi_phone", "mi_phone_frame", "mi_word"}


@pytest.mark.parametrize("experiment", ["probe_phone", "mi_word", "word_segmentation", "cca_inter"])
def test_published_goes_with_every_kind_of_experiment(
    experiment: str, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ["dataset=synthetic", "protocol=published", "debug=default"]
    other = ["model@other=hubert_tiny"] if experiment == "cca_inter" else []
    with caplog.at_level(logging.WARNING):
        config = resolved(f"experiment={experiment}", *overrides, *other)
    assert config.sampling.tested_folds == 1
    assert all(analysis.fit_partition is None for analysis in config.experiments.values())
    assert ("partition all is none of LibriSpeech" in caplog.text) == (experiment == "mi_word")


def test_the_command_line_wins_over_the_protocol() -> None:
    config = resolved(
        "experiment=cca_mel", "protocol=published", "metric=cka", "split=speaker", "by_type=true"
    )
    assert metrics(config) == {"cca_mel": "cka"}
    assert (config.split, config.by_type) == ("speaker", True)
    plain = resolved("experiment=cca_mel", "protocol=published", "protocol.metric=null")
    assert metrics(plain) == {"cca_mel": "pwcca"}
    assert resolved("experiment=cca_mel", "split=frame").split == "frame"


@pytest.mark.parametrize(
    ("overrides", "split", "why"),
    [
        (["protocol=published"], "frame", "pwcca_published has none over speakers"),
        slow(["split=frame"], "frame", "folds do not keep speakers apart (split=frame)"),
        ([], "speaker", "1 folds are tested on, 5 are needed"),
        slow(
            ["sampling.folds=7"], "utterance", "folds do not keep speakers apart (split=utterance)"
        ),
    ],
)
def test_the_table_and_the_metadata_say_why_there_is_no_interval(
    overrides: list[str],
    split: str,
    why: str,
    common: tuple[str, ...],
    cache: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = execute(tmp_path, "experiment=cca_phone", "layers.index=1", *common, cache, *overrides)
    assert set(done.rows["split"]) == {split}
    assert done.rows["low"].isna().all()
    assert done.metadata["no_intervals"] == {"cca_phone": why} or why in str(done.metadata)
    assert f"no 95 % interval: cca_phone: {why}" in capsys.readouterr().out
