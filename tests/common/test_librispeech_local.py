from pathlib import Path

import pytest
from speech import WORDS, write_audio, write_textgrid

from common.datasets.librispeech_local import LibriSpeechLocal
from common.records import StrataError

IDS = ("84-121123-0000", "84-121123-0001", "1272-128104-0000")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """LibriSpeech/dev-clean/84/121123/… and a parallel tree of TextGrids."""
    for seed, id in enumerate(IDS):
        speaker, chapter, _ = id.split("-")
        below = Path("dev-clean", speaker, chapter)
        write_audio(tmp_path / "LibriSpeech" / below / f"{id}.flac", seed)
        write_textgrid(tmp_path / "TextGrids" / below / f"{id}.TextGrid")
        trans = tmp_path / "LibriSpeech" / below / f"{speaker}-{chapter}.trans.txt"
        with trans.open("a") as file:
            file.write(f"{id} SHE HAD\n")
    return tmp_path


def local(tree: Path, **keys) -> LibriSpeechLocal:
    roots = {"audio_root": str(tree / "LibriSpeech"), "alignment_root": str(tree / "TextGrids")}
    return LibriSpeechLocal(**{"partition": "dev_clean", **roots, **keys})


def test_the_tree_is_read(tree: Path) -> None:
    corpus = local(tree).read()
    assert [u.id for u in corpus.utterances] == sorted(IDS)
    assert [u.speaker for u in corpus.utterances] == ["1272", "84", "84"]
    assert corpus.partition == "dev_clean"
    assert corpus.licence == "CC BY 4.0"
    first = corpus.utterances[0]
    assert first.text == "SHE HAD"
    assert [i.label for i in first.tiers["word"]] == ["she", "had"]
    assert [i.label for i in first.tiers["phone"]] == ["sh", "iy", "hh", "ae", "d"]
    assert first.read().shape == (first.n_samples,)


def test_hyphen_underscore_and_the_parent_folder_agree(tree: Path) -> None:
    wanted = local(tree).read().fingerprint
    assert local(tree, partition="dev-clean").read().fingerprint == wanted
    assert local(tree, audio_root=str(tree)).read().fingerprint == wanted


def test_missing_alignments_and_the_limit_are_counted(tree: Path) -> None:
    next((tree / "TextGrids").rglob("84-121123-0000.TextGrid")).unlink()
    corpus = local(tree, limit=1).read()
    assert corpus.dropped["utterance: audio without alignment"] == 1
    assert corpus.dropped["utterance: beyond dataset.limit"] == 1
    assert len(corpus.utterances) == 1


def test_wrong_names_and_folders_fail_at_once(tree: Path) -> None:
    with pytest.raises(StrataError, match=r"dataset\.partition=dev: .* dev_clean, dev_other"):
        local(tree, partition="dev")
    with pytest.raises(StrataError, match=r"neither dev-other nor LibriSpeech/dev-other but dev-c"):
        local(tree, partition="dev_other")
    with pytest.raises(StrataError, match=r"dataset\.alignment_root=.*no such folder"):
        local(tree, alignment_root=str(tree / "none"))


def test_an_incomplete_copy_is_an_error(tree: Path) -> None:
    textgrid = next((tree / "TextGrids").rglob("1272*.TextGrid"))
    write_textgrid(textgrid, words=WORDS)
    with pytest.raises(StrataError, match=r"no phone tier among words"):
        local(tree).read()
    write_textgrid(textgrid)
    next((tree / "LibriSpeech").rglob("1272*.trans.txt")).unlink()
    with pytest.raises(StrataError, match=r"no line for 1272-128104-0000"):
        local(tree).read()


def test_gender_and_subset_are_those_of_the_archives_own_list(tree: Path) -> None:
    assert {u.attribute("gender") for u in local(tree).read().utterances} == {""}
    lines = (
        ";ID  |SEX| SUBSET |MINUTES| NAME\n84  | F | dev-clean | 8.0 | A\n1272 | M | dev-clean\n"
    )
    path = tree / "LibriSpeech" / "SPEAKERS.TXT"
    path.write_text(lines)
    utterances = local(tree).read().utterances
    assert [u.attribute("gender") for u in utterances] == ["m", "f", "f"]
    assert {u.attribute("subset") for u in utterances} == {"dev-clean"}
    path.write_text("84 F dev-clean\n")
    with pytest.raises(StrataError, match=r"line 1: '84 F dev-clean' is not `id \| sex"):
        local(tree).read()
