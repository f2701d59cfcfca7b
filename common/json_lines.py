"""Files that hold a JSON object a line, compressed or not."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.reading import shown
from common.records import StrataError


def read_json_lines(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a .json, .jsonl or .jsonl.gz file, one a line."""
    rows: list[Mapping[str, Any]] = []
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object")
                rows.append(row)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise StrataError(
            f"{shown(path)}: not a JSON object a line ({error}). Cut short, or another kind of file"
        ) from error
    return rows
