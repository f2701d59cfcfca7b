"""How much audio a device takes at once: found by a trial, or named by an error."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from models import save
from running import composed
from test_ctc import SMALL, clips, finetune, module_of
from test_reinit import recipe

from common.config import resolve
from common.records import StrataError
from finetune.checkpoints import BEST, LAST
from finetune.ctc import parts
from finetune.ctc.fitting import explained_memory
from finetune.ctc.module import Recogniser

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

TEXTS = ["AB", "A", "BBA", "B A B", "AB"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


def test_seconds_of_a_device_give_the_parts_of_an_update() -> None:
    keys: dict[str, Any] = {"batch_seconds": 1600.0, "max_seconds": 30.0}
    assert recipe(**keys, device_seconds=200).accumulate == 8
    assert recipe(**keys, device_seconds=200, processes=2).accumulate == 4
    assert recipe(**keys, device_seconds=2000).accumulate == 1
    assert recipe(**keys, device_seconds="auto", accumulate=3).accumulate == 3
    for wrong, message in (
        ({"device_seconds": 20}, r"device_seconds=20: use auto, or .*max_seconds=30"),
        ({"device_seconds": "all"}, r"device_seconds=all: use auto"),
        ({"device_seconds": 200, "accumulate": 3}, r"into 8 parts, finetune\.accumulate=3"),
    ):
        with pytest.raises(StrataError, match=message):
            recipe(**keys, **wrong)


def test_parts_are_halved_until_the_longest_utterances_fit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds hold ten of the longest, of one second each; a device here holds three."""
    module, blueprint, vocabulary = module_of(model, TEXTS)
    speech = clips(tmp_path, vocabulary, TEXTS, blueprint.feature_extractor)
    own_keys = ("batch_seconds=10", "max_seconds=10", "device_seconds=auto")
    keys = [f"finetune.{key}" for key in own_keys]
    config = resolve(composed((*SMALL, f"model.checkpoint={model}", *keys)))

    class Planned:
        def __init__(self) -> None:
            self.config = config

        def build(self) -> tuple[Recogniser, None]:
            return module, None

    sizes: list[int] = []
    held = [0]
    train = module.losses

    def losses(batch: Any) -> Any:
        sizes.append(len(batch.numbers))
        if sizes[-1] > held[0]:
            raise torch.OutOfMemoryError
        return train(batch)

    monkeypatch.setattr(module, "losses", losses)
    monkeypatch.setattr("gc.collect", int)  # a second a time, among all that tests have imported
    device, plan = torch.device("cpu"), Planned()
    for most, parts_found, tried in ((3, 4, [10, 5, 3, 3]), (10, 1, [10, 10])):
        sizes.clear()
        held[0] = most
        assert parts.parts_that_fit(plan, speech, (0, 1, 2), device) == parts_found  # type: ignore[arg-type]
        assert sizes == tried
    held[0] = 0
    with pytest.raises(StrataError, match=r"does not hold an update of one utterance of 1\.0 s"):
        parts.parts_that_fit(plan, speech, (0, 1, 2), device)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory")]
)
def test_full_memory_is_told_with_the_key_that_helps(error: Exception) -> None:
    settings = recipe(batch_seconds=1600.0, accumulate=2)
    message = r"up to 800 s of audio are processed at once\. Use finetune\.device_seconds=400 "
    with pytest.raises(StrataError, match=message), explained_memory(settings):
        raise error
    with pytest.raises(RuntimeError, match="else"), explained_memory(settings):
        raise RuntimeError("else")


@pytest.mark.slow
def test_a_finished_training_keeps_its_best_weights_alone(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No validation while the encoder is frozen; the same command trains nothing again."""
    options = ("finetune.updates=5", "finetune.valid_every=1", "finetune.freeze_updates=2")
    options = (*options, "finetune.device_seconds=auto", "finetune.accumulate=2")
    with caplog.at_level(logging.INFO):
        done = finetune(tmp_path, model, *options)
    assert done.metadata["accumulate"] == 2
    curves = (tmp_path / "curves").rglob("metrics.csv")
    lines = [line.split(",") for line in next(curves).read_text().splitlines()]
    step, figure = lines[0].index("step"), lines[0].index("valid/cer")
    assert [int(line[step]) for line in lines[1:] if line[figure]] == [2, 3, 4]  # after 3, 4, 5
    assert (tmp_path / BEST).is_file()
    assert not (tmp_path / LAST).exists()
    assert "of other checkpoints are deleted" in caplog.text

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Recogniser, "training_step", never)
    again = finetune(tmp_path, model, *options)
    assert again.rows["value"].tolist() == done.rows["value"].tolist()
    with pytest.raises(StrataError, match=r"got to step 5, with other settings"):
        finetune(tmp_path, model, *options, "finetune.reinit_top=1")
    assert json.loads((tmp_path / parts.NOTED).read_text()) == {"accumulate": 2}
