"""What an offline run of wandb left on disk, decoded by wandb's own messages."""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd

HEADER = struct.Struct("<IHB")  # checksum, length, kind of a piece of a record
BLOCK = 32 * 1024
API_KEY = "f4ke" * 10  # as long as a real one; no digest or model holds it by chance


@dataclass(frozen=True)
class Logged:
    """A finished run's folder and records."""

    folder: Path
    records: list[Any]

    @property
    def run(self) -> Any:
        """Name, project, group: the first message."""
        return next(r.run for r in self.records if r.HasField("run"))

    @property
    def config(self) -> dict[str, Any]:
        found = values(self.run.config.update)
        for record in self.records:
            found |= values(record.config.update)
        return found

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of everything logged, and what was put there by name."""
        found: dict[str, Any] = {}
        for record in self.records:
            found |= values(record.history.item) | values(record.summary.update)
        return found

    @property
    def steps(self) -> dict[str, str]:
        """The x axis of every key that has one of its own."""
        return {r.metric.name: r.metric.step_metric for r in self.records if r.HasField("metric")}

    @property
    def rows(self) -> pd.DataFrame:
        """The table of the run's results."""
        return self.table("results")

    def table(self, name: str) -> pd.DataFrame:
        """A table that was logged under a name."""
        table = json.loads((self.folder / "files" / self.summary[f"{name}.path"]).read_text())
        return pd.DataFrame(table["data"], columns=table["columns"])

    def curve(self, name: str, step: str) -> dict[float, float]:
        """The values of a key by those of its x axis."""
        points = [values(r.history.item) for r in self.records if r.HasField("history")]
        return {point[step]: point[name] for point in points if name in point}


def offline_run(folder: Path) -> Logged:
    """The one run that was logged in a folder."""
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    return Logged(path.parent, finished(path))


def files_with(text: str, folder: Path) -> list[Path]:
    """Every file below a folder that holds a text in its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of the pieces of a LevelDB log, checksums verified."""
    position = 7  # after ":W&B", a magic number and the format's version
    while position + HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:
            position += left
            continue
        checksum, length, kind = HEADER.unpack_from(content, position)
        position += HEADER.size
        data = content[position : position + length]
        if len(data) < length:
            return  # still being written
        assert zlib.crc32(bytes([kind]) + data) == checksum
        yield kind, data
        position += length


def finished(path: Path) -> list[Any]:
    """Every record of a finished run's file: wandb's service writes it a little later."""
    for _ in range(500):
        found = records(path.read_bytes())
        if any(record.HasField("exit") for record in found):
            return found
        sleep(0.02)
    raise AssertionError(f"{path} was not finished within 10 s: {len(found)} records")


def records(content: bytes) -> list[Any]:
    """Every record so far, decoded by wandb's own message class."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert content.startswith(b":W&B")
    found, whole = [], b""
    for kind, data in pieces(content):
        whole += data
        if kind in (1, 4):  # full, or last of several
            found.append(Record.FromString(whole))
            whole = b""
    return found


def values(items: Sequence[Any]) -> dict[str, Any]:
    """Keys and values of a message's items."""
    return {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
