"""Label files of xwaves (ESPS), in which Buckeye and EmoDB have their times."""

import re
from pathlib import Path

from common.alignments import to_samples
from common.reading import decode, shown
from common.records import Interval, StrataError

LINE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s+[0-9-]+(?:\s+(.*))?")


def read_xlabel(path: Path) -> tuple[tuple[Interval, ...], tuple[str, ...]]:
    """Intervals of a file, each beginning where the former ended, and all fields of their lines.

    After a line `#` come lines `END COLOUR LABEL; FIELD; …`, times in seconds. What has no label
    gets "".
    """
    lines = decode(path).splitlines()
    marks = [number for number, line in enumerate(lines) if line.strip() == "#"]
    if not marks:
        raise StrataError(
            f"{shown(path)}: no line `#`, after which an xwaves label file has its times. Cut "
            "short, or another kind of file"
        )
    intervals: list[Interval] = []
    fields: list[str] = []
    start = 0
    for number, line in enumerate(lines[marks[0] + 1 :], start=marks[0] + 2):
        if not line.strip():
            continue
        match = LINE.fullmatch(line)
        end = to_samples(float(match[1])) if match else -1
        if match is None or end < start:
            why = "earlier than the line before" if match else "not END COLOUR LABEL"
            raise StrataError(f"{shown(path)}, line {number}: {line[:60]!r}: {why}")
        label = (match[2] or "").strip()
        intervals.append(Interval(start, end, label.split(";")[0].strip()))
        fields.append(label)
        start = end
    return tuple(intervals), tuple(fields)
