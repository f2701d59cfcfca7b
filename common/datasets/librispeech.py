"""LibriSpeech with its alignments from the Hugging Face Hub: gilkeyio/librispeech-alignments."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from common import alignments, audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.librispeech_local import LICENCE, canonical
from common.encoder.hub import explained
from common.records import Corpus, StrataError, Utterance, Waveform

COLUMNS = ["id", "transcript", "words", "phonemes"]  # what listing reads: all but the audio
ATTRIBUTES = {"sex": "gender", "subset": "subset"}  # optional columns, and the attributes' names

SHARD = re.compile(r"(?P<partition>.+)-\d{5}-of-(?P<n>\d{5})\.parquet")


@dataclass(frozen=True)
class Shard(ABC):
    """A stretch of a partition that can be opened on its own, in any process: a file, a group."""

    path: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of utterances."""

    @abstractmethod
    def records(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The columns `COLUMNS` of some rows, and those of `ATTRIBUTES` that there are."""

    @abstractmethod
    def encoded(self, row: int) -> Any:
        """Bytes of a row's FLAC file, as a pyarrow buffer."""

    @abstractmethod
    def n_samples(self, row: int) -> int | None:
        """Length at 16 kHz where it is known without fetching the audio."""


@dataclass(frozen=True)
class ArrowFile(Shard):
    """Cached: an Arrow file that `datasets` made of the downloaded parquet, memory-mapped.

    A row is read where it lies, so neither listing nor shuffled reading holds the audio in memory.
    """

    def __len__(self) -> int:
        """Number of utterances."""
        return len(_arrow(self.path))

    def records(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the mapped file."""
        table = _arrow(self.path)
        table = table.select_columns(_listed(table.column_names)).select(rows)
        return list(table.with_format("arrow")[:].to_pylist())

    def encoded(self, row: int) -> Any:
        """A view into the mapped file."""
        return _arrow(self.path)[row : row + 1]["audio"][0]["bytes"].as_buffer()

    def n_samples(self, row: int) -> int | None:
        """From the FLAC header: one page of the mapped file."""
        import pyarrow

        return audio.header(pyarrow.BufferReader(self.encoded(row)), f"row {row} of {self.path}")


@dataclass(frozen=True)
class RowGroup(Shard):
    """Streamed: one row group of a parquet file on the Hub, by range requests for its columns.

    Listing fetches a few megabytes of text. The audio of a group (the published files have about
    100 utterances or 13 MB in one) is fetched when its first utterance is read and kept while its
    neighbours are: read in the order of the listing, each group is fetched once, nothing is kept
    on disk. Shuffled reading would fetch it again and again: use streaming=false for training.
    """

    group: int

    def __len__(self) -> int:
        """Number of utterances."""
        return int(_parquet(self.path).metadata.row_group(self.group).num_rows)

    def records(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the row group."""
        file = _parquet(self.path)
        table = file.read_row_group(self.group, columns=_listed(file.schema_arrow.names))
        return list(table.take(rows).to_pylist())

    def encoded(self, row: int) -> Any:
        """The row's sound file, from the group's audio column, which is fetched if need be."""
        with explained("dataset", f"the audio of {self.path}"):
            return _audio_column(self.path, self.group)[row]["bytes"].as_buffer()

    def n_samples(self, row: int) -> int | None:  # noqa: ARG002
        """The length, which is None: it is not known before the audio is fetched."""
        return None


@dataclass(frozen=True)
class Row:
    """Reads one utterance's waveform (n,). It holds a path and a number, so it pickles."""

    part: Shard
    row: int
    id: str

    def __call__(self) -> Waveform:
        """Read and decode the utterance's sound."""
        return audio.read(self.part.encoded(self.row).to_pybytes(), self.id)


@dataclass(frozen=True, kw_only=True)
class LibriSpeech(Dataset):
    """A partition of LibriSpeech with the alignments of the Montreal Forced Aligner, from the Hub.

    `repo_id`, `revision`: a data set with the columns id, audio, transcript, words and phonemes
    (times in seconds) in data/PARTITION-00000-of-00001.parquet; columns sex and subset, where there
    are such, are the attributes `gender` and `subset`. `streaming` false downloads the
    partition's files into the Hub cache (HF_HOME) and reads them from there, offline too;
    true fetches what is read, and takes an utterance's length from its last interval.
    """

    repo_id: str
    revision: str
    streaming: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        canonical(self.partition)
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.repo_id):
            raise StrataError(
                f"dataset.repo_id={self.repo_id}: not the id of a Hub data set. Write OWNER/NAME; "
                "for files on disk use dataset=librispeech_local or dataset=textgrid"
            )

    def _list(self, faults: Faults) -> Corpus:
        """List the partition; the audio is neither decoded nor held in memory."""
        with explained("dataset", f"{self.repo_id}@{self.revision}"):
            commit, parts = self._streamed() if self.streaming else self._cached()
            rows = [(part, row) for part in parts for row in range(len(part))]
            utterances = tuple(
                _utterances(files.evenly_spaced(rows, self.limit, faults.dropped), faults)
            )
        evidence = [f"{self.repo_id}@{commit}".encode()] * len(utterances)
        return Corpus(
            name="librispeech",
            partition=canonical(self.partition),
            licence=LICENCE,
            utterances=utterances,
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, evidence),
        )

    def _cached(self) -> tuple[str, list[Shard]]:
        """Commit and Arrow files; downloads what the Hub cache lacks."""
        from datasets import Audio
        from datasets import Dataset as Table
        from huggingface_hub import snapshot_download

        pattern = f"data/{canonical(self.partition)}-*.parquet"
        snapshot = Path(
            snapshot_download(
                self.repo_id, repo_type="dataset", revision=self.revision, allow_patterns=pattern
            )
        )
        shards = sorted(str(path) for path in snapshot.glob(pattern))
        self._check_complete(shards)
        table = Table.from_parquet(shards)
        self._check_columns(table.column_names)
        table = table.cast_column("audio", Audio(decode=False))
        return snapshot.name, [ArrowFile(str(f["filename"])) for f in table.cache_files]

    def _streamed(self) -> tuple[str, list[Shard]]:
        """Commit and row groups."""
        from huggingface_hub import HfApi, HfFileSystem

        commit = HfApi().dataset_info(self.repo_id, revision=self.revision).sha
        pattern = f"datasets/{self.repo_id}@{commit}/data/{canonical(self.partition)}-*.parquet"
        shards = sorted(str(path) for path in HfFileSystem().glob(pattern))
        self._check_complete(shards)
        self._check_columns(_parquet(shards[0]).schema_arrow.names)
        groups = ((path, _parquet(path).metadata.num_row_groups) for path in shards)
        return str(commit), [RowGroup(path, group) for path, n in groups for group in range(n)]

    def _check_complete(self, shards: Sequence[str]) -> None:
        """Every file of the partition is there, as many as their names say."""
        names = [SHARD.fullmatch(Path(path).name) for path in shards]
        expected = max((int(match["n"]) for match in names if match), default=1)
        if len(shards) >= expected:
            return
        from huggingface_hub.constants import ENDPOINT, HF_HOME

        raise StrataError(
            f"dataset.partition={self.partition}: {len(shards)} of {expected} or more files "
            f"data/{canonical(self.partition)}-*.parquet of {self.repo_id}@{self.revision}, at "
            f"{ENDPOINT} or, without network, in the cache HF_HOME={HF_HOME}. Run once with "
            "network, copy a filled cache there, or use dataset=librispeech_local"
        )

    def _check_columns(self, names: Sequence[str]) -> None:
        lacking = [name for name in (*COLUMNS, "audio") if name not in names]
        if lacking:
            raise StrataError(
                f"dataset.repo_id={self.repo_id}: no column {', '.join(lacking)} among "
                f"{', '.join(names)}. Another data set: gilkeyio/librispeech-alignments has them"
            )


def _utterances(rows: Iterable[tuple[Shard, int]], faults: Faults) -> Iterator[Utterance]:
    """Utterances of the rows, read part by part."""
    by_part: dict[Shard, list[int]] = {}
    for part, row in rows:
        by_part.setdefault(part, []).append(row)
    for part, numbers in by_part.items():
        records = zip(numbers, part.records(numbers), strict=True)
        for _, utterance in faults.usable(records, partial(_utterance, part)):
            yield utterance


def _utterance(
    part: Shard, numbered: tuple[int, dict[str, Any]], dropped: Counter[str]
) -> Utterance:
    row, record = numbered
    id = str(record["id"])
    raw = {
        "word": alignments.from_dicts(record["words"], "word", id),
        "phone": alignments.from_dicts(record["phonemes"], "phoneme", id),
    }
    length = part.n_samples(row)
    n_samples = length or max((i.end for tier in raw.values() for i in tier), default=0)
    tiers = {"word": alignments.tier("word", raw["word"], length, id, dropped)}
    tiers |= alignments.phone_tiers(raw["phone"], length, id, dropped)
    speaker, text = id.split("-")[0], str(record["transcript"])
    known = {
        attribute: record[column] for column, attribute in ATTRIBUTES.items() if record.get(column)
    }
    if "gender" in known:
        known["gender"] = known["gender"].casefold()  # f and m, as of the corpus on disk
    return Utterance(id, speaker, text, n_samples, tiers, Row(part, row, id), known)


def _listed(names: Sequence[str]) -> list[str]:
    """Columns to read of those that there are: all but the audio."""
    return [*COLUMNS, *(name for name in ATTRIBUTES if name in names)]


@lru_cache(maxsize=64)
def _arrow(path: str) -> Any:
    """A memory-mapped Arrow file; maps are opened once in each process."""
    from datasets import Dataset as Table

    return Table.from_file(path).with_format("arrow")


@lru_cache(maxsize=8)
def _parquet(path: str) -> Any:
    """A parquet file on the Hub; its footer is fetched once in each process."""
    from huggingface_hub import HfFileSystem
    from pyarrow import parquet

    # Without fsspec's read-ahead, which would fetch 5 MB of audio around every column of text.
    return parquet.ParquetFile(HfFileSystem().open(path, cache_type="none"), pre_buffer=True)


@lru_cache(maxsize=2)
def _audio_column(path: str, group: int) -> Any:
    """Encoded audio of a row group."""
    return _parquet(path).read_row_group(group, columns=["audio"])["audio"]
