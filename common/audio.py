"""Audio files and bytes to 16 kHz mono waveforms: libsndfile decodes, soxr resamples."""

import io
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from common.records import SAMPLE_RATE, StrataError, Waveform

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".sph"})

# Decoders of lossy formats and resamplers overshoot full scale by a little; more than this is a
# file whose samples are not scaled to [-1, 1].
LOUDEST = 2.0

Source = str | PathLike[str] | bytes | BinaryIO


def read(source: Source, name: str | None = None) -> Waveform:
    """Waveform (n,) float32, mono (mean of the channels), 16 kHz, within [-1, 1].

    `source` is a path, the bytes of an encoded file or an open binary file; `name` is what errors
    call it where it has no path. Any rate and any format libsndfile knows: wav, flac, mp3, ogg,
    NIST sphere (not shortened).
    """
    name = name or _name(source)
    samples, rate = _decode(source, name)  # (frames, channels)
    _check(samples, name)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)


def header(source: Source, name: str | None = None) -> int:
    """Length in samples at 16 kHz, from the header alone."""
    name = name or _name(source)
    try:
        info = soundfile.info(_open(source))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(source, name, error) from error
    if info.frames <= 0:
        raise _empty(name)
    return round(info.frames * SAMPLE_RATE / info.samplerate)


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


def _decode(source: Source, name: str) -> tuple[NDArray[np.float32], int]:
    """Samples (frames, channels) as stored, and their rate in Hz."""
    try:
        samples, rate = soundfile.read(_open(source), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(source, name, error) from error
    return samples, rate


def _check(samples: NDArray[np.float32], name: str) -> None:
    """Refuse what no model could make sense of. `samples` (frames, channels)."""
    frames, _ = samples.shape
    if frames == 0:
        raise _empty(name)
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        bad = ~np.isfinite(samples).all(axis=1)
        raise StrataError(
            f"{name}: {bad.sum()} of {frames} samples are NaN or infinite, the first at sample "
            f"{bad.argmax()}: a failed conversion. Convert the file again, or leave it out"
        )
    if peak > LOUDEST:
        raise StrataError(
            f"{name}: its loudest sample is {peak:g}, full scale is 1: integers stored as floats, "
            "most likely. Divide by the integers' full scale (32768 for 16 bits)"
        )


def _empty(name: str) -> StrataError:
    return StrataError(f"{name}: no audio, 0 samples. Record or convert it again, or leave it out")


def _unreadable(source: Source, name: str, error: Exception) -> StrataError:
    path = Path(source) if isinstance(source, (str, PathLike)) else None
    if path is not None and not path.is_file():
        return StrataError(f"{name}: no such file. It was moved or deleted after it was listed")
    size = f"{path.stat().st_size} bytes" if path is not None else "encoded bytes"
    return StrataError(
        f"{name}: cannot be decoded ({size}; {error}). Truncated, or no audio, or a codec "
        "libsndfile lacks (m4a, shortened sphere): convert it to wav or flac (ffmpeg, sph2pipe)"
    )
