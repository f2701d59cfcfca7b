"""Scores in reduced precision and on a GPU beside those in fp32 on the CPU."""

from pathlib import Path

import pytest
from gpu import on_gpu
from running import Finished, execute, resolved, textgrids

from analysis.forward import collectors
from common.records import StrataError

# Moments of frames, and of pooled units: what rounding could move most.
EXPERIMENTS = ("experiment=cca_mel", "+analysis@experiments.cca_phone=cca_phone")
FEW = ("sampling.samples=1", "layers.indices=[T1,T3]", "experiments.cca_mel.parts=[transformer]")
SPEECH = ("dataset=synthetic", "dataset.minutes=1", "dataset.speakers=4")
FOLDS = "sampling.folds=3"
CURVES = ("cca_mel", "cca_phone")

pytestmark = pytest.mark.usefixtures("one_thread")


def agree(found: Finished, exact: Finished, within: float) -> None:
    assert found.passed
    for name in CURVES:
        assert list(exact.curve(name)) == ["T1", "T3"]
        assert found.curve(name) == pytest.approx(exact.curve(name), abs=within)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hubert_tiny", "wav2vec2_tiny"])
def test_scores_in_half_precision_are_those_of_fp32(model: str, tmp_path: Path) -> None:
    own = (f"model={model}", f"paths.cache={tmp_path / 'cache'}", FOLDS)
    fp32, *half = (
        execute(tmp_path / precision, *EXPERIMENTS, *FEW, *SPEECH, *own, f"precision={precision}")
        for precision in ("fp32", "bf16", "fp16")
    )
    for one in half:
        agree(one, fp32, within=0.005)


@pytest.fixture
def whisper(shared_data: Path, tmp_path: Path) -> tuple[str, ...]:
    """Whisper on three real utterances, which take it a minute of audio and a half."""
    checkpoint = shared_data.parent / "models/whisper_tiny_en"
    if not checkpoint.is_dir():
        pytest.skip(f"no model at {checkpoint}")
    named = ("model=hf", "model.name=whisper", f"model.checkpoint={checkpoint}")
    speech = (*textgrids(shared_data / "speechocean762"), "dataset.only_speakers=['0036']")
    # They have fewer frames than CCA needs for 384 columns.
    few = ("dataset.limit=3", "metric=cka", "split=utterance", FOLDS)
    return (*named, *speech, *few, f"paths.cache={tmp_path / 'cache'}")


@pytest.mark.slow
def test_scores_of_whisper_in_bf16_are_those_of_fp32(
    whisper: tuple[str, ...], tmp_path: Path
) -> None:
    fp32, bf16 = (
        execute(tmp_path / precision, *EXPERIMENTS, *FEW, *whisper, f"precision={precision}")
        for precision in ("fp32", "bf16")
    )
    agree(bf16, fp32, within=0.005)


def test_tf32_is_refused_where_products_would_not_be_rounded_so() -> None:
    with pytest.raises(StrataError, match="precision=tf32 is of CUDA GPUs, not of device=cpu"):
        resolved("device=cpu", "precision=tf32")
    with pytest.raises(StrataError, match="precision=tf32 is for analyses: for ctc fp32"):
        resolved("experiment=ctc", "precision=tf32")


@pytest.mark.parametrize(
    ("precision", "within"), [("fp32", 1e-3), ("tf32", 0.005), ("bf16", 0.005), ("fp16", 0.005)]
)
@pytest.mark.parametrize("split", [False, True], ids=["float64", "split"])
@pytest.mark.cuda
@on_gpu
def test_scores_of_a_gpu_are_those_of_the_cpu(
    precision: str, within: float, split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectors, "has_weak_float64", lambda _: split)
    own = (*EXPERIMENTS, *FEW, *SPEECH, "model=hubert_tiny", "cache=off", FOLDS)
    on_cpu = execute(tmp_path / "cpu", *own, "device=cpu")
    there = execute(tmp_path / "gpu", *own, "device=cuda", f"precision={precision}")
    agree(there, on_cpu, within)
