"""The grammar of the synthetic corpus: sizes, forms, and the fall-off of word frequencies."""

import re
from collections import Counter

import numpy as np
import pytest
from lexicon import all_words

from common.datasets import grammar


def sentences(n: int, seed: int = 0) -> list[str]:
    return [grammar.sentence(np.random.default_rng((seed, i))) for i in range(n)]


def test_vocabulary_is_large_and_plain():
    words = all_words()
    assert len(words) >= 1500
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[a-z]+('t)?", word) for word in words)


def test_sentences_say_only_known_words_and_keep_their_length():
    known = set(all_words())
    for text in sentences(500):
        words = grammar.words(text)
        assert grammar.SHORTEST <= len(words) <= grammar.LONGEST
        assert {word.removesuffix("'s") for word in words} <= known
        assert re.fullmatch(r"[a-z',. ]+[.?]", text)
        assert "  " not in text
        assert " ," not in text


def test_same_generator_state_same_sentence():
    assert sentences(50, seed=3) == sentences(50, seed=3)
    assert sentences(50, seed=3) != sentences(50, seed=4)


def test_frequencies_fall_off_as_zipf_says():
    counts = Counter(word for text in sentences(3000) for word in grammar.words(text))
    frequencies = np.array(sorted(counts.values(), reverse=True)[:500])
    slope = np.polyfit(np.log(np.arange(1, 501)), np.log(frequencies), 1)[0]
    assert -1.2 < slope < -0.8
    assert len(counts) > 1500
    top = [word for word, _ in counts.most_common(10)]
    assert top[0] == "the"
    assert all(len(word) <= 4 for word in top)  # function words


def test_article_agrees_with_the_next_sound():
    text = " ".join(sentences(3000))
    assert not re.search(r"\ba [aei]", text.replace("a one", ""))
    assert not re.search(r"\ban [^aeiouh]", text)
    assert re.search(r"\ban [aeio]", text)


@pytest.mark.parametrize(
    ("entry", "forms"),
    [
        ("carry", ("carry", "carries", "carried", "carried", "carrying")),
        ("stop+", ("stop", "stops", "stopped", "stopped", "stopping")),
        ("see:saw:seen", ("see", "sees", "saw", "seen", "seeing")),
        ("cut+:cut:cut", ("cut", "cuts", "cut", "cut", "cutting")),
        ("write:wrote:written", ("write", "writes", "wrote", "written", "writing")),
        ("tie", ("tie", "ties", "tied", "tied", "tying")),
        ("enjoy", ("enjoy", "enjoys", "enjoyed", "enjoyed", "enjoying")),
    ],
)
def test_verbs_inflect(entry, forms):
    assert grammar._verb(entry) == forms


@pytest.mark.parametrize(
    ("entry", "plural"),
    [("man:men", "men"), ("box", "boxes"), ("city", "cities"), ("day", "days"), ("hero", "heroes")],
)
def test_nouns_have_plurals(entry, plural):
    assert grammar._noun(entry)[1] == plural


def test_a_small_vocabulary_says_its_own_words_alone():
    known = set(all_words(2))
    assert len(known) == 206
    assert known < set(all_words())
    for i in range(300):
        text = grammar.sentence(np.random.default_rng((3, i)), 2)
        words = grammar.words(text)
        assert grammar.SHORTEST <= len(words) <= grammar.LONGEST
        assert {word.removesuffix("'s") for word in words} <= known
