"""Tables that some pages of experiments draw their pictures from, made from any aligned corpus.

    python docs/example_tables.py AUDIO TEXTGRIDS GLOVE FOLDER SPEAKER,SPEAKER,…

They stand in for what a researcher brings, and are of the speakers named:

    phones.csv   the manner of articulation of every phone, and its duration in ms
    frames.csv   centre of gravity of the spectrum in Hz and zero crossings a second, every 10 ms
    sounds.npz   how words sound: the mel spectrum of their four quarters, its mean over the *other*
                 speakers of the corpus, for want of acoustically grounded embeddings
    pairs.csv    pairs of sentences (2,000 draws) and the cosine of their mean GloVe vectors, for
                 want of people's scores
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.targets.base import HOP
from analysis.targets.mel import mel
from common.datasets.textgrid import TextGrid
from common.records import SAMPLE_RATE, Utterance

Vector = NDArray[np.float64]
MANNERS = {
    "vowel": "aa ae ah ao aw ay eh er ey ih iy ow oy uh uw",
    "plosive": "b d g k p t",
    "fricative": "dh f hh s sh th v z zh",
    "affricate": "ch jh",
    "nasal": "m n ng",
    "approximant": "l r w y",
}
MANNER = {phone: manner for manner, phones in MANNERS.items() for phone in phones.split()}
WINDOW = 400  # samples
PAIRS = 2_000


def phones(utterances: Sequence[Utterance]) -> Iterator[tuple[object, ...]]:
    """Rows of phones.csv."""
    yield "utterance", "start", "end", "manner", "duration"
    for utterance in utterances:
        for phone in utterance.tiers["phone"]:
            if manner := MANNER.get(phone.label):
                start, end = phone.start / SAMPLE_RATE, phone.end / SAMPLE_RATE
                yield utterance.id, start, end, manner, round(1000 * (end - start))


def frames(utterances: Sequence[Utterance]) -> Iterator[tuple[object, ...]]:
    """Rows of frames.csv."""
    yield "utterance", "time", "centre_of_gravity", "zero_crossings"
    hertz = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    for utterance in utterances:
        windows = np.lib.stride_tricks.sliding_window_view(utterance.read(), WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW))) ** 2
        centre = power @ hertz / power.sum(1)
        crossings = (np.diff(np.signbit(windows)).sum(1)) * SAMPLE_RATE / WINDOW
        times = (np.arange(len(windows)) * HOP + WINDOW / 2) / SAMPLE_RATE
        for time, *values in zip(times.round(4), centre.round(1), crossings, strict=True):
            yield utterance.id, time, *values


def sounds(utterances: Sequence[Utterance]) -> dict[str, Vector]:
    """A vector (320,) for each word: the mean of its instances."""
    found = defaultdict(list)
    for utterance in utterances:
        spectrum = mel(utterance.read()).numpy()
        for word in utterance.tiers["word"]:
            parts = np.array_split(spectrum[word.start // HOP : word.end // HOP], 4)
            if all(len(part) for part in parts):
                found[word.label].append(np.concatenate([part.mean(0) for part in parts]))
    return {word: np.mean(each, axis=0) for word, each in found.items()}


def pairs(utterances: Sequence[Utterance], glove: Path) -> Iterator[tuple[object, ...]]:
    """Rows of pairs.csv."""
    lines = (line.split() for line in glove.read_text(encoding="utf-8").splitlines())
    known = {word: np.array(numbers, np.float64) for word, *numbers in lines}
    mean = np.mean(list(known.values()), axis=0)
    meaning = {}
    for text in sorted({utterance.text.casefold() for utterance in utterances}):
        vectors = [known[word] - mean for word in text.split() if word in known]
        if vectors:
            meaning[text] = np.sum(vectors, axis=0) / np.linalg.norm(np.sum(vectors, axis=0))
    texts, rng = list(meaning), np.random.default_rng(0)
    drawn = {tuple(sorted(rng.choice(len(texts), 2, replace=False))) for _ in range(PAIRS)}
    yield "text_a", "text_b", "score"
    for a, b in sorted(drawn):
        yield texts[a], texts[b], round(float(meaning[texts[a]] @ meaning[texts[b]]), 4)


def main(audio: str, alignments: str, glove: str, out: str, named: str) -> None:
    """Write the tables into a folder."""
    corpus = TextGrid(
        audio_root=audio,
        alignment_root=alignments,
        word_tier=None,
        phone_tier=None,
        speaker="folder",
        licence="",
    ).read()
    speakers, folder = set(named.split(",")), Path(out)
    ours = [one for one in corpus.utterances if one.speaker in speakers]
    others = [one for one in corpus.utterances if one.speaker not in speakers]
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"phones": phones(ours), "frames": frames(ours), "pairs": pairs(ours, Path(glove))}
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    words = sounds(others)
    np.savez(
        folder / "sounds.npz", words=np.array(list(words)), vectors=np.array([*words.values()])
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
