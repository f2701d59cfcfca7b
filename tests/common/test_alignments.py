import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import alignments
from common.phones import ARPABET, normalise, normalise_word
from common.records import Interval, StrataError

WORDS = [(0.0, 0.5, ""), (0.5, 0.8, "Hello"), (0.8, 1.2, 'say "so"'), (1.2, 1.5, "")]
PHONES = [(0.0, 0.5, "sil"), (0.5, 0.65, "HH"), (0.65, 0.8, "AH0"), (0.8, 1.5, "sp")]
WANTED = (
    ("words", alignments.from_seconds(WORDS)),
    ("phones", alignments.from_seconds(PHONES)),
)


def quoted(label: str) -> str:
    return '"' + label.replace('"', '""') + '"'


def long_format(tiers: dict[str, list[tuple[float, float, str]]]) -> str:
    end = max(e for rows in tiers.values() for _, e, _ in rows)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 "]
    lines += [f"xmax = {end} ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for t, (name, rows) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{t}]:", '        class = "IntervalTier" ']
        lines += [f"        name = {quoted(name)} ", "        xmin = 0 ", f"        xmax = {end} "]
        lines += [f"        intervals: size = {len(rows)} "]
        for i, (start, stop, label) in enumerate(rows, start=1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start} "]
            lines += [f"            xmax = {stop} ", f"            text = {quoted(label)} "]
    return "\n".join(lines) + "\n"


def short_format(tiers: dict[str, list[tuple[float, float, str]]]) -> str:
    end = max(e for rows in tiers.values() for _, e, _ in rows)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end)]
    lines += ["<exists>", str(len(tiers))]
    for name, rows in tiers.items():
        lines += ['"IntervalTier"', quoted(name), "0", str(end), str(len(rows))]
        for start, stop, label in rows:
            lines += [str(start), str(stop), quoted(label)]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-16-le-bom"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("form", [long_format, short_format])
def test_textgrids_of_every_form_read_alike(tmp_path, form, newline, encoding) -> None:
    text = form({"words": [*WORDS[:3], (1.2, 1.5, "naïve")], "phones": PHONES})
    text = text.replace("\n", newline)
    if encoding == "utf-16-le-bom":
        text, encoding = "\ufeff" + text, "utf-16-le"
    raw = alignments.read(write(tmp_path / "a.TextGrid", text, encoding)).tiers
    assert [name for name, _ in raw] == ["words", "phones"]
    assert raw[0][1][2:] == (Interval(12800, 19200, 'say "so"'), Interval(19200, 24000, "naïve"))
    assert raw[1] == WANTED[1]


def test_point_tiers_are_passed_over(tmp_path) -> None:
    text = short_format({"words": WORDS}).replace("<exists>\n1", "<exists>\n2")
    text += '"TextTier"\n"events"\n0\n1.5\n1\n0.7\n"click"\n'
    assert alignments.read(write(tmp_path / "a.TextGrid", text)).tiers == (WANTED[0],)


@pytest.mark.parametrize("form", [long_format, short_format])
def test_exponents_are_read_and_negative_times_refused(tmp_path, form) -> None:
    text = form({"phones": [(0.125, 0.25, "x"), (0.25, 1.5, "y")]})
    raw = alignments.read(write(tmp_path / "a.TextGrid", text.replace("0.25", "2.5e-01")))
    assert raw.tiers[0][1] == (Interval(2000, 4000, "x"), Interval(4000, 24000, "y"))
    with pytest.raises(StrataError, match=r"a\.TextGrid: a time is negative \(-0\.125\)"):
        alignments.read(write(tmp_path / "a.TextGrid", text.replace("0.125", "-0.125")))
    indented = text.replace("0.125", "-0.125").replace("    ", "\t")
    with pytest.raises(StrataError, match=r"a\.TextGrid: a time is negative \(-0\.125\)"):
        alignments.read(write(tmp_path / "a.TextGrid", indented))


@pytest.mark.parametrize("form", [long_format, short_format])
def test_a_truncated_textgrid_is_an_error(tmp_path, form) -> None:
    text = form({"words": WORDS, "phones": PHONES})
    for cut in (0, 10, len(text) // 3, len(text) // 2, len(text) - 30):
        path = write(tmp_path / "cut.TextGrid", text[:cut])
        with pytest.raises(StrataError, match=r"cut\.TextGrid"):
            alignments.read(path)


@pytest.mark.parametrize("indent", ["    ", "\t", ""])
def test_fewer_or_more_intervals_than_announced_are_an_error(tmp_path, indent) -> None:
    text = long_format({"words": WORDS}).replace("    ", indent)
    for size in (3, 5):
        path = write(tmp_path / "n.TextGrid", text.replace("size = 4", f"size = {size}"))
        with pytest.raises(StrataError, match=r"n\.TextGrid: not a TextGrid .*announces"):
            alignments.read(path)


def test_labels_that_look_like_times_flags_and_syntax_are_labels(tmp_path) -> None:
    labels = ["-5", "xmin = -3", "intervals: size = 9", "<exists>", "! no comment", "a\nb"]
    labels.append("0" * 40000)
    rows = [(k / 10, (k + 1) / 10, label) for k, label in enumerate(labels)]
    for form in (long_format, short_format):
        raw = alignments.read(write(tmp_path / "a.TextGrid", form({"words": rows})))
        assert [i.label for i in raw.tiers[0][1]] == labels


def test_free_forms_of_praat(tmp_path) -> None:
    """Praat reads free-standing numbers, texts and flags; the manual's own examples among them."""
    free = '''"ooTextFile"
        "TextGrid" ! a comment "with a text"
        0 1.5 seconds <exists> 1 tier
        "IntervalTier" "words" 0 1.5 ! from, to
        4 intervals: 0 .5 "" 0.5 8e-1 "Hello" 0.80 1.2 "say ""so""" 1.2 1.5 ""
    '''
    chronological = '''"Praat chronological TextGrid text file"
        0 1.5 ! Time domain.
        2 ! Number of tiers.
        "IntervalTier" "words" 0 1.5
        "TextTier" "bell" 0 1.5
        1 0 0.5 ""
        2 0.3 "ding"
        1 0.5 0.8 "Hello"
        1 0.8 1.2 "say ""so"""
        1 1.2 1.5 ""
    '''
    for text in (free, chronological):
        raw = alignments.read(write(tmp_path / "a.TextGrid", text))
        assert raw.tiers == (WANTED[0],)
        assert (raw.start, raw.end) == (0, 24000)


def test_binary_files_and_other_objects_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "b.TextGrid"
    path.write_bytes(b"ooBinaryFile\x08TextGrid\0\0\0\0\0\0\0\0\x3f\xf0\0\0\0\0\0\0\1")
    with pytest.raises(StrataError, match=r"b\.TextGrid: .*binary"):
        alignments.read(path)
    write(path, 'File type = "ooTextFile"\nObject class = "PitchTier"\n0\n1\n')
    with pytest.raises(StrataError, match=r'it holds a "PitchTier", not a TextGrid'):
        alignments.read(path)


def test_latin_1_is_an_error_that_says_what_to_do(tmp_path) -> None:
    path = write(tmp_path / "l.TextGrid", long_format({"words": [(0, 1, "é")]}), "latin-1")
    with pytest.raises(StrataError, match=r"not UTF-8.*save again"):
        alignments.read(path)


def test_json_as_on_the_hub_and_as_mfa_writes_it(tmp_path) -> None:
    hub = {
        "words": [{"word": w, "start": s, "end": e} for s, e, w in WORDS],
        "phones": [{"phoneme": p, "start": s, "end": e} for s, e, p in PHONES],
    }
    tiers = {"words": {"type": "interval", "entries": WORDS}}
    tiers |= {"phones": {"type": "interval", "entries": PHONES}}
    for tier in tiers.values():
        tier["type"] = "IntervalTier"
    mfa = {"start": 0, "end": 1.5, "tiers": tiers}
    listed = [{"class": "IntervalTier", "name": n, **t} for n, t in tiers.items()]
    praatio = {"xmin": 0, "xmax": 1.5, "tiers": listed}
    for content in (hub, mfa, praatio):
        assert alignments.read(write(tmp_path / "a.json", json.dumps(content))).tiers == WANTED


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "[" * 100000, '{"tiers": 3}', '{"words": 3}', '{"words": [3]}'),
        '{"words": [{"word": "a", "start": 1}]}',
        '{"words": [{"word": "a", "start": 1, "end": Infinity}]}',
        '{"words": [{"word": [], "start": 1, "end": 2}]}',
    ],
)
def test_other_json_is_an_error(tmp_path, text) -> None:
    with pytest.raises(StrataError, match=r"a\.json"):
        alignments.read(write(tmp_path / "a.json", text))


def test_timit_times_are_samples(tmp_path) -> None:
    path = write(tmp_path / "SX1.PHN", "0 2260 h#\n2260 3000 sh\r\n\n")
    assert alignments.read(path).tiers == (
        ("phn", (Interval(0, 2260, "h#"), Interval(2260, 3000, "sh"))),
    )
    with pytest.raises(StrataError, match=r"SX1\.PHN, line 1: '0\.1 0\.2 sh' is not"):
        alignments.read(write(tmp_path / "SX1.PHN", "0.1 0.2 sh\n"))
    with pytest.raises(StrataError, match=r"SX1\.PHN, line 1"):
        alignments.read(write(tmp_path / "SX1.PHN", "0 2² sh\n"))


@pytest.mark.parametrize(
    ("names", "kind", "pattern", "found"),
    [
        (["phones", "words"], "word", None, 1),
        (["Words"], "word", None, 0),
        (["ORT", "ORT-MAU", "KAN-MAU", "MAU"], "word", None, 1),
        (["ORT", "KAN", "MAU"], "word", None, 0),
        (["ORT", "KAN", "MAU"], "phone", None, 2),
        (["anna - words", "anna - phones"], "phone", None, 1),
        (["anna - words", "bob - words"], "word", None, 0),
        (["bob - words"], "word", None, 0),
        (["segments"], "phone", None, 0),
        (["sentence"], "word", None, None),
        (["words", "my words"], "word", "my .*", 1),
        (["anna!", "bob!"], "word", "{speaker}!", 0),
    ],
)
def test_tiers_are_found_by_name(names, kind, pattern, found) -> None:
    tiers = tuple((name, ()) for name in names)
    assert alignments.select(tiers, kind, pattern, "anna", Path("a.TextGrid")) == found


def test_two_fitting_tiers_are_an_error() -> None:
    tiers = (("bob - words", ()), ("carl - words", ()))
    with pytest.raises(StrataError, match=r"2 tiers fit as word tier .*dataset\.word_tier=REGEX"):
        alignments.select(tiers, "word", None, "anna", Path("a.TextGrid"))


def test_a_tier_is_normalised_clipped_and_counted() -> None:
    raw = [
        Interval(0, 10, "sil"),
        Interval(10, 20, "AH1"),
        Interval(20, 20, "T"),
        Interval(20, 15, "D"),
        Interval(20, 30, "spn"),
        Interval(30, 50, "S_E"),
        Interval(60, 61, "Z"),
    ]
    dropped: Counter[str] = Counter()
    tier = alignments.tier("phone", raw, 49, "here", dropped)
    assert tier == (Interval(10, 20, "ah"), Interval(30, 49, "s"))
    assert dropped == {
        "phone: silence": 1,
        "phone: unknown": 1,
        "phone: no length": 2,
        "phone: clipped to the audio (kept)": 1,
        "phone: beyond the audio": 1,
    }


@pytest.mark.parametrize("second", [Interval(5000, 20000, "b"), Interval(0, 3200, "b")])
def test_overlap_and_disorder_are_errors_with_times(second) -> None:
    with pytest.raises(StrataError, match=r"x\.TextGrid: word 'b' \(.* s\) begins before 'a' \("):
        alignments.tier("word", [Interval(3200, 8000, "a"), second], None, "x.TextGrid", Counter())


def test_overlap_is_kept_where_the_corpus_means_it() -> None:
    raw = [Interval(0, 100, "had"), Interval(90, 200, "your")]
    assert alignments.tier("word", raw, None, "x", Counter(), overlap=True) == tuple(raw)
    with pytest.raises(StrataError, match="begins before"):
        alignments.tier("word", raw[::-1], None, "x", Counter(), overlap=True)


def test_neighbours_share_up_to_ten_milliseconds() -> None:
    raw = [Interval(0, 1760, "a"), Interval(1600, 3200, "b"), Interval(3199, 4000, "c")]
    dropped: Counter[str] = Counter()
    kept = alignments.tier("word", raw, None, "x", dropped)
    assert kept == (Interval(0, 1680, "a"), Interval(1680, 3200, "b"), Interval(3199, 4000, "c"))
    assert dropped == {"word: shares up to 10 ms with its neighbour (kept, halved)": 1}
    for other in (Interval(1500, 3200, "b"), Interval(1700, 1750, "b"), Interval(0, 3200, "b")):
        with pytest.raises(StrataError, match="begins before"):
            alignments.tier("word", [raw[0], other], None, "x", Counter())


def test_a_tenth_beyond_the_audio_is_an_error() -> None:
    raw = [Interval(k * 1000, (k + 1) * 1000, "a") for k in range(20)]
    assert len(alignments.tier("word", raw, 18_100, "x", Counter())) == 19
    with pytest.raises(StrataError, match=r"x: 0\.125 of 1\.25 s of its words lie beyond"):
        alignments.tier("word", raw, 18_000, "x", Counter())


def test_negative_starts_are_errors() -> None:
    with pytest.raises(StrataError, match=r"starts at -1 s, before the audio"):
        alignments.tier("word", [Interval(-16000, 8000, "a")], None, "x", Counter())


@pytest.mark.parametrize("label", ARPABET)
def test_normalising_strips_stress_and_position(label) -> None:
    for written in (label, label.upper(), f" {label}0", f"{label}1_B", f"{label}_S"):
        assert normalise(written) == label
    assert normalise(str(normalise(label))) == label


def test_silences_of_every_convention_are_dropped() -> None:
    bracketed = "<p:> <eps> [noise] {SL} ++BREATH++ <VOCNOISE-laughter> [SIL] <unk> +noise+"
    for label in ("", " ", "sil", "SP", "spn", "h#", "pau", *bracketed.split()):
        assert normalise(label) is None
        assert normalise_word(label) is None
    assert normalise("noise") is None
    assert normalise_word("NOISE") == "noise"
    assert normalise_word("Silence") == "silence"
    assert normalise("ɹ") == "ɹ"
    assert normalise("dx") == "dx"


labels = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8).map(str.strip)
cuts = st.lists(st.integers(1, 160000), min_size=1, max_size=12, unique=True).map(sorted)


@given(cuts, st.data(), st.sampled_from([long_format, short_format]))
def test_intervals_survive_a_textgrid_to_the_sample(tmp_path_factory, times, data, form) -> None:
    starts = [0, *times[:-1]]
    wanted = tuple(Interval(s, e, data.draw(labels)) for s, e in zip(starts, times, strict=True))
    rows = [(i.start / 16000, i.end / 16000, i.label) for i in wanted]
    path = tmp_path_factory.getbasetemp() / "roundtrip.TextGrid"
    raw = alignments.read(write(path, form({"words": rows})))
    assert raw.tiers == (("words", wanted),)
    dropped: Counter[str] = Counter()
    kept = alignments.tier("word", raw.tiers[0][1], times[-1], path, dropped)
    assert len(kept) + sum(dropped.values()) == len(wanted)
