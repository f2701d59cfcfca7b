"""A folder of recordings without alignments."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.datasets.recordings import Recordings
from common.records import StrataError


def write(path: Path, n: int = 8000, rate: int = 16_000, text: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.linspace(-0.1, 0.1, n), rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text)


def recordings(root: Path, **keys: object) -> Recordings:
    given = {"partition": "all", "limit": None, "speaker": "folder", "licence": "mine"} | keys
    return Recordings(audio_root=str(root), **given)


def test_files_are_listed_with_length_speaker_and_transcript(tmp_path: Path) -> None:
    write(tmp_path / "jane/12a.wav", text="Hello,\n  you  there. ")
    write(tmp_path / "joe/12a.flac", rate=8000)
    write(tmp_path / "joe/7-b.wav", n=4000)
    corpus = recordings(tmp_path).read()
    found = {u.id: (u.speaker, u.text, u.n_samples) for u in corpus.utterances}
    assert found == {
        "jane/12a": ("jane", "Hello, you there.", 8000),
        "joe/12a": ("joe", "", 16_000),
        "7-b": ("joe", "", 4000),
    }
    assert (corpus.tiers, corpus.licence) == ((), "mine")
    assert all(len(u.read()) == u.n_samples for u in corpus.utterances)


@pytest.mark.parametrize(
    ("rule", "speakers"),
    [("folder", ["x", "x"]), ("prefix", ["7", "8"]), ("suffix", ["jane", ""]), ("none", ["", ""])],
)
def test_who_speaks(rule: str, speakers: list[str], tmp_path: Path) -> None:
    write(tmp_path / "x/7_b-jane.wav")
    write(tmp_path / "x/8.wav")
    utterances = recordings(tmp_path, speaker=rule).read().utterances
    assert [u.speaker for u in utterances] == speakers


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(StrataError, match=r"b\.wav: cannot be decoded"):
        recordings(tmp_path).read()
    corpus = recordings(tmp_path).read("skip")
    assert [u.id for u in corpus.utterances] == ["a"]
    assert corpus.dropped == {"utterance: a file of it could not be read": 1}


def test_a_part_a_limit_and_the_fingerprint(tmp_path: Path) -> None:
    for k in range(6):
        write(tmp_path / f"{'one' if k < 4 else 'two'}/{k}.wav", n=1000 + k)
    one = recordings(tmp_path, partition="one").read()
    assert [u.id for u in one.utterances] == ["0", "1", "2", "3"]
    few = recordings(tmp_path, limit=3).read()
    assert len(few.utterances) == 3
    assert few.dropped == {"utterance: beyond dataset.limit": 3}
    again = recordings(tmp_path, partition="one").read()
    assert again.fingerprint == one.fingerprint != few.fingerprint


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"partition": "absent"}, "dataset.partition=absent"),
        ({"speaker": "guess"}, "dataset.speaker=guess: use folder, prefix, suffix, none"),
        ({"limit": 0}, "dataset.limit=0"),
    ],
)
def test_keys_are_checked_before_anything_is_read(
    keys: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StrataError, match=message):
        recordings(tmp_path, **keys)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="no audio files"):
        recordings(tmp_path).read()
