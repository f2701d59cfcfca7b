"""The task `transcribe`: recordings to text and, where CTC gives them, times of words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from common.config import Config
from common.records import SAMPLE_RATE, Corpus, StrataError
from common.results import results
from common.tables import csv_of
from common.timing import Stopwatch
from common.writing import write_text
from finetune.ctc.evaluate import transcribe_all
from finetune.ctc.recognition import Word, load_recogniser

TRANSCRIPTS, TEXTGRIDS = "transcripts.csv", "textgrids"


def run(config: Config, folder: Path, raw: Mapping[str, Any]) -> None:
    """Transcribe every recording of the dataset into files of the run's folder."""
    watch = Stopwatch()
    with watch.stage("preparing"):
        corpus: Corpus = config.dataset.read(config.on_error)
        if not corpus.utterances:
            raise StrataError(f"{corpus.name} ({corpus.partition}) lists no recording")
        recogniser = load_recogniser(config)
    with watch.stage("recognising"):
        recognised = transcribe_all(recogniser, list(corpus.utterances), config.on_error)
    pairs = list(zip(recognised.utterances, recognised.transcripts, strict=True))
    table = pd.DataFrame([{"id": u.id, "speaker": u.speaker, "text": t.text} for u, t in pairs])
    write_text(folder / TRANSCRIPTS, csv_of(table))
    paths = [folder / TRANSCRIPTS]
    tier = "phones" if recogniser.targets == "phones" else "words"
    timed = [(u, t.words) for u, t in pairs if t.words is not None]
    if timed:
        times = folder / f"{tier}.ctm"
        write_text(times, "".join(ctm(u.id, words) for u, words in timed))
        for utterance, words in timed:
            path = folder / TEXTGRIDS / f"{utterance.id}.TextGrid"
            path.parent.mkdir(parents=True, exist_ok=True)
            end = max(utterance.n_samples / SAMPLE_RATE, words[-1].end if words else 0.0)
            write_text(path, textgrid(words, end, tier))
        paths += [times, folder / TEXTGRIDS]
    metadata = {
        "dataset": corpus.describe(),
        "dropped": dict(recognised.dropped),
        **results.describe_process(watch),
        "config": raw,
    }
    write_text(folder / results.METADATA, json.dumps(metadata, indent=1, default=str))
    for reason, count in recognised.dropped.items():
        print(f"left out: {count} {reason}")
    for path in (*paths, folder / results.METADATA):
        print(path)


def ctm(id: str, words: tuple[Word, ...]) -> str:
    """Lines of NIST's CTM: recording, channel, start, length in seconds, word, confidence."""
    name = "_".join(id.split())  # spaces separate the fields
    return "".join(
        f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.confidence:.3f}\n"
        for word in words
    )


def textgrid(words: tuple[Word, ...], seconds: float, tier: str = "words") -> str:
    """A Praat TextGrid with one tier, its pauses labelled with nothing."""
    intervals: list[tuple[float, float, str]] = []
    end = 0.0
    for word in words:
        if word.start > end:
            intervals.append((end, word.start, ""))
        intervals.append((word.start, word.end, word.text))
        end = word.end
    if seconds > end or not intervals:
        intervals.append((end, seconds, ""))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {seconds:.6f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        f'        name = "{tier}"',
        "        xmin = 0",
        f"        xmax = {seconds:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, stop, label) in enumerate(intervals, start=1):
        quoted = label.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start:.6f}",
            f"            xmax = {stop:.6f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"
