"""Audio files and bytes to 16 kHz mono waveforms: libsndfile decodes, soxr resamples."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from common.reading import reading, shown
from common.records import SAMPLE_RATE, StrataError, Waveform

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".sph"})

# Decoders of lossy formats and resamplers overshoot full scale by a little; more than this is a
# file whose samples are not scaled to [-1, 1].
LOUDEST = 2.0

# No sample of a recording further from the mean than three steps of 16 bits: there is no sound.
SILENT = 1e-4
# The part of the channels' power that their mean must keep.
CANCELLED = 0.01

DENSEST = 1000  # samples that one byte can hold at most, and then some
BLOCK = 1 << 16  # samples
LONG_BLOCK = 1 << 24  # samples: six minutes at 44.1 kHz, which most files are shorter than
OGG_PAGE = 65_307  # bytes, at most
BAD_ALIGNMENT = 39  # libsndfile's SFE_BAD_READ_ALIGN
NIST_FIELDS = (b"sample_count", b"sample_n_bytes", b"channel_count")

Source = str | PathLike[str] | bytes | BinaryIO


def read(source: Source, name: str | None = None) -> Waveform:
    """Waveform (n,) float32, mono (mean of the channels), 16 kHz, within [-1, 1].

    `source` is a path, the bytes of an encoded file or an open binary file; `name` is what errors
    call it where it has no path. Any rate and any format libsndfile knows: wav, flac, mp3, ogg,
    NIST sphere (not shortened). A file that is shorter than it says, silent throughout, or whose
    channels cancel each other in the mean, is an error.
    """
    name = name or _name(source)
    with _decoding(source, name):
        _check_whole(source, name)
        with soundfile.SoundFile(_open(source)) as file:
            rate = file.samplerate
            sound = Sound(file.channels)
            for samples in _samples(file, _size(source), name):  # (frames, channels)
                _check(samples, sound.n, name)
                sound.add(samples)
    mono = sound.mono(name)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)


def header(source: Source, name: str | None = None) -> int:
    """Length in samples at 16 kHz, from the header; decoded where that states none, or nonsense."""
    name = name or _name(source)
    with _decoding(source, name):
        _check_whole(source, name)
        with soundfile.SoundFile(_open(source)) as file:
            frames, rate = file.frames, file.samplerate
            if _unknown(frames, _size(source)):
                frames = sum(len(block) for block in _blocks(file))
    if frames <= 0:
        raise _empty(name)
    return round(frames * SAMPLE_RATE / rate)


def is_audio(path: Path) -> bool:
    """Whether the suffix is one that libsndfile reads."""
    return path.suffix.casefold() in SUFFIXES


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, (str, PathLike)):
        return str(source)
    return str(getattr(source, "name", "<open file>"))


def _open(source: Source) -> Any:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _size(source: Source) -> int:
    """Bytes of the encoded file."""
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, (str, PathLike)):
        return Path(source).stat().st_size
    here = source.tell()
    size = source.seek(0, io.SEEK_END)
    source.seek(here)
    return int(size)


def _unknown(frames: int, size: int) -> bool:
    """Whether a header lacks the length: FLAC from a pipe states 0, which libsndfile reads so.

    Silence is what encodes best, to some 300 samples a byte.
    """
    return frames > DENSEST * size


def _samples(file: soundfile.SoundFile, size: int, name: str) -> Iterator[NDArray[np.float32]]:
    """All samples as stored, in blocks (n, channels); fewer than the header states are an error."""
    if _unknown(file.frames, size):
        yield from _blocks(file)
        return
    # soundfile seeks after each read, and after a seek an mp3's first samples are others.
    block = file.frames if file.format == "MP3" else LONG_BLOCK
    decoded = 0
    while decoded < file.frames:
        length = min(block, file.frames - decoded)
        samples: NDArray[np.float32] = file.read(length, dtype="float32", always_2d=True)
        decoded += len(samples)
        if len(samples) < length:
            raise StrataError(
                f"{name}: {decoded} of the {file.frames} samples that its header states can be "
                "decoded: damaged or cut short. Copy or convert it again, or leave it out"
            )
        yield samples


def _blocks(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels) of a file of unknown length, to its end.

    At the end libsndfile fills the rest of a block and reports that it cannot align its position;
    any other error means damage.
    """
    while True:
        block = np.full((BLOCK, file.channels), np.nan, dtype=np.float32)
        try:
            n = len(file.read(out=block))
        except soundfile.LibsndfileError as error:
            if error.code != BAD_ALIGNMENT:
                raise
            n = int(np.isnan(block[:, 0]).argmax()) if np.isnan(block[-1, 0]) else BLOCK
        if n:
            yield block[:n]
        if n < BLOCK:
            return


def _check_whole(source: Source, name: str) -> None:
    """Refuse a file that is shorter than its first bytes say: libsndfile reads what is left."""
    if not isinstance(source, (bytes, str, PathLike)):
        return
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        head = file.read(1024)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - OGG_PAGE, 0))
        tail = file.read() if head.startswith(b"OggS") else b""
    stated = _stated_size(head)
    if stated is not None and size < stated:
        raise StrataError(
            f"{name}: {size} bytes, and its header states {stated}: cut short. Copy or convert it "
            "again, or leave it out"
        )
    flags = tail[tail.rfind(b"OggS") + 5 :][:1]
    if flags and not flags[0] & 4:
        raise StrataError(
            f"{name}: its last page is not marked as the last: cut short. Copy or convert it "
            "again, or leave it out"
        )


def _stated_size(head: bytes) -> int | None:
    """Size of the whole file, in bytes, as its first bytes state it; None where they do not."""
    kind, size = head[:4], head[4:8]
    if kind in (b"RIFF", b"FORM") and len(size) == 4:
        stated = int.from_bytes(size, "little" if kind == b"RIFF" else "big")
        # Written to a pipe: the length was not known, 0 or (nearly) the largest there is stands.
        return None if stated == 0 or stated >= 0x7FFF0000 else stated + 8
    if head.startswith(b"NIST_1A"):
        fields = dict(re.findall(rb"^(\w+) -i ([0-9]{1,12})\s*$", head, re.MULTILINE))
        known = [int(fields.get(key, 0)) for key in NIST_FIELDS]
        if b"shorten" not in head and all(known):
            return int(head[8:16]) + int(np.prod(known))
    return None


def _check(samples: NDArray[np.float32], first: int, name: str) -> None:
    """Refuse audio that no model can use: `samples` (frames, channels) from the first on."""
    frames, _ = samples.shape
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        bad = ~np.isfinite(samples).all(axis=1)
        raise StrataError(
            f"{name}: {bad.sum()} of {frames} samples are NaN or infinite, the first at sample "
            f"{first + bad.argmax()}: a failed conversion. Convert the file again, or leave it out"
        )
    if peak > LOUDEST:
        raise StrataError(
            f"{name}: its loudest sample is {peak:g}, full scale is 1: integers stored as floats, "
            "most likely. Divide by the integers' full scale (32768 for 16 bits)"
        )


class Sound:
    """What was decoded so far: the mean of the channels, and measures of whether it is audible."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.n = 0
        self.blocks: list[NDArray[np.float32]] = []
        self.lowest = np.full(channels, np.inf)
        self.highest = np.full(channels, -np.inf)
        self.sums = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, samples: NDArray[np.float32]) -> None:
        """The next samples (n, channels)."""
        self.n += len(samples)
        self.blocks.append(samples.mean(axis=1))
        self.lowest = np.minimum(self.lowest, samples.min(axis=0))
        self.highest = np.maximum(self.highest, samples.max(axis=0))
        self.sums += samples.sum(axis=0, dtype=np.float64)
        self.squares += np.einsum("ij,ij->j", samples, samples, dtype=np.float64)

    def mono(self, name: str) -> NDArray[np.float32]:
        """The mean of the channels (n,); an error where it is silent, as stored or by itself."""
        if self.n == 0:
            raise _empty(name)
        mono = self.blocks[0] if len(self.blocks) == 1 else np.concatenate(self.blocks)
        means = self.sums / self.n
        furthest = float(np.maximum(self.highest - means, means - self.lowest).max())
        power = float((self.squares / self.n - means**2).mean())
        _check_audible(furthest, power, mono, self.channels, name)
        return mono


def _check_audible(
    furthest: float, power: float, mono: NDArray[np.float32], channels: int, name: str
) -> None:
    """Refuse silence, as stored or in the mean of the channels, `mono` (frames,).

    `furthest` any sample is from its channel's mean; `power` of the channels, in the mean.
    """
    if furthest <= SILENT:
        raise StrataError(
            f"{name}: silent throughout (no sample is more than {SILENT:g} of full scale from the "
            "mean): a muted track or a failed export. Export it again, or leave it out"
        )
    left = float(np.square(mono - mono.mean()).mean())
    if left < CANCELLED * power:
        raise StrataError(
            f"{name}: its {channels} channels cancel each other: their mean has "
            f"{left / power:.1e} of their power. One has its polarity inverted: keep one channel "
            "(sox IN OUT remix 1), or leave it out"
        )


def _empty(name: str) -> StrataError:
    return StrataError(f"{name}: no audio, 0 samples. Record or convert it again, or leave it out")


@contextmanager
def _decoding(source: Source, name: str) -> Iterator[None]:
    """Errors of libsndfile and of the system as the project's."""
    path = Path(source) if isinstance(source, (str, PathLike)) else None
    if path is not None and not path.is_file():
        raise StrataError(
            f"{shown(name)}: no such file. It was moved or deleted after it was listed"
        )
    with reading(name, "audio"):
        try:
            yield
        except soundfile.LibsndfileError as error:
            size = f"{path.stat().st_size} bytes" if path is not None else "encoded bytes"
            raise StrataError(
                f"{shown(name)}: cannot be decoded ({size}; {error}). Truncated, or no audio, or a "
                "codec libsndfile lacks (m4a, shortened sphere): convert it to wav or flac "
                "(ffmpeg, sph2pipe)"
            ) from error
