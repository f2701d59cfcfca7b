"""The task `cache`: lists what is cached and how large it is, and deletes it on request."""

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from analysis.studies.provide import VERSIONS
from common.cache.cache import Cache, Entry, cache_root
from common.config import Config
from common.records import StrataError
from common.results.score_table import console_for

log = logging.getLogger(__name__)


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:  # noqa: ARG001
    """List the cache; with `clear=stale` or `clear=all` delete first."""
    cache = Cache(cache_root(config))
    if config.clear is not None:
        clear(cache, config.clear)
    entries = cache.entries()
    if entries:
        show(entries)
    total = sum(entry.size() for entry in entries)
    count = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    print(f"{count}, {megabytes(total)} in {cache.root}")


def clear(cache: Cache, which: str) -> None:
    """Delete stale entries, or all of them; one that a running job holds stays."""
    chosen = [entry for entry in cache.entries() if which == "all" or is_stale(entry)]
    freed = 0
    for entry in chosen:
        size = entry.size()
        try:
            deleted = cache.delete(entry)
        except OSError as error:
            raise StrataError(f"{entry.folder}: cannot be deleted ({error.strerror})") from error
        if deleted:
            freed += size
        else:
            log.warning("%s is in use by a running job and stays", entry.folder.name)
    print(f"deleted {which}: {megabytes(freed)}")


def is_stale(entry: Entry) -> bool:
    """Whether a stage that computed it has changed since, or it holds no finished file."""
    return not entry.names() or entry.key().get("versions") != VERSIONS.get(entry.kind)


def show(entries: list[Entry]) -> None:
    """A line per entry."""
    table = Table()
    for column in (
        "kind",
        "model revision",
        "dataset",
        "unit",
        "sampling",
        "files",
        "size",
        "made",
        "state",
    ):
        table.add_column(column, overflow="fold")
    for entry in entries:
        key = entry.key()
        made = datetime.fromtimestamp(entry.folder.stat().st_mtime)
        drawn = {k: v for k, v in key.get("sampling", {}).items() if v is not None}
        table.add_row(
            entry.kind,
            str(key.get("revision"))[:24],
            str(key.get("dataset"))[:12],
            str(key.get("unit")),
            ", ".join(f"{k} {v}" for k, v in ({"samples": key.get("samples")} | drawn).items()),
            str(len(entry.names())),
            megabytes(entry.size()),
            f"{made:%Y-%m-%d %H:%M}",
            "stale" if is_stale(entry) else "current",
        )
    console_for(160).print(table)


def megabytes(size: int) -> str:
    """A size in MB."""
    return f"{size / 1e6:,.1f} MB"
