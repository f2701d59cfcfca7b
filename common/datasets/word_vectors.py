"""The tables of word vectors that the papers compare with: where they are, and their download.

Neither publisher states a checksum, so that of the first download is recorded beside the file and
later ones are compared with it. The archives stay zipped: `analysis.targets.word_vectors` reads
them so.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from common.datasets.transfer import Remote, fetch
from common.records import StrataError


@dataclass(frozen=True)
class Source:
    """A table: what it is, for the help, and its addresses, the publisher's first."""

    what: str
    urls: tuple[str, ...]


SOURCES = {
    "glove": Source(
        "GloVe 840B.300d (Pennington et al. 2014), 2.2 million cased words, 2.2 GB; PDDL",
        (
            "https://nlp.stanford.edu/data/glove.840B.300d.zip",
            "https://huggingface.co/stanfordnlp/glove/resolve/main/glove.840B.300d.zip",
        ),
    ),
    # The address that scripts/save_embeddings.sh of ankitapasad/layerwise-analysis takes it from.
    "agwe": Source(
        "acoustically grounded word embeddings of LibriSpeech's words (Shi et al. 2021; Settle et "
        "al. 2019), the map that the authors of arXiv 2107.04734 publish",
        ("https://dl.ttic.edu/librispeech_agwe_map.zip",),
    ),
}


def download(name: str, root: Path, url: str | None = None) -> Path:
    """The table's file below `root`; what is there already is checked and stays as it is."""
    urls = SOURCES[name].urls if url is None else (url,)
    file = PurePosixPath(urlsplit(urls[0]).path).name
    if not file:
        raise StrataError(f"--url {url}: it must end in the name of a file")
    return fetch(Remote(file, urls, None), root)
