"""The recipes of fine-tuning are the published ones, and bring their own speech."""

from pathlib import Path

import pytest
from options import lacking, libri_light
from running import resolved

RECIPES = {  # peak rate, updates, time mask, channel mask, layer drop, encoder frozen for
    "libri_10m": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_1h": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_10h": (5e-5, 20_000, 0.65, 0.5, 0.05, 10_000),
    "libri_100h": (3e-5, 80_000, 0.65, 0.5, 0.1, 0),
    "libri_10m_large": (1e-4, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_1h_large": (3e-4, 13_000, 0.75, 0.25, 0.1, 10_000),
    "libri_10h_large": (1e-4, 20_000, 0.75, 0.25, 0.1, 10_000),
    "libri_100h_large": (3e-5, 80_000, 0.5, 0.5, 0.1, 10_000),
    "libri_10m_unfrozen": (5e-5, 13_000, 0.075, 0.5, 0.0, 0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_fairseqs_and_bring_their_own_speech(name: str, tmp_path: Path) -> None:
    libri_light(tmp_path)
    more = lacking({"finetune": name}, tmp_path)
    config = resolved("experiment=ctc", f"finetune={name}", *more)
    recipe = config.finetune
    assert RECIPES[name] == (
        recipe.learning_rate,
        recipe.updates,
        recipe.mask_time_prob,
        recipe.mask_feature_prob,
        recipe.layerdrop,
        recipe.freeze_updates,
    )
    assert recipe.masks == ("hf" if name == "libri_10m_unfrozen" else "fairseq")
    assert (recipe.batch_seconds, recipe.activation_dropout) == (1600, 0.1)
    assert recipe.freeze_exclude_reinit is True
    assert (recipe.mask_time_length, recipe.mask_feature_length, recipe.eps) == (10, 64, 1e-8)
    assert (recipe.weight_decay, recipe.gradient_clip, recipe.head_factor) == (0, 0, 1)
    assert (recipe.betas, recipe.stages, recipe.final_scale) == ([0.9, 0.98], [0.1, 0.4, 0.5], 0.05)
    assert recipe.train.dataset.__class__.__name__ == (
        "LibriSpeech" if "100h" in name else "LibriLight"
    )
    assert (recipe.valid.partition, recipe.test.partition) == ("dev_other", "test_clean")
    assert config.dataset == resolved("experiment=ctc").dataset


def test_an_old_name_is_the_new_one(tmp_path: Path) -> None:
    libri_light(tmp_path)
    names = ("authors", "libri_10m_unfrozen")
    more = lacking({"finetune": names[1]}, tmp_path)
    old, new = (resolved("experiment=ctc", f"finetune={name}", *more) for name in names)
    assert old.finetune == new.finetune
