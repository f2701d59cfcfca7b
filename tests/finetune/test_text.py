import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import save
from running import python
from transformers import Wav2Vec2CTCTokenizer

from common.encoder.checkpoint import Checkpoint
from common.records import Interval, StrataError, Utterance
from finetune.ctc.scoring import count
from finetune.ctc.text import (
    BLANK,
    END,
    START,
    UNKNOWN,
    Vocabulary,
    normalise,
    read_tokenizer,
    references,
    without_spaces,
)


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
    tokenizer = vocabulary.tokenizer(tmp_path)
    letters = [vocabulary.blank, *vocabulary.encode("HELO 'TIS")]
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames = rng.choice(letters, 30).tolist()
        assert normalise(tokenizer.decode(frames)) == vocabulary.decode(frames)


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


def test_a_tokenizer_that_does_not_write_by_ctc_is_refused(tmp_path: Path) -> None:
    save("wav2vec2_base", tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "a": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<unk>", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(StrataError, match=r"the GPT2Tokenizer of model is none of Wav2Vec2CTC"):
        read_tokenizer(Checkpoint("model", tmp_path))


def spoken(text: str, phones: str | None = None) -> Utterance:
    """An utterance with a transcript, and a tier of phones if there are any."""
    phone_tier = tuple(Interval(k, k + 1, p) for k, p in enumerate((phones or "").split()))
    tiers = {} if phones is None else {"phone": phone_tier}
    return Utterance("id", "speaker", text, 16_000, tiers, lambda: np.zeros(16_000, np.float32))


def test_phones_are_those_of_the_alignment_else_of_a_transcript_that_parts_them() -> None:
    aligned = [spoken("a cat", "ʌ kʰ æ t"), spoken("nothing", ""), spoken("unaligned")]
    assert references(aligned[:2], "phones") == ["ʌ kʰ æ t", ""]
    assert references([*aligned[:1], spoken("no tier")], "phones") == ["ʌ kʰ æ t", ""]
    transcribed = [spoken(" ʈʰ a\t˧  | X ")]
    assert references(transcribed, "phones") == ["ʈʰ a ˧ | X"]
    assert references(transcribed, "characters") == [normalise("ʈʰ a\t˧  | X")]
    words = [spoken(f"word{k} other{k}") for k in range(501)]
    with pytest.raises(StrataError, match=r"no phone tier, .* have 1002 different symbols"):
        references(words, "phones")


def test_symbols_of_any_inventory_are_written_as_they_are(tmp_path: Path) -> None:
    """Affricates, tones, clicks, and SAMPA, whose capitals are phones of their own."""
    texts = ["ʈʰ a ˧ | t͡ʃ", "S s @ { <unk> S"]
    vocabulary = Vocabulary.of_text(texts, "phones")
    assert vocabulary.tokens[:4] == (BLANK, START, END, UNKNOWN)
    assert set(vocabulary.tokens[4:]) == {"ʈʰ", "a", "˧", "|", "t͡ʃ", "S", "s", "@", "{"}
    numbers = vocabulary.encode("t͡ʃ s ˧ | q")
    assert vocabulary.spell(numbers) == "t͡ʃ s ˧ |"
    assert vocabulary.lacking(["a q <unk>"]) == {"q": 1, "<unk>": 1}
    one, blank = numbers[0], vocabulary.blank
    assert vocabulary.decode([one, one, blank, one, numbers[1], 1]) == "t͡ʃ t͡ʃ s"
    assert vocabulary.figures == ("per",)
    save("wav2vec2_base", tmp_path)
    vocabulary.tokenizer(tmp_path).save_pretrained(tmp_path)
    read = read_tokenizer(Checkpoint("model", tmp_path))
    assert Vocabulary.of_tokenizer(read) == vocabulary
    assert read.decode([one, one, blank, one, numbers[1]]) == "t͡ʃ t͡ʃ s"


PIECES = ["THE OLD MAN SANG", "THE MAN SAT", "THE OTHER MAN IS THERE"]


def test_pieces_of_words_come_from_the_text_and_go_back(tmp_path: Path) -> None:
    vocabulary = Vocabulary.of_text(PIECES, "pieces", 30)
    assert len(vocabulary.tokens) == 30
    numbers = vocabulary.encode("THE MAN SANG")
    assert len(numbers) < 6
    assert vocabulary.spell(numbers) == "THE MAN SANG"
    words = list(vocabulary.words([*numbers, vocabulary.encode("X")[-1]]))
    assert [word for word, _ in words] == ["THE", "MAN", "SANG"]
    assert [k for _, places in words for k in places] == list(range(len(numbers)))
    assert vocabulary.lacking(["THE XENON"]) == {"X": 1}
    assert vocabulary.figures == ("wer", "cer")
    save("wav2vec2_base", tmp_path)
    vocabulary.tokenizer(tmp_path).save_pretrained(tmp_path)
    read = read_tokenizer(Checkpoint("model", tmp_path))
    again = Vocabulary.of_tokenizer(read)
    assert again.tokens == vocabulary.tokens
    assert again.encode("THE MAN") == vocabulary.encode("THE MAN")
    frames = [n for number in numbers for n in (number, number, vocabulary.blank)]
    assert vocabulary.decode(frames) == read.decode(frames) == "THE MAN SANG"


@pytest.mark.parametrize("n", [12, 200])
def test_a_text_has_so_many_pieces_and_no_more(n: int) -> None:
    with pytest.raises(StrataError, match=rf"pieces={n}: .* makes 18, .* to (\d\d) pieces"):
        Vocabulary.of_text(PIECES, "pieces", n)


@pytest.mark.slow
def test_pieces_are_the_same_in_another_process() -> None:
    """Or a training that goes on would write with others."""
    made = f"Vocabulary.of_text({PIECES!r}, 'pieces', 35).tokens"
    other = python("-c", f"from finetune.ctc.text import Vocabulary; print({made})")
    assert other.stdout == f"{Vocabulary.of_text(PIECES, 'pieces', 35).tokens}\n", other.stderr


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("今天天气很好", ("cer",)),
        ("きょうは GOOD な日", ("cer",)),
        ("สวัสดีครับ", ("cer",)),
        ("ខ្ញុំទៅផ្សារ", ("cer",)),
        ("오늘 날씨가 좋다", ("wer", "cer")),
        ("THE OLD MAN", ("wer", "cer")),
        ("ДОБРЫЙ ДЕНЬ", ("wer", "cer")),
    ],
)
def test_words_count_where_spaces_part_them(text: str, figures: tuple[str, ...]) -> None:
    vocabulary = Vocabulary.of_text([normalise(text)])
    assert vocabulary.figures == figures
    assert without_spaces([text]) == (figures == ("cer",))


def test_characters_of_a_script_without_spaces_have_times_of_their_own() -> None:
    vocabulary = Vocabulary.of_text(["今天天气"])
    numbers = vocabulary.encode("今天 天")
    assert list(vocabulary.words(numbers)) == [("今", [0]), ("天", [1]), ("天", [3])]
    assert count("今天 天气", "今天天 气", ("cer",)) == [(0, 4)]
    assert count("今天天气", "今天气", ("cer",)) == [(1, 4)]
