"""Alignment files to intervals in integer 16 kHz samples, and from those the tiers of an utterance.

Three steps: `read` (or `from_seconds`) gives a file's tiers as they are; `in_audio_time` compares
its time with the audio's; `tier` normalises labels, drops silences, clips to the audio, and counts
every loss by its reason.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from common import praat
from common.phones import MARKS, UNKNOWNS, normalise, normalise_word, parse
from common.reading import decode, reading, shown
from common.records import SAMPLE_RATE, Interval, StrataError

# Neighbours written with few digits may seem to share this many samples.
ROUNDING = 1
# The Montreal Forced Aligner lets neighbours share one of its frames of 10 ms now and then.
ALIGNER_FRAME = SAMPLE_RATE // 100
# The part of an alignment that may lie beyond its audio; with more it is one of other audio.
BEYOND = 0.1
LONGEST = 10_000_000.0  # seconds: 115 days, which no recording lasts

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


def _normaliser(kind: str, phones: str) -> Callable[[str], str | None]:
    """What turns a raw label into a tier's; None: it is dropped. `phones`: convention of phones."""
    if kind == "word":
        return normalise_word
    if kind == "phone":
        return lambda label: normalise(label, phones)
    if kind not in MARKS:
        return _as_written

    def mark(label: str) -> str | None:
        found = parse(label, phones)
        return None if found is None else found.stress if kind == "stress" else found.tone

    return mark


def _as_written(label: str) -> str | None:
    """A label of a tier of any kind; silence is empty, or in angle brackets as MAUS writes it."""
    plain = label.strip()
    return None if not plain or re.fullmatch("<[^<>]*>", plain) else plain


@dataclass(frozen=True, slots=True)
class Alignment:
    """An alignment file's tiers, and the time span that it covers, in samples.

    `start` and `end` are None where a format does not state them.
    """

    tiers: RawTiers
    start: int | None = None
    end: int | None = None


def read(path: Path) -> Alignment:
    """Read an alignment file by its suffix: .TextGrid, .json, .phn, .wrd."""
    suffix = path.suffix.casefold()
    with reading(path, "an alignment"):
        if suffix in (".phn", ".wrd"):
            return Alignment(((suffix[1:], read_timit(path)),))
        text = decode(path)
        return _read_json(text, path) if suffix == ".json" else _read_textgrid(text, path)


def from_seconds(rows: Iterable[tuple[float, float, str]]) -> tuple[Interval, ...]:
    """Intervals from (start, end, label) in seconds; times go to the nearest sample."""
    return tuple(Interval(to_samples(start), to_samples(end), label) for start, end, label in rows)


def to_samples(seconds: float) -> int:
    """Nearest sample at 16 kHz. Raises ValueError where that is no time in a recording."""
    value = float(seconds)
    if not isfinite(value) or abs(value) > LONGEST:
        raise ValueError(f"{value:g} s is no time in a recording")
    return round(value * SAMPLE_RATE)


def from_dicts(
    rows: Iterable[Mapping[str, Any]], label: str, path: object = "<dict>"
) -> tuple[Interval, ...]:
    """Intervals from [{label: …, "start": seconds, "end": seconds}, …], as on the Hub."""
    try:
        return from_seconds((row["start"], row["end"], _label(row[label])) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise StrataError(
            f"{path}: an interval lacks or garbles one of start, end, {label} ({error!r}). "
            f'Each is written {{"{label}": "…", "start": 0.51, "end": 0.62}}, times in seconds'
        ) from error


def _label(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the label {value!r} is no text")
    return value


_SAMPLES = re.compile("[0-9]{1,12}")


def read_timit(path: Path) -> tuple[Interval, ...]:
    """Intervals of a TIMIT .PHN or .WRD file: lines of `start end label`, times in samples."""
    intervals = []
    for number, line in enumerate(decode(path).splitlines(), start=1):
        fields = line.split(maxsplit=2)
        if not fields:
            continue
        if len(fields) < 3 or not (_SAMPLES.fullmatch(fields[0]) and _SAMPLES.fullmatch(fields[1])):
            raise StrataError(
                f"{shown(path)}, line {number}: {line[:80]!r} is not `start end label` with "
                "integer samples. A file in seconds is no TIMIT file: use dataset=textgrid"
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


def tier_named(tiers: RawTiers, name: str, speaker: str, path: Path) -> tuple[Interval, ...] | None:
    """Intervals of the tier of that name, maybe with "{speaker} - " before it; None without it."""
    names = (name, f"{speaker} - {name}")
    found = [intervals for title, intervals in tiers if title.strip() in names]
    if len(found) > 1:
        raise StrataError(f"{shown(path)}: {len(found)} tiers are called {name!r}: rename one")
    return found[0] if found else None


def in_audio_time(
    alignment: Alignment, n_samples: int, where: object, dropped: Counter[str]
) -> RawTiers:
    """Tiers in the time of an audio of `n_samples`; a file of other audio is an error.

    A TextGrid of a part of a recording keeps the recording's times (Praat's "preserve times"), so
    its own time begins later than 0. Beside the part's sound, which begins at 0, they are shifted;
    beside the whole recording they are right as they stand: what fits the audio's length decides.
    """
    ends = [i.end for _, tier in alignment.tiers for i in tier]
    end = alignment.end if alignment.end is not None else max(ends, default=0)
    start = alignment.start or 0
    shifted = start > ROUNDING and abs(end - start - n_samples) < abs(end - n_samples)
    off = start if shifted else 0
    if end - off > (1 + BEYOND) * n_samples or (shifted and end - off < (1 - BEYOND) * n_samples):
        raise StrataError(
            f"{shown(where)}: is of {start / SAMPLE_RATE:g} to {end / SAMPLE_RATE:g} s, and its "
            f"audio lasts {n_samples / SAMPLE_RATE:g} s. Of another recording, of another version "
            "of it (cut, or at another speed), or of a part of it: align this audio again"
        )
    if end - off < (1 - BEYOND) * n_samples:
        dropped["alignment: ends before nine tenths of its audio (kept)"] += 1
    if not shifted:
        return alignment.tiers
    dropped["alignment: shifted by its own start (kept)"] += 1
    return tuple(
        (name, tuple(Interval(i.start - off, i.end - off, i.label) for i in intervals))
        for name, intervals in alignment.tiers
    )


def tier(
    kind: str,
    raw: Sequence[Interval],
    n_samples: int | None,
    where: object,
    dropped: Counter[str],
    *,
    overlap: bool = False,
    phones: str = "arpabet",
) -> tuple[Interval, ...]:
    """Intervals fit to use, in order of time; what is left out or cut is counted in `dropped`.

    Labels are normalised and silences dropped; intervals without length are dropped; those past
    the audio's `n_samples` (None: unknown) are clipped or dropped, and an error where they are a
    tenth of the labelled time. Order and overlap are checked before anything is dropped: an
    aligner does not write such files, so one is an error, except that neighbours may share up to
    10 ms, which are halved between them, and that `overlap` lets them share any samples (TIMIT's
    words do). `phones`: the convention of phone labels (`common.phones`).
    """
    normaliser = _normaliser(kind, phones)
    kept = []
    labelled = lost = 0
    for interval in _checked_order(kind, raw, where, dropped, overlap):
        label = normaliser(interval.label)
        if label is None:
            unknown = interval.label.strip().casefold() in UNKNOWNS
            dropped[f"{kind}: {'unknown' if unknown else 'silence'}"] += 1
            continue
        end = interval.end if n_samples is None else min(interval.end, n_samples)
        labelled += max(interval.end - interval.start, 0)
        lost += interval.end - max(end, interval.start) if end < interval.end else 0
        if end <= interval.start:
            past = end < interval.end
            dropped[f"{kind}: beyond the audio" if past else f"{kind}: no length"] += 1
            continue
        if end < interval.end:
            dropped[f"{kind}: clipped to the audio (kept)"] += 1
        # A label is kept once, however often it occurs: a third of what an interval takes.
        kept.append(Interval(interval.start, end, sys.intern(label)))
    if lost >= BEYOND * labelled and lost > ROUNDING:
        raise StrataError(
            f"{shown(where)}: {lost / SAMPLE_RATE:g} of {labelled / SAMPLE_RATE:g} s of its "
            f"{kind}s lie beyond the audio, which ends at {(n_samples or 0) / SAMPLE_RATE:g} s. Of "
            "another recording or another version of it (cut, or at another speed): align this "
            "audio again, or leave it out"
        )
    return tuple(kept)


def transcript(words: Sequence[Interval], raw: Sequence[Interval], dropped: Counter[str]) -> str:
    """The text of a word tier; "" where it has words that the aligner did not know.

    Without them the text would lack what was said, and a recogniser be trained and tested on it.
    """
    if any(interval.label.strip().casefold() in UNKNOWNS for interval in raw):
        dropped["transcript: not known, words unknown to the aligner and no .lab (kept)"] += 1
        return ""
    return " ".join(interval.label for interval in words)


def phone_tiers(
    raw: Sequence[Interval],
    n_samples: int | None,
    where: object,
    dropped: Counter[str],
    phones: str = "arpabet",
) -> dict[str, tuple[Interval, ...]]:
    """Tier "phone" (see `tier`) and, where labels carry them, tiers "stress" and "tone".

    These have the intervals of the phones that carry one, labelled by it.
    """
    tiers = {"phone": tier("phone", raw, n_samples, where, dropped, phones=phones)}
    for mark in MARKS:
        marks = tier(mark, raw, n_samples, where, Counter(), phones=phones)
        tiers |= {mark: marks} if marks else {}
    return tiers


def _checked_order(
    kind: str, raw: Sequence[Interval], where: object, dropped: Counter[str], overlap: bool
) -> list[Interval]:
    """The intervals, checked: none starts before its predecessor ends (or starts, if `overlap`)."""
    early = next((interval for interval in raw if interval.start < 0), None)
    if early is not None:
        raise StrataError(
            f"{shown(where)}: {kind} {early.label!r} starts at {early.start / SAMPLE_RATE:g} s, "
            "before the audio. Shift the alignment's times so that 0 is the audio's first sample"
        )
    lengthy = [interval for interval in raw if interval.end > interval.start]
    mended = 0
    for k, (before, after) in enumerate(pairwise(list(lengthy))):
        shared = before.end - after.start
        if (overlap and after.start >= before.start) or shared <= ROUNDING:
            continue
        if overlap or not _within_a_frame(before, after):
            raise StrataError(
                f"{shown(where)}: {kind} {after.label!r} ({_seconds(after)}) begins before "
                f"{before.label!r} ({_seconds(before)}) ends. Two speakers in one tier, or a "
                "damaged file: give each speaker a tier, or leave the file out"
            )
        middle = before.end - shared // 2
        lengthy[k] = Interval(lengthy[k].start, middle, before.label)
        lengthy[k + 1] = Interval(middle, after.end, after.label)
        mended += 1
    if mended:
        dropped[f"{kind}: shares up to 10 ms with its neighbour (kept, halved)"] += mended
        return lengthy + [interval for interval in raw if interval.end <= interval.start]
    return list(raw)


def _within_a_frame(before: Interval, after: Interval) -> bool:
    """Whether two intervals in order share no more than an aligner's frame."""
    in_order = before.start < after.start and before.end < after.end
    return in_order and before.end - after.start <= ALIGNER_FRAME + ROUNDING


def _seconds(interval: Interval) -> str:
    return f"{interval.start / SAMPLE_RATE:.4f}–{interval.end / SAMPLE_RATE:.4f} s"


def _read_textgrid(text: str, path: Path) -> Alignment:
    """Interval tiers of a TextGrid and the time span that it covers."""
    try:
        grid = praat.parse(text)
    except praat.GridError as error:
        raise StrataError(
            f"{shown(path)}: not a TextGrid ({len(text)} characters): {error}. Truncated or "
            "hand-edited: open it in Praat and save it again as text, or leave it out"
        ) from error
    return _alignment(grid, path)


def _alignment(grid: praat.Grid, path: Path) -> Alignment:
    """A TextGrid's tiers and time span, in samples."""
    times = (
        grid.start,
        *(t for _, rows in grid.tiers for start, end, _ in rows for t in (start, end)),
    )
    negative = min(times)
    if negative * SAMPLE_RATE < -0.5:
        raise StrataError(
            f"{shown(path)}: a time is negative ({negative:g}). "
            "Shift the times so that 0 is the audio's first sample"
        )
    tiers = tuple((name, from_seconds(rows)) for name, rows in grid.tiers)
    return Alignment(tiers, to_samples(grid.start), to_samples(grid.end))


def _read_json(text: str, path: Path) -> Alignment:
    """Tiers of {"words": [{"word": …, "start": …, "end": …}], "phonemes": […]}, or MFA's JSON."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StrataError(
            f"{shown(path)}: not JSON ({error}). Truncated: align or copy it again"
        ) from error
    if isinstance(content, dict) and "tiers" in content:
        return _alignment(_json_grid(content, path), path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise StrataError(
            f'{shown(path)}: expected {{"words": [{{"word": …, "start": …, "end": …}}, …]}}, or '
            "the JSON that the Montreal Forced Aligner writes"
        )
    return Alignment(
        tuple((k, from_dicts(v, _label_key(v), shown(path))) for k, v in content.items())
    )


def _json_grid(content: Mapping[str, Any], path: Path) -> praat.Grid:
    """{"start", "end", "tiers": {name: {"entries": [[start, end, label], …]}}}; points are skipped.

    praatio, which MFA writes it with, also has a form with a list of named tiers, xmin and xmax.
    """
    try:
        tiers = content["tiers"]
        named = tiers.items() if isinstance(tiers, dict) else [(t["name"], t) for t in tiers]
        start = content["start"] if "start" in content else content["xmin"]
        end = content["end"] if "end" in content else content["xmax"]
        grid = tuple(
            (str(name), tuple((float(s), float(e), _label(text)) for s, e, text in t["entries"]))
            for name, t in named
            if not any(len(entry) == 2 for entry in t["entries"])
        )
        return praat.Grid(float(start), float(end), grid)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StrataError(
            f"{shown(path)}: not the JSON that the Montreal Forced Aligner writes "
            f"({type(error).__name__}: {error}): a tier lacks its entries [start, end, label], or "
            "the file its start and end. Align or copy it again"
        ) from error


def _label_key(rows: list[Any]) -> str:
    """Name of the field that is not a time: word, phone, phoneme, label."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    return next((str(key) for key in first if key not in ("start", "end")), "label")
