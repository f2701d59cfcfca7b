"""Alignment files to intervals in integer 16 kHz samples, and from those the tiers of an utterance.

Two steps: `read` (or `from_seconds`) gives what a file says, tier by tier; `tier` makes it fit to
use: labels normalised, silences dropped, clipped to the audio, every loss counted by its reason.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.phones import UNKNOWNS, normalise, normalise_word
from common.records import SAMPLE_RATE, Interval, StrataError

# Neighbours written with few digits may seem to share this many samples.
ROUNDING = 1

RawTiers = tuple[tuple[str, tuple[Interval, ...]], ...]  # (name, intervals) in the file's order

# Tier names, tried in this order, as MFA, Prosodylab, WebMAUS, Charsiu and Praat users write
# them. {speaker} is replaced by the utterance's; "anna - words" is MFA's form for several speakers.
TIER_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "word": (
        r"words?",
        r"{speaker} - words?",
        r"ORT-MAU",
        r"ORT",
        r"[^/]+ - words?",
        r"word[ _-]?(tier|segments|intervals)",
    ),
    "phone": (
        r"phones?",
        r"{speaker} - phones?",
        r"MAU",
        r"phonemes?",
        r"segments?",
        r"[^/]+ - phones?",
        r"phone[ _-]?(tier|segments|intervals)",
    ),
}

NORMALISERS: Mapping[str, Callable[[str], str | None]] = {
    "word": normalise_word,
    "phone": normalise,
}


def read(path: Path) -> RawTiers:
    """What an alignment file says. Dispatches on its suffix: .TextGrid, .json, .phn, .wrd."""
    suffix = path.suffix.casefold()
    if suffix in (".phn", ".wrd"):
        return ((suffix[1:], read_timit(path)),)
    text = decode(path)
    if suffix == ".json":
        return _read_json(text, path)
    return _read_textgrid(text, path)


def decode(path: Path) -> str:
    """Text of a file in UTF-8 or, with a byte order mark as Praat writes it, UTF-16."""
    data = path.read_bytes()
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise StrataError(
            f"{path}: byte {error.start} is not UTF-8, nor does the file begin with a UTF-16 mark. "
            "Latin-1, most likely: in Praat, set Text writing preferences to UTF-8 and save again"
        ) from error


def from_seconds(rows: Iterable[tuple[float, float, str]]) -> tuple[Interval, ...]:
    """Intervals from (start, end, label) in seconds; times go to the nearest sample."""
    return tuple(Interval(to_samples(start), to_samples(end), label) for start, end, label in rows)


def to_samples(seconds: float) -> int:
    """Nearest sample at 16 kHz."""
    return round(float(seconds) * SAMPLE_RATE)


def from_dicts(
    rows: Iterable[Mapping[str, Any]], label: str, path: object = "<dict>"
) -> tuple[Interval, ...]:
    """Intervals from [{label: …, "start": seconds, "end": seconds}, …], as on the Hub."""
    try:
        return from_seconds((row["start"], row["end"], row[label]) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise StrataError(
            f"{path}: an interval lacks or garbles one of start, end, {label} ({error!r}). "
            f'Each is written {{"{label}": "…", "start": 0.51, "end": 0.62}}, times in seconds'
        ) from error


def read_timit(path: Path) -> tuple[Interval, ...]:
    """Intervals of a TIMIT .PHN or .WRD file: lines of `start end label`, times in samples."""
    intervals = []
    for number, line in enumerate(decode(path).splitlines(), start=1):
        fields = line.split(maxsplit=2)
        if not fields:
            continue
        if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):
            raise StrataError(
                f"{path}, line {number}: {line!r} is not `start end label` with integer samples. "
                "A file in seconds is no TIMIT file: use dataset=textgrid"
            )
        intervals.append(Interval(int(fields[0]), int(fields[1]), fields[2].strip()))
    return tuple(intervals)


def select(tiers: RawTiers, kind: str, pattern: str | None, speaker: str, path: Path) -> int | None:
    """Index of the tier of a kind ("word", "phone"), or None where no tier has a fitting name.

    `pattern` is a regular expression for the whole name, case-insensitive, which may hold
    {speaker}; without one those of `TIER_PATTERNS` are tried in turn.
    """
    for candidate in TIER_PATTERNS[kind] if pattern is None else (pattern,):
        regex = re.compile(candidate.replace("{speaker}", re.escape(speaker)), re.IGNORECASE)
        found = [i for i, (name, _) in enumerate(tiers) if regex.fullmatch(name.strip())]
        if len(found) > 1:
            names = ", ".join(repr(tiers[i][0]) for i in found)
            raise StrataError(
                f"{path}: {len(found)} tiers fit as {kind} tier ({names}). "
                f"Name one: dataset.{kind}_tier=REGEX"
            )
        if found:
            return found[0]
    return None


def tier(
    kind: str,
    raw: Sequence[Interval],
    n_samples: int | None,
    where: object,
    dropped: Counter[str],
    *,
    overlap: bool = False,
) -> tuple[Interval, ...]:
    """Intervals fit to use, in order of time; what is left out or cut is counted in `dropped`.

    Labels are normalised and silences dropped; intervals without length are dropped; those past
    the audio's `n_samples` (None: unknown) are clipped or dropped. Order and overlap are checked
    before anything is dropped: an aligner does not write such files, so one is an error, except
    that `overlap` lets neighbours share samples (TIMIT's words do).
    """
    kept = []
    for interval in _ordered(kind, raw, where, overlap):
        label = NORMALISERS[kind](interval.label)
        if label is None:
            dropped[f"{kind}: {_silence_or_unknown(interval.label)}"] += 1
            continue
        end = interval.end if n_samples is None else min(interval.end, n_samples)
        if end <= interval.start:
            past = end < interval.end
            dropped[f"{kind}: beyond the audio" if past else f"{kind}: no length"] += 1
            continue
        if end < interval.end:
            dropped[f"{kind}: clipped to the audio (kept)"] += 1
        kept.append(Interval(interval.start, end, label))
    return tuple(kept)


def _silence_or_unknown(label: str) -> str:
    return "unknown" if label.strip().casefold() in UNKNOWNS else "silence"


def _ordered(
    kind: str, raw: Sequence[Interval], where: object, overlap: bool
) -> Sequence[Interval]:
    """The intervals, checked: none starts before its predecessor ends (or starts, if `overlap`)."""
    if raw and raw[0].start < 0:
        raise StrataError(
            f"{where}: {kind} {raw[0].label!r} starts at {raw[0].start / SAMPLE_RATE:g} s, before "
            "the audio. Shift the alignment's times so that 0 is the audio's first sample"
        )
    lengthy = [interval for interval in raw if interval.end > interval.start]
    for before, after in pairwise(lengthy):
        if after.start < (before.start if overlap else before.end - ROUNDING):
            raise StrataError(
                f"{where}: {kind} {after.label!r} ({_seconds(after)}) begins before "
                f"{before.label!r} ({_seconds(before)}) ends. Two speakers in one tier, or a "
                "damaged file: give each speaker a tier, or leave the file out"
            )
    return raw


def _seconds(interval: Interval) -> str:
    return f"{interval.start / SAMPLE_RATE:.4f}–{interval.end / SAMPLE_RATE:.4f} s"


def _read_textgrid(text: str, path: Path) -> RawTiers:
    """Interval tiers of a TextGrid; point tiers hold no intervals and are passed over.

    praatio's own `openTextgrid` would sort the intervals, and so hide a damaged file, and names
    no file in its errors; its parser alone does neither.
    """
    from praatio.utilities.textgrid_io import parseTextgridStr

    try:
        grid = parseTextgridStr(_plain_numbers(text, path), includeEmptyIntervals=True)
        tiers = [t for t in grid["tiers"] if t["class"] == "IntervalTier"]
        parsed = tuple((str(t["name"]), from_seconds(t["entries"])) for t in tiers)
    except StrataError:
        raise
    except Exception as error:  # praatio lets whatever a bad file provokes escape
        raise StrataError(
            f"{path}: not a TextGrid ({len(text)} characters; {type(error).__name__}: {error}). "
            "Truncated or hand-edited: open it in Praat and save it again, or leave it out"
        ) from error
    _check_complete(text, sum(len(t["entries"]) for t in grid["tiers"]), path)
    return parsed


_EXPONENT = re.compile(r"^(.*= *)?(-?\d+(?:\.\d+)?[eE][-+]?\d+)\s*$", re.MULTILINE)
_NEGATIVE = re.compile(r"^ *(?:xm(?:in|ax) *= *)?-0*\.?0*[1-9][\d.]*\s*$", re.MULTILINE)


def _plain_numbers(text: str, path: Path) -> str:
    """Praat writes tiny times as 5e-05, which praatio cannot read; a minus sign it would lose."""
    plain = _EXPONENT.sub(lambda m: f"{m[1] or ''}{float(m[2]):.12f}", text)
    negative = _NEGATIVE.search(plain)
    if negative:
        raise StrataError(
            f"{path}: a time is negative ({negative[0].strip()}). "
            "Shift the times so that 0 is the audio's first sample"
        )
    return plain


_SIZE = re.compile(r"^ *(?:intervals|points): *size *= *(\d+)", re.MULTILINE)
_SHORT_SIZE = re.compile(
    r'^"(?:IntervalTier|TextTier)"\s*\n"(?:[^"]|"")*"\s*\n\S+\s*\n\S+\s*\n(\d+)\s*$', re.MULTILINE
)


def _check_complete(text: str, n_entries: int, path: Path) -> None:
    """A truncated file parses without complaint, only shorter: compare with the sizes it states."""
    sizes = _SIZE.findall(text) or _SHORT_SIZE.findall(text.replace("\r\n", "\n"))
    stated = sum(int(size) for size in sizes)
    if sizes and stated != n_entries:
        raise StrataError(
            f"{path}: states {stated} intervals, holds {n_entries}: truncated, or a label contains "
            "TextGrid syntax. Align or copy the file again"
        )


def _read_json(text: str, path: Path) -> RawTiers:
    """Tiers of {"words": [{"word": …, "start": …, "end": …}], "phonemes": […]}, or MFA's JSON."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise StrataError(
            f"{path}: not JSON ({error}). Truncated: align or copy it again"
        ) from error
    if isinstance(content, dict) and "tiers" in content:
        return _read_textgrid(text, path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise StrataError(
            f'{path}: expected {{"words": [{{"word": …, "start": …, "end": …}}, …]}}, or the JSON '
            "that the Montreal Forced Aligner writes"
        )
    return tuple((k, from_dicts(v, _label_key(v), path)) for k, v in content.items())


def _label_key(rows: list[Any]) -> str:
    """Name of the field that is not a time: word, phone, phoneme, label."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    return next((str(key) for key in first if key not in ("start", "end")), "label")
