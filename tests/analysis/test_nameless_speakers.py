"""Speakers without a name may be many people or one: nobody counts them as a test speaker."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import composed, execute, write_corpus

from analysis.bootstrap import speakers_tested, too_few
from analysis.metrics.base import PairedRows
from analysis.metrics.cca import PWCCA
from analysis.moments import fold_views
from analysis.units import NOBODY, by_name
from common.config import resolve

TRIALS = 3
RIDGES = ((1e-3, 1e-3),)


def test_an_empty_name_is_nobodys() -> None:
    speaker = np.array([0, 1, 2, 0])
    assert by_name(speaker, ("", "a", "b")).tolist() == [NOBODY, 1, 2, NOBODY]
    assert by_name(speaker, ("a", "b", "c")).tolist() == speaker.tolist()


def related(nameless: int, speakers: int = 22) -> PairedRows:
    """Every speaker has units in every fold; the first `nameless` of them have no name."""
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(speakers), 28)
    y = rng.normal(size=(len(speaker), 3))
    x = y @ rng.normal(size=(3, 5)) + rng.normal(size=(len(speaker), 5))
    names = tuple("" if k < nameless else f"s{k}" for k in range(speakers))
    fold = np.arange(len(speaker)) % 7
    return PairedRows(x, y, fold, by_name(speaker, names), 0)


@pytest.mark.parametrize(("nameless", "given"), [(0, True), (2, True), (3, False), (22, False)])
def test_twenty_known_speakers_are_needed_and_the_log_agrees(nameless: int, given: bool) -> None:
    rows = related(nameless)
    scores = PWCCA(RIDGES).score(fold_views(rows.x, rows.y, rows.fold, TRIALS), rows)
    assert {score.low is not None for score in scores} == {given}
    known = np.arange(22) >= nameless
    own = np.repeat(np.arange(22), 28)
    told = too_few(speakers_tested(rows.fold, own, known, TRIALS))
    assert (told == "") == given
    assert given or f"tested on {22 - nameless} known speakers, 20 are needed" in told


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
    assert "cca_phone: no 95 % intervals: a sample is tested on 0 known speakers" in caplog.text


def test_speakers_are_counted_by_name(tmp_path: Path) -> None:
    speech = write_corpus(tmp_path, minutes=0.3, speakers=3)
    corpus = resolve(composed(("experiment=cca_phone", *speech))).dataset.read()
    assert len(corpus.speakers) == 3
    first, *rest = corpus.utterances
    others = (replace(first, speaker=""), *rest)
    assert replace(corpus, utterances=others).speakers == {u.speaker for u in rest}
