"""Sound that is none, in a whole run: named as an error, or left out and told everywhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from marks import slow
from running import Finished, execute, textgrids

from common.records import SAMPLE_RATE, StrataError

pytestmark = pytest.mark.usefixtures("one_thread")


def silent(path: Path, waveform: np.ndarray) -> None:
    soundfile.write(path, np.zeros_like(waveform), SAMPLE_RATE)


def antiphase(path: Path, waveform: np.ndarray) -> None:
    soundfile.write(path, np.stack([waveform, -waveform], axis=1), SAMPLE_RATE)


def damaged_mp3(path: Path, waveform: np.ndarray) -> None:
    soundfile.write(path.with_suffix(".mp3"), waveform, SAMPLE_RATE)
    path.unlink()
    whole = path.with_suffix(".mp3").read_bytes()
    third, half = len(whole) // 3, len(whole) // 2
    path.with_suffix(".mp3").write_bytes(whole[:third] + whole[half:])


WRONG: dict[str, Callable[[Path, np.ndarray], None]] = {
    "silent throughout": silent,
    "channels cancel each other": antiphase,
    "can be decoded: damaged or cut short": damaged_mp3,
}


def overrides(folder: Path, small: tuple[str, ...], cache: Path) -> list[str]:
    chosen = ["experiment=cca_phone", "layers.indices=[T3]", "controls=false"]
    return [*chosen, *small, *textgrids(folder), f"paths.cache={cache}"]


def text_of(run: Finished) -> str:
    return " ".join(map(str, run.metadata["not_complete"].values()))


@pytest.fixture
def copied(speech: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(speech, tmp_path / "speech"))


def test_each_kind_is_an_error_that_names_the_file_or_is_counted_everywhere(
    copied: Path,
    small: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = sorted((copied / "audio").rglob("*.flac"))
    spoilt = dict(zip(WRONG, paths[:: len(paths) // 3], strict=False))
    for why, path in spoilt.items():
        waveform, _ = soundfile.read(path)
        WRONG[why](path, waveform)
    command = [*overrides(copied, small, tmp_path / "cache"), "dataset.limit=null"]
    command += ["sampling.instances=1000"]  # more than there are: every utterance is heard
    with pytest.raises(StrataError, match=r"3 of .* utterances could not be read") as refused:
        execute(tmp_path / "refused", *command)
    for why, path in spoilt.items():
        assert path.stem in str(refused.value)
        assert why in str(refused.value)
    caplog.clear()
    part = execute(tmp_path / "part", *command, "on_error=skip")
    message = "NOT COMPLETE: 3 utterances could not be read"
    assert message in capsys.readouterr().out
    assert message in caplog.text
    for path in spoilt.values():
        assert path.stem in text_of(part)
    passed = part.metadata["studies"][0]["statistics"]["dropped"]
    assert passed["utterance: audio could not be read"] == 3


@pytest.mark.parametrize("why", ["silent throughout", slow("channels cancel each other")])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_corpus_of_nothing_else_has_no_scores(
    why: str, on_error: str, copied: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    for path in sorted((copied / "audio").rglob("*.flac")):
        waveform, _ = soundfile.read(path)
        WRONG[why](path, waveform)
    command = [*overrides(copied, small, tmp_path / "cache"), f"on_error={on_error}"]
    message = "none of .* could be used" if on_error == "skip" else "utterances could not be read"
    with pytest.raises(StrataError, match=f"{message}.*{why}"):
        execute(tmp_path / "run", *command)
    assert not (tmp_path / "run/results.csv").exists()
