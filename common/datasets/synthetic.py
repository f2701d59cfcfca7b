"""The dataset `synthetic`: English sentences of a grammar, spoken by espeak-ng, exactly aligned."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from common.datasets import files, grammar
from common.datasets.base import Dataset
from common.datasets.espeak import ESPEAK_RATE, SynthesisedSpeech, Voice, speak, version
from common.datasets.espeak_phones import align, is_pause
from common.datasets.faults import Faults
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError, Utterance, Waveform

VERSION = 1  # bump when the same parameters would give other audio or other alignments

LICENCE = "output of espeak-ng (a GPL-3.0-or-later program); sentences: Strata, MIT"
PARTITIONS = ("all", "train", "dev", "test")

# Speakers take turns; five is odd, so that every accent has women and men. Scottish is left out:
# the phase of its trilled r depends on what espeak said before.
_ACCENTS = ("en-US", "en", "en-US", "en-GB-x-rp", "en-GB-x-gbclan")
_EDGE = ESPEAK_RATE // 10  # silence before and after each utterance: 0.1 s
_SPEAKER, _SENTENCE = 0, 1  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class Synthetic(Dataset):
    """Any number of minutes of English read by many synthetic speakers, with exact phone times.

    Sentences come from the project's own grammar of 3,600 word forms, words with frequencies as
    in real text; espeak-ng speaks them in voices that differ in accent, sex, vocal tract, pitch and
    rate. Same seed, same bytes. `minutes` counts whole utterances and grows by appending, the
    speakers taking turns. Partitions share no speaker: of every ten the ninth is in `dev`, the
    tenth in `test`, the others in `train`; `minutes` is the length of `all`. Audio is
    synthesised when it is read; `write_to` names a folder that also gets it as FLAC, with TextGrid
    alignments in the layout of the Montreal Forced Aligner.

    Needs the extra `synthetic` (the package espeakng-loader). espeak-ng is a GPL-3.0-or-later
    program; what it speaks is yours. The text is the project's own, under its licence.
    """

    minutes: float
    speakers: int
    seed: int
    write_to: str | None
    words_per_class: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.minutes <= 60_000:
            raise StrataError(f"dataset.minutes={self.minutes}: use more than 0, up to 60000")
        if not 1 <= self.speakers <= 9_999:
            raise StrataError(f"dataset.speakers={self.speakers}: use a number from 1 to 9999")
        if self.seed < 0:
            raise StrataError(f"dataset.seed={self.seed}: use an integer >= 0")
        if self.words_per_class is not None and self.words_per_class < 1:
            raise StrataError(
                f"dataset.words_per_class={self.words_per_class}: use an integer >= 1, or null for "
                "every word of the grammar"
            )
        if self.partition not in PARTITIONS:
            raise StrataError(
                f"dataset.partition={self.partition!r}: synthetic has {', '.join(PARTITIONS)}"
            )
        if self.partition in {"dev", "test"} and self.speakers < 10:
            raise StrataError(
                f"dataset.partition={self.partition}: one speaker in ten is for it, and "
                f"dataset.speakers={self.speakers}; use at least 10"
            )
        if self.write_to is not None and Path(self.write_to).is_file():
            raise StrataError(f"dataset.write_to={self.write_to}: this is a file; name a folder")

    def _list(self, faults: Faults) -> Corpus:
        """Speak every utterance once, for its times; the audio is thrown away."""
        digest = hashlib.sha256(
            f"{VERSION} {grammar.VERSION} {version()} {self.seed} {self.speakers}".encode()
        )
        utterances = []
        for utterance, speech in self._spoken():
            if self.partition not in {"all", _partition(utterance.speaker)}:
                continue
            utterances.append(utterance)
            digest.update(f"{utterance.id} {utterance.text}\n".encode())
            digest.update(speech.pcm.tobytes())
            faults.dropped["phone: silence"] += sum(is_pause(p.mnemonic) for p in speech.phones)
        if not utterances:
            raise StrataError(
                f"dataset.minutes={self.minutes}: too short to reach a speaker of the partition "
                f"{self.partition} (of {self.speakers} speakers); use more minutes"
            )
        kept = files.evenly_spaced(utterances, self.limit, faults.dropped)
        digest.update(repr([u.id for u in kept]).encode())
        if self.write_to is not None:
            for utterance in kept:
                _write(utterance, Path(self.write_to))
        return Corpus(
            name="synthetic",
            partition=self.partition,
            licence=LICENCE,
            utterances=kept,
            dropped=faults.dropped,
            fingerprint=digest.hexdigest(),
        )

    def _spoken(self) -> Iterator[tuple[Utterance, SynthesisedSpeech]]:
        """Utterances with their speech, until `minutes` are full."""
        voices = [_voice(self.seed, k) for k in range(self.speakers)]
        enough = self.minutes * 60 * SAMPLE_RATE
        n_samples = index = 0
        while n_samples < enough:
            k = index % self.speakers
            generator = np.random.default_rng((self.seed, _SENTENCE, index))
            text = grammar.sentence(generator, self.words_per_class)
            read = Reading(text, voices[k])
            speech = read.speech()
            words = grammar.words(text)
            speaker = f"s{k:04d}"
            utterance = Utterance(
                id=f"{speaker}-{index:06d}",
                speaker=speaker,
                text=" ".join(words),
                n_samples=_length(speech),
                tiers=align(speech, words, voices[k].accent, _EDGE),
                read=read,
            )
            yield utterance, speech
            n_samples += utterance.n_samples
            index += 1


@dataclass(frozen=True, slots=True)
class Reading:
    """A sentence and who says it; calling it gives the waveform. It can be pickled."""

    text: str
    voice: Voice

    def speech(self) -> SynthesisedSpeech:
        """What espeak says, at 22.05 kHz, with the times of its phones and words."""
        return speak(self.text.split(), self.voice)

    def __call__(self) -> Waveform:
        """The waveform (n,): float32 at 16 kHz, in steps of 16 bits as a FLAC file has them."""
        speech = self.speech()
        sound = np.pad(speech.pcm.astype(np.float32) / 2**15, _EDGE)
        n = _length(speech)
        resampled = soxr.resample(sound, ESPEAK_RATE, SAMPLE_RATE)[:n]
        resampled = np.pad(resampled, (0, n - len(resampled)))  # soxr may round to one less
        steps = np.clip(np.rint(resampled * 2**15), -(2**15), 2**15 - 1)
        return (steps / 2**15).astype(np.float32)


def _length(speech: SynthesisedSpeech) -> int:
    """Samples at 16 kHz of an utterance, its silent edges included."""
    return (len(speech.pcm) + 2 * _EDGE) * SAMPLE_RATE // ESPEAK_RATE


def _partition(speaker: str) -> str:
    return {"8": "dev", "9": "test"}.get(speaker[-1], "train")


def _voice(seed: int, k: int) -> Voice:
    """Speaker k: women and men take turns; accent, vocal tract, pitch and rate vary."""
    generator = np.random.default_rng((seed, _SPEAKER, k))
    female = k % 2 == 0
    tract = generator.uniform(1.09, 1.20) if female else generator.uniform(0.93, 1.04)
    low = generator.uniform(145, 215) if female else generator.uniform(75, 125)
    high = low * generator.uniform(1.3, 1.6)
    # High formants move less with the length of the vocal tract.
    reach = np.array([1, 1, 1, 1, 0.6, 0.6, 0.5, 0.4, 0.4])
    frequencies = 100 * (1 + (tract - 1) * reach) + generator.uniform(-2, 2, 9)
    heights = generator.uniform(80, 105, 9) - np.array([0, 0, 0, 0, 5, 5, 15, 25, 25])
    widths = generator.uniform(100, 150, 9) if female else generator.uniform(90, 130, 9)
    return Voice(
        accent=_ACCENTS[k % len(_ACCENTS)],
        rate=int(generator.integers(140, 201)),
        pitch=(round(low), round(high)),
        frequencies=tuple(int(x) for x in np.rint(frequencies)),
        heights=tuple(int(x) for x in np.rint(heights)),
        widths=tuple(int(x) for x in np.rint(widths)),
    )


def _write(utterance: Utterance, folder: Path) -> None:
    """One utterance as audio/SPEAKER/ID.flac and .lab and alignments/SPEAKER/ID.TextGrid."""
    audio = folder / "audio" / utterance.speaker
    alignments = folder / "alignments" / utterance.speaker
    audio.mkdir(parents=True, exist_ok=True)
    alignments.mkdir(parents=True, exist_ok=True)
    soundfile.write(audio / f"{utterance.id}.flac", utterance.read(), SAMPLE_RATE, "PCM_16")
    (audio / f"{utterance.id}.lab").write_text(utterance.text + "\n", encoding="utf-8")
    (alignments / f"{utterance.id}.TextGrid").write_text(_textgrid(utterance), encoding="utf-8")


def _textgrid(utterance: Utterance) -> str:
    """Praat's long text format, tiers `words` and `phones`; silence has the empty label."""
    end = utterance.n_samples / SAMPLE_RATE
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {end:.7f}", "tiers? <exists>", "size = 2", "item []:"]
    for number, (name, tier) in enumerate((("words", "word"), ("phones", "phone")), start=1):
        intervals = _filled(utterance.tiers[tier], utterance.n_samples)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end:.7f}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for i, interval in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{i}]:",
                f"            xmin = {interval.start / SAMPLE_RATE:.7f}",
                f"            xmax = {interval.end / SAMPLE_RATE:.7f}",
                f'            text = "{interval.label}"',
            ]
    return "\n".join(lines) + "\n"


def _filled(intervals: tuple[Interval, ...], n_samples: int) -> list[Interval]:
    """The same, without gaps from 0 to `n_samples`."""
    filled: list[Interval] = []
    reached = 0
    for interval in (*intervals, Interval(n_samples, n_samples, "")):
        if reached < interval.start:
            filled.append(Interval(reached, interval.start, ""))
        if interval.start < interval.end:
            filled.append(interval)
        reached = interval.end
    return filled
