"""What a unit is and what labels it: a phone, a word, a stretch of 20 ms, a whole utterance."""

from collections.abc import Iterator, Sequence

from analysis.tasks.sentence_pairs import read_pairs
from common.config import AnalysisConfig
from common.records import Corpus, Interval, StrataError, Utterance

STRETCH = 320  # samples of a unit `frame`: 20 ms, the frames of every transformer layer here


def name_of(analysis: AnalysisConfig) -> str:
    """How draws, counts and errors call the units: "phone", or "frame by phone"."""
    by = analysis.labelled_by
    return analysis.unit if by == analysis.unit else f"{analysis.unit} by {by}"


def labelled(
    corpus: Corpus, analysis: AnalysisConfig, first_centre: int = STRETCH // 2
) -> list[tuple[int, Interval]]:
    """Every unit of the corpus: index of its utterance, its samples and its label.

    `first_centre`: sample in the middle of a model's first frame, for units `frame`.
    """
    unit, by = analysis.unit, analysis.labelled_by
    tier = by if unit == "frame" else unit
    if tier != "utterance" and tier not in corpus.tiers:
        raise StrataError(
            f"dataset {corpus.name} ({corpus.partition}) has no {tier} tier: it has "
            f"{', '.join(corpus.tiers) or 'none'}; choose an experiment on those"
        )
    if by == "speaker":
        check_speakers(corpus.utterances)
    if analysis.target.kind == "sentence_pairs":
        return recordings(corpus, str(analysis.target.path))
    return [
        (index, interval)
        for index, utterance in enumerate(corpus.utterances)
        for interval in units_of(utterance, unit, by, first_centre)
    ]


def recordings(corpus: Corpus, path: str) -> list[tuple[int, Interval]]:
    """Whole utterances, labelled by their sentence in a table of pairs; else by their id."""
    pairs = read_pairs(path)
    return [
        (k, Interval(0, u.n_samples, pairs.sentence_of(u.id, u.text) or u.id))
        for k, u in enumerate(corpus.utterances)
    ]


def units_of(utterance: Utterance, unit: str, by: str, first_centre: int) -> Iterator[Interval]:
    """The units of one utterance."""
    whole = (Interval(0, utterance.n_samples, utterance.id),)
    if unit == "frame":
        yield from stretches(utterance.tiers.get(by, ()), first_centre)
        return
    for interval in whole if unit == "utterance" else utterance.tiers.get(unit, ()):
        label = utterance.speaker if by == "speaker" else interval.label
        yield Interval(interval.start, interval.end, label)


def stretches(
    intervals: Sequence[Interval], first_centre: int = STRETCH // 2
) -> Iterator[Interval]:
    """Stretches of 320 samples around each frame's centre, `first_centre` + 320 k.

    Their label is that of the centre. Only those that lie in the audio from its start on.
    """
    half = STRETCH // 2
    for interval in intervals:
        first = -((first_centre - interval.start) // STRETCH)
        last = -((first_centre - interval.end) // STRETCH)
        for k in range(first, last):
            start = first_centre - half + k * STRETCH
            if start >= 0:
                yield Interval(start, start + STRETCH, interval.label)


def check_speakers(utterances: Sequence[Utterance]) -> None:
    """Speakers can be told apart only where they are known."""
    unknown = [u.id for u in utterances if not u.speaker]
    if unknown:
        raise StrataError(
            f"{len(unknown)} of {len(utterances)} utterances have no speaker (the first is "
            f"{unknown[0]}): a folder of audio for each speaker names them, or dataset.speaker="
            "prefix takes it from the file name"
        )
