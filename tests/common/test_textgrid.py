import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from speech import PHONES, WORDS, write_audio, write_textgrid

from common.datasets.textgrid import TextGrid
from common.phones import ARPABET
from common.records import Corpus, Interval, StrataError


def textgrid(root: Path, alignments: Path | None = None, **keys) -> TextGrid:
    defaults = {"word_tier": None, "phone_tier": None, "speaker": "folder", "licence": "none"}
    alignment_root = str(alignments) if alignments else None
    return TextGrid(
        **{"audio_root": str(root), "alignment_root": alignment_root, **defaults, **keys}
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two speakers, three utterances, parallel folders `audio` and `alignments`."""
    for seed, name in enumerate(["anna/a-1", "anna/a-2", "bob/b_1"]):
        write_audio(tmp_path / "audio" / f"{name}.flac", seed)
        write_textgrid(tmp_path / "alignments" / f"{name}.TextGrid")
    return tmp_path


def read(folder: Path, **keys) -> Corpus:
    return textgrid(folder / "audio", folder / "alignments", **keys).read()


def test_parallel_folders_are_read(corpus: Path) -> None:
    listed = read(corpus)
    assert [(u.id, u.speaker) for u in listed.utterances] == [
        ("a-1", "anna"),
        ("a-2", "anna"),
        ("b_1", "bob"),
    ]
    first = listed.utterances[0]
    assert first.text == "she had"
    assert first.n_samples == 16000
    assert first.tiers["word"] == (Interval(1600, 6400, "she"), Interval(6400, 14400, "had"))
    assert [i.label for i in first.tiers["phone"]] == ["sh", "iy", "hh", "ae", "d"]
    assert listed.dropped == {"word: silence": 6, "phone: silence": 6}
    assert listed.tiers == ("phone", "word")
    assert pickle.loads(pickle.dumps(first)).read().shape == (16000,)


def test_transcripts_come_from_lab_or_txt(corpus: Path) -> None:
    (corpus / "audio/anna/a-1.lab").write_text("She  had,\n")
    (corpus / "alignments/anna/a-2.txt").write_text("she HAD")
    assert [u.text for u in read(corpus).utterances] == ["She had,", "she HAD", "she had"]


@pytest.mark.parametrize(
    ("rule", "speakers"),
    [("folder", ["anna", "anna", "bob"]), ("prefix", ["a", "a", "b"]), ("none", ["", "", ""])],
)
def test_the_speaker_rules(corpus: Path, rule: str, speakers: list[str]) -> None:
    assert [u.speaker for u in read(corpus, speaker=rule).utterances] == speakers


def test_one_flat_folder_is_read_and_its_unknown_speakers_logged(tmp_path: Path, caplog) -> None:
    write_audio(tmp_path / "x.wav")
    write_textgrid(tmp_path / "x.textgrid")
    listed = textgrid(tmp_path).read()
    assert [(u.id, u.speaker) for u in listed.utterances] == [("x", "")]
    assert "dataset.speaker=prefix" in caplog.text


def test_a_partition_is_a_folder_below_both_roots(corpus: Path) -> None:
    for kind in ("audio", "alignments"):
        shutil.copytree(corpus / kind, corpus / "parts" / kind / "dev")
    listed = read(corpus / "parts", partition="dev")
    assert {u.speaker for u in listed.utterances} == {"anna", "bob"}
    with pytest.raises(StrataError, match=r"dataset\.partition=eval with dataset\.audio_root="):
        textgrid(corpus / "parts" / "audio", partition="eval")


def test_flat_alignments_pair_with_nested_audio_by_unique_name(corpus: Path) -> None:
    for path in list((corpus / "alignments").rglob("*.TextGrid")):
        path.rename(corpus / "alignments" / path.name)
    assert len(read(corpus).utterances) == 3


def test_equal_names_in_two_folders_stay_apart(corpus: Path) -> None:
    write_audio(corpus / "audio/bob/a-1.flac", 9)
    write_textgrid(corpus / "alignments/bob/a-1.TextGrid")
    assert [u.id for u in read(corpus).utterances] == ["anna/a-1", "a-2", "bob/a-1", "b_1"]


def test_what_has_no_partner_is_counted(corpus: Path) -> None:
    (corpus / "alignments/anna/a-1.TextGrid").unlink()
    (corpus / "audio/anna/a-2.flac").unlink()
    (corpus / "audio/anna/._a-2.flac").write_bytes(b"resource fork of macOS")
    listed = read(corpus)
    assert [u.id for u in listed.utterances] == ["b_1"]
    assert listed.dropped["utterance: audio without alignment"] == 1
    assert listed.dropped["utterance: alignment without audio"] == 1


def test_a_limit_is_spread_over_the_listing_and_counted(corpus: Path) -> None:
    listed = read(corpus, limit=2)
    assert [u.speaker for u in listed.utterances] == ["anna", "anna"]
    assert listed.dropped["utterance: beyond dataset.limit"] == 1
    assert len(read(corpus, limit=9).utterances) == 3
    with pytest.raises(StrataError, match=r"dataset\.limit=0"):
        textgrid(corpus / "audio", limit=0)


def test_nothing_found_says_what_was_looked_for_where(corpus: Path) -> None:
    empty = corpus / "empty"
    empty.mkdir()
    with pytest.raises(StrataError, match=rf"3 audio files .* and 0 \.TextGrid .* below {empty}"):
        textgrid(corpus / "audio", empty).read()
    write_textgrid(empty / "other.TextGrid")
    with pytest.raises(StrataError, match=r"no two of the same name: anna/a-1 and other"):
        textgrid(corpus / "audio", empty).read()


def test_one_name_for_two_recordings_is_an_error(corpus: Path) -> None:
    write_audio(corpus / "audio/anna/a-1.wav")
    with pytest.raises(StrataError, match=r"a-1\.wav and a-1\.flac beside it share one name"):
        read(corpus)


@pytest.mark.parametrize("name", ["audio_root", "alignment_root"])
def test_a_missing_root_fails_at_once_and_names_the_key(corpus: Path, name: str) -> None:
    roots = {"audio_root": str(corpus / "audio"), "alignment_root": str(corpus / "alignments")}
    roots[name] = str(corpus / "audoi" / "deeper")
    with pytest.raises(StrataError, match=rf"dataset\.{name}=.*no such folder.*holds: alignments"):
        textgrid(corpus, **roots)
    roots[name] = str(corpus / "audio/anna/a-1.flac")
    with pytest.raises(StrataError, match=r"a file, not a folder"):
        textgrid(corpus, **roots)


def test_wrong_keys_fail_at_once(corpus: Path) -> None:
    with pytest.raises(StrataError, match=r"dataset\.speaker=dialect: use folder, prefix or none"):
        textgrid(corpus, speaker="dialect")
    with pytest.raises(StrataError, match=r"dataset\.word_tier=\(: not a regular expression"):
        textgrid(corpus, word_tier="(")


def test_tiers_by_other_names(corpus: Path) -> None:
    for path in (corpus / "alignments").rglob("*.TextGrid"):
        write_textgrid(path, lexemes=WORDS, sounds=PHONES)
    with pytest.raises(StrataError, match=r"none of 3 .*dataset\.word_tier=None.* 'lexemes', 's"):
        read(corpus)
    assert read(corpus, word_tier="LEX.*", phone_tier="sounds").tiers == ("phone", "word")
    listed = read(corpus, phone_tier="sounds")
    assert listed.tiers == ("phone",)
    assert listed.dropped["word: no such tier in the file"] == 3
    write_textgrid(corpus / "alignments/anna/a-1.TextGrid", gestures=WORDS)
    listed = read(corpus, phone_tier="sounds")
    assert listed.dropped["utterance: neither word nor phone tier"] == 1
    assert len(listed.utterances) == 2


def test_intervals_beyond_the_audio_are_clipped_and_counted(corpus: Path) -> None:
    write_audio(corpus / "audio/anna/a-1.flac", seconds=0.6)
    listed = read(corpus)
    assert listed.utterances[0].tiers["phone"][-1] == Interval(8000, 9600, "ae")
    assert listed.dropped["phone: beyond the audio"] == 1
    assert listed.dropped["word: clipped to the audio (kept)"] == 1


def test_the_fingerprint_follows_contents_not_place_or_time(corpus: Path, tmp_path: Path) -> None:
    before = read(corpus).fingerprint
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(corpus / "audio", elsewhere / "audio")
    shutil.copytree(corpus / "alignments", elsewhere / "alignments")
    assert read(elsewhere).fingerprint == before
    write_audio(elsewhere / "audio/anna/a-1.flac", seed=7)
    audio_changed = read(elsewhere).fingerprint
    write_textgrid(corpus / "alignments/anna/a-1.TextGrid", words=WORDS)
    alignment_changed = read(corpus).fingerprint
    assert len({before, audio_changed, alignment_changed, read(corpus, limit=1).fingerprint}) == 4


def test_constructing_imports_no_torch_and_takes_no_time(corpus: Path) -> None:
    code = (
        "import sys; from common.datasets.textgrid import TextGrid; "
        f"TextGrid(audio_root={str(corpus)!r}, alignment_root=None, word_tier=None, "
        "phone_tier=None, speaker='folder', licence='none'); "
        "sys.exit(bool({'torch', 'datasets', 'huggingface_hub'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_speechocean762_reads_whole(shared_data: Path) -> None:
    folder = shared_data / "speechocean762"
    listed = textgrid(folder / "audio", folder / "alignments").read()
    assert len(listed.utterances) == 1311
    assert len({u.speaker for u in listed.utterances}) == 67
    assert listed.hours * 60 == pytest.approx(100.8, abs=0.1)
    assert {i.label for u in listed.utterances for i in u.tiers["phone"]} == {*ARPABET}
    assert set(listed.dropped) == {"word: silence", "phone: silence"}
    for utterance in listed.utterances[::300]:
        assert utterance.read().shape == (utterance.n_samples,)
        assert utterance.text == " ".join(i.label for i in utterance.tiers["word"])
