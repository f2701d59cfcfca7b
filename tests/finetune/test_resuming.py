"""A training in several parts or several processes is the training of one, to the bit."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from models import save
from running import Finished
from safetensors.torch import load_file
from test_ctc import finetune
from test_pretrain import pretrain

from common.records import StrataError
from finetune.checkpoints import BEST, LAST, PREVIOUS
from finetune.ctc.module import Recogniser
from finetune.curves import read_curves
from finetune.pretrain.objectives import Objective

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

# Masks, dropout, layer drop, frozen updates; a checkpoint after every update.
OWN = [
    *("finetune.updates=10", "finetune.valid_every=3", "finetune.layerdrop=0.3"),
    *("finetune.checkpoint_minutes=1e-9", "finetune.batch_seconds=15", "finetune.max_seconds=15"),
]
PARTS = [*OWN, "finetune.accumulate=2"]
PRETRAIN = ["pretrain.steps=10", "pretrain.checkpoint_minutes=1e-9", "pretrain.snapshots=[0.5,1]"]

Heard = list[tuple[int, tuple[float, ...]]]  # number of the update, and the first sample of each


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


class KilledError(Exception):
    """In the place of a kill: nothing of the training is done afterwards."""


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Heard]:
    """What the updates of the next runs hear; they end before part `part` of update `kill`.

    Or in the validation after so many updates.
    """

    def arrange(kill: int | None = None, validation: int | None = None, part: int = 0) -> Heard:
        heard: Heard = []
        monkeypatch.undo()
        for kind in (Recogniser, Objective):
            learn, validate = kind.training_step, kind.validation_step

            def training_step(
                self: Any, batch: Any, number: int, learn: Any = learn
            ) -> torch.Tensor:
                count = getattr(self.recipe, "accumulate", 1)
                if self.global_step == kill and number % count == part:
                    raise KilledError
                heard.append((self.global_step, tuple(batch.waveforms[:, 0].tolist())))
                return learn(self, batch, number)

            def validation_step(
                self: Any, batch: Any, number: int, validate: Any = validate
            ) -> None:
                if self.global_step == validation:
                    raise KilledError
                validate(self, batch, number)

            monkeypatch.setattr(kind, "training_step", training_step)
            monkeypatch.setattr(kind, "validation_step", validation_step)
        return heard

    return arrange


@contextmanager
def hearing(kind: Any) -> Iterator[Heard]:
    """Each batch that modules of a kind learn from."""
    heard: Heard = []
    learn = kind.training_step

    def training_step(self: Any, batch: Any, number: int) -> torch.Tensor:
        heard.append((self.global_step, tuple(batch.waveforms[:, 0].tolist())))
        return learn(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "training_step", training_step)
        yield heard


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Heard]:
    """A run in two parts an update that nothing disturbs, and what it heard."""
    with hearing(Recogniser) as heard:
        done = finetune(tmp_path_factory.mktemp("whole"), model, *PARTS)
    assert [update for update, _ in heard] == [k for k in range(10) for _ in range(2)]
    return done, heard


def weights_of(run: Finished, part: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run.folder / part / "model.safetensors")


def assert_same_training(one: Finished, other: Finished, *parts: str) -> None:
    for part in ("model", *parts):
        torch.testing.assert_close(weights_of(one, part), weights_of(other, part), atol=0, rtol=0)
    curves, others = (read_curves(run.folder) for run in (one, other))
    columns = curves.columns.sort_values()
    pd.testing.assert_frame_equal(curves[columns], others[columns])


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.9])
def test_a_killed_ctc_goes_on_to_the_same_weights(
    share: float,
    whole: tuple[Finished, Heard],
    model: Path,
    tmp_path: Path,
    listen: Callable[..., Heard],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With accumulation, and killed between the two parts of an update."""
    kill = round(share * 10)
    before = listen(kill=kill, part=1)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    assert not (tmp_path / "model").exists()
    after = listen()
    with caplog.at_level(logging.INFO):
        done = finetune(tmp_path, model, *PARTS)
    assert f"going on from update {kill} of" in caplog.text
    assert before[: 2 * kill] + after == whole[1]
    assert_same_training(whole[0], done)
    assert whole[0].rows["value"].tolist() == done.rows["value"].tolist()


def test_two_kills_one_of_them_in_a_validation(
    whole: tuple[Finished, Heard], model: Path, tmp_path: Path, listen: Callable[..., Heard]
) -> None:
    """A validation that a kill cuts off is made, or its weights could not be the best."""
    first = listen(kill=2)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    second = listen(validation=6)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    third = listen()
    done = finetune(tmp_path, model, *PARTS)
    assert first + [own for own in second if own[0] < 5] + third == whole[1]
    assert_same_training(whole[0], done)


def test_a_killed_run_takes_no_other_settings(
    model: Path, tmp_path: Path, listen: Callable[..., Heard]
) -> None:
    listen(kill=4)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *OWN)
    other = r"got to step 4, with other settings: finetune\.reinit_top=1 \(was 0\)\. Give"
    with pytest.raises(StrataError, match=other):
        finetune(tmp_path, model, *OWN, "finetune.reinit_top=1")


def test_two_processes_killed_and_resumed_train_what_one_does_in_as_many_parts(
    whole: tuple[Finished, Heard], model: Path, tmp_path: Path, listen: Callable[..., Heard]
) -> None:
    """Each has its part of every update and of the validation speech, and its random numbers."""
    own = [*OWN, "finetune.processes=2"]
    before = listen(kill=3)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *own)
    assert not torch.distributed.is_initialized()
    after = listen()
    done = finetune(tmp_path, model, *own)
    assert before + after == whole[1][::2]
    assert_same_training(whole[0], done)
    assert whole[0].rows["value"].tolist() == done.rows["value"].tolist()


def test_damaged_checkpoints_give_way_to_sound_ones(
    whole: tuple[Finished, Heard],
    model: Path,
    tmp_path: Path,
    listen: Callable[..., Heard],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last one to the one before it; without the best weights the training begins anew."""
    listen(kill=6)
    with pytest.raises(KilledError):
        finetune(tmp_path / "killed", model, *PARTS)
    begun = (LAST, PREVIOUS, BEST)
    for damaged, resumed in (((LAST,), 5), ((LAST, PREVIOUS), 0), ((BEST,), 0)):
        folder = tmp_path / str(len(damaged)) / damaged[0].split("/")[1]
        shutil.copytree(tmp_path / "killed", folder)
        assert all((folder / name).is_file() for name in begun)
        for name in damaged:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: len(content) // 2])
        caplog.clear()
        heard = listen()
        done = finetune(folder, model, *PARTS)
        assert all(f"{folder / name} " in caplog.text for name in damaged)
        assert heard == whole[1][2 * resumed :]
        assert_same_training(whole[0], done)


@pytest.mark.parametrize("kills", [[1], [3], [5], [9], [2, 6]])
def test_a_killed_pretraining_goes_on_to_the_same_weights(
    kills: list[int],
    pretrained: tuple[Finished, Heard],
    model: Path,
    tmp_path: Path,
    listen: Callable[..., Heard],
) -> None:
    """Dropout, layer drop, Gumbel noise and Adam's state included."""
    own = [f"model.checkpoint={model}", *PRETRAIN]
    heard: Heard = []
    for kill in kills:
        before = listen(kill=kill)
        with pytest.raises(KilledError):
            pretrain(tmp_path, *own)
        heard += before
    after = listen()
    done = pretrain(tmp_path, *own)
    assert heard + after == pretrained[1]
    assert_same_training(pretrained[0], done, "snapshots/step_000005", "snapshots/step_000010")


@pytest.fixture(scope="module")
def pretrained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Heard]:
    """A pretraining that nothing disturbs, and what it heard."""
    with hearing(Objective) as heard:
        done = pretrain(tmp_path_factory.mktemp("whole"), f"model.checkpoint={model}", *PRETRAIN)
    assert [step for step, _ in heard] == list(range(10))
    return done, heard


def damage(path: Path) -> None:
    """Half of the file, flipped: sizes stay, contents do not."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(255 - byte for byte in content[half:])
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["train", "train.json", "valid"])
def test_damaged_speech_of_a_recogniser_is_read_again(
    file: str,
    whole: tuple[Finished, Heard],
    model: Path,
    tmp_path: Path,
    listen: Callable[..., Heard],
    caplog: pytest.LogCaptureFixture,
) -> None:
    listen(kill=9)
    with pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    damage(tmp_path / "speech" / file)
    listen()
    done = finetune(tmp_path, model, *PARTS)
    assert "reading the speech again" in caplog.text
    assert_same_training(whole[0], done)


@pytest.mark.parametrize("file", ["pcm", "acoustics", "index.npz"])
def test_damaged_speech_of_a_pretraining_is_read_again(
    file: str,
    pretrained: tuple[Finished, Heard],
    model: Path,
    tmp_path: Path,
    listen: Callable[..., Heard],
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = [f"model.checkpoint={model}", *PRETRAIN]
    listen(kill=9)
    with pytest.raises(KilledError):
        pretrain(tmp_path, *own)
    damage(tmp_path / "speech" / file)
    listen()
    assert_same_training(pretrained[0], pretrain(tmp_path, *own))
    assert "reading the speech again" in caplog.text
