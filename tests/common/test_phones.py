"""Phone labels keep their convention: how they are read, what is guessed, what is told."""

import logging
from pathlib import Path

import pytest
from running import execute
from speech import write_audio, write_textgrid

from common.datasets.textgrid import TextGrid
from common.phones import ARPABET, PhoneLabel, guess_convention, normalise, parse
from common.records import Corpus, StrataError

GERMAN = [*"sSznNtTdDa@6CxlrmhfvI", "a:", "E:", "aI", "OY"]  # as WebMAUS writes it
PINYIN = [*"bpmfdtnlgkhjqxrzcs", *("zh", "ch", "sh", "a1", "er1", "ao2", "ian4", "ang3", "u5")]
IPA = ["ɑː", "b", "tʃ", "ə", "ɡ", "ŋ", "s", "ʃ", "t", "θ", "ˈiː", "ˌɛ", "a˥˩"]


@pytest.mark.parametrize(
    ("label", "convention", "parsed"),
    [
        ("AH0", "arpabet", PhoneLabel("ah", "0")),
        ("iy1_B", "arpabet", PhoneLabel("iy", "1")),
        ("DX", "arpabet", PhoneLabel("dx")),
        ("S", "sampa", PhoneLabel("S")),
        ("s", "sampa", PhoneLabel("s")),
        ('"aI', "sampa", PhoneLabel("aI", "1")),
        ("%E:", "sampa", PhoneLabel("E:", "2")),
        ("a_H_L", "sampa", PhoneLabel("a", None, "_H_L")),
        ("2:", "sampa", PhoneLabel("2:")),
        ("{", "sampa", PhoneLabel("{")),
        ("ˈiː", "ipa", PhoneLabel("iː", "1")),
        ("a˥˩", "ipa", PhoneLabel("a", None, "˥˩")),
        ("á", "ipa", PhoneLabel("a", None, "\u0301")),
        ("ç", "ipa", PhoneLabel("ç")),
        ("k'", "ipa", PhoneLabel("kʼ")),  # as typed, and as IPA has it: one phone
        ("kʼ", "ipa", PhoneLabel("kʼ")),
        ("g:", "ipa", PhoneLabel("ɡː")),
        ("e\u0303", "ipa", PhoneLabel("ẽ")),
        ("er1", "as_is", PhoneLabel("er1")),
        (" N ", "as_is", PhoneLabel("N")),
        *((silence, kind, None) for silence in ("<p:>", "SIL", "") for kind in ("sampa", "as_is")),
    ],
)
def test_a_label_is_read_in_its_convention(
    label: str, convention: str, parsed: PhoneLabel | None
) -> None:
    assert parse(label, convention) == parsed


@pytest.mark.parametrize("pair", ["Ss", "Nn", "Tt", "Dd", "Zz", "Aa"])
def test_sampa_and_as_is_fold_no_case(pair: str) -> None:
    for convention in ("sampa", "as_is"):
        assert [normalise(label, convention) for label in pair] == list(pair)


def test_pinyin_keeps_its_tones_as_it_is() -> None:
    assert [normalise(label, "as_is") for label in PINYIN] == PINYIN


def test_the_published_phones_are_arpabet_without_stress() -> None:
    written = [f"{p.upper()}{k}" if p[0] in "aeiou" else p.upper() for p in ARPABET for k in "012"]
    assert guess_convention(written) == "arpabet"
    assert {normalise(label) for label in written} == set(ARPABET)


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        (list(ARPABET), "arpabet"),
        (["AH0", "S", "sil", "DX"], "arpabet"),
        (GERMAN, "sampa"),
        (IPA, "ipa"),
        (PINYIN, "as_is"),
        (["er1", "ao2", "sh", "s"], "as_is"),  # phones of ARPABET, and pinyin
        (["s", "S", "n", "N"], "as_is"),
        (["S", "T", "N"], "as_is"),
        (["AH0", "AH5"], "as_is"),
        (["ah0", "S1"], "as_is"),
        (["ʃ", "S"], "as_is"),
        (["a", "b"], "as_is"),
        ([], "as_is"),
    ],
)
def test_a_convention_is_guessed_where_there_is_no_doubt(
    labels: list[str], convention: str
) -> None:
    assert guess_convention(labels) == convention


def corpus(folder: Path, labels: list[str], phones: str | None = None) -> Corpus:
    write_audio(folder / "a.wav")
    step = 1 / len(labels)
    rows = [(k * step, (k + 1) * step, label) for k, label in enumerate(labels)]
    write_textgrid(folder / "a.TextGrid", MAU=rows)
    return TextGrid(
        audio_root=str(folder),
        alignment_root=None,
        word_tier=None,
        phone_tier=None,
        phones=phones,
        speaker="none",
        licence="none",
    ).read()


def test_a_corpus_keeps_sampa_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    listed = corpus(tmp_path, GERMAN)
    (utterance,) = listed.utterances
    assert [i.label for i in utterance.tiers["phone"]] == GERMAN
    assert listed.phones == listed.describe()["phones"] == "sampa"
    assert "25 labels read as sampa (guessed): 6 @ C D E: I N OY S T a a: aI d" in caplog.text


def test_in_doubt_labels_stay_and_a_warning_asks_for_their_convention(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (utterance,) = corpus(tmp_path, PINYIN).utterances
    assert [i.label for i in utterance.tiers["phone"]] == PINYIN
    assert "in doubt" in caplog.text
    assert "dataset.phones=arpabet|ipa|sampa|as_is" in caplog.text


def test_the_convention_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Also where the labels that it gives are the same."""
    prints = {corpus(tmp_path, ["a", "b"], p).fingerprint for p in ("ipa", "sampa", "as_is")}
    assert len(prints) == 3


def test_stress_and_tone_are_labels_of_their_own(tmp_path: Path) -> None:
    tiers = corpus(tmp_path, ["AH0", "S", "IY1", "SIL"]).utterances[0].tiers
    assert [i.label for i in tiers["phone"]] == ["ah", "s", "iy"]
    assert [i.label for i in tiers["stress"]] == ["0", "1"]
    assert tiers["stress"][1].start == tiers["phone"][2].start
    assert "tone" not in tiers
    tiers = corpus(tmp_path, ["a˥˩", "t", "i˥"], "ipa").utterances[0].tiers
    assert [i.label for i in tiers["tone"]] == ["˥˩", "˥"]
    assert [i.label for i in tiers["phone"]] == ["a", "t", "i"]


def test_an_unknown_convention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"dataset\.phones=timit: use arpabet, ipa, sampa, as_is"):
        corpus(tmp_path, ["a"], "timit")


@pytest.mark.parametrize(
    ("tier", "phones", "labels", "found"),
    [
        ("stress", "arpabet", ["AH0", "S", "IY1", "T", "AE1", "N", "AH0", "D"], ["0", "1"]),
        ("tone", "ipa", ["a˥", "s", "i˧˥", "t", "a˥", "n", "i˧˥", "k"], ["˥", "˧˥"]),
    ],
)
def test_stress_and_tone_are_tiers_to_analyse(
    tier: str,
    phones: str,
    labels: list[str],
    found: list[str],
    small: tuple[str, ...],
    tmp_path: Path,
) -> None:
    labels = labels * 2
    for k in range(12):
        folder = tmp_path / "speech" / f"s{k}"
        write_audio(folder / f"u{k}.wav", k, 2.0)
        step = 2.0 / len(labels)
        rows = [(i * step, (i + 1) * step, label) for i, label in enumerate(labels)]
        write_textgrid(folder / f"u{k}.TextGrid", phones=rows)
    speech = [f"dataset.audio_root={tmp_path / 'speech'}", "dataset=textgrid"]
    run = execute(
        tmp_path / "run",
        "experiment=cca_label",
        *small,
        *speech,
        f"dataset.phones={phones}",
        "metric=cka",
        f"target.tier={tier}",
        f"paths.cache={tmp_path / 'cache'}",
    )
    assert set(run.rows["target"]) == {tier}
    (study,) = run.metadata["studies"]
    assert study["units_per_label"] == dict.fromkeys(found, 20)  # debug's own limit
    assert study["dropped"][f"{tier}: beyond 20 instances of a label"] == 2 * (12 * 4 - 20)
