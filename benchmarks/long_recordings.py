"""Are recordings of minutes transcribed like their sentences, and are times of words right?

    python benchmarks/long_recordings.py OVERRIDES [--sentences 40]

OVERRIDES are those of `python run.py experiment=transcribe`: a recogniser, and a dataset with
transcripts, and with times of words where it can give them. Sentences, evenly spaced over the
dataset, are transcribed alone, and then as one recording with pauses of 0.3 s between. Prints

- error rates of either against the transcripts, and of one against the other;
- of words that were recognised: how far their beginnings and ends lie from the alignment's, in ms
  (median, nine tenths), and in how many the word's middle lies within the aligned word;
- the same of the transcripts' own words, aligned to the sentences, however they were recognised;
- whether the `.ctm` and the TextGrid of the recording, read again, have the recognised words.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import alignments
from common.config import register, resolve
from common.records import SAMPLE_RATE, Interval
from finetune.ctc.recognition import CtcRecogniser, Word, load_recogniser, scored_text
from finetune.ctc.text import normalise, references
from finetune.ctc.transcribe import ctm, textgrid

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 3 * SAMPLE_RATE // 10


def main() -> None:
    """Transcribe, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--sentences", type=int, default=40)
    given = parser.parse_args()
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        config = resolve(compose("config", ["experiment=transcribe", *given.overrides]))
    corpus = config.dataset.read(config.on_error).thinned(given.sentences)
    recogniser = load_recogniser(config)
    texts = references(corpus.utterances, recogniser.targets)
    alone, pieces, aligned, start = [], [], [], 0
    forced: list[Word] = []
    for utterance, text in zip(corpus.utterances, texts, strict=True):
        waveform = utterance.read()
        alone.append(recogniser(waveform))
        if isinstance(recogniser, CtcRecogniser):
            timed = recogniser.timed(recogniser.log_probabilities(waveform), text)
            later = start / SAMPLE_RATE
            forced += [replace(w, start=w.start + later, end=w.end + later) for w in timed]
        tier = utterance.tiers.get("phone" if recogniser.targets == "phones" else "word", ())
        aligned += [Interval(start + i.start, start + i.end, i.label) for i in tier]
        pieces += [waveform, np.zeros(PAUSE, np.float32)]
        start += len(waveform) + PAUSE
    recording = np.concatenate(pieces)
    long = recogniser(recording)
    apart = " ".join(filter(None, (scored_text(t, recogniser.targets) for t in alone)))
    together = scored_text(long, recogniser.targets)
    spoken = " ".join(texts)
    print(f"{len(texts)} sentences, {len(recording) / SAMPLE_RATE / 60:.1f} min in one recording")
    for name, reference, hypothesis in (
        ("sentences against transcripts", spoken, apart),
        ("recording against transcripts", spoken, together),
        ("recording against sentences", apart, together),
    ):
        words, characters = jiwer.wer(reference, hypothesis), jiwer.cer(reference, hypothesis)
        print(f"{name}: words {100 * words:.1f} % wrong, characters {100 * characters:.1f} %")
    if long.words is not None:
        print_times("recognised", long.words, aligned)
        print_times("of the transcripts", forced, aligned)
        print_files(long.words, len(recording) / SAMPLE_RATE)


def print_times(which: str, words: Sequence[Word], aligned: Sequence[Interval]) -> None:
    """How far words lie from where they are aligned."""
    pairs = list(right(words, aligned))
    if not pairs:
        print(f"words {which}: none, or the dataset has no times of words")
        return
    starts = [abs(w.start - i.start / SAMPLE_RATE) for w, i in pairs]
    ends = [abs(w.end - i.end / SAMPLE_RATE) for w, i in pairs]
    inside = np.mean([i.start <= (w.start + w.end) / 2 * SAMPLE_RATE < i.end for w, i in pairs])
    for name, distances in (("beginnings", starts), ("ends", ends)):
        middle, most = 1000 * np.quantile(distances, [0.5, 0.9])
        off = f"{middle:.0f} ms off (median), nine tenths by {most:.0f} or less"
        print(f"{name} of {len(pairs)} words {which}: {off}")
    print(f"middle within the aligned word, {which}: {100 * inside:.1f} %")


def right(words: Sequence[Word], aligned: Sequence[Interval]) -> Iterator[tuple[Word, Interval]]:
    """Words that were recognised, and their intervals."""
    spoken = [normalise(i.label) or i.label for i in aligned]
    out = jiwer.process_words(" ".join(spoken), " ".join(word.text for word in words))
    for chunk in out.alignments[0]:
        if chunk.type == "equal":
            recognised = words[chunk.hyp_start_idx : chunk.hyp_end_idx]
            yield from zip(
                recognised, aligned[chunk.ref_start_idx : chunk.ref_end_idx], strict=True
            )


def print_files(words: Sequence[Word], seconds: float) -> None:
    """Whether what is written has the words and their times."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "recording.TextGrid"
        path.write_text(textgrid(tuple(words), seconds), encoding="utf-8")
        ((_, intervals),) = alignments.read(path).tiers
    labelled = [i for i in intervals if i.label]
    lines = [line.split() for line in ctm("recording", tuple(words)).splitlines()]
    for name, texts, starts in (
        ("TextGrid", [i.label for i in labelled], [i.start / SAMPLE_RATE for i in labelled]),
        (".ctm", [line[4] for line in lines], [float(line[2]) for line in lines]),
    ):
        same = texts == [word.text for word in words]
        off = max(abs(a - w.start) for a, w in zip(starts, words, strict=True))
        print(f"{name}: the same {len(texts)} words: {same}; beginnings within {1000 * off:.1f} ms")


if __name__ == "__main__":
    main()
