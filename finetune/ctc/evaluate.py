"""The task `evaluate`: error rates of a trained recogniser on any transcribed speech."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jiwer
import pandas as pd

from common.config import Config
from common.datasets.faults import Faults, OnError
from common.encoder.architecture import read_blueprint
from common.encoder.checkpoint import revision_of
from common.progress import progress
from common.records import Corpus, StrataError, Utterance
from common.results import results
from common.tables import csv_of
from common.timing import Stopwatch
from common.writing import write_text
from finetune.ctc.experiment import HYPOTHESES
from finetune.ctc.recognition import Recogniser, Transcript, load_recogniser, scored_text
from finetune.ctc.report import Tested, print_scores, score_rows
from finetune.ctc.scoring import UNITS, error_rate, score
from finetune.ctc.text import references, without_spaces

BY_UNIT, BY_SPEAKER = "errors_by_{}.csv", "errors_by_speaker.csv"


@dataclass(frozen=True)
class Recognised:
    """Utterances that were recognised, their transcripts, and counts of what was left out."""

    utterances: tuple[Utterance, ...]
    transcripts: tuple[Transcript, ...]
    dropped: Mapping[str, int]


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> float:
    """Transcribe and score; returns the word error rate, or that of phones or characters."""
    watch = Stopwatch()
    with watch.stage("preparing"):
        corpus: Corpus = config.dataset.read(config.on_error)
        recogniser = load_recogniser(config)
        chosen = written(corpus, recogniser.targets)
        if not chosen:
            raise StrataError(
                f"{corpus.name} ({corpus.partition}): none of {len(corpus.utterances)} utterances "
                f"has {recogniser.targets} to be scored against. Put a .lab or .txt beside the "
                "audio, or use experiment=transcribe"
            )
    with watch.stage("testing"):
        recognised = transcribe_all(recogniser, chosen, config.on_error)
    spoken = recognised.utterances
    table = score(
        [u.id for u in spoken],
        [u.speaker for u in spoken],
        [u.text for u in spoken],
        [scored_text(t, recogniser.targets) for t in recognised.transcripts],
        figures_of(recogniser.targets, [u.text for u in spoken]),
    )
    by_unit = BY_UNIT.format(unit_of(table))
    tested = Tested(table, None, {})
    revision = revision_of(config.model, read_blueprint(config.model).checkpoint)
    key = results.config_key(raw, also=("recognition",))
    rows = results.to_frame(score_rows(config, tested, corpus, revision, key))
    without = len(corpus.utterances) - len(chosen)
    dropped = ({"without words in its text": without} if without else {}) | dict(recognised.dropped)
    metadata = {
        "dataset": corpus.describe(),
        "dropped": dropped,
        "test": tested.describe(),
        **results.describe_process(watch),
        "config": raw,
    }
    paths = results.write_results(folder, rows, metadata)
    for name, frame in (
        (HYPOTHESES, table),
        (by_unit, errors_by_word(table)),
        (BY_SPEAKER, errors_by_speaker(table)),
    ):
        write_text(folder / name, csv_of(frame))
    print_scores(tested, f"{config.model.name} on {corpus.name} ({corpus.partition})")
    if dropped:
        print("left out: " + ", ".join(f"{n} {reason}" for reason, n in dropped.items()))
    for path in (*paths, folder / HYPOTHESES, folder / by_unit, folder / BY_SPEAKER):
        print(path)
    return float(error_rate(table, unit_of(table), config.seed).value)


def written(corpus: Corpus, targets: str) -> list[Utterance]:
    """Utterances with what a recogniser of such targets should write as their text."""
    texts = references(corpus.utterances, targets)
    pairs = zip(corpus.utterances, texts, strict=True)
    return [replace(utterance, text=text) for utterance, text in pairs if text]


def figures_of(targets: str, texts: list[str]) -> tuple[str, ...]:
    """Error rates by which references are scored, as `Vocabulary.figures` of a recogniser."""
    if targets == "phones":
        return ("per",)
    return ("cer",) if without_spaces(texts) else ("wer", "cer")


def unit_of(table: pd.DataFrame) -> str:
    """What a table's errors are of: words or phones, or characters where they have no words."""
    return next(UNITS[figure] for figure in ("wer", "per", "cer") if figure in table)


def transcribe_all(
    recogniser: Recogniser, utterances: list[Utterance], on_error: str
) -> Recognised:
    """Every utterance that can be read; others are an error at the end, or counted (`skip`)."""
    faults = Faults()
    kept: list[Utterance] = []
    transcripts: list[Transcript] = []
    for utterance in progress(utterances, "recognising", "utterances"):
        try:
            waveform = utterance.read()
        except StrataError as error:
            faults.add("whose audio cannot be read", error)
            continue
        kept.append(utterance)
        transcripts.append(recogniser(waveform))
    dropped = faults.resolve(cast(OnError, on_error))
    if not kept:
        raise StrataError(f"none of {len(utterances)} utterances can be read: see the log")
    return Recognised(tuple(kept), tuple(transcripts), dict(dropped))


def errors_by_word(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each word of the references, or inserted: counts, errors and confusions.

    Or for each phone or character, as the table has it. From the most errors to the fewest. `said`
    and `right` count the references; `deleted`, `inserted` and `replaced` the errors; `heard_as`
    names its three most frequent replacements.
    """
    counts: dict[str, Counter[str]] = {}
    replacements: dict[str, Counter[str]] = {}
    for kind, said, written in _edits(table):
        counted = counts.setdefault(said or written, Counter())
        counted[kind] += 1
        counted["said"] += bool(said)
        if kind == "replaced":
            replacements.setdefault(said, Counter())[written] += 1
    lines = [
        {
            unit_of(table): word,
            **{
                kind: counted[kind] for kind in ("said", "right", "deleted", "inserted", "replaced")
            },
            "heard_as": " ".join(
                f"{other} ({n})" for other, n in replacements.get(word, Counter()).most_common(3)
            ),
        }
        for word, counted in counts.items()
    ]
    errors = ["deleted", "inserted", "replaced"]
    frame = pd.DataFrame(lines)
    order = frame.assign(errors=frame[errors].sum(axis=1)).sort_values(
        ["errors", unit_of(table)], ascending=[False, True]
    )
    return order.drop(columns="errors")


def _edits(table: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """(kind, reference unit, recognised unit) of every line's best alignment; "" for none."""
    characters = unit_of(table) == "character"
    process = jiwer.process_characters if characters else jiwer.process_words
    for pair in zip(table["reference"], table["hypothesis"], strict=True):
        reference, hypothesis = (text.replace(" ", "") if characters else text for text in pair)
        out = process(reference, hypothesis)
        for chunk in out.alignments[0]:
            said = out.references[0][chunk.ref_start_idx : chunk.ref_end_idx]
            written = out.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx]
            match chunk.type:
                case "equal":
                    yield from (("right", word, word) for word in said)
                case "delete":
                    yield from (("deleted", word, "") for word in said)
                case "insert":
                    yield from (("inserted", "", word) for word in written)
                case _:
                    yield from (
                        ("replaced", one, other) for one, other in zip(said, written, strict=True)
                    )


def errors_by_speaker(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each speaker: utterances, units, errors and rates, the worst one first."""
    units = {figure: unit for figure, unit in UNITS.items() if figure in table}
    columns = [f"{unit}{end}" for unit in units.values() for end in ("_errors", "s")]
    grouped = table.groupby("speaker", sort=True)
    frame = grouped[columns].sum()
    frame.insert(0, "utterances", grouped.size())
    for figure, unit in units.items():
        frame[figure] = frame[f"{unit}_errors"] / frame[f"{unit}s"]
    return frame.sort_values(next(iter(units)), ascending=False, kind="stable").reset_index()
