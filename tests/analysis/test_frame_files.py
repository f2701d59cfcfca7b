"""Targets of frames: what files say, intensity and formants; planted answers, whole runs."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from running import execute, resolved
from scipy.signal import lfilter

from analysis.targets.energy import DEEPEST, Energy
from analysis.targets.formants import Formants
from analysis.targets.frame_files import FrameFiles, files_named
from analysis.targets.mel import mel
from common.audio import read as read_audio
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance
from common.windows import in_windows

RNG = np.random.default_rng(0)


def vowel(formants: list[float], n: int = SAMPLE_RATE, pitch: float = 110.0) -> np.ndarray:
    """A pulse train through a resonance at each formant: an answer that is known."""
    sound = np.zeros(n)
    sound[:: int(SAMPLE_RATE / pitch)] = 1.0
    sound = lfilter([1], [1, -0.97], sound)  # a glottis falls by 6 dB an octave, which Praat undoes
    for frequency, width in zip(formants, (60, 90, 120, 150, 200), strict=False):
        r = np.exp(-np.pi * width / SAMPLE_RATE)
        sound = lfilter(
            [1], [1, -2 * r * np.cos(2 * np.pi * frequency / SAMPLE_RATE), r * r], sound
        )
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("planted", [[730, 1090, 2440, 3400, 4500], [270, 2290, 3010, 3600, 4600]])
def test_planted_formants_are_found_and_silence_has_none(planted: list[float]) -> None:
    waveform = np.concatenate([vowel(planted), np.zeros(SAMPLE_RATE, np.float32)])
    found = Formants().frames(waveform, "u").numpy()
    assert found.shape == (201, 3)
    middle = np.exp(np.median(found[10:90], axis=0))
    np.testing.assert_allclose(middle, planted[:3], rtol=0.06)
    assert np.isnan(found[110:]).all()


def test_planted_steps_of_loudness_are_found_whatever_the_gain() -> None:
    steps = [0.0, -20.0, -40.0, -120.0]
    noise = RNG.standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    waveform = 0.1 * noise * np.repeat(10 ** (np.array(steps) / 20), SAMPLE_RATE).astype("f4")
    found = Energy().frames(waveform, "u").numpy()[:, 0]
    for k, step in enumerate(steps):
        step_frames = found[100 * k + 10 : 100 * k + 90]
        assert step_frames.mean() == pytest.approx(max(step, -DEEPEST), abs=2)
    louder = Energy().frames(waveform * np.float32(4), "u").numpy()[:, 0]
    np.testing.assert_allclose(louder, found, atol=1e-3)
    assert np.nanmax(found) == pytest.approx(0, abs=1)


def test_short_and_silent_utterances_have_no_values() -> None:
    for waveform in (np.ones(1, "f4"), np.ones(700, "f4"), np.zeros(SAMPLE_RATE, "f4")):
        for target in (Energy(), Formants()):
            found = target.frames(waveform, "u").numpy()
            assert found.shape == (1 + len(waveform) // 160, target.columns)
            assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("name", "wrong"), [("energy", "floor=0"), ("formants", "ceiling=500"), ("energy", "floor=-1")]
)
def test_impossible_settings_are_refused(name: str, wrong: str) -> None:
    with pytest.raises(StrataError, match=r"target\.(floor|ceiling)="):
        resolved(f"experiment=cca_{name}", f"experiments.cca_{name}.target.{wrong}")


def corpus_of(*ids: str) -> Corpus:
    read = lambda: np.zeros(SAMPLE_RATE, np.float32)  # noqa: E731
    utterances = tuple(Utterance(id, "s", "", SAMPLE_RATE, {}, read) for id in ids)
    return Corpus("made", "all", "none", utterances, {}, "print")


def write(path: Path, value: float, columns: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, times=np.arange(0, 1, 0.01), values=np.full((100, columns), value))


def test_files_are_found_by_path_or_by_unique_name(tmp_path: Path) -> None:
    for k, name in enumerate(("a/u1.npz", "b/u1.npz", "b/u2.npz")):
        write(tmp_path / name, k)
    (tmp_path / "notes.txt").write_text("no numbers")
    assert set(files_named(tmp_path)) == {"a/u1", "b/u1", "b/u2", "u2"}
    target = FrameFiles(path=str(tmp_path)).prepared(corpus_of("b/u1", "u2", "absent"))
    second = np.float32(SAMPLE_RATE)
    waveform = np.zeros(int(second), np.float32)
    assert target.columns == 1
    for id, value in (("b/u1", 1), ("u2", 2)):
        assert set(target.frames(waveform, id).numpy()[:99, 0]) == {value}
    assert np.isnan(target.frames(waveform, "absent").numpy()).all()
    (tmp_path / "b/u2.csv").write_text("time,x\n0,1\n")
    with pytest.raises(StrataError, match="share one name"):
        files_named(tmp_path)


def test_what_the_files_hold_is_in_the_key_and_where_they_lie_is_not(tmp_path: Path) -> None:
    for folder, value in (("one", 1.0), ("two", 1.0), ("three", 2.0)):
        write(tmp_path / folder / "u.npz", value)
    one, two, three = (
        FrameFiles(path=str(tmp_path / folder)).prepared(corpus_of("u")).identity()
        for folder in ("one", "two", "three")
    )
    assert one == two != three


def test_what_does_not_fit_the_corpus_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "u.npz", 1)
    with pytest.raises(
        StrataError, match=r"nothing in it is named as one of the 1 utterances \(as v"
    ):
        FrameFiles(path=str(tmp_path)).prepared(corpus_of("v"))
    with pytest.raises(StrataError, match="no column tt among 0"):
        FrameFiles(path=str(tmp_path), only=["tt"]).prepared(corpus_of("u"))
    with pytest.raises(StrataError, match="one file for all utterances is a"):
        FrameFiles(path=str(tmp_path / "u.npz")).prepared(corpus_of("u"))
    write(tmp_path / "w.npz", 1, columns=2)
    target = FrameFiles(path=str(tmp_path)).prepared(corpus_of("u", "w"))
    with pytest.raises(StrataError, match="has the columns 0, 1, others have 0"):
        target.frames(np.zeros(160, np.float32), "w")


@pytest.mark.slow
def test_a_run_with_controls(common: tuple[str, ...], cache: str, tmp_path: Path) -> None:
    both = ["experiment=cca_energy", "+analysis@experiments.cca_formants=cca_formants"]
    run = execute(tmp_path, *both, *common, cache, "controls=true")
    for name in ("energy", "formants"):
        scores = run.rows[run.rows["experiment"] == f"cca_{name}"]
        primary = scores[scores["primary"]]
        assert {"mel", "random_weights"} <= set(primary["control"])
        assert set(primary["target"]) == {name}
        assert primary["value"].notna().all()
        if name == "energy":  # mel holds loudness
            assert primary.loc[primary["control"] == "mel", "value"].max() > 0.9


@pytest.mark.slow
def test_files_that_hold_a_mel_band_score_as_that_band(
    common: tuple[str, ...], speech: Path, cache: str, tmp_path: Path
) -> None:
    """The planted answer: mel frames hold every linear function of mel frames."""
    paths = sorted((speech / "audio").rglob("*.flac"))
    lines = ["utterance,time,low,high"]
    for path in paths[1:]:  # one utterance has no file
        bands = mel(read_audio(path)).numpy()[:, [5, 40]]
        times = np.arange(len(bands)) / 100
        lines += [f"{path.stem},{t},{a},{b}" for t, (a, b) in zip(times, bands, strict=True)]
        folder = tmp_path / "files" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{path.stem}.npz", times=times, values=bands)
    given, table = tmp_path / "files", tmp_path / "all.csv"
    table.write_text("\n".join(lines))
    names = [path.stem for path in paths]
    in_files, in_table = (
        FrameFiles(path=str(path)).prepared(corpus_of(*names)) for path in (given, table)
    )
    for name in names:  # one table for all gives the same numbers
        waveform = np.zeros(16_000, np.float32)
        np.testing.assert_array_equal(
            in_files.frames(waveform, name), in_table.frames(waveform, name)
        )
    overrides = (*common, cache, "controls=true", "dataset.limit=null", "sampling.utterances=99")
    run = execute(tmp_path / "run", "experiment=cca_frames", f"target.path={given}", *overrides)
    primary = run.rows[run.rows["primary"]]
    assert set(primary["target"]) == {f"frames:{given.name}"}
    assert primary.loc[primary["control"] == "mel", "value"].min() > 0.999
    layers = primary.loc[primary["control"] == "", "value"]
    assert layers.between(0, 1).all()
    (study,) = run.metadata["studies"]
    dropped = study["statistics"]["dropped"]
    lost = len(mel(read_audio(paths[0])))
    counted = sum(count for reason, count in dropped.items() if "without a value of" in reason)
    assert lost / 2 - 3 <= counted <= lost + 2 * len(paths)


def test_without_the_file_it_is_told_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"target\.path is not given: a folder with a file"):
        resolved("experiment=cca_frames")
    assert "cca_frames" in resolved("experiment=full").left_out


def test_a_broken_file_is_told_by_its_name(
    common: tuple[str, ...], speech: Path, cache: str, tmp_path: Path
) -> None:
    paths = sorted((speech / "audio").rglob("*.flac"))
    for path in paths:
        write(tmp_path / "files" / f"{path.stem}.npz", 1)
    (tmp_path / "files" / f"{paths[0].stem}.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(StrataError, match=rf"{paths[0].stem}\.npz: not numbers over time"):
        execute(
            tmp_path / "run",
            "experiment=cca_frames",
            f"target.path={tmp_path / 'files'}",
            *common,
            cache,
        )
    assert soundfile.info(paths[0]).samplerate == SAMPLE_RATE


def test_windows_of_a_long_recording_have_their_part_of_its_file(tmp_path: Path) -> None:
    n = 90 * SAMPLE_RATE
    times = np.arange(0, 90, 0.01)
    table = "\n".join(["time,x", *(f"{t:.2f},{round(100 * t)}" for t in times)])
    (tmp_path / "long.csv").write_text(table)
    whole = Utterance("long", "s", "", n, {}, lambda: np.zeros(n, np.float32))
    corpus = in_windows(Corpus("toy", "all", "none", (whole,), {}, "f"), 30 * SAMPLE_RATE)
    target = FrameFiles(path=str(tmp_path)).prepared(corpus)
    for window in corpus.utterances:
        samples = window.read()
        start = round(float(window.id.partition("@")[2]) * SAMPLE_RATE) - window.context[0]
        found = target.frames(samples, window.id).numpy()[:, 0]
        there = np.isfinite(found)
        rows = start // 160 + np.arange(len(found))
        assert there.sum() >= len(found) - 2  # past the recording's last stamp
        np.testing.assert_allclose(found[there], rows[there], atol=1e-2)
