"""Fixtures that the tests of forward passes share."""

from pathlib import Path

import models
import pytest
from passes import LENGTHS, corpus_of

from common.encoder.encoder import Encoder, load_encoder
from common.records import Corpus


@pytest.fixture(scope="session")
def encoder(checkpoint: Path) -> Encoder:
    """The small model as it loads by default, to be left as it is."""
    return load_encoder(models.configured(checkpoint), "cpu")


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Eight utterances of noise, cut into phones."""
    return corpus_of(LENGTHS)
