"""What a run refuses before it costs anything, and what it leaves out with a count."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from running import execute, textgrids

from common.records import StrataError


def unreadable(speech: Path, folder: Path, count: int | None = None) -> list[Path]:
    """A copy of the corpus whose first files have headers, but no audio that can be decoded."""
    shutil.copytree(speech, folder)
    paths = sorted(folder.rglob("*.flac"))[:count]
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    return paths


@pytest.mark.parametrize("override", ["layers.index=99", "experiments.cca_intra.target.layer=T99"])
def test_an_unknown_layer_fails_before_weights_or_audio_are_read(
    override: str, small: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(checkpoint / name, folder)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/a.wav").write_bytes(b"no audio")
    (tmp_path / "audio/a.TextGrid").write_text("no alignment")
    data = ["dataset=textgrid", f"dataset.audio_root={tmp_path}/audio"]
    overrides = ["experiment=cca_intra", *small, f"model.checkpoint={folder}", *data, override]
    with pytest.raises(StrataError, match=r"T99.*T0, T1, T2, T3"):
        execute(tmp_path / "run", *overrides, "dataset.alignment_root=null")
    assert not (tmp_path / "run/results.csv").exists()


@pytest.mark.slow
def test_one_corrupt_file_that_may_be_skipped_is_counted_and_the_run_goes_on(
    speech: Path, small: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bad,) = unreadable(speech, tmp_path / "speech", 1)
    overrides = [*small, *textgrids(tmp_path / "speech")]
    overrides += [f"paths.cache={tmp_path / 'cache'}", "dataset.limit=null", "on_error=skip"]
    overrides += ["sampling.utterances=36"]  # all there are
    first = execute(tmp_path / "1", "experiment=cca_mel", *overrides)
    assert first.metadata["forward_pass"]["dropped"]["utterance: audio could not be read"] == 1
    assert bad.stem in caplog.text
    assert np.isfinite(first.rows["value"]).all()
    again = execute(tmp_path / "2", "experiment=cca_mel", "metric=cka", *overrides)
    assert not again.passed
    (study,) = again.metadata["studies"]
    assert study["statistics"]["dropped"]["utterance: audio could not be read"] == 1


def test_a_corpus_without_any_readable_audio_is_an_error(
    speech: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    unreadable(speech, tmp_path / "speech")
    overrides = [*small, *textgrids(tmp_path / "speech"), "cache=off"]
    with pytest.raises(StrataError, match="24 of 24 utterances could not be read"):
        execute(tmp_path / "run", "experiment=cca_mel", *overrides)
    assert not (tmp_path / "run/results.csv").exists()


@pytest.mark.parametrize("experiment", ["cca_word", "paper"])
def test_a_corpus_without_words_says_which_tiers_it_has(
    experiment: str, common: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(StrataError, match=r"no word tier.* phone"):
        execute(
            tmp_path, f"experiment={experiment}", *common, "dataset.word_tier=none", "cache=off"
        )


def test_too_few_speakers_for_the_folds(common: tuple[str, ...], tmp_path: Path) -> None:
    overrides = [*common, "split=speaker", "sampling.folds=7", "cache=off"]
    with pytest.raises(StrataError, match=r"7 folds.*6 speakers.*sampling\.folds=6.*split=frame"):
        execute(tmp_path, "experiment=cca_mel", *overrides)
