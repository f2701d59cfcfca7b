"""English speech with exact times from espeak-ng, bound with ctypes: `speak(text, voice)`.

espeak-ng is one synthesiser per process and keeps state from call to call. Here each call gives
the same bytes whatever was spoken before: the voice files are this module's own (no flutter, no
roughness, no echo: those carry counters over), the noise generator is seeded anew each time, and
a lock lets one thread speak at a time.
"""

import ctypes
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.records import StrataError

ESPEAK_RATE = 22_050  # samples per second

_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 0x0001, 0x8000
_RATE, _VOLUME = 1, 2
_WORD, _PHONEME = 1, 7
_UTF8 = 1
_VOLUME_PERCENT = 60  # at 100 some voices clip, and espeak's gain control then outlasts the clause
# Larger buffers drain the queue in which espeak joins sounds: the first call then sounds different.
_BUFFER_MS = 200
_DATA = ("phontab", "phonindex", "phondata", "intonations", "en_dict")


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Value),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: `accent` is one of espeak's language files ("en-US"), `rate` words per minute.

    `pitch` is the lowest and highest usual pitch in Hz. `frequencies`, `heights` and `widths` have
    nine entries: per cent of the accent's own for formants 0 (the low hum) to 8.
    """

    accent: str
    rate: int
    pitch: tuple[int, int]
    frequencies: tuple[int, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]


class SpokenPhone(NamedTuple):
    """A phone as espeak names it, stress marks removed.

    `sample` is where it starts, at 22.05 kHz; `word` is the place of its word in the text.
    """

    sample: int
    mnemonic: str
    word: int


@dataclass(frozen=True, slots=True)
class SynthesisedSpeech:
    """Speech of espeak, at 22.05 kHz.

    `pcm` is (n,) int16. `phones` has pauses too ("_:"), in order of time; each lasts to the next.
    `words` has, for each word of the text, the sample where it starts.
    """

    pcm: NDArray[np.int16]
    phones: tuple[SpokenPhone, ...]
    words: tuple[int, ...]


def speak(words: Sequence[str], voice: Voice) -> SynthesisedSpeech:
    """Say `words`, punctuation attached to them, as one utterance."""
    engine = _engine(os.getpid())
    # A word joiner before a word keeps it out of espeak's contractions: "of the" has one entry in
    # its dictionary and would come as one word, with the times of one.
    text = " ".join([words[0], *("\u2060" + word for word in words[1:])])
    with engine.lock:
        engine.choose(voice)
        speech = engine.say(text)
    if len(speech.words) != len(words):
        raise StrataError(
            f"espeak-ng spoke {len(speech.words)} words where the text has {len(words)}: "
            f"{' '.join(words)!r}; spell out numbers and abbreviations"
        )
    return speech


def version() -> str:
    """The version of the espeak-ng library in use ("1.52.0")."""
    return _engine(os.getpid()).version


class _Engine:
    """The library of this process, with a data folder that has room for voices of our own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        library_path, data = _find()
        self._accents = data / "lang" / "gmw"
        self._folder = Path(tempfile.mkdtemp(prefix="strata-espeak-"))
        # Unlike atexit this runs at the end of worker processes too, and never in a forked child.
        Finalize(None, shutil.rmtree, (self._folder, True), exitpriority=0)
        (self._folder / "voices").mkdir()
        for name in _DATA:
            shutil.copyfile(data / name, self._folder / name)
        self._library = ctypes.CDLL(str(library_path))
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_ng_SetRandSeed.argtypes = (ctypes.c_long,)
        options = _PHONEME_EVENTS | _DONT_EXIT
        path = str(self._folder).encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, path, options)
        if rate != ESPEAK_RATE:
            raise StrataError(
                f"espeak-ng started at {rate} Hz instead of {ESPEAK_RATE}: its data in {data} do "
                "not fit the library; reinstall espeakng-loader"
            )
        self.version = str(self._library.espeak_Info(None).decode())
        self._names: dict[Voice, str] = {}
        self._pcm = bytearray()
        self._events: list[tuple[int, int, bytes]] = []
        self._callback = _CALLBACK(self._collect)  # espeak keeps the pointer: it must stay alive
        self._library.espeak_SetSynthCallback(self._callback)

    def choose(self, voice: Voice) -> None:
        """Load `voice`. A file per voice: espeak has no other way to set formants."""
        if voice not in self._names:
            name = f"v{len(self._names)}"
            definition = _definition(voice, self._accents)
            (self._folder / "voices" / name).write_text(definition, encoding="utf-8")
            self._names[voice] = name
        name = self._names[voice]
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise StrataError(f"espeak-ng does not accept the voice {voice}")
        self._library.espeak_SetParameter(_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_VOLUME, _VOLUME_PERCENT, 0)

    def say(self, text: str) -> SynthesisedSpeech:
        """Synthesise `text` in the voice chosen last."""
        self._pcm.clear()
        self._events.clear()
        self._library.espeak_ng_SetRandSeed(1)
        data = text.encode()
        status = self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        if status != 0:
            raise StrataError(f"espeak-ng could not speak {text!r} (status {status})")
        phones: list[SpokenPhone] = []
        words: list[int] = []
        for kind, sample, mnemonic in self._events:
            if kind == _WORD:
                words.append(sample)
            elif kind == _PHONEME:
                name = mnemonic.decode().lstrip("',%=")
                phones.append(SpokenPhone(sample, name, len(words) - 1))
        pcm = np.frombuffer(bytes(self._pcm), dtype=np.int16)
        return SynthesisedSpeech(pcm, tuple(phones), tuple(words))

    def _collect(self, pcm: object, n: int, events: object) -> int:
        if n > 0:
            self._pcm += ctypes.string_at(pcm, 2 * n)  # type: ignore[arg-type]
        i = 0
        while events[i].type != 0:  # type: ignore[index]
            event = events[i]  # type: ignore[index]
            name = event.id.string if event.type == _PHONEME else b""
            self._events.append((event.type, event.sample, name))
            i += 1
        return 0


@cache
def _engine(process: int) -> _Engine:
    """The engine of a process; a forked worker starts its own, with a free lock."""
    del process
    return _Engine()


def _find() -> tuple[Path, Path]:
    """Paths of the library and of its data folder."""
    try:
        import espeakng_loader
    except ImportError:
        raise StrataError(
            "dataset=synthetic speaks with espeak-ng, which is missing: pip install espeakng-loader"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _definition(voice: Voice, accents: Path) -> str:
    """The text of a voice file: the accent's own lines, then ours, which override."""
    lines = [(accents / voice.accent).read_text(encoding="utf-8")]
    lines += [f"pitch {voice.pitch[0]} {voice.pitch[1]}", "flutter 0", "roughness 0", "echo 0 0"]
    shape = zip(voice.frequencies, voice.heights, voice.widths, strict=True)
    lines += [f"formant {i} {' '.join(map(str, numbers))}" for i, numbers in enumerate(shape)]
    return "\n".join(lines) + "\n"
