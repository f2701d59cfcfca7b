"""A training in several parts or several processes is the training of one, to the bit."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import torch
from marks import slow
from models import noise, save
from running import Finished
from safetensors.torch import load_file
from test_ctc import finetune
from test_pretrain import pretrain

from common import stopping
from common.records import StrataError
from finetune.checkpoints import BEST, LAST, PREVIOUS, steps_done
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

Batches = list[tuple[int, tuple[float, ...]]]  # number of the update, and the first sample of each


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


class KilledError(Exception):
    """In the place of a kill: nothing of the training is done afterwards."""


@contextmanager
def recording_batches(
    kill: int | None = None, validation: int | None = None, part: int = 0
) -> Iterator[Batches]:
    """What the updates of runs hear; they end before part `part` of update `kill`.

    Or in the validation after so many updates.
    """
    batches: Batches = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Recogniser, Objective):
            learn, validate = kind.training_step, kind.validation_step

            def training_step(
                self: Any, batch: Any, number: int, learn: Any = learn
            ) -> torch.Tensor:
                count = getattr(self.recipe, "accumulate", 1)
                if self.global_step == kill and number % count == part:
                    raise KilledError
                batches.append((self.global_step, tuple(batch.waveforms[:, 0].tolist())))
                return learn(self, batch, number)

            def validation_step(
                self: Any, batch: Any, number: int, validate: Any = validate
            ) -> None:
                if self.global_step == validation:
                    raise KilledError
                validate(self, batch, number)

            patch.setattr(kind, "training_step", training_step)
            patch.setattr(kind, "validation_step", validation_step)
        yield batches


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Batches]:
    """A run in two parts an update that nothing disturbs, and what it heard."""
    with recording_batches() as batches:
        done = finetune(tmp_path_factory.mktemp("whole"), model, *PARTS)
    assert [update for update, _ in batches] == [k for k in range(10) for _ in range(2)]
    return done, batches


def weights_of(run: Finished, part: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run.folder / part / "model.safetensors")


def assert_same_training(one: Finished, other: Finished, *parts: str) -> None:
    for part in ("model", *parts):
        torch.testing.assert_close(weights_of(one, part), weights_of(other, part), atol=0, rtol=0)
    curves, others = (read_curves(run.folder) for run in (one, other))
    columns = curves.columns.sort_values()
    pd.testing.assert_frame_equal(curves[columns], others[columns])


@pytest.mark.parametrize("kill", [slow(1), 3, slow(9)])
def test_a_killed_ctc_goes_on_to_the_same_weights(
    kill: int,
    whole: tuple[Finished, Batches],
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With accumulation, and killed between the two parts of an update."""
    with recording_batches(kill=kill, part=1) as before, pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    assert "progress" not in {thread.name for thread in threading.enumerate()}
    assert not (tmp_path / "model").exists()
    with caplog.at_level(logging.INFO), recording_batches() as after:
        done = finetune(tmp_path, model, *PARTS)
    assert f"going on from update {kill} of" in caplog.text
    assert before[: 2 * kill] + after == whole[1]
    assert_same_training(whole[0], done)
    assert whole[0].rows["value"].tolist() == done.rows["value"].tolist()


def signalled(update: int, number: int) -> Any:
    """A training step that gets the signal once, in this update."""
    kinds = {kind: kind.training_step for kind in (Recogniser, Objective)}
    sent: list[int] = []

    def patched(kind: Any) -> Any:
        def training_step(self: Any, batch: Any, place: int) -> torch.Tensor:
            if self.global_step == update and not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
            return kinds[kind](self, batch, place)

        return training_step

    patch = pytest.MonkeyPatch()
    for kind in kinds:
        patch.setattr(kind, "training_step", patched(kind))
    return patch


@pytest.fixture
def listening() -> Iterator[None]:
    """The handlers that run.py sets, and afterwards those that were there."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    stopping.handle_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(("number", "update"), [(signal.SIGTERM, 4), (signal.SIGUSR1, 5)])
def test_a_ctc_that_a_signal_ends_has_a_checkpoint_of_that_update(
    number: int, update: int, whole: tuple[Finished, Batches], model: Path, tmp_path: Path
) -> None:
    """In the middle of an update, and in one that a validation follows."""
    patch = signalled(update, number)
    with pytest.raises(SystemExit) as ended:
        finetune(tmp_path, model, *PARTS, "finetune.checkpoint_minutes=60")
    patch.undo()
    assert ended.value.code == 128 + number
    assert steps_done(tmp_path) == update + 1
    with recording_batches() as after:
        done = finetune(tmp_path, model, *PARTS)
    assert after == whole[1][2 * (update + 1) :]
    assert_same_training(whole[0], done)


@pytest.mark.slow
def test_two_kills_one_of_them_in_a_validation(
    whole: tuple[Finished, Batches], model: Path, tmp_path: Path
) -> None:
    """A validation that a kill cuts off is made, or its weights could not be the best."""
    with recording_batches(kill=2) as first, pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    with recording_batches(validation=6) as second, pytest.raises(KilledError):
        finetune(tmp_path, model, *PARTS)
    with recording_batches() as third:
        done = finetune(tmp_path, model, *PARTS)
    assert first + [point for point in second if point[0] < 5] + third == whole[1]
    assert_same_training(whole[0], done)


@pytest.mark.slow
def test_a_killed_run_with_every_other_option_goes_on_to_the_same_weights(
    model: Path, tmp_path: Path
) -> None:
    """fp16 with the scale of its loss; fairseq's masks, LoRA's dropout, speeds and noise."""
    folder = tmp_path / "noise"
    folder.mkdir()
    soundfile.write(folder / "noise.wav", noise(20_000), 16_000)
    options = [
        *("finetune.updates=6", "finetune.valid_every=3", "finetune.checkpoint_minutes=1e-9"),
        *("finetune.batch_seconds=15", "finetune.max_seconds=15", "finetune.freeze_updates=1"),
        *("finetune.targets=phones", "finetune.masks=fairseq", "finetune.drop_top=1"),
        *("finetune.adapters.method=lora", "finetune.adapters.dropout=0.3"),
        *("finetune.reinit_top=1", "finetune.layer_decay=0.8", "precision=fp16"),
        *("finetune.augment.speeds=[0.9,1.0,1.1]", f"finetune.augment.noise={folder}"),
    ]
    with recording_batches() as whole:
        undisturbed = finetune(tmp_path / "whole", model, *options)
    with recording_batches(kill=4) as before, pytest.raises(KilledError):
        finetune(tmp_path / "killed", model, *options)
    with recording_batches() as after:
        done = finetune(tmp_path / "killed", model, *options)
    assert before + after == whole
    assert_same_training(undisturbed, done)
    assert weights_of(done)["lm_head.weight"].any()  # not every update has overflown


@pytest.mark.slow
def test_two_processes_killed_and_resumed_train_what_one_does_in_as_many_parts(
    whole: tuple[Finished, Batches], model: Path, tmp_path: Path
) -> None:
    """Each has its part of every update and of the validation speech, and its random numbers."""
    options = [*OWN, "finetune.processes=2"]
    with recording_batches(kill=3) as before, pytest.raises(KilledError):
        finetune(tmp_path, model, *options)
    assert not torch.distributed.is_initialized()
    with recording_batches() as after:
        done = finetune(tmp_path, model, *options)
    assert before + after == whole[1][::2]
    assert_same_training(whole[0], done)
    assert whole[0].rows["value"].tolist() == done.rows["value"].tolist()


@pytest.fixture(scope="module")
def begun(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed before its last update, not to be changed."""
    folder = tmp_path_factory.mktemp("begun")
    with recording_batches(kill=9), pytest.raises(KilledError):
        finetune(folder, model, *PARTS)
    return folder


def test_a_killed_run_takes_no_other_settings(begun: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    other = r"got to step 9, with other settings: finetune\.reinit_top=1 \(was 0\)\. Use"
    with pytest.raises(StrataError, match=other):
        finetune(tmp_path, model, *PARTS, "finetune.reinit_top=1")


@pytest.mark.parametrize(
    ("damaged", "resumed"), [((LAST,), 8), slow((LAST, PREVIOUS), 0), slow((BEST,), 0)]
)
def test_damaged_checkpoints_give_way_to_sound_ones(
    damaged: tuple[str, ...],
    resumed: int,
    begun: Path,
    whole: tuple[Finished, Batches],
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last one to the one before it; without the best weights the training begins anew."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    assert all((tmp_path / name).is_file() for name in (LAST, PREVIOUS, BEST))
    for name in damaged:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    with recording_batches() as batches:
        done = finetune(tmp_path, model, *PARTS)
    assert all(f"{tmp_path / name} " in caplog.text for name in damaged)
    assert batches == whole[1][2 * resumed :]
    assert_same_training(whole[0], done)


def damage(path: Path) -> None:
    """Half of the file, flipped: sizes stay, contents do not."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(255 - byte for byte in content[half:])
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["train", "train.json", "valid"])
def test_damaged_speech_of_a_recogniser_is_read_again(
    file: str,
    begun: Path,
    whole: tuple[Finished, Batches],
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "speech" / file)
    done = finetune(tmp_path, model, *PARTS)
    assert "reading the speech again" in caplog.text
    assert_same_training(whole[0], done)


@pytest.fixture(scope="module")
def pretrained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Batches]:
    """A pretraining that nothing disturbs, and what it heard."""
    with recording_batches() as batches:
        done = pretrain(tmp_path_factory.mktemp("whole"), f"model.checkpoint={model}", *PRETRAIN)
    assert [step for step, _ in batches] == list(range(10))
    return done, batches


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[1], [5], [2, 6]])
def test_a_killed_pretraining_goes_on_to_the_same_weights(
    kills: list[int], pretrained: tuple[Finished, Batches], model: Path, tmp_path: Path
) -> None:
    """Dropout, layer drop, Gumbel noise and Adam's state included."""
    options = [f"model.checkpoint={model}", *PRETRAIN]
    batches: Batches = []
    for kill in kills:
        with recording_batches(kill=kill) as before, pytest.raises(KilledError):
            pretrain(tmp_path, *options)
        batches += before
    with recording_batches() as after:
        done = pretrain(tmp_path, *options)
    assert batches + after == pretrained[1]
    assert_same_training(pretrained[0], done, "snapshots/step_000005", "snapshots/step_000010")


@pytest.mark.slow
@pytest.mark.usefixtures("listening")
def test_a_pretraining_that_a_signal_ends_has_a_checkpoint_of_that_step(
    pretrained: tuple[Finished, Batches], model: Path, tmp_path: Path
) -> None:
    options = [f"model.checkpoint={model}", *PRETRAIN]
    patch = signalled(3, signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        pretrain(tmp_path, *options, "pretrain.checkpoint_minutes=60")
    patch.undo()
    assert (ended.value.code, steps_done(tmp_path)) == (143, 4)
    with recording_batches() as after:
        done = pretrain(tmp_path, *options)
    assert after == pretrained[1][4:]
    assert_same_training(pretrained[0], done)


@pytest.fixture(scope="module")
def begun_pretraining(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretraining that was killed before its last step, not to be changed."""
    folder = tmp_path_factory.mktemp("begun")
    with recording_batches(kill=9), pytest.raises(KilledError):
        pretrain(folder, f"model.checkpoint={model}", *PRETRAIN)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("file", ["pcm", "acoustics", "index.npz"])
def test_damaged_speech_of_a_pretraining_is_read_again(
    file: str,
    begun_pretraining: Path,
    pretrained: tuple[Finished, Batches],
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(begun_pretraining, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "speech" / file)
    done = pretrain(tmp_path, f"model.checkpoint={model}", *PRETRAIN)
    assert_same_training(pretrained[0], done)
    assert "reading the speech again" in caplog.text
