"""Numbers over time: resampled by their own stamps, read from every kind of file, or refused."""

from pathlib import Path

import numpy as np
import parselmouth
import pytest

from analysis.targets.time_series import TimeSeries, chosen, is_series, read_series, read_tables
from common.records import SAMPLE_RATE, StrataError


def series(times: object, values: object) -> TimeSeries:
    columns = np.asarray(values, np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    return TimeSeries(
        np.asarray(times, np.float64), columns, tuple(map(str, range(columns.shape[1])))
    )


def test_a_line_is_a_line_whatever_its_stamps() -> None:
    """A straight line is the same for interpolation and for means of symmetric stamps."""
    for rate, offset in ((7.0, 0.013), (50.0, 0.0), (100.0, 0.004), (250.0, 0.0), (500.0, 0.0)):
        times = offset + np.arange(0, 2, 1 / rate)
        grid = series(times, 3 * times - 1).on_grid(2 * SAMPLE_RATE)
        assert grid.shape == (201, 1)
        at = np.arange(201) * 0.01
        inside = (at > times[0] + 0.01) & (at < times[-1] - 0.01) & np.isfinite(grid[:, 0])
        assert inside.sum() > 160
        slack = 3 / rate if rate > 100 else 1e-5  # windows of whole stamps need not be symmetric
        np.testing.assert_allclose(grid[inside, 0], 3 * at[inside] - 1, atol=slack)


def test_fine_stamps_are_averaged_row_by_row() -> None:
    """The slow way: the mean of the stamps that are nearest to each row."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 1, 400))
    values = rng.normal(size=(400, 2))
    values[rng.random((400, 2)) < 0.1] = np.nan
    grid = series(times, values).on_grid(SAMPLE_RATE)
    for row in range(101):
        near = np.rint(times * 100) == row
        for column in range(2):
            stamps = values[near, column]
            stamps = stamps[np.isfinite(stamps)]
            assert grid[row, column] == pytest.approx(stamps.mean()) if len(stamps) else True
            assert np.isnan(grid[row, column]) == (len(stamps) == 0)


def test_nothing_is_made_up_beyond_the_stamps_across_gaps_or_beside_no_value() -> None:
    times = np.r_[np.arange(0.1, 0.5, 0.02), np.arange(0.7, 1.0, 0.02)]
    values = np.ones(len(times))
    values[5] = np.nan  # at 0.2 s
    grid = series(times, values).on_grid(SAMPLE_RATE)[:, 0]
    there = np.isfinite(grid)
    np.testing.assert_array_equal(np.flatnonzero(~there[:9]), np.arange(9))
    assert not there[51:69].any()  # the last stamp before the gap is at 0.48, half a step is 0.01
    assert not there[19:22].any()
    assert there[[9, 10, 17, 23, 48, 70, 98]].all()
    alone = series([0.5], [2.0]).on_grid(SAMPLE_RATE)[:, 0]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(alone)), [50])


def test_files_of_every_kind_say_the_same(tmp_path: Path) -> None:
    times, values = np.arange(0.05, 0.95, 0.005), np.random.default_rng(1).normal(size=(180, 2))
    values[3] = np.nan
    np.savez(tmp_path / "a.npz", times=times, values=values, names=["tt_x", "tt_y"])
    rows = [f"{t!r},{a!r},{b!r}" for t, (a, b) in zip(times.tolist(), values.tolist(), strict=True)]
    table = "\n".join(["time,tt_x,tt_y", *rows]).replace("nan", "")
    (tmp_path / "a.csv").write_text(table)
    (tmp_path / "a.tsv").write_text(table.replace(",", "\t"))
    marks = np.isfinite(values[:, :1])
    body = np.c_[times, marks, np.nan_to_num(values)].astype("<f4")
    head = "EST_File Track\nDataType {}\nNumFrames 180\n{}NumChannels 2\nEqualSpace 0\n"
    head += "BreaksPresent true\nCommentChar ;\n\nChannel_0 tt_x\nChannel_1 tt_y\nEST_Header_End\n"
    little = head.format("binary", "ByteOrder 01\n").encode()
    (tmp_path / "a.ema").write_bytes(little + body.tobytes())
    big = head.format("binary", "ByteOrder 10\n").encode()
    (tmp_path / "a.big").write_bytes(big + body.astype(">f4").tobytes())
    text = "\n".join(" ".join(map(repr, row)) for row in body.tolist())
    (tmp_path / "a.track").write_text(head.format("ascii", "") + text + "\n")
    for path in sorted(tmp_path.iterdir()):
        assert is_series(path)
        found = read_series(path)
        assert found.names == ("tt_x", "tt_y"), path
        np.testing.assert_allclose(found.times, times, atol=1e-6)
        np.testing.assert_allclose(found.values, values, atol=1e-6)
    np.testing.assert_array_equal(chosen(found, ["tt_y"], "a").values[:, 0], found.values[:, 1])


def test_praats_objects(tmp_path: Path) -> None:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 20))
    sound = parselmouth.Sound(np.r_[0.1 * wave, np.zeros(SAMPLE_RATE // 2)], SAMPLE_RATE)
    pitch = sound.to_pitch_ac(0.01)
    for kind, made in {
        "Pitch": pitch,
        "PitchTier": parselmouth.praat.call(pitch, "Down to PitchTier"),
        "Intensity": sound.to_intensity(),
        "Formant": sound.to_formant_burg(0.01),
    }.items():
        made.save(str(tmp_path / f"u.{kind}"))
    for kind in ("Pitch", "PitchTier"):
        grid = read_series(tmp_path / f"u.{kind}").on_grid(len(sound))[:, 0]
        assert grid[20:80] == pytest.approx(150, abs=0.5)
        assert np.isnan(grid[110:]).all()
    assert read_series(tmp_path / "u.Intensity").values.shape[1] == 1
    formants = read_series(tmp_path / "u.Formant")
    assert formants.names == ("f1", "f2", "f3")
    parselmouth.praat.call(sound, "To Harmonicity (cc)", 0.01, 75, 0.1, 1).save(
        str(tmp_path / "v.Pitch")
    )
    with pytest.raises(StrataError, match=r"v\.Pitch: holds a Harmonicity, not one of"):
        read_series(tmp_path / "v.Pitch")
    (tmp_path / "w.Pitch").write_text("nonsense")
    with pytest.raises(StrataError, match="not numbers over time"):
        read_series(tmp_path / "w.Pitch")


TRACK = b"EST_File Track\nDataType ascii\nNumFrames 2\nNumChannels 1\nEST_Header_End\n"
HOSTILE = {
    "empty.csv": (b"", "must name a column time"),
    "no_time.csv": (b"x,y\n1,2\n", "must name a column time and one or more of numbers; it has x"),
    "no_number.csv": (b"time\n1\n", "one or more of numbers"),
    "word.csv": (b"time,x\n0,1\n0.1,high\n", "line 3: 'high' is not a number"),
    "short.csv": (b"time,x,y\n0,1\n", "line 2: 2 cells, the first line has 3"),
    "no_rows.csv": (b"time,x\n", "holds no values"),
    "back.csv": (b"time,x\n0,1\n0.2,1\n0.1,1\n", r"time 3 of 3 \(0\.1\) does not come after"),
    "twice.csv": (b"time,x\n0,1\n0,1\n", r"time 2 of 2 \(0\) does not come after"),
    "nan.csv": (b"time,x\nnan,1\n0,1\n", r"time 1 of 2 \(nan\)"),
    "inf.csv": (b"time,x\n0,inf\n1,1\n", "infinite values"),
    "cut.ema": (TRACK + b"0 1 2\n1 1\n", "5 numbers where its header announces 2 frames"),
    "headless.ema": (b"EST_File Track\nNumFrames 2\n", "nor a track"),
    "bad.npz": (b"PK\x03\x04 no", "not numbers over time"),
    "odd.mat": (b"MATLAB 5.0", "neither .*nor a track of the Edinburgh"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_series_is_refused(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StrataError, match=message):
        read_series(tmp_path / name)


def test_arrays_that_do_not_fit_and_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, times=np.arange(3.0), data=np.ones(3))
    with pytest.raises(StrataError, match="no array values among times, data"):
        read_series(path)
    np.savez(path, times=np.arange(3.0), values=np.ones((4, 2)))
    with pytest.raises(StrataError, match="do not belong together"):
        read_series(path)
    np.savez(path, times=np.arange(3.0), values=np.array([{}, 1, 2], dtype=object))
    with pytest.raises(StrataError, match="not numbers over time"):
        read_series(path)


def test_a_table_of_many_utterances(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("utterance,time,x\nb,0,1\na,0,2\nb,0.5,3\n")
    found = read_tables(path, "utterance")
    assert found["b"].values.tolist() == [[1], [3]]
    assert found["a"].times.tolist() == [0]
    with pytest.raises(StrataError, match="no column y among x"):
        chosen(found["a"], ["y"], path)
