"""Speakers without a name may be many people or one: nobody counts them as a test speaker."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from running import composed, execute, write_corpus

from common.config import resolve


@pytest.mark.slow
def test_a_dataset_without_speakers_has_no_intervals_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speech = write_corpus(tmp_path / "speech", minutes=1.0, speakers=24)
    overrides = ["experiment=cca_phone", "model=wav2vec2_tiny", "debug=default", "layers.index=1"]
    overrides += ["dataset.limit=null"]
    caplog.set_level(logging.INFO)
    run = execute(tmp_path / "run", *overrides, *speech, "dataset.speaker=none", "cache=off")
    assert run.rows["low"].isna().all()
    assert run.metadata["dataset"]["speakers"] == 0
    assert "0 speakers" in caplog.text
    assert set(run.rows["split"]) == {"utterance"}
    assert "a sample has 0 known speakers, 3 are needed" in caplog.text
    assert "(split=utterance)" in run.metadata["no_intervals"]["cca_phone"]


def test_speakers_are_counted_by_name(tmp_path: Path) -> None:
    speech = write_corpus(tmp_path, minutes=0.3, speakers=3)
    corpus = resolve(composed(("experiment=cca_phone", *speech))).dataset.read()
    assert len(corpus.speakers) == 3
    first, *rest = corpus.utterances
    others = (replace(first, speaker=""), *rest)
    assert replace(corpus, utterances=others).speakers == {u.speaker for u in rest}
