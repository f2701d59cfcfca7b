from collections import Counter
from pathlib import Path

import pytest
from speech import write_audio

from common.datasets.timit import CORE_TEST, FOLDED, PHONES, Timit, fold
from common.phones import ARPABET
from common.records import Interval, StrataError

PHN = "0 1600 h#\n1600 3200 sh\n3200 5000 ix\n5000 6000 hv\n6000 7000 eh\n7000 8000 dcl\n"
PHN += "8000 9000 jh\n9000 10000 axr\n10000 10500 q\n10500 16100 h#\n"
WRD = "1600 5000 she\n5000 9000 had\n8000 10000 your\n"
TXT = "0 16000 She had your.\n"


def write_sentence(folder: Path, sentence: str, lower: bool = False, **options: str) -> None:
    names = [f"{sentence}.{s}" for s in ("WAV", "PHN", "WRD", "TXT")]
    wav, phn, wrd, txt = (n.lower() if lower else n for n in names)
    write_audio(folder / wav, len(sentence), **options)
    for name, content in ((phn, PHN), (wrd, WRD), (txt, TXT)):
        (folder / name).write_text(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    sphere = {"format": "NIST", "subtype": "PCM_16"}
    for sentence in ("SA1", "SX127", "SI648"):
        write_sentence(tmp_path / "TIMIT/TRAIN/DR1/FCJF0", sentence, **sphere)
        write_sentence(tmp_path / "TIMIT/TEST/DR1/FELC0", sentence, **sphere)
        write_sentence(tmp_path / "TIMIT/TEST/DR1/FAKS0", sentence)
    return tmp_path


def timit(root: Path, **keys) -> Timit:
    return Timit(**{"root": str(root), "partition": "train", "leave_out_sa": True, **keys})


def test_phones_words_and_text(root: Path) -> None:
    corpus = timit(root).read()
    assert [(u.id, u.speaker) for u in corpus.utterances] == [
        ("fcjf0_si648", "fcjf0"),
        ("fcjf0_sx127", "fcjf0"),
    ]
    first = corpus.utterances[0]
    assert first.text == "She had your."
    assert [i.label for i in first.tiers["phone"]] == ["sh", "ih", "hh", "eh", "jh", "er"]
    assert first.tiers["word"][1:] == (Interval(5000, 9000, "had"), Interval(8000, 10000, "your"))
    assert first.read().shape == (16000,)
    assert corpus.dropped == {
        "utterance: SA sentence": 1,
        "phone: silence": 4,
        "phone: closure": 2,
        "phone: glottal stop": 2,
    }


def test_partitions_and_sa_sentences(root: Path) -> None:
    assert len(timit(root, leave_out_sa=False).read().utterances) == 3
    assert {u.speaker for u in timit(root, partition="test").read().utterances} == {
        "felc0",
        "faks0",
    }
    core = timit(root, partition="core_test").read()
    assert {u.speaker for u in core.utterances} == {"felc0"}
    assert len(CORE_TEST.split()) == len(set(CORE_TEST.split())) == 24


@pytest.mark.parametrize("below", ["", "TIMIT"])
def test_lower_case_copies_and_either_root_agree(root: Path, tmp_path: Path, below: str) -> None:
    lower = tmp_path / "copy" / "timit"
    for sentence in ("SA1", "SX127", "SI648"):
        write_sentence(
            lower / "train/dr1/fcjf0", sentence, lower=True, format="NIST", subtype="PCM_16"
        )
    wanted = timit(root / below).read()
    assert timit(lower).read().fingerprint == wanted.fingerprint
    assert timit(lower.parent).read().fingerprint == wanted.fingerprint


def test_a_converted_copy_beside_the_original_is_read_once(root: Path) -> None:
    write_audio(root / "TIMIT/TRAIN/DR1/FCJF0/SX127.WAV.wav")
    assert len(timit(root).read().utterances) == 2


def test_the_layouts_in_which_it_circulates(root: Path) -> None:
    """As on Kaggle: data/TRAIN, .WAV.wav beside .WAV, in one folder below; or .WAV.wav alone."""
    wanted = timit(root).read().fingerprint
    (root / "TIMIT").rename(root / "data")
    (root / "data/TRAIN/DR1/FCJF0/._SX127.WAV").write_bytes(b"of macOS")
    assert timit(root).read().fingerprint == wanted
    folder = root / "darpa/data/TRAIN/DR1/FCJF0"
    write_sentence(folder, "SX127")
    (folder / "SX127.WAV").rename(folder / "SX127.WAV.wav")
    assert [u.id for u in timit(root / "darpa").read().utterances] == ["fcjf0_sx127"]
    assert [u.id for u in timit(folder.parents[3]).read().utterances] == ["fcjf0_sx127"]


def test_one_broken_file_does_not_lose_the_others(root: Path) -> None:
    (root / "TIMIT/TRAIN/DR1/FCJF0/SX127.WAV").write_bytes(b"no audio")
    with pytest.raises(StrataError, match=r"SX127\.WAV: cannot be decoded"):
        timit(root).read()
    corpus = timit(root).read("skip")
    assert [u.id for u in corpus.utterances] == ["fcjf0_si648"]
    assert corpus.dropped["utterance: a file of it could not be read"] == 1


def test_folding_leaves_the_classes_of_lee_and_hon() -> None:
    closures = ["bcl", "dcl", "gcl", "pcl", "tcl", "kcl"]
    timit_61 = {*PHONES.split(), *FOLDED, *closures, "h#", "pau", "epi", "q"}
    assert len(timit_61) == 61
    assert len(PHONES.split()) == 38  # and silence
    assert set(PHONES.split()) - set(ARPABET) == {"dx"}
    dropped: Counter[str] = Counter()
    raw = [Interval(i, i + 1, label) for i, label in enumerate(sorted(timit_61))]
    folded = fold(raw, Path("X.PHN"), dropped)
    assert {i.label for i in folded} == {*PHONES.split(), "h#", "pau", "epi"}
    assert dropped == {"phone: closure": 6, "phone: glottal stop": 1}
    with pytest.raises(StrataError, match=r"X\.PHN: 'zz' at sample 3 is not one of TIMIT's 61"):
        fold([Interval(3, 4, "zz")], Path("X.PHN"), dropped)


def test_a_final_silence_beyond_the_audio_does_no_harm(root: Path) -> None:
    assert PHN.endswith("16100 h#\n")
    assert "phone: beyond the audio" not in timit(root).read().dropped


def test_wrong_keys_fail_at_once(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"dataset\.partition=dev: use one of train, test, core"):
        timit(root, partition="dev")
    with pytest.raises(StrataError, match=r"neither TRAIN nor train"):
        timit(root / "TIMIT" / "TRAIN" / "DR1")
    with pytest.raises(StrataError, match=r"dataset\.root=.*no such folder"):
        timit(tmp_path / "nowhere")


def test_a_missing_alignment_is_an_error(root: Path) -> None:
    (root / "TIMIT/TRAIN/DR1/FCJF0/SX127.PHN").unlink()
    with pytest.raises(StrataError, match=r"SX127\.WAV: no SX127\.PHN beside it"):
        timit(root).read()
