from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.config.finetune import LanguageModelConfig
from common.records import StrataError
from finetune.ctc.decode import beam_search, read_lexicon
from finetune.ctc.scoring import count_character_errors, count_errors, error_rate, score
from finetune.ctc.text import Vocabulary

ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>
-1.0\t<s>\t-0.3
-1.0\t</s>
-0.5\tCAB\t-0.3
-3.0\tCAT\t-0.3

\\2-grams:
-0.1\t<s> CAB
-0.2\tCAB </s>
-0.9\tCAT </s>

\\end\\
"""


@pytest.fixture
def n_gram(tmp_path: Path) -> LanguageModelConfig:
    (tmp_path / "words.arpa").write_text(ARPA)
    return LanguageModelConfig(
        path=str(tmp_path / "words.arpa"), weights=[0.0, 3.0], word_scores=[0.0]
    )


def spoken(vocabulary: Vocabulary, text: str, rival: str) -> np.ndarray:
    """Log probabilities (T, V) that favour a text a little over another of the same length."""
    v = len(vocabulary.tokens)
    p = np.full((2 * len(text) + 2, v), 1e-4, np.float32)
    p[:, vocabulary.blank] = 0.9
    for k, (a, b) in enumerate(zip(vocabulary.encode(text), vocabulary.encode(rival), strict=True)):
        p[2 * k, vocabulary.blank] = 1e-3
        p[2 * k, b] = 0.4
        p[2 * k, a] += 0.55
    return np.log(p / p.sum(1, keepdims=True))


def test_an_n_gram_is_weighed_as_validation_asks(n_gram: LanguageModelConfig) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    vocabulary = Vocabulary.of_text(["CAB CAT"])
    search = beam_search(n_gram, vocabulary)
    assert search is not None
    assert search.words == ("CAB", "CAT")
    log_p = spoken(vocabulary, "CAT", "CAB")
    assert vocabulary.decode(log_p.argmax(1).tolist()) == "CAT"
    assert search.decoder(0.0, 0.0)(log_p) == "CAT"
    assert search.decoder(3.0, 0.0)(log_p) == "CAB"
    for reference, weight in (("CAT", 0.0), ("CAB", 3.0)):
        decoder, chosen = search.tune([log_p], [reference])
        assert chosen == {"weight": weight, "word_score": 0.0}
        assert decoder(log_p) == reference


def test_the_last_word_needs_no_space_after_it(n_gram: LanguageModelConfig) -> None:
    """A recogniser that is sure finds none there: transcripts do not end with one."""
    pytest.importorskip("flashlight.lib.text.decoder")
    vocabulary = Vocabulary.of_text(["CAB CAT"])
    space = vocabulary.tokens.index("|")
    log_p = spoken(vocabulary, "CAT CAB", "CAB CAT")
    log_p[log_p.argmax(1) != space, space] = -40.0
    n_gram.beam = 3
    search = beam_search(n_gram, vocabulary)
    assert search is not None
    assert vocabulary.decode(log_p.argmax(1).tolist()) == "CAT CAB"
    assert search.decoder(0.0, 0.0)(log_p) == "CAT CAB"
    ended = np.concatenate([log_p, np.roll(log_p[-1:], space - vocabulary.blank, 1)])
    assert search.decoder(0.0, 0.0)(ended) == "CAT CAB"  # other recognisers put it out


def test_an_n_gram_of_other_characters_is_refused(n_gram: LanguageModelConfig) -> None:
    """It could put out nothing, and its error rate would be that of silence."""
    pytest.importorskip("flashlight.lib.text.decoder")
    with pytest.raises(StrataError, match=r"none of its 2 words, such as CAB, CAT, can be written"):
        beam_search(n_gram, Vocabulary.of_text(["ДОМ"]))
    alone = Vocabulary(("<pad>", *"ABCT"), 0)
    with pytest.raises(StrataError, match="none that separates"):
        beam_search(n_gram, alone)


def test_an_arpa_file_with_blanks_is_one_with_tabs(
    n_gram: LanguageModelConfig, tmp_path: Path
) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    (tmp_path / "words.arpa").write_text(ARPA.replace("\t", "  "))
    vocabulary = Vocabulary.of_text(["CAB CAT"])
    search = beam_search(n_gram, vocabulary)
    assert search is not None
    assert search.words == ("CAB", "CAT")
    log_p = spoken(vocabulary, "CAT", "CAB")
    assert [search.decoder(weight, 0.0)(log_p) for weight in (0.0, 3.0)] == ["CAT", "CAB"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["words.arpa"]


def test_words_that_cannot_be_meant_are_told(
    n_gram: LanguageModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    search = beam_search(n_gram, Vocabulary.of_text(["CAB"]))
    assert search is not None
    assert search.words == ("CAB",)
    assert "1 of 2 words have characters" in caplog.text
    (tmp_path / "one.arpa").write_text(
        ARPA.split("\\2-grams")[0].replace("ngram 2=3\n", "") + "\\end\\\n"
    )
    with pytest.raises(StrataError, match=r"one\.arpa: KenLM cannot read it .*two words or more"):
        beam_search(
            LanguageModelConfig(path=str(tmp_path / "one.arpa")), Vocabulary.of_text(["CAB"])
        )
    (tmp_path / "lower.txt").write_text("cab\ncat\n")
    n_gram.lexicon = str(tmp_path / "lower.txt")
    with pytest.raises(StrataError, match=r"no words as transcripts are .* of 2 there"):
        read_lexicon(n_gram)
    with pytest.raises(StrataError, match="a binary n-gram does not list its words"):
        LanguageModelConfig(path=str(tmp_path / "lower.txt"))


def test_errors_are_edits() -> None:
    assert count_errors("A B C", "A X C D") == (2, 3)
    assert count_errors("A B", "") == (2, 2)
    assert count_character_errors("AB C", "AC") == (2, 4)
    table = score(["1", "2"], ["s", "t"], ["A B", "AB"], ["A B", "AC X"])
    assert table["word_errors"].tolist() == [0, 2]
    assert table["character_errors"].tolist() == [0, 3]
    assert table["wer"].tolist() == [0, 2]


def test_the_interval_covers_what_speakers_differ_in() -> None:
    """Ten speakers whose rates are 0 or 1: the rate of all hangs on who is drawn."""
    rng = np.random.default_rng(0)
    voices = np.repeat([f"s{k}" for k in range(10)], 50)
    bad = np.repeat(np.arange(10) % 2, 50)
    table = pd.DataFrame({"speaker": voices, "word_errors": bad, "words": 1})
    rate = error_rate(table, "word", seed=0)
    assert (rate.value, rate.n, rate.resampled) == (0.5, 500, "speakers")
    assert rate.low < 0.25
    assert rate.high > 0.75
    mixed = table.assign(word_errors=rng.permutation(bad))
    assert error_rate(mixed, "word", seed=0).high < 0.6
    few = table[table["speaker"].isin(["s0", "s1"])]
    assert error_rate(few, "word", seed=0).resampled == "utterances"
    assert rate == error_rate(table, "word", seed=0)
