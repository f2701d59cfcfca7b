"""What the documentation says one can type, and the files that its examples write."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from running import ROOT

PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "assets").glob("*/README.md"),
        *ROOT.glob("*.md"),
    ]
)
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the file that its title names, its text."""

    page: Path
    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(page, language, title, text) for language, title, text in found]


def commands(page: Path) -> list[list[str]]:
    """The words of every line that begins with `$` in a page's blocks `console`; no comments.

    `torchrun … run.py …` is given as the `python run.py …` that each of its processes runs.
    """
    lines = [
        line.removeprefix("$ ")
        for block in blocks(page)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]
    found = [shlex.split(line, comments=True) for line in lines]
    return [
        ["python", *words[words.index("run.py") :]] if words[0] == "torchrun" else words
        for words in found
    ]


def jobs(words: list[str]) -> list[list[str]]:
    """Overrides of the jobs of `python run.py …`; of a sweep, of the first job and the last."""
    overrides = [word for word in words[2:] if "=" in word or word.startswith("~")]
    if "-m" not in words:
        return [overrides]
    choices = [_values(one) for one in OverridesParser.create().parse_overrides(overrides)]
    return [[values[end] for values in choices] for end in (0, -1)]


def _values(override: Override) -> list[str]:
    """The override for each of its values; of an interval, for its ends."""
    if override.is_interval_sweep():
        interval = override.value()
        return [f"{override.get_key_element()}={end}" for end in (interval.start, interval.end)]
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()]
    return [str(override.input_line)]
