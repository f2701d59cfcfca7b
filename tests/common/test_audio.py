import io
import pickle
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common import audio
from common.records import StrataError

RATES = (8000, 11025, 16000, 22050, 44100, 48000)


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a[800:-800], b[800:-800])[0, 1])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_reads_every_format_and_rate(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(rate), rate)
    waveform = audio.read(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == (audio.header(path),)
    if suffix != "mp3":  # an mp3 encoder pads
        assert abs(len(waveform) - 8000) <= 1
        assert correlation(waveform, tone(16000)[: len(waveform)]) > 0.99
    spectrum = np.abs(np.fft.rfft(waveform))
    assert spectrum.argmax() * 16000 / len(waveform) == pytest.approx(440, abs=3)


def test_reads_nist_sphere_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "SA1.WAV"
    soundfile.write(path, tone(16000), 16000, format="NIST", subtype="PCM_16")
    assert path.read_bytes().startswith(b"NIST_1A")
    assert np.allclose(audio.read(path), tone(16000), atol=1e-4)
    assert audio.header(path) == 8000


def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(16000), tone(16000, hertz=1000)
    soundfile.write(path, np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    assert np.allclose(audio.read(path), (left + right) / 2, atol=1e-6)


def test_path_string_bytes_and_open_file_agree(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    soundfile.write(path, tone(16000), 16000)
    data = path.read_bytes()
    for source in (str(path), data, io.BytesIO(data)):
        assert np.array_equal(audio.read(source), audio.read(path))
    assert audio.header(data) == 8000


def test_a_reader_pickles(tmp_path: Path) -> None:
    path = tmp_path / "tone.flac"
    soundfile.write(path, tone(16000), 16000)
    assert pickle.loads(pickle.dumps(partial(audio.read, path)))().shape == (8000,)


def test_resampling_never_leaves_full_scale(tmp_path: Path) -> None:
    path = tmp_path / "square.wav"
    soundfile.write(path, np.sign(tone(44100)), 44100, subtype="FLOAT")
    assert np.abs(audio.read(path)).max() <= 1.0


def write_floats(path: Path, samples: np.ndarray) -> Path:
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


def test_not_a_number_is_an_error_that_says_where(tmp_path: Path) -> None:
    samples = tone(16000)
    samples[[100, 200]] = np.nan, np.inf
    path = write_floats(tmp_path / "nan.wav", samples)
    with pytest.raises(StrataError, match=r"nan\.wav: 2 of 8000 .* first at sample 100"):
        audio.read(path)


def test_integers_stored_as_floats_are_an_error(tmp_path: Path) -> None:
    path = write_floats(tmp_path / "loud.wav", tone(16000) * 32768)
    with pytest.raises(StrataError, match=r"loud\.wav: its loudest sample is 16384"):
        audio.read(path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = write_floats(tmp_path / "empty.wav", np.zeros(0))
    for look in (audio.read, audio.header):
        with pytest.raises(StrataError, match=r"empty\.wav: no audio, 0 samples"):
            look(path)


@pytest.mark.parametrize("content", [b"", b"this is no audio at all" * 10])
def test_a_corrupt_file_is_an_error_with_its_size(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corrupt.flac"
    path.write_bytes(content)
    for look in (audio.read, audio.header):
        with pytest.raises(StrataError, match=rf"corrupt\.flac: cannot be .*\({len(content)} byt"):
            look(path)


def test_a_truncated_flac_is_an_error_or_short_never_padded(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    soundfile.write(path, noise, 16000)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(StrataError, match=r"cut\.flac"):
        audio.read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="no such file"):
        audio.read(tmp_path / "gone.wav")
    with pytest.raises(StrataError, match="<3 bytes>: cannot be decoded"):
        audio.read(b"abc")


def test_reading_warns_of_nothing(tmp_path: Path) -> None:
    path = write_floats(tmp_path / "fine.wav", tone(16000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.read(path)
