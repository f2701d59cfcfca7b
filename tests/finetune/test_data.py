from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometries import WAV2VEC2

from common.config import Config, FinetuneConfig, ModelConfig
from common.config.finetune import PartConfig
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.records import Corpus, Interval, StrataError, Utterance
from common.windows import in_windows
from finetune.ctc.data import frames_needed, read_parts, subset

SECOND = 16_000


def utterance(speaker: str, number: int, seconds: float = 5.0, text: str = "hello") -> Utterance:
    n = round(seconds * SECOND)
    return Utterance(f"{speaker}-{number}", speaker, text, n, {}, lambda: np.zeros(n, np.float32))


class Fixed(Dataset):
    """Ten speakers of twenty utterances, and what training cannot use."""

    def _list(self, _: Faults) -> Corpus:
        rng = np.random.default_rng(0)
        spoken = [
            utterance(f"s{speaker}", k, float(rng.uniform(2, 8)))
            for speaker in range(10)
            for k in range(20)
        ]
        spoken += [
            utterance("s0", 100, text="..."),
            utterance("s0", 101, seconds=40),
            utterance("s0", 102, seconds=1, text="so many words in so short a time " * 3),
            utterance("s0", 103, seconds=0.01),
        ]
        return Corpus("fixed", self.partition, "none", tuple(spoken), {}, "f")


def config(**parts: Any) -> Config:
    recipe = FinetuneConfig(
        freeze_updates=0,
        updates=1,
        learning_rate=1e-3,
        batch_seconds=60,
        mask_time_prob=0.1,
        mask_feature_prob=0.0,
        layerdrop=0.0,
        valid_every=1,
        **parts,
    )
    model = ModelConfig(name="small", checkpoint="none")
    return Config(name="ctc", task="ctc", model=model, dataset=Fixed(), finetune=recipe)


SHARES = {"valid": PartConfig(speaker_share=0.2), "test": PartConfig(speakers=["s3", "s4"])}


def test_no_speaker_is_in_two_parts_and_all_that_is_dropped_is_counted() -> None:
    parts = read_parts(config(**SHARES), WAV2VEC2)
    speakers = {name: {u.speaker for u in part.utterances} for name, part in parts.items()}
    assert speakers["test"] == {"s3", "s4"}
    assert len(speakers["valid"]) == 2
    assert sum(map(len, speakers.values())) == 10
    assert len(set().union(*speakers.values())) == 10
    for part in parts.values():
        assert len(part.utterances) + sum(part.dropped.values()) == 204
    if "s0" in speakers["train"]:
        for reason in (
            "no words in its text",
            "longer than finetune.max_seconds",
            "fewer frames than characters",
            "too short for a frame",
        ):
            assert parts["train"].dropped[reason] == 1


class Long(Dataset):
    """Three speakers, each with ten minutes in one recording: one a second, all but one aligned."""

    def _list(self, _: Faults) -> Corpus:
        texts = [f"w{'abcdefghij'[k % 10]}" for k in range(600)]
        words = tuple(
            Interval(k * SECOND + 1000, (k + 1) * SECOND - 1000, text)
            for k, text in enumerate(texts)
        )
        whole = [utterance(f"s{k}", 0, seconds=600, text=" ".join(texts)) for k in range(3)]
        aligned = [replace(u, tiers={"word": words}) for u in whole]
        return Corpus("long", self.partition, "none", (*aligned, utterance("s2", 1)), {}, "f")


def test_a_long_recording_is_several_utterances_with_their_words() -> None:
    parts = {"valid": PartConfig(speakers=["s1"]), "test": PartConfig(speakers=["s2"])}
    read = read_parts(replace(config(**parts), dataset=Long()), WAV2VEC2)
    whole = Long()._list(Faults()).utterances[0].text.upper()
    for name, most in (("train", 30), ("valid", 60)):
        windows = read[name].utterances
        assert " ".join(u.text for u in windows) == whole
        assert all(most / 4 <= u.n_samples / SECOND <= most for u in windows)
        assert sum(len(u.read()) for u in windows) == 600 * SECOND
    assert [u.id for u in read["test"].utterances][-1] == "s2-1"
    unknown = Corpus("long", "all", "none", (utterance("s0", 0, seconds=600),), {}, "f")
    assert in_windows(unknown, SECOND, with_words=True) is unknown


def test_a_smaller_subset_is_in_every_larger_one_and_speakers_have_equal_parts() -> None:
    spoken = [
        u for u in Fixed()._list(Faults()).utterances if u.text == "hello" and u.n_samples < 9e5
    ]
    chosen = [subset(spoken, seconds, seed=1) for seconds in (60, 120, 300)]
    for small, large in pairwise(chosen):
        assert [u.id for u in large[: len(small)]] == [u.id for u in small]
    for subset_chosen, seconds in zip(chosen, (60, 120, 300), strict=True):
        total = sum(u.n_samples for u in subset_chosen) / SECOND
        assert seconds - 8 < total <= seconds
        by_speaker = Counter[str]()
        for u in subset_chosen:
            by_speaker[u.speaker] += u.n_samples
        assert max(by_speaker.values()) - min(by_speaker.values()) <= 8 * SECOND
        assert len(by_speaker) == 10
    assert [u.id for u in subset(spoken[::-1], 60, seed=1)] == [u.id for u in chosen[0]]
    assert [u.id for u in subset(spoken, 60, seed=2)] != [u.id for u in chosen[0]]


def test_a_subset_does_not_move_with_the_runs_seed() -> None:
    whole, other = (
        read_parts(replace(config(**SHARES, subset="2m"), seed=seed), WAV2VEC2) for seed in (0, 1)
    )
    assert [u.id for u in whole["train"].utterances] == [u.id for u in other["train"].utterances]
    assert 110 < whole["train"].seconds <= 120


def test_what_cannot_be_had_is_told() -> None:
    for keys, message in (
        ({"valid": PartConfig(speakers=["nobody"])}, r"finetune\.valid\.speakers names nobody"),
        ({"valid": PartConfig(speaker_share=0.96)}, r"none would be left"),
        (SHARES | {"subset": "10h"}, r"finetune\.train\.subset=10h: fixed .* has \d"),
        ({}, r"finetune\.valid: no utterance of fixed .*No speaker may be in two"),
    ):
        with pytest.raises(StrataError, match=message):
            read_parts(config(**keys), WAV2VEC2)


def test_two_of_the_same_character_need_a_blank() -> None:
    assert [frames_needed(text) for text in ("AB", "AA", "AABB")] == [2, 3, 6]


def test_libri_lights_folder_is_its_list(tmp_path: Path) -> None:
    import soundfile

    from common.datasets.librilight import LibriLight

    for folder in ("1h/0/clean/10/1", "1h/3/other/20/2", "9h/clean/30/3"):
        place = tmp_path / "librispeech_finetuning" / folder
        place.mkdir(parents=True)
        speaker, chapter = folder.split("/")[-2:]
        soundfile.write(place / f"{speaker}-{chapter}-0000.flac", np.zeros(SECOND), SECOND)
        (place / f"{speaker}-{chapter}.trans.txt").write_text(f"{speaker}-{chapter}-0000 A WORD\n")
    sizes = {}
    for partition in ("10m", "1h", "10h"):
        corpus = LibriLight(root=str(tmp_path), partition=partition).read()
        sizes[partition] = [u.speaker for u in corpus.utterances]
        assert {u.text for u in corpus.utterances} == {"A WORD"}
    assert sizes == {"10m": ["10"], "1h": ["10", "20"], "10h": ["10", "20", "30"]}
    with pytest.raises(StrataError, match="Libri-light has 10m, 1h, 10h"):
        LibriLight(root=str(tmp_path), partition="100h")
    with pytest.raises(StrataError, match="download librilight"):
        LibriLight(root=str(tmp_path / "librispeech_finetuning" / "1h"), partition="10m")
