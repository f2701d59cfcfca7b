"""Long recordings in windows: utterances of no more samples than a model takes at once."""

import hashlib
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from common.records import SAMPLE_RATE, Corpus, Interval, StrataError, Utterance, Waveform

log = logging.getLogger(__name__)

VERSION = 1  # bumped when the same recording would be cut elsewhere
OVERLAP = 2 * SAMPLE_RATE  # samples of context before and after a window, at most
# Windows, and their context, begin at a multiple of these samples where a silence allows it: hops
# divide it, so that frames lie where they would lie in the whole recording.
GRID, FINER_GRID = 1280, 320
SHORTEST = SAMPLE_RATE  # samples that windows may have at most

CUT = "utterance: longer than model.max_seconds (kept, in windows)"
CLIPPED = "unit: cut by a window's end, there is no silence to cut at (kept)"
NO_TEXT = "window: text not known, as the words of the recording's are not those of its tier (kept)"


def in_windows(
    corpus: Corpus,
    longest: int,
    within: int | None = None,
    overlap: bool = True,
    with_words: bool = False,
) -> Corpus:
    """The corpus with utterances of over `longest` samples replaced by windows of them.

    Windows are utterances: `recording@0063.280` begins at 63.28 s of its recording, and has the
    intervals, the words and the samples from there to the next window. They are cut in the longest
    silence that the tiers leave within reach, else between two units, and are of at most `within`
    samples (None: `longest`; a second at least), with context on both sides
    (`Utterance.context`; none without `overlap`). `with_words`: recordings stay whole where it
    is not known which words are in which window. What is not cut stays as it is, and so does the
    fingerprint of a corpus without such recordings.
    """
    within = max(longest if within is None else within, SHORTEST)

    def is_long(utterance: Utterance) -> bool:
        long = utterance.n_samples > longest
        return long and not (with_words and _words(utterance) is None)

    if not any(map(is_long, corpus.utterances)):
        return corpus
    context = min(OVERLAP, within // 8) // GRID * GRID if overlap else 0
    counts: Counter[str] = Counter()
    utterances: list[Utterance] = []
    for utterance in corpus.utterances:
        if is_long(utterance):
            counts[CUT] += 1
            utterances += _windows(utterance, within - 2 * context, context, counts)
        else:
            utterances.append(utterance)
    log.info(
        "%s (%s): %d recordings longer than %.1f s are read in %d windows",
        *(corpus.name, corpus.partition, counts[CUT], longest / SAMPLE_RATE),
        len(utterances) - len(corpus.utterances) + counts[CUT],
    )
    cut = (corpus.fingerprint, VERSION, longest, within, context)
    return replace(
        corpus,
        utterances=tuple(utterances),
        dropped={**corpus.dropped, **counts},
        fingerprint=hashlib.sha256(repr(cut).encode()).hexdigest(),
    )


def longest_input(max_seconds: float, limits: Iterable[int | None]) -> int:
    """Most samples of an utterance: what is asked for, and what each model can take."""
    return min(int(max_seconds * SAMPLE_RATE), *(n for n in limits if n is not None), 1 << 62)


def _windows(
    utterance: Utterance, longest: int, beside: int, counts: Counter[str]
) -> list[Utterance]:
    """The windows of one recording, of at most `longest` samples without their context."""
    n = utterance.n_samples
    starts = _cuts(utterance.tiers, n, longest)
    bounds = list(zip(starts, [*starts[1:], n], strict=True))
    words = _words(utterance)
    if words is None:
        counts[NO_TEXT] += len(bounds)
    width = len(f"{n / SAMPLE_RATE:.3f}")
    windows = []
    for start, end in bounds:
        before, after = min(beside, start), min(beside, n - end)
        windows.append(
            replace(
                utterance,
                id=f"{utterance.id}@{start / SAMPLE_RATE:0{width}.3f}",
                text=" ".join(text for at, text in words or () if start <= at < end),
                n_samples=end - start,
                tiers=_tiers(utterance.tiers, start, end, counts),
                read=partial(_read, utterance.read, start - before, end + after),
                context=(before, after),
                recording=(utterance.id, start),
            )
        )
    return windows


def _cuts(tiers: Mapping[str, Sequence[Interval]], n: int, width: int) -> list[int]:
    """Where windows of a recording of n samples begin: the first one at 0.

    A window is half of `width` samples or more, and what is left for the last one a quarter.
    """
    gaps = _gaps(tiers, n)
    ends = [end for _, end in gaps]
    starts = [0]
    while n - starts[-1] > width:
        earliest = starts[-1] + width // 2
        latest = min(starts[-1] + width, n - width // 4)
        within = []
        for start, end in gaps[bisect_left(ends, earliest) :]:
            if start > latest:
                break
            within.append((max(start, earliest), min(end, latest)))
        longest = max(within, key=lambda gap: gap[1] - gap[0], default=None)
        starts.append(latest // GRID * GRID if longest is None else _middle(*longest))
    return starts


def _gaps(tiers: Mapping[str, Sequence[Interval]], n: int) -> list[tuple[int, int]]:
    """Stretches without a unit, [start, end] in samples; of no length between neighbours."""
    gaps, reached = [], 0
    for unit in sorted((i for tier in tiers.values() for i in tier), key=lambda i: i.start):
        if unit.start >= reached:
            gaps.append((reached, unit.start))
        reached = max(reached, unit.end)
    return [*gaps, (reached, n)] if reached < n else gaps


def _middle(start: int, end: int) -> int:
    """The middle of a silence, on the grid where one of its samples is."""
    middle = (start + end) // 2
    for grid in (GRID, FINER_GRID):
        nearest = round(middle / grid) * grid
        if start <= nearest <= end:
            return nearest
    return middle


def _tiers(
    tiers: Mapping[str, Sequence[Interval]], start: int, end: int, counts: Counter[str]
) -> dict[str, tuple[Interval, ...]]:
    """The intervals that begin in a window, in its own time."""
    found: dict[str, tuple[Interval, ...]] = {}
    for name, intervals in tiers.items():
        first, last = (bisect_left(intervals, at, key=lambda i: i.start) for at in (start, end))
        inside = intervals[first:last]
        beyond = sum(i.end > end for i in inside)
        if beyond:
            counts[CLIPPED] += beyond
        found[name] = tuple(
            Interval(i.start - start, min(i.end, end) - start, i.label) for i in inside
        )
    return found


def _words(utterance: Utterance) -> list[tuple[int, str]] | None:
    """(sample, word) of the text, by the word tier; None where the two do not agree in number."""
    words, intervals = utterance.text.split(), utterance.tiers.get("word", ())
    if len(words) != len(intervals):
        return None
    return [(i.start, word) for i, word in zip(intervals, words, strict=True)]


def _read(whole: Callable[[], Waveform], start: int, end: int) -> Waveform:
    read = _whole(whole)
    if isinstance(read, StrataError):
        raise read
    return read[start:end]


@lru_cache(maxsize=1)
def _whole(read: Callable[[], Waveform]) -> Waveform | StrataError:
    """A recording, decoded once for all of its windows, which are read one after another."""
    try:
        return read()
    except StrataError as error:
        return error
