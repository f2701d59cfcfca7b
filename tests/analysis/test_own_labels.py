"""Labels and numbers of one's own: of tiers, tables and the corpus, at every unit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from running import Finished, execute, resolved
from speech import textgrid

from analysis.targets.mel import mel
from analysis.targets.user_labels import Label, Number
from common import alignments
from common.audio import read as read_audio
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError, Utterance

RNG = np.random.default_rng(0)


def cut(n: int, names: str, every: float, seed: int) -> tuple[Interval, ...]:
    """Intervals of random lengths with random labels and gaps."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.choice(np.arange(1, n), 2 * round(n / SAMPLE_RATE / every), replace=False))
    pairs = zip(times[::2].tolist(), times[1::2].tolist(), strict=True)
    return tuple(Interval(a, b, str(rng.choice(list(names)))) for a, b in pairs)


def corpus() -> Corpus:
    utterances = []
    for k in range(6):
        n = SAMPLE_RATE * (k + 1) // 2
        tiers = {"phone": cut(n, "pbtd", 0.1, k), "tone": cut(n, "123", 0.3, 100 + k)}
        known = {"gender": "fm"[k % 2]} if k < 4 else {}
        read = lambda n=n: np.zeros(n, np.float32)  # noqa: E731
        utterances.append(Utterance(f"u{k}", f"s{k // 2}", "", n, tiers, read, known))
    return Corpus("made", "all", "none", tuple(utterances), {}, "print")


def found(target: Label, unit: str) -> list[tuple[str, int, int, str]]:
    listed = corpus()
    target.check("experiments.x", unit, None)  # type: ignore[arg-type]
    rows = target.segments(listed, target.unit_of(unit))
    return [(listed.utterances[r.utterance].id, r.start, r.end, r.label) for r in rows]


def test_a_tier_at_every_unit_against_the_slow_way() -> None:
    target = Label(tier="tone")
    tiers = {u.id: u.tiers for u in corpus().utterances}
    expected = [(id, i.start, i.end, i.label) for id, t in tiers.items() for i in t["tone"]]
    assert found(target, "own") == found(target, "tone") == expected

    def at(id: str, sample: int) -> str:
        return next((i.label for i in tiers[id]["tone"] if i.start <= sample < i.end), "")

    phones = found(target, "phone")
    assert phones == [
        (id, i.start, i.end, at(id, (i.start + i.end) // 2))
        for id, t in tiers.items()
        for i in t["phone"]
    ]
    assert {label for *_, label in phones} > {""}  # some lie in no tone
    frames = found(target, "frame")
    assert frames
    assert all(label == at(id, (start + end) // 2) != "" for id, start, end, label in frames)
    assert all(end - start == 320 for _, start, end, _ in frames)
    labels = {id: {i.label for i in t["tone"]} for id, t in tiers.items()}
    for id, start, _, label in found(target, "utterance"):
        assert start == 0
        assert label == (min(labels[id]) if len(labels[id]) == 1 else "")


def test_what_the_corpus_knows_by_name() -> None:
    genders = {u.id: u.attribute("gender") for u in corpus().utterances}
    assert {(id, label) for id, *_, label in found(Label(column="gender"), "own")} == set(
        genders.items()
    )
    for unit in ("phone", "frame", "tone"):
        rows = found(Label(column="gender"), unit)
        assert {id for id, *_ in rows} == set(genders)
        assert all(label == genders[id] for id, *_, label in rows)
    speakers = {label for *_, label in found(Label(column="speaker"), "own")}
    assert speakers == {"s0", "s1", "s2"}
    with pytest.raises(
        StrataError, match=r"6 of 6 utterances have no mood.*knows of speaker, gender"
    ):
        found(Label(column="mood"), "own")


def test_tables_of_utterances_speakers_and_stretches(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("utterance,x\nu0,a\nu1,b\nelse,c\n")
    by_utterance = Label(table=str(path), column="x")
    assert [label for *_, label in found(by_utterance, "own")] == ["a", "b", "", "", "", ""]
    path.write_text("speaker,x,y\ns0,a,1\ns2,b,2\n")
    by_speaker = [label for *_, label in found(Label(table=str(path), column="x"), "utterance")]
    assert by_speaker == ["a", "a", "", "", "b", "b"]
    rows = [(u.id, i) for u in corpus().utterances for i in u.tiers["tone"]]
    lines = [f"{id},{i.start / 16000},{i.end / 16000},{i.label}" for id, i in rows[::-1]]
    path.write_text("\n".join(["utterance,start,end,x", *lines]))
    stretches, tier = Label(table=str(path), column="x"), Label(tier="tone")
    assert stretches.unit_of("own") == "segment"
    assert found(stretches, "own") == found(tier, "own")
    for unit in ("phone", "frame", "utterance"):
        assert found(stretches, unit) == found(tier, unit)


def test_windows_of_long_recordings_have_their_parts_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("utterance,start,end,x\nlong,0,1,a\nlong,1,2.5,b\nlong,2.5,3,c\n")
    read = lambda: np.zeros(1, np.float32)  # noqa: E731
    windows = [
        Utterance(f"long@{k}", "s", "", 2 * SAMPLE_RATE, {}, read, recording=("long", k * 32000))
        for k in range(2)
    ]
    cut = Corpus("made", "all", "none", tuple(windows), {}, "print")
    rows = Label(table=str(path), column="x").segments(cut, "segment")
    assert [(r.utterance, r.start / 16000, r.end / 16000, r.label) for r in rows] == [
        (0, 0, 1, "a"),
        (0, 1, 2, "b"),
        (1, 0, 0.5, "b"),
        (1, 0.5, 1, "c"),
    ]
    path.write_text("utterance,x\nlong,a\n")
    rows = Label(table=str(path), column="x").segments(cut, "utterance")
    assert [r.label for r in rows] == ["a", "a"]


def test_numbers_are_the_labels_that_are_finite(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("utterance\tage\nu0\t3.5\nu1\tn/a\nu2\tinf\nu3\t-2e1\nu4\tnan\n")
    target = Number(table=str(path), column="age")
    assert [label for *_, label in found(target, "own")] == ["3.5", "", "", "-2e1", "", ""]
    view = target.view(np.array([1, 0, 1]), ("3.5", "-2e1"))
    np.testing.assert_array_equal(view, [[-20], [3.5], [-20]])


REFUSED = {
    "target.tier=tone target.column=age": "give a tier, or a column, not both",
    "target.table=absent.csv target.column=age": "there is no such file",
    "target.table={table}": r"target\.column=None: .* has the columns speaker, age",
    "target.table={table} target.column=x": r"target\.column=x: .* has the columns speaker, age",
    "": r"which label is not given: target\.tier=NAME",
}


@pytest.mark.parametrize("given", REFUSED)
def test_half_a_label_is_refused_before_anything_is_read(given: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("speaker,age\na,1\n")
    overrides = given.format(table=tmp_path / "t.csv").split()
    for name in ("cca_label", "probe_number"):
        with pytest.raises(StrataError, match=REFUSED[given]):
            resolved(f"experiment={name}", *overrides)


def test_classes_and_numbers_have_their_own_metrics() -> None:
    for name, metric in (("cca_number", "probe"), ("cca_label", "ridge"), ("mi_label", "ridge")):
        with pytest.raises(StrataError, match=f"metric={metric}: it is a"):
            resolved(f"experiment={name}", f"metric={metric}", "target.column=age")


def test_the_name_of_an_earlier_version_is_still_taken() -> None:
    earlier = "experiments.cca_label.target._target_=analysis.targets.own_labels.Label"
    config = resolved("experiment=cca_label", earlier, "target.column=speaker")
    assert isinstance(config.experiments["cca_label"].target, Label)


def test_full_leaves_them_out_by_what_to_give() -> None:
    left_out = resolved("experiment=full").left_out
    for name in ("cca_label", "mi_label", "probe_label", "cca_number", "probe_number"):
        assert left_out[name].startswith("which label is not given: ")


# Whole runs: the corpus of the other tests with more tiers in its TextGrids.


@pytest.fixture(scope="module")
def tiered(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that read it: tier `Manner`, of each phone whether it is a vowel."""
    folder = tmp_path_factory.mktemp("tiers")
    for path in (speech / "alignments").rglob("*.TextGrid"):
        tiers = {
            name: [(i.start / SAMPLE_RATE, i.end / SAMPLE_RATE, i.label) for i in intervals]
            for name, intervals in alignments.read(path).tiers
        }
        vowels = [
            (a, b, ("V" if p[:1] in "AEIOUaeiou" else "C") if p else "<p:>")
            for a, b, p in tiers["phones"]
        ]
        target = folder / path.relative_to(speech / "alignments")
        target.parent.mkdir(parents=True, exist_ok=True)
        # As the Montreal Forced Aligner names tiers of several speakers.
        target.write_text(textgrid(tiers | {f"{path.parent.name} - Manner": vowels}))
    return [
        "dataset=textgrid",
        f"dataset.audio_root={speech / 'audio'}",
        f"dataset.alignment_root={folder}",
    ]


@pytest.fixture(scope="module")
def done(
    tiered: list[str], small: tuple[str, ...], cache: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """All three of the tier's own intervals, and of phones and frames, from one pass."""
    names = ("mi_label", "probe_label", "cca_phone")
    mounted = [f"+analysis@experiments.{name}={name}" for name in names]
    frames = ["+analysis@experiments.by_frame=cca_label", "experiments.by_frame.unit=frame"]
    phones = ["+analysis@experiments.by_phone=probe_label", "experiments.by_phone.unit=phone"]
    labelled = ("cca_label", "mi_label", "probe_label", "by_frame", "by_phone")
    tiers = [f"experiments.{name}.target.tier=Manner" for name in labelled]
    more = ["controls=true", "sampling.instances=300", *mounted, *frames, *phones, *tiers]
    run = ["experiment=cca_label", *small, *tiered, cache, *more]
    return execute(tmp_path_factory.mktemp("run"), *run)


@pytest.mark.slow
def test_a_tier_from_end_to_end(done: Finished) -> None:
    rows = done.rows[done.rows["primary"]]
    units = rows.groupby("experiment")["unit"].first().to_dict()
    assert units == {
        "cca_label": "Manner",
        "mi_label": "Manner",
        "probe_label": "Manner",
        "by_frame": "frame",
        "by_phone": "phone",
        "cca_phone": "phone",
    }
    assert set(rows.loc[rows["experiment"] != "cca_phone", "target"]) == {"Manner"}
    controls = {"", "mel", "random_weights", "shuffled_labels"}
    for name in ("cca_label", "by_frame", "probe_label", "by_phone"):
        scores = rows[rows["experiment"] == name]
        assert set(scores["control"]) == controls
        level = scores.groupby("control")["value"].max()
        if "by_phone" in name or "probe" in name:
            assert level["mel"] > level["shuffled_labels"] + 0.1  # mel tells vowels from others
    vowels = scores.loc[scores["control"] == "mel", "value"].mean()
    assert vowels > 0.8
    (study,) = (s for s in done.metadata["studies"] if "probe_label" in s["experiments"])
    assert set(study["units_per_label"]) == {"C", "V"}


@pytest.mark.slow
def test_further_tiers_change_no_other_number(
    done: Finished, tiered: list[str], small: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    run = ["experiment=cca_phone", *small, *tiered, cache, "sampling.instances=300"]
    alone = execute(tmp_path, *run, "controls=true")
    assert not alone.passed  # its statistics are those of the run with tiers
    columns = ["layer", "trial", "control", "value"]
    mine = done.rows[done.rows["experiment"] == "cca_phone"][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.rows[columns].reset_index(drop=True), mine)


def test_a_tier_that_is_not_there(
    tiered: list[str], small: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    with pytest.raises(StrataError, match=r"has no Tone tier: it has phone, word"):
        execute(tmp_path, "experiment=cca_label", "target.tier=Tone", *small, *tiered, cache)


@pytest.mark.slow
def test_a_column_is_that_of_the_attributes(
    common: tuple[str, ...], speech: Path, cache: str, tmp_path: Path
) -> None:
    """The oracle: `probe_gender`, which reads the same table as the corpus's attributes."""
    table = tmp_path / "speakers.csv"
    names = sorted(path.name for path in (speech / "audio").iterdir())
    lines = [f"{name},{'fm'[k % 2]}" for k, name in enumerate(names)]
    table.write_text("\n".join(["speaker,gender", *lines]))
    given = {
        "probe_gender": [f"dataset.attributes={table}"],
        "probe_label": [f"target.table={table}", "target.column=gender"],
        "probe_label ": [f"dataset.attributes={table}", "target.column=gender"],
    }
    run = [*common, cache, "sampling.folds=6"]
    each = [
        execute(tmp_path / str(k), f"experiment={name.strip()}", *run, *more).rows
        for k, (name, more) in enumerate(given.items())
    ]
    assert set(each[0]["split"]) == {"speaker"}
    for rows in each[1:]:
        assert rows["value"].tolist() == each[0]["value"].tolist()
        assert set(rows["target"]) == {"gender"}


@pytest.mark.slow
def test_a_planted_number_is_read_off_the_mel_frames_that_it_is_of(
    common: tuple[str, ...], speech: Path, cache: str, tmp_path: Path
) -> None:
    """A linear function of a stretch's mean mel frame: mel explains all of it, noise nothing."""
    lines = ["utterance,start,end,planted,noise"]
    for path in sorted((speech / "audio").rglob("*.flac")):
        bands = mel(read_audio(path)).numpy()
        for first in range(4, len(bands) - 12, 20):
            planted = 50 + 3 * bands[first : first + 10, 7].mean()
            start, end = first / 100, (first + 10) / 100 - 0.001
            lines.append(f"{path.stem},{start},{end},{planted},{RNG.normal()}")
    table = tmp_path / "numbers.csv"
    table.write_text("\n".join(lines))
    mounted = {"probe_number": "probe_number", "noise_probe": "probe_number"}
    mounted |= {"cca_number": "cca_number", "noise_cca": "cca_number"}
    more = [f"+analysis@experiments.{name}={of}" for name, of in mounted.items() if name != of]
    more += ["+analysis@experiments.cca_number=cca_number"]
    for name in mounted:
        column = "noise" if name.startswith("noise") else "planted"
        more += [
            f"experiments.{name}.target.{k}={v}" for k, v in (("table", table), ("column", column))
        ]
    run = ["experiment=probe_number", *common, cache, "controls=true", *more]
    rows = execute(tmp_path / "run", *run).rows
    rows = rows[rows["primary"]]
    assert set(rows["unit"]) == {"segment"}
    level = rows.groupby(["experiment", "control"])["value"].mean()
    metrics = rows.groupby("experiment")["metric"].unique()
    for name, noise, least, metric in (
        ("probe_number", "noise_probe", 0.95, "r2"),
        ("cca_number", "noise_cca", 0.85, "pwcca"),
    ):
        assert level[name, "mel"] > least
        assert level[noise, "mel"] < 0.2
        assert level[name, "shuffled_labels"] < 0.4  # few units for so many columns
        assert list(metrics[name]) == [metric]


def test_units_without_a_label_are_counted(
    common: tuple[str, ...], speech: Path, cache: str, tmp_path: Path
) -> None:
    ids = sorted(path.stem for path in (speech / "audio").rglob("*.flac"))
    lines = [f"{id},{'ab'[k % 2]}" for k, id in enumerate(ids) if k % 3]
    (tmp_path / "t.csv").write_text("\n".join(["utterance,x", *lines]))
    run = ["experiment=cca_label", f"target.table={tmp_path / 't.csv'}", "target.column=x"]
    done = execute(tmp_path / "run", *run, *common, cache, "experiments.cca_label.unit=word")
    (study,) = done.metadata["studies"]
    assert study["dropped"]["word by x: without a label"] > 0
    (tmp_path / "t.csv").write_text("utterance,x\nother,a\n")
    with pytest.raises(StrataError, match=r"no utterance of textgrid .* is in it; it has other"):
        execute(tmp_path / "none", *run, *common, cache)
