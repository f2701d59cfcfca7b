import os
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
    assert listed.tiers == ("phone", "stress", "word")
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
    assert read(corpus, word_tier="LEX.*", phone_tier="sounds").tiers == ("phone", "stress", "word")
    listed = read(corpus, phone_tier="sounds")
    assert listed.tiers == ("phone", "stress")
    assert listed.dropped["word: no such tier in the file"] == 3
    write_textgrid(corpus / "alignments/anna/a-1.TextGrid", gestures=WORDS)
    listed = read(corpus, phone_tier="sounds")
    assert listed.dropped["utterance: neither word nor phone tier"] == 1
    assert len(listed.utterances) == 2


def test_intervals_beyond_the_audio_are_clipped_and_counted(corpus: Path) -> None:
    write_audio(corpus / "audio/anna/a-1.flac", seconds=0.89)
    write_textgrid(corpus / "alignments/anna/a-1.TextGrid", words=WORDS[:3])
    listed = read(corpus)
    assert listed.utterances[0].tiers["word"][-1] == Interval(6400, 14240, "had")
    assert listed.dropped["word: clipped to the audio (kept)"] == 1


@pytest.mark.parametrize("seconds", [0.6, 0.85])
def test_an_alignment_of_other_audio_is_refused_by_name(corpus: Path, seconds: float) -> None:
    write_audio(corpus / "audio/anna/a-2.flac", seconds=seconds)
    with pytest.raises(StrataError, match=r"a-2\.TextGrid: is of 0 to 1 s, .* lasts 0\.\d+ s"):
        read(corpus)


def shifted_by_a_second(path: Path, seconds: float = 1.0) -> None:
    """A TextGrid of a part of a recording that keeps the recording's times."""
    rows = [(start + 1.0, end + 1.0, label) for start, end, label in WORDS]
    write_textgrid(path, words=rows)
    path.write_text(path.read_text().replace("\n\n0\n", f"\n\n{seconds}\n", 1))


def test_a_part_of_a_recording_is_shifted_to_its_own_sound(corpus: Path) -> None:
    shifted_by_a_second(corpus / "alignments/anna/a-1.TextGrid")
    listed = read(corpus)
    assert listed.utterances[0].tiers["word"] == listed.utterances[1].tiers["word"]
    assert listed.dropped["alignment: shifted by its own start (kept)"] == 1
    write_audio(corpus / "audio/anna/a-1.flac", seconds=2.0)
    assert read(corpus).utterances[0].tiers["word"][0] == Interval(17600, 22400, "she")


def test_all_that_is_wrong_is_told_in_one_go_and_can_be_left_out(corpus: Path) -> None:
    (corpus / "audio/anna/a-1.flac").write_bytes(b"no audio")
    path = corpus / "alignments/bob/b_1.TextGrid"
    path.write_text(path.read_text()[:200])
    with pytest.raises(StrataError, match=r"(?s)2 files .*a-1\.flac: cannot.*b_1\.TextGrid: not a"):
        read(corpus)
    listed = textgrid(corpus / "audio", corpus / "alignments").read("skip")
    assert [u.id for u in listed.utterances] == ["a-2"]
    assert listed.dropped == {
        "utterance: a file of it could not be read": 2,
        "word: silence": 2,
        "phone: silence": 2,
    }
    path.unlink()
    (corpus / "alignments/anna/a-2.TextGrid").unlink()
    with pytest.raises(StrataError, match=r"none of its 1 files can be used, as .*a-1\.flac"):
        textgrid(corpus / "audio", corpus / "alignments").read("skip")


def test_linked_speakers_are_listed_once_and_loops_are_told(corpus: Path) -> None:
    wanted = read(corpus)
    (corpus / "audio/bob").rename(corpus / "elsewhere")
    (corpus / "audio/bob").symlink_to(corpus / "elsewhere")
    (corpus / "audio/anna/up").symlink_to(corpus / "audio")
    (corpus / "audio/twin").symlink_to(corpus / "audio/anna")
    listed = read(corpus)
    assert [u.id for u in listed.utterances] == ["a-1", "a-2", "b_1"]
    assert listed.fingerprint == wanted.fingerprint
    assert listed.dropped["folder: a link to one that is listed already"] == 2


def test_what_cannot_be_entered_or_followed_is_told(corpus: Path, monkeypatch) -> None:
    (corpus / "audio/bob/b_2.wav").symlink_to(corpus / "annex/object")
    (corpus / "audio/carl").symlink_to(corpus / "annex/carl")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "anna" and "audio" in Path(folder).parts:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    wanted = r"(?s)3 files.*carl: a link to .*anna: the folder cannot be entered.*b_2\.wav: a link"
    with pytest.raises(StrataError, match=wanted):
        read(corpus)
    dropped = textgrid(corpus / "audio", corpus / "alignments").read("skip").dropped
    assert dropped["folder: cannot be entered"] == 1


def test_a_name_that_is_not_utf_8_is_refused_and_can_be_written(corpus: Path) -> None:
    name = os.fsdecode(b"caf\xe9.flac")
    shutil.copy(corpus / "audio/anna/a-1.flac", corpus / "audio/anna" / name)
    with pytest.raises(StrataError, match=r"caf\\xe9\.flac: its name is not UTF-8") as raised:
        read(corpus)
    str(raised.value).encode()


def test_equal_names_pair_by_path_alone(corpus: Path) -> None:
    """Speakers' folders with the same names and one TextGrid missing: nobody gets another's."""
    for name in ("carl/x", "dora/x"):
        write_audio(corpus / f"audio/{name}.wav")
    write_textgrid(corpus / "alignments/elsewhere/x.TextGrid")
    listed = read(corpus)
    assert [u.id for u in listed.utterances] == ["a-1", "a-2", "b_1"]
    write_textgrid(corpus / "alignments/carl/x.TextGrid")
    listed = read(corpus)
    assert [u.id for u in listed.utterances] == ["a-1", "a-2", "b_1", "x"]
    assert listed.dropped["utterance: audio without alignment"] == 1
    assert listed.dropped["utterance: alignment without audio"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "0 3500000 sil\n3500000 5000000 sh\n",  # HTK
        "separator ;\nnfields 1\n#\n0.145 100 pau\n0.230 100 sh\n",  # Festival, xwaves
        "0 1600 h#\n1600 3200 sh\n",  # TIMIT
        "#!MLF!#\n",
    ],
)
def test_label_files_with_times_are_no_transcripts(corpus: Path, text: str) -> None:
    (corpus / "audio/anna/a-1.lab").write_text(text)
    with pytest.raises(StrataError, match=r"a-1\.lab: holds times"):
        read(corpus)


def test_transcripts_of_numbers_timit_and_utf_16_are_read(corpus: Path) -> None:
    (corpus / "audio/anna/a-1.txt").write_text("0 16000 She had\n")
    (corpus / "audio/anna/a-2.txt").write_bytes("She had\n".encode("utf-16-le"))
    (corpus / "audio/bob/b_1.lab").write_text("3 4 knock at the door")
    assert [u.text for u in read(corpus).utterances] == [
        "She had",
        "She had",
        "3 4 knock at the door",
    ]


def test_no_transcript_is_made_of_words_that_the_aligner_did_not_know(corpus: Path) -> None:
    words = [(0.0, 0.4, "<unk>"), (0.4, 1.0, "had")]
    write_textgrid(corpus / "alignments/anna/a-1.TextGrid", words=words)
    listed = read(corpus)
    assert [u.text for u in listed.utterances] == ["", "she had", "she had"]
    assert sum(n for why, n in listed.dropped.items() if why.startswith("transcript: ")) == 1


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


@pytest.mark.slow
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


def test_further_tiers_are_read_by_name_as_they_are_written(corpus: Path) -> None:
    accents = [(0.0, 0.4, " H* "), (0.4, 0.6, "<p:>"), (0.6, 0.9, "L-L%"), (0.9, 1.0, "")]
    grids = corpus / "alignments"
    write_textgrid(grids / "anna/a-1.TextGrid", words=WORDS, phones=PHONES, accent=accents)
    named = {"words": WORDS, "phones": PHONES, "anna - accent": accents}
    write_textgrid(grids / "anna/a-2.TextGrid", **named)
    listed = read(corpus, tiers=["accent"])
    spoken = (Interval(0, 6400, "H*"), Interval(9600, 14400, "L-L%"))
    assert [u.tiers.get("accent") for u in listed.utterances] == [spoken, spoken, None]
    assert listed.dropped["accent: no such tier in the file"] == 1
    assert listed.dropped["accent: silence"] == 4
    plain = read(corpus)
    assert listed.fingerprint == plain.fingerprint  # nothing that is stored depends on them
    assert plain.tiers == ("phone", "stress", "word")
    asked = textgrid(corpus / "audio", grids).with_tiers(["accent", "word"])
    assert asked.read().tiers == ("accent", "phone", "stress", "word")
    write_textgrid(grids / "anna/a-2.TextGrid", **named, accent=accents)
    with pytest.raises(StrataError, match="2 tiers are called 'accent': rename one"):
        read(corpus, tiers=["accent"])
