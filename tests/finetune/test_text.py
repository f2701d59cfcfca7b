import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import save
from transformers import Wav2Vec2CTCTokenizer

from common.encoder.checkpoint import Checkpoint
from common.records import StrataError
from finetune.ctc.text import BLANK, END, START, UNKNOWN, Vocabulary, normalise, read_tokenizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the old man sang.", "THE OLD MAN SANG"),
        ("well-known — don’t!", "WELL KNOWN DON'T"),
        ("  'tis  the boys' own ' quote '", "'TIS THE BOYS' OWN QUOTE"),
        ("Ünïcode ﬁne, 42 %", "ÜNÏCODE FINE 42"),
        ("...", ""),
        ("co\u00adoperate \u200eleft\ufeff می\u200cخواهم", "COOPERATE LEFT میخواهم"),
        ("ខ្ញុំ\u200bទៅ", "ខ្ញុំ ទៅ"),
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


def test_a_tokenizer_reads_frames_as_its_vocabulary_does(tmp_path: Path) -> None:
    """What `pipeline` writes is, normalised as references are, what was scored."""
    vocabulary = Vocabulary.of_text(["HELLO 'TIS"])
    own = vocabulary.tokenizer(tmp_path)
    letters = [vocabulary.blank, *vocabulary.encode("HELO 'TIS")]
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames = rng.choice(letters, 30).tolist()
        assert normalise(own.decode(frames)) == vocabulary.decode(frames)


def test_special_tokens_may_have_other_names(tmp_path: Path) -> None:
    """As in most recognisers on the Hub that people trained by transformers' own example."""
    names = ["[PAD]", "[UNK]", "|", "a", "b"]
    (tmp_path / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    tokenizer = Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|"
    )
    vocabulary = Vocabulary.of_tokenizer(tokenizer)
    assert vocabulary.tokens == (BLANK, UNKNOWN, "|", "a", "b", START, END)
    assert Vocabulary.of_tokenizer(tokenizer, 5).tokens == (BLANK, UNKNOWN, "|", "a", "b")
    assert Vocabulary.of_tokenizer(tokenizer, 4) == vocabulary  # b has no place: not this head's
    assert vocabulary.encode("AB C") == [3, 4, 2, 1]
    assert vocabulary.lacking(["AB C"]) == {"C": 1}
    assert vocabulary.decode([0, 3, 3, 1, 2, 4]) == "A B"


def test_a_right_hypothesis_has_no_errors_however_a_checkpoint_spells_it() -> None:
    """References are normalised; so is what a vocabulary with marks of its own puts out."""
    tokens = (BLANK, UNKNOWN, "|", "-", ".", "’", *"adeklnotw")
    vocabulary = Vocabulary(tokens, 0)
    spelt = [tokens.index("|" if c == " " else c) for c in "don’t, well-known.".replace(",", "")]
    assert vocabulary.spell(spelt) == normalise("Don't well-known.") == "DON'T WELL KNOWN"


@pytest.mark.parametrize("space", ["|", " ", None])
def test_a_vocabulary_alone_will_do(space: str | None, tmp_path: Path) -> None:
    save("wav2vec2_base", tmp_path)
    names = ["[PAD]", "a", "b", *([space] if space else [])]
    (tmp_path / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    vocabulary = Vocabulary.of_tokenizer(read_tokenizer(Checkpoint("model", tmp_path)), len(names))
    assert vocabulary.tokens == (BLANK, "a", "b", *(["|"] if space else []))
    assert vocabulary.encode("A BC") == ([1, 3, 2] if space else [1, 2])
    assert vocabulary.lacking(["A BC"]) == ({"C": 1} if space else {" ": 1, "C": 1})
    assert vocabulary.decode([1, 1, 0, 2]) == "AB"
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    with pytest.raises(StrataError, match=r"has none of <pad>, .* CTC's blank"):
        read_tokenizer(Checkpoint("model", tmp_path))


def test_tokens_that_are_no_characters_are_refused(tmp_path: Path) -> None:
    save("wav2vec2_base", tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "aɪ": 2}))
    told = {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(StrataError, match=r"Wav2Vec2PhonemeCTCTokenizer of model does not spell"):
        read_tokenizer(Checkpoint("model", tmp_path))
