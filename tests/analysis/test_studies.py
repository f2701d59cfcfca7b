"""The cache entry of a study: what was drawn decides which it is, whatever drew it."""

from pathlib import Path

import numpy as np
import pytest
from running import composed

from analysis.sampling import folds as sampling
from analysis.sampling import segments
from analysis.sampling.speech import RunSpeech
from analysis.studies.provide import build_studies
from analysis.studies.study import Setting
from common.cache.cache import Cache
from common.config import resolve
from common.encoder.encoder import describe
from common.records import Corpus

OVERRIDES = (
    "experiment=paper",
    "model=wav2vec2_tiny",
    "dataset=synthetic",
    "dataset.minutes=3",
    "debug=default",
    "sampling.instances=4",  # fewer than there are: a draw has a choice
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return resolve(composed(OVERRIDES)).dataset.read()


def folders(corpus: Corpus, root: Path) -> set[Path]:
    config = resolve(composed(OVERRIDES))
    layers = describe(config.model).layers
    speech = RunSpeech({"all": corpus}, {"all": np.arange(len(corpus.utterances))}, corpus)
    studies, left_out, failures = build_studies(Setting(config, speech, layers, Cache(root), {}))
    assert (left_out, failures) == ({}, [])
    return {study.entry.folder for study in studies}


def test_the_same_draw_finds_the_same_entries(corpus: Corpus, tmp_path: Path) -> None:
    assert folders(corpus, tmp_path) == folders(corpus, tmp_path)
    assert len(folders(corpus, tmp_path)) == 3


def test_another_draw_under_the_same_configuration_never_finds_the_old_entries(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folders(corpus, tmp_path)
    drawn = sampling.generator
    for module in (sampling, segments):
        monkeypatch.setattr(module, "generator", lambda *names: drawn(*names, "changed"))
    # Every utterance of so small a corpus lends its frames, but folds of speakers are drawn too.
    after = folders(corpus, tmp_path)
    assert not before & after
    members = np.ones((4, 3), dtype=bool)
    frames = sampling.FrameSamples(members, 3, 10, 0, tuple("abcd"), None, "frame")
    fewer = sampling.FrameSamples(
        members[:, ::-1] & (np.arange(3) > 0), 3, 10, 0, frames.ids, None, "frame"
    )
    assert frames.digest() != fewer.digest()
