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


def with_length(path: Path, n: int) -> Path:
    """The FLAC file with another number of samples in its header (RFC 9639, section 8.2)."""
    data = bytearray(path.read_bytes())
    data[21] = data[21] & 0xF0 | n >> 32
    data[22:26] = (n & 0xFFFFFFFF).to_bytes(4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("stated", [0, 2**36 - 1])
def test_a_flac_of_unknown_or_absurd_length_is_read_to_its_end(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "pipe.flac"
    for n in (500, 65_536, 80_123):
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, n).astype(np.float32)
        soundfile.write(path, noise, 16000)
        wanted = audio.read(path)
        assert len(wanted) == n
        with_length(path, stated)
        assert audio.header(path) == n
        assert np.array_equal(audio.read(path), wanted)
    path.write_bytes(path.read_bytes()[:-3])
    for look in (audio.read, audio.header):
        with pytest.raises(StrataError, match=r"pipe\.flac: cannot be decoded"):
            look(path)


def test_a_flac_shorter_than_it_says_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lie.flac"
    soundfile.write(path, tone(16000), 16000)
    with pytest.raises(StrataError, match=r"lie\.flac"):
        audio.read(with_length(path, 80_000))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", {}),
        ("aiff", {}),
        ("ogg", {}),
        ("sph", {"format": "NIST", "subtype": "PCM_16"}),
    ],
)
def test_a_file_cut_short_is_an_error_before_it_is_decoded(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 16000, **options)
    assert audio.header(path) == 80_000
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for look in (audio.read, audio.header):
        with pytest.raises(StrataError, match=rf"cut\.{suffix}: .*cut short"):
            look(path)


def test_a_wav_from_a_pipe_states_no_length(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, tone(16000), 16000)
    data = bytearray(path.read_bytes())
    for size in (b"\xff\xff\xff\xff", b"\x24\xf0\xff\x7f"):
        data[4:8] = data[40:44] = size
        path.write_bytes(data)
        assert audio.header(path) == len(audio.read(path)) == 8000


def test_a_damaged_mp3_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 16000)
    whole = path.read_bytes()
    third, half = len(whole) // 3, len(whole) // 2
    for damaged in (whole[:half], whole[:third] + whole[half:], whole[:third] + bytes(9999)):
        path.write_bytes(damaged)
        with pytest.raises(StrataError, match=r"damaged\.mp3: "):
            audio.read(path)


def test_silence_is_an_error_and_a_whisper_is_not(tmp_path: Path) -> None:
    for level in (0.0, 1e-5, 0.25):
        path = write_floats(tmp_path / "silent.wav", np.full(8000, level))
        with pytest.raises(StrataError, match=r"silent\.wav: silent throughout"):
            audio.read(path)
    assert len(audio.read(write_floats(tmp_path / "low.wav", tone(16000) * 1e-3))) == 8000


def test_channels_that_cancel_are_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "antiphase.wav"
    left = tone(16000)
    write_floats(path, np.stack([left, -0.98 * left], axis=1))
    with pytest.raises(StrataError, match=r"antiphase\.wav: its 2 channels cancel each other"):
        audio.read(path)
    write_floats(path, np.stack([left, np.zeros_like(left)], axis=1))
    assert np.allclose(audio.read(path), left / 2, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_in_blocks_is_the_file_at_once(
    suffix: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"long.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, (200_000, channels))
    soundfile.write(path, noise, 44100)
    at_once = audio.read(path)
    monkeypatch.setattr(audio, "LONG_BLOCK", 30_000)
    assert np.array_equal(audio.read(path), at_once)


def test_what_is_wrong_in_a_later_block_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "LONG_BLOCK", 3000)
    samples = tone(16000)
    samples[7001] = np.nan
    path = write_floats(tmp_path / "nan.wav", samples)
    with pytest.raises(StrataError, match=r"nan\.wav: .* first at sample 7001"):
        audio.read(path)
    left = np.stack([tone(16000), -tone(16000)], axis=1)
    with pytest.raises(StrataError, match="cancel each other"):
        audio.read(write_floats(tmp_path / "antiphase.wav", left))
    with pytest.raises(StrataError, match="silent throughout"):
        audio.read(write_floats(tmp_path / "silent.wav", np.full(8000, 0.1)))
