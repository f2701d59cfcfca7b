"""Every experiment given speech that it cannot use: an error that says so, before any audio."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import composed
from units import planted

from analysis.experiment import choose_layers
from analysis.metrics.base import UnitMetric
from analysis.metrics.spoken_sts import SentenceSimilarity
from analysis.metrics.word_discrimination import PooledDiscrimination
from analysis.sampling.speech import RunSpeech
from analysis.studies.provide import build_studies
from analysis.studies.study import Setting
from common.cache.cache import Cache
from common.config import Config, resolve
from common.encoder.architecture import Layer, describe
from common.records import Corpus, Interval, StrataError, Utterance, Waveform

FROM_PHONES = ("cca_phone", "mi_phone", "mi_phone_frame", "probe_phone")
FROM_TABLES = ("cca_agwe", "cca_glove", "cca_semantic", "cca_syntactic")
WORDS_ALONE = ("cca_word", "mi_word", "probe_word", "word_discrimination")
FROM_WORDS = (*WORDS_ALONE, *FROM_TABLES, "word_discrimination_dtw", "word_similarity")
OTHERS = ("word_segmentation", "phone_segmentation", "probe_speaker", "cca_mel", "cca_intra")
SECOND = 16_000
# Nine, so that three folds can keep types of words apart.
FRUIT = ("apples", "pears", "grapes", "plums", "lemons", "melons", "peaches", "mangos", "quinces")
TABLE = "\n".join(f"{word} {k} {k % 3} 1.5" for k, word in enumerate(FRUIT))
PAIRS = "word1,word2,similarity\napples,pears,7\napples,grapes,5\npears,grapes,6\n"
SENTENCES = "text_a,text_b,score\none apple,two pears,3\none apple,red grapes,1\nx,y,2\n"


ONCE = ("cca_semantic", "cca_syntactic", "word_similarity", "word_discrimination")  # draw all words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that each experiment's configuration is composed once."""
    return tmp_path_factory.mktemp("hostile")


def silent() -> Waveform:
    raise AssertionError("audio was read")


def corpus_of(
    texts: Sequence[str], speakers: int = 12, tiers: Sequence[str] = ("phone", "word")
) -> Corpus:
    """Utterances of words that last a second, each with two phones, by speakers in turn."""
    made = []
    for k, text in enumerate(texts):
        words = text.split()
        n = SECOND * (len(words) + 1)
        spans = [(SECOND * i + 800, SECOND * (i + 1)) for i in range(len(words))]
        word = tuple(Interval(a, b, w) for (a, b), w in zip(spans, words, strict=True))
        phone = tuple(
            Interval(a + j * 7600, a + (j + 1) * 7600, w[j])
            for (a, _), w in zip(spans, words, strict=True)
            for j in range(2)
        )
        present = {name: tier for name, tier in (("phone", phone), ("word", word)) if name in tiers}
        made.append(Utterance(f"u{k:03}", f"s{k % speakers}", text, n, present, silent))
    return Corpus("toy", "all", "none", tuple(made), {}, "fingerprint")


@lru_cache
def configured(experiment: str, *more: str) -> tuple[Config, tuple[Layer, ...]]:
    """One sample in three folds, of a model that is only described."""
    draws = ("sampling.samples=1", "sampling.folds=3", "sampling.trials=1")
    same = (f"experiment={experiment}", "model=wav2vec2_tiny", "dataset=synthetic")
    config = resolve(composed((*same, *draws, *more)))
    return config, describe(config.model).layers


def prepare(
    experiment: str, corpus: Corpus, folder: Path, *more: str, **texts: str
) -> list[dict[str, Any]]:
    """All that happens before the pass; what each study says of its draw."""
    config, layers = configured(experiment, *files(experiment, folder, **texts), *more)
    choose_layers(config, layers)
    speech = RunSpeech({"all": corpus}, {"all": np.arange(len(corpus.utterances))}, corpus)
    studies, left_out, failures = build_studies(
        Setting(config, speech, layers, Cache(folder / "c"), {})
    )
    assert (left_out, failures) == ({}, [])
    return [study.describe() for study in studies]


def files(experiment: str, folder: Path, table: str = TABLE, pairs: str = PAIRS) -> list[str]:
    texts = {"word_similarity": ("pairs.csv", pairs), "spoken_sts": ("pairs.csv", SENTENCES)}
    name, text = texts.get(experiment, ("table.txt", table))
    path = folder / name
    path.write_text(text)
    fewer = ["experiments.word_similarity.metric.min_pairs=3"]
    given = [f"target.path={path}"] if experiment in (*FROM_TABLES, *texts) else []
    return given + (fewer if experiment == "word_similarity" else [])


def usable() -> Corpus:
    thirds = [" ".join(FRUIT[k : k + 3] * 2) for k in (0, 3, 6)]
    return corpus_of([thirds[k % 3] for k in range(72)], speakers=10)


@pytest.mark.parametrize("experiment", [*FROM_PHONES, *FROM_WORDS, *OTHERS])
def test_the_corpus_is_one_that_they_can_use(experiment: str, folder: Path) -> None:
    assert prepare(experiment, usable(), folder)


@pytest.mark.parametrize("experiment", [*FROM_WORDS, "word_segmentation"])
def test_no_word_tier(experiment: str, folder: Path) -> None:
    corpus = corpus_of(["apples pears"] * 24, tiers=("phone",))
    with pytest.raises(StrataError, match=r"dataset toy \(all\) has no word tier: it has phone"):
        prepare(experiment, corpus, folder)


@pytest.mark.parametrize("experiment", [*FROM_PHONES, "phone_segmentation"])
def test_no_phone_tier(experiment: str, folder: Path) -> None:
    corpus = corpus_of(["apples pears"] * 24, tiers=("word",))
    with pytest.raises(StrataError, match=r"dataset toy \(all\) has no phone tier: it has word"):
        prepare(experiment, corpus, folder)


@pytest.mark.parametrize("experiment", [*FROM_PHONES, *FROM_WORDS])
def test_one_label_alone(experiment: str, folder: Path) -> None:
    corpus = corpus_of(["apples apples"] * 24)
    phones = tuple(Interval(i * SECOND, (i + 1) * SECOND, "ah") for i in range(3))
    corpus = replace(
        corpus,
        utterances=tuple(replace(u, tiers={**u.tiers, "phone": phones}) for u in corpus.utterances),
    )
    with pytest.raises(StrataError, match=r"1 .*label\(s\) occur .* comparison needs two|none of"):
        prepare(experiment, corpus, folder)


def test_one_speaker_and_one_sentence_alone(folder: Path) -> None:
    with pytest.raises(StrataError, match=r"1 utterance by speaker label\(s\).*needs two"):
        prepare("probe_speaker", corpus_of(["apples pears"] * 24, speakers=1), folder)
    with pytest.raises(StrataError, match=r"1 utterance.* label\(s\).*needs two"):
        prepare("spoken_sts", corpus_of(["one apple"] * 9), folder)
    for experiment in ("word_segmentation", "phone_segmentation"):
        with pytest.raises(StrataError, match="24 utterances of 1 speaker"):
            prepare(experiment, corpus_of(["apples pears"] * 24, speakers=1), folder)


@pytest.mark.parametrize("experiment", [*FROM_PHONES, *FROM_WORDS])
def test_a_label_with_one_instance_is_counted_or_drawn(experiment: str, folder: Path) -> None:
    rare = Utterance(
        "u999",
        "s0",
        "",
        2 * SECOND,
        {
            "word": (Interval(0, SECOND, "oranges"),),
            "phone": (Interval(0, 640, "zh"),),
        },
        silent,
    )
    corpus = usable()
    corpus = replace(corpus, utterances=(*corpus.utterances, rare))
    texts = {"table": f"{TABLE}\noranges 1 2 3", "pairs": f"{PAIRS}oranges,apples,6\n"}
    every = prepare(experiment, corpus, folder, **texts)
    (described,) = (one for one in every if experiment in one["experiments"])
    dropped = described.get("dropped") or described["drawn"][experiment]["dropped"]
    counted = sum(n for why, n in dropped.items() if "occurs less than" in why)
    label, units = ("zh", 2) if experiment == "mi_phone_frame" else ("zh", 1)
    if experiment in FROM_WORDS:
        label, units = "oranges", 1
    drawn = described.get("units_per_label", {}).get(label, 0)
    assert counted + drawn == units
    assert (drawn > 0) == (experiment in ONCE)


@pytest.mark.parametrize("experiment", [*FROM_PHONES, *FROM_WORDS])
def test_labels_of_one_instance_each(experiment: str, folder: Path) -> None:
    names = [f"{chr(97 + k % 26)}{chr(97 + k // 26)}word" for k in range(60)]
    corpus = corpus_of(names)
    unlike = tuple(
        replace(u, tiers={**u.tiers, "phone": (Interval(0, 320, f"p{k}"),)})
        for k, u in enumerate(corpus.utterances)
    )
    corpus = replace(corpus, utterances=unlike)
    table = "\n".join(f"{name} {k} {k * k}" for k, name in enumerate(names))
    pairs = [f"{a},{b},{k}" for k, (a, b) in enumerate(pairwise(names))]
    texts = {"table": table, "pairs": "\n".join(["word1,word2,similarity", *pairs])}
    if experiment in ONCE[:3]:  # their words need not come twice
        (described,) = prepare(experiment, corpus, folder, **texts)
        assert described["labels"] == 60
        return
    with pytest.raises(StrataError, match=r"0 .*label\(s\) occur|each at most 1"):
        prepare(experiment, corpus, folder, **texts)


@pytest.mark.parametrize("experiment", [*FROM_TABLES, "word_similarity"])
def test_a_table_that_shares_no_word(experiment: str, folder: Path) -> None:
    texts = {"table": "chat 1 2\nchien 3 4\n", "pairs": "word1,word2,similarity\nchat,chien,3\n"}
    with pytest.raises(StrataError, match=r"shares no word with the 9|none of the 9 word"):
        prepare(experiment, usable(), folder, **texts)


def test_a_table_that_shares_no_sentence(folder: Path) -> None:
    with pytest.raises(StrataError, match=r"none of the 72 utterance.* labels.*known"):
        prepare("spoken_sts", usable(), folder)


@pytest.mark.parametrize("experiment", ["mi_phone", "mi_word", "mi_phone_frame"])
def test_fewer_units_than_two_clusters_need(experiment: str, folder: Path) -> None:
    corpus = corpus_of(["apples pears"] * 6)
    two = (Interval(0, 320, "a"), Interval(320, 640, "b"))
    corpus = replace(
        corpus,
        utterances=tuple(replace(u, tiers={**u.tiers, "phone": two}) for u in corpus.utterances),
    )
    with pytest.raises(StrataError, match=r"\d+ units to fit on are too few for \d+ clusters"):
        prepare(experiment, corpus, folder)


@pytest.mark.parametrize("unit", ["phone", "word"])
def test_two_models_on_units_that_are_not_there_or_all_alike(unit: str, folder: Path) -> None:
    more = ["model@other=hubert_tiny", f"experiments.cca_inter.unit={unit}"]
    other = {"phone": "word", "word": "phone"}[unit]
    with pytest.raises(StrataError, match=f"no {unit} tier: it has {other}"):
        prepare("cca_inter", corpus_of(["apples pears"] * 24, tiers=(other,)), folder, *more)
    with pytest.raises(StrataError, match=rf"1 {unit} label\(s\).*comparison needs two"):
        prepare("cca_inter", corpus_of(["aa aa"] * 24), folder, *more)


@pytest.mark.parametrize("experiment", ["cca_mel", "cca_intra", "cca_inter"])
def test_frames_need_no_tier(experiment: str, folder: Path) -> None:
    more = ["model@other=hubert_tiny"] if experiment == "cca_inter" else []
    assert prepare(experiment, corpus_of(["apples pears"] * 24, tiers=()), folder, *more)


@pytest.mark.parametrize("experiment", ["word_segmentation", "probe_phone", "probe_speaker"])
def test_speakers_who_are_not_known(experiment: str, folder: Path) -> None:
    """The way out that is told is one that this experiment has."""
    nameless = tuple(replace(u, speaker="") for u in usable().utterances)
    way = r"experiments\.NAME\.split" if experiment == "probe_phone" else r"dataset\.speaker=prefix"
    with pytest.raises(StrataError, match=f"72 of 72 utterances have no speaker.*{way}") as raised:
        prepare(experiment, replace(usable(), utterances=nameless), folder)
    assert ("split" in str(raised.value)) == (experiment == "probe_phone")


def test_pairs_of_nameless_speakers_have_no_figure_across_speakers() -> None:
    units = planted(n=40, labels=3, speakers=4, noise=3.0)
    metric = PooledDiscrimination()
    whole = metric.score(units)
    nameless = metric.score(replace(units, speakers=("", "b", "c", "d")))
    assert [score.metric for score in nameless] == ["", "average_precision"]  # and uncentred
    assert [score.value for score in nameless] == [whole[0].value, whole[3].value]
    assert {s.metric for s in whole} - {s.metric for s in nameless} == {
        f"{figure}_{across}"
        for figure in ("average_precision_centred", "average_precision")
        for across in ("swdp", "across_speakers")
    }
    assert "0 by different speakers" in nameless[0].detail["pairs"]


@pytest.mark.parametrize("metric", [PooledDiscrimination(), SentenceSimilarity()])
def test_a_partition_to_fit_on_is_refused_where_nothing_is_fitted(metric: UnitMetric) -> None:
    apart = planted(n=40, scored=np.arange(40) % 2 == 0)
    with pytest.raises(StrataError, match="fits on no partition of its own"):
        metric.check(apart)
