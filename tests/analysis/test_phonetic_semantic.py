"""Synonyms against near homophones: planted meanings and sounds, pairs by the slow way."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from running import execute
from units import planted

from analysis.metrics.phonetic_semantic import PhoneticSemantic, above
from analysis.metrics.units import Units
from analysis.targets.synonyms import Synonyms, minimal_pairs, pronunciations
from common.records import Corpus, Interval, StrataError, Utterance

METRIC = PhoneticSemantic(min_pairs=5)
WORDS = tuple(f"w{k:02}" for k in range(60))
SYNONYMS = tuple((WORDS[k], WORDS[k + 1]) for k in range(0, 40, 2))
HOMOPHONES = tuple((WORDS[k + 1], WORDS[k + 2]) for k in range(0, 40, 2))


def made(meaning: float, sound: float, noise: float = 1.0, seed: int = 0) -> Units:
    """Words with a direction of their own; synonyms share one of meaning, homophones of sound."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, 40))
    for weight, pairs in ((meaning, SYNONYMS), (sound, HOMOPHONES)):
        for pair in pairs:
            centres[[WORDS.index(word) for word in pair]] += weight * rng.normal(size=40)
    units = planted(n=3000, labels=60, speakers=40, seed=seed)
    vectors = centres[units.label] + noise * rng.normal(size=(3000, 40)) + 5
    target = Synonyms(path="pairs.csv", synonyms=SYNONYMS, homophones=HOMOPHONES)
    return replace(units, vectors=vectors.astype(np.float32), labels=WORDS, target=target)


def values(units: Units) -> dict[str, float]:
    return {score.metric or "own": score.value for score in METRIC.score(units)}


def test_planted_meaning_and_planted_sound() -> None:
    meaning, sound = values(made(1.5, 0)), values(made(0, 1.5))
    assert meaning["own"] > 0.95
    assert meaning["synonyms_over_others"] > 0.95
    assert meaning["homophones_over_others"] == pytest.approx(0.5, abs=0.12)
    assert sound["own"] < 0.05
    assert sound["cosine_homophones"] > 0.3 > abs(sound["cosine_synonyms"])
    assert values(made(1, 1))["own"] == pytest.approx(0.5, abs=0.15)


def test_shuffled_labels_tell_nothing() -> None:
    shuffled = values(made(1.5, 0).shuffled())
    for figure in ("own", "synonyms_over_others", "homophones_over_others"):
        assert shuffled[figure] == pytest.approx(0.5, abs=0.2)


def test_scale_shift_and_rotation_do_not_matter() -> None:
    units = made(1, 0.5)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(40, 40)))[0]
    moved = replace(units, vectors=(3 * units.vectors @ turn - 7).astype(np.float32))
    assert values(moved) == pytest.approx(values(units), abs=1e-3)


def test_how_often_one_is_above_the_other_by_counting() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(5, size=30) / 4, rng.integers(5, size=20) / 4
    count = sum((a > b) + 0.5 * (a == b) for a in first for b in second)
    assert above(first, second) == pytest.approx(count / 600)


def test_an_interval_over_folds_of_speakers() -> None:
    (primary, *_) = METRIC.score(made(0.4, 0.4, noise=4))
    assert primary.low is not None
    assert primary.high is not None
    assert primary.low < primary.value < primary.high
    assert METRIC.no_interval(replace(made(1, 1), fold=np.arange(3000) % 10))


def test_minimal_pairs_by_the_slow_way() -> None:
    rng = np.random.default_rng(1)
    spoken = {f"x{k}": tuple(rng.choice(list("abc"), rng.integers(2, 5))) for k in range(60)}
    slow = {
        (a, b)
        for a, b in combinations(sorted(spoken), 2)
        if len(spoken[a]) == len(spoken[b]) >= 3
        and sum(p != q for p, q in zip(spoken[a], spoken[b], strict=True)) == 1
    }
    assert set(minimal_pairs(spoken)) == slow


def corpus() -> Corpus:
    """Cat as k-ae-t twice and k-ah-t once, bat, the."""
    words, phones, at = [], [], 0
    for word, spelling in (
        ("cat", "kat"),
        ("bat", "bat"),
        ("cat", "kut"),
        ("the", "du"),
        ("cat", "kat"),
    ):
        words.append(Interval(at, at + 100 * len(spelling), word))
        phones += [Interval(at + 100 * k, at + 100 * k + 100, p) for k, p in enumerate(spelling)]
        at += 100 * len(spelling) + 50
    tiers = {"word": tuple(words), "phone": tuple(phones)}
    read = lambda: np.zeros(at, np.float32)  # noqa: E731
    return Corpus("made", "all", "", (Utterance("u", "s", "", at, tiers, read),), {}, "print")


def test_pronunciations_and_the_pairs_of_a_file(tmp_path: Path) -> None:
    spoken = pronunciations(corpus())
    assert spoken == {"cat": tuple("kat"), "bat": tuple("bat"), "the": tuple("du")}
    path = tmp_path / "pairs.csv"
    path.write_text("word1,word2,similarity\nThe,cat,9\nbat,cat,3\ncat,dog,10\ncat,cat,10\n")
    target = Synonyms(path=str(path), least=5.0).prepared({"cat", "bat", "the"}, corpus())
    assert target.synonyms == (("cat", "the"),)
    assert target.homophones == (("bat", "cat"),)
    assert target.known({"cat", "bat", "the", "more"}) == {"cat", "bat", "the"}
    every = Synonyms(path=str(path)).prepared({"cat", "bat", "the"}, corpus())
    assert every.synonyms == (("bat", "cat"), ("cat", "the"))
    assert every.homophones == ()  # what is a synonym too tells nothing


def test_files_and_corpora_that_do_not_do(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(StrataError, match=r"no column word1, word2; its first line names a, b"):
        Synonyms(path=str(path)).prepared({"cat"}, corpus())
    path.write_text("word1,word2\ncat,the\n")
    with pytest.raises(StrataError, match="no column similarity"):
        Synonyms(path=str(path), least=1.0).prepared({"cat"}, corpus())
    silent = replace(corpus().utterances[0], tiers={"word": ()})
    with pytest.raises(StrataError, match="has no phone tier"):
        Synonyms(path=str(path)).prepared({"cat"}, replace(corpus(), utterances=(silent,)))
    units = made(1, 1)
    few = replace(units, target=Synonyms(path="x", synonyms=SYNONYMS[:2], homophones=HOMOPHONES))
    with pytest.raises(StrataError, match="2 pairs of synonyms and 20 of near homophones"):
        METRIC.check(few)


def test_from_end_to_end(common: tuple[str, ...], cache: str, tmp_path: Path) -> None:
    words = ["cat", "dog", "the", "a", "big", "small", "red", "blue", "old", "new", "sees", "likes"]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["word1,word2", *(f"{a},{b}" for a, b in combinations(words, 2))]))
    overrides = [f"target.path={path}", "sampling.min_characters=1", "sampling.min_seconds=0"]
    least = "experiments.phonetic_semantic.metric.min_pairs=999"
    with pytest.raises(StrataError, match=r"\d+ pairs of synonyms and \d+ of near homophones were"):
        execute(tmp_path / "few", "experiment=phonetic_semantic", *common, cache, *overrides, least)
