"""What is known of a model before its weights are read."""

from pathlib import Path

import pytest
from layers import reference
from models import ARCHITECTURES, configured, save, save_description

from common.config import ModelConfig
from common.encoder.architecture import describe
from common.records import StrataError


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_bert", "sew"])
def test_a_description_needs_no_weights(name: str, tmp_path: Path) -> None:
    description = describe(configured(save_description(name, tmp_path / "described")))
    model, _ = reference(save(name, tmp_path / "whole"))
    assert description.n_parameters == sum(p.numel() for p in model.parameters())
    assert description.layers[-1].geometry.hop == 320
    assert [layer.name for layer in description.layers][-4:] == ["T0", "T1", "T2", "T3"]


@pytest.mark.parametrize("name", sorted(n for n, a in ARCHITECTURES.items() if not a.final_norm))
def test_final_norm_needs_one_after_the_blocks(name: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="no layer norm after its last block"):
        describe(configured(save_description(name, tmp_path), final_norm=True))


def test_the_bundled_model() -> None:
    description = describe(
        ModelConfig(name="tiny", checkpoint="assets/wav2vec2_tiny", random_init=True)
    )
    assert 3.1e6 < description.n_parameters < 3.3e6
    assert [layer.dim for layer in description.layers] == [32, 64, 96, *[128] * 4, *[192] * 7]
    assert [layer.geometry.hop for layer in description.layers[:7]] == [5, 10, 20, 40, 80, 160, 320]
