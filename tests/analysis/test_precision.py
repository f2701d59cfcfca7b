"""Scores in bf16 and fp16 beside those in fp32, on the bundled models."""

from pathlib import Path

import pytest
from running import execute

# Moments of frames, and of pooled units: what rounding could move most.
EXPERIMENTS = ("experiment=cca_mel", "+analysis@experiments.cca_phone=cca_phone")
FEW = ("sampling.samples=1", "layers.indices=[T1,T3]", "experiments.cca_mel.parts=[transformer]")
SPEECH = ("dataset=synthetic", "dataset.minutes=1", "dataset.speakers=4", "sampling.folds=3")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("model", ["hubert_tiny", "wav2vec2_tiny"])
def test_scores_in_half_precision_are_those_of_fp32(model: str, tmp_path: Path) -> None:
    overrides = (*EXPERIMENTS, *FEW, *SPEECH, f"model={model}", f"paths.cache={tmp_path / 'cache'}")
    found = {
        precision: execute(tmp_path / precision, *overrides, f"precision={precision}")
        for precision in ("fp32", "bf16", "fp16")
    }
    for name in ("cca_mel", "cca_phone"):
        exact = found["fp32"].curve(name)
        assert list(exact) == ["T1", "T3"]
        for precision in ("bf16", "fp16"):
            assert found[precision].passed
            assert found[precision].curve(name) == pytest.approx(exact, abs=0.005)
