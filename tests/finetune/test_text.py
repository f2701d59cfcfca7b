from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import save

from common.checkpoint import Checkpoint
from common.records import StrataError
from finetune.text import Vocabulary, normalise, read_tokenizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the old man sang.", "THE OLD MAN SANG"),
        ("well-known — don’t!", "WELL KNOWN DON'T"),
        ("  'tis  the boys' own ' quote '", "'TIS THE BOYS' OWN QUOTE"),
        ("Ünïcode ﬁne, 42 %", "ÜNÏCODE FINE 42"),
        ("...", ""),
    ],
)
def test_a_transcript_is_words_of_letters(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "  " not in once


def test_characters_come_from_the_text_and_go_back() -> None:
    vocabulary = Vocabulary.of_text(["AB'A", "C B"])
    assert vocabulary.tokens == ("<pad>", "<s>", "</s>", "<unk>", "|", "'", "A", "B", "C")
    numbers = vocabulary.encode("A CAB")
    assert [vocabulary.tokens[n] for n in numbers] == ["A", "|", "C", "A", "B"]
    assert vocabulary.spell(numbers) == "A CAB"
    assert vocabulary.lacking(["AX", "X Y"]) == {"X": 2, "Y": 1}


def test_repeats_are_one_and_a_blank_parts_them() -> None:
    vocabulary = Vocabulary.of_text(["AB"])
    a, b = vocabulary.encode("AB")
    space, blank = vocabulary.encode(" ")[0], vocabulary.blank
    frames = [blank, a, a, blank, a, space, space, 1, b, b, blank]
    assert vocabulary.decode(frames) == "AA B"
    assert vocabulary.decode([blank, blank]) == ""


def test_a_tokenizer_goes_to_a_folder_and_comes_back(tmp_path: Path) -> None:
    vocabulary = Vocabulary.of_text(["HELLO 'TIS"])
    save("wav2vec2_base", tmp_path)
    with pytest.raises(StrataError, match=r"finetune\.characters=checkpoint.*brings no tokenizer"):
        read_tokenizer(Checkpoint("model", tmp_path))
    vocabulary.tokenizer(tmp_path).save_pretrained(tmp_path)
    assert Vocabulary.of_tokenizer(read_tokenizer(Checkpoint("model", tmp_path))) == vocabulary
