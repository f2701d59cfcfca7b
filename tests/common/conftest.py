"""Fixtures that the tests of downloads share."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import Mirror, alignment_zip, audio_tar, record

from common.datasets import download, transfer


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Both archives of a LibriSpeech of one utterance, and Zenodo's description of the second."""
    monkeypatch.setattr(download, "SHA256", {})
    monkeypatch.setattr(transfer, "PAUSE", 0)
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    served = Mirror()
    tar, bundle = audio_tar(tmp_path), alignment_zip()
    served.files = {
        "/12/dev-clean.tar.gz": tar,
        "/12/md5sum.txt": f"{hashlib.md5(tar).hexdigest()}  dev-clean.tar.gz\n".encode(),
        "/files/librispeech_alignments.zip": bundle,
        "/record": record(served.url, hashlib.md5(bundle).hexdigest()),
    }
    yield served
    served.close()
