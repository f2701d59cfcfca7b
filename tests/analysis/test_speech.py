"""What a run listens to: every partition, each recording once."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from analysis.sampling.speech import RunSpeech, read_speech
from analysis.targets.labels import Word
from common.config import AnalysisConfig, Config, ModelConfig
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.records import Corpus, Interval, StrataError, Utterance, Waveform


def silent() -> Waveform:
    raise AssertionError("listing reads no audio")


def utterance(name: str, folder: str, speaker: str, end: int = 900) -> Utterance:
    words = (Interval(0, 500, "a"), Interval(500, end, name))
    return Utterance(f"{folder}{name}", speaker, name, 1000, {"word": words}, silent)


@dataclass(frozen=True, kw_only=True)
class Folders(Dataset):
    """`all` knows speakers by their folders; a folder alone does not."""

    def _list(self, faults: Faults) -> Corpus:
        names = [(f"u{k}", f"s{k % 3}") for k in range(9)]
        if self.partition == "all":
            utterances = [utterance(name, f"{speaker}/", speaker) for name, speaker in names]
        elif self.partition == "other":  # the same file names, spoken anew
            utterances = [utterance(name, "", speaker, end=901) for name, speaker in names]
        else:
            utterances = [utterance(n, "", "") for n, speaker in names if speaker == self.partition]
        faults.dropped["word: silence"] += len(utterances)
        mark = f"fingerprint of {self.partition}"
        return Corpus("folders", self.partition, "none", tuple(utterances), {}, mark)


def speech_of(partition: str, fit: str | None = None, score: str | None = None) -> RunSpeech:
    return read_speech(config_of(partition, fit, score))


def config_of(partition: str, fit: str | None, score: str | None) -> Config:
    analysis = AnalysisConfig(
        unit="word",
        target=Word(),
        metric=None,
        pooling="mean",
        fit_partition=fit,
        score_partition=score,
    )
    model = ModelConfig(name="small", checkpoint="none")
    config = Config(task="analysis", model=model, dataset=Folders(partition=partition))
    return replace(config, experiments={"mine": analysis})


def part(partition: str, fit: str | None, score: str | None):
    config = config_of(partition, fit, score)
    return read_speech(config).part(config.experiments["mine"])


def test_one_partition_is_the_whole() -> None:
    speech = speech_of("all")
    assert list(speech.partitions) == ["all"]
    assert speech.whole.utterances == speech.corpus.utterances
    whole = part("all", None, "all")
    assert not whole.split
    assert whole.scored.all()
    np.testing.assert_array_equal(whole.places, np.arange(9))


def test_a_recording_in_two_partitions_is_encoded_once() -> None:
    speech = speech_of("s1", fit="s0", score="all")
    assert list(speech.partitions) == ["s1", "s0", "all"]
    assert len(speech.whole.utterances) == 9
    for name, corpus in speech.partitions.items():
        for place, utterance in zip(speech.places[name], corpus.utterances, strict=True):
            assert speech.whole.utterances[place].text == utterance.text
    np.testing.assert_array_equal(speech.places["s1"], [0, 1, 2])  # as frames number them


def test_the_same_file_name_for_another_recording_is_another_utterance() -> None:
    assert len(speech_of("all", fit="other").whole.utterances) == 18


def test_what_is_fitted_on_comes_first_and_is_not_scored() -> None:
    both = part("s1", fit="s0", score="s2")
    assert both.split
    assert [u.text for u in both.corpus.utterances] == ["u0", "u3", "u6", "u2", "u5", "u8"]
    np.testing.assert_array_equal(both.scored, [False] * 3 + [True] * 3)
    assert both.corpus.dropped == {"word: silence": 6}
    assert both.corpus.fingerprint == "fingerprint of s0+fingerprint of s2"
    swapped = part("s1", fit="s2", score="s0")
    assert swapped.corpus.fingerprint != both.corpus.fingerprint


def test_partitions_that_share_a_recording_are_refused() -> None:
    with pytest.raises(StrataError, match=r"fit_partition=s0 and score_partition=all share 3 utt"):
        part("all", fit="s0", score=None)
