"""A run of several tasks, one after another."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import composed, resolved

from common.config import resolve
from common.records import StrataError
from common.steps import steps_of


def test_a_step_is_a_task() -> None:
    with pytest.raises(StrataError, match=r"steps\.after=sing: choose one of analysis"):
        resolved("experiment=ctc_then_analyse", "steps.after=sing")


def test_what_compares_two_models_waits_for_a_step_that_makes_the_second(tmp_path: Path) -> None:
    others = [f"~experiments.cca_{name}" for name in ("intra", "phone", "word")]
    cfg = composed(("experiment=ctc_then_analyse", *others))
    raw = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(raw, dict)
    steps = {}
    for _, config, folder, step in steps_of(resolve(cfg), tmp_path, raw):
        steps[folder.name] = (list(config.experiments), config.other, step["other"])
        if folder.name == "ctc":
            (folder / "model").mkdir()
    assert steps["before"] == (["cca_mel"], None, None)
    names, other, written = steps["after"]
    assert names == ["cca_mel", "cca_inter"]
    assert other is not None
    assert (other.name, written["name"]) == ("wav2vec2_tiny", "wav2vec2_tiny")
    alone = resolved("experiment=ctc_then_analyse", *others, "~experiments.cca_mel")
    assert next(steps_of(alone, tmp_path / "alone", raw))[0] == "ctc"
    named = resolved("experiment=ctc_then_analyse", "model@other=hubert_tiny")
    assert "cca_inter" in next(steps_of(named, tmp_path / "named", raw))[1].experiments
