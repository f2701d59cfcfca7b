"""Corpora that list their utterances: CTM, Buckeye, EmoDB, Kaldi, NeMo, Lhotse, ELAN, Hub."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speech import write_audio

from common.datasets.buckeye import Buckeye
from common.datasets.ctm import Ctm
from common.datasets.elan import Elan
from common.datasets.emodb import EmoDb
from common.datasets.hub import Hub
from common.datasets.kaldi import Kaldi
from common.datasets.lhotse import Lhotse
from common.datasets.nemo import Nemo
from common.records import Corpus, Interval, StrataError

WORDS = (Interval(1600, 6400, "she"), Interval(6400, 14_400, "had"))
PHONES = ("sh", "iy", "hh", "ae", "d")
TIMES = (1600, 3200, 6400, 8000, 11_200, 14_400)
SPOKEN = tuple(Interval(a, b, p) for a, b, p in zip(TIMES, TIMES[1:], PHONES, strict=False))


def ctm_lines(name: str, intervals: tuple[Interval, ...], shift: float = 0.0) -> str:
    rows = (
        f"{name} 1 {i.start / 16_000 + shift:.3f} {(i.end - i.start) / 16_000:.3f} {i.label} 0.9"
        for i in intervals
    )
    return "\n".join(rows) + "\n"


def both(corpus: Corpus, n: int = 2) -> Corpus:
    """The corpus, each utterance of which has the words and phones above."""
    assert len(corpus.utterances) == n
    for one in corpus.utterances:
        assert one.tiers["word"] == WORDS
        assert one.tiers["phone"] == SPOKEN
        assert pickle.loads(pickle.dumps(one)).read().shape == (one.n_samples,)
    return corpus


# CTM


@pytest.fixture
def ctm(tmp_path: Path) -> Path:
    for seed, name in enumerate(("anna-1", "bert-1")):
        write_audio(tmp_path / f"audio/{name}.wav", seed)
    rows = [ctm_lines(name, WORDS) for name in ("anna-1", "bert-1")]
    (tmp_path / "words.ctm").write_text(";; a comment\n" + "".join(rows))
    rows = [ctm_lines(name, SPOKEN) for name in ("anna-1", "bert-1")]
    (tmp_path / "phones.ctm").write_text("".join(rows))
    return tmp_path


def read_ctm(root: Path, **keys: Any) -> Corpus:
    files = {"words": str(root / "words.ctm"), "phones_file": str(root / "phones.ctm")}
    defaults = {"audio_root": str(root / "audio"), "speaker": "prefix", "licence": "mine"}
    return Ctm(**(defaults | files | {"phones": "arpabet"} | keys)).read()


def test_ctm(ctm: Path) -> None:
    corpus = both(read_ctm(ctm))
    assert [(u.id, u.speaker, u.text) for u in corpus.utterances] == [
        ("anna-1", "anna", "she had"),
        ("bert-1", "bert", "she had"),
    ]
    again = read_ctm(ctm, phones_file=None)
    assert set(again.utterances[0].tiers) == {"word"}
    assert again.fingerprint != corpus.fingerprint
    assert len(read_ctm(ctm, limit=1).utterances) == 1


def test_ctm_counts_what_has_no_partner(ctm: Path) -> None:
    write_audio(ctm / "audio/carl-1.wav", 3)
    with (ctm / "words.ctm").open("a") as file:
        file.write(ctm_lines("dora-1", WORDS))
    dropped = read_ctm(ctm).dropped
    assert dropped["utterance: audio without alignment"] == 1
    assert dropped["utterance: alignment without audio"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("anna-1 1 0.1 0.3", r"line 5: 'anna-1 1 0.1 0.3' is no line of a CTM"),
        ("anna-1 1 zero 0.3 she", r"line 5: .*NAME CHANNEL START DURATION LABEL"),
        ("anna-1 1 1e99 0.3 she", r"line 5: .*no time in a recording"),
        ("anna-1 2 0.1 0.3 she", r"line 5: anna-1 has the channels 1 and 2"),
        ("anna-1 1 5.0 0.3 she", r"lie beyond the audio"),
        ("anna-1 1 0.15 0.4 she", r"word .she. .* begins before .she."),
    ],
)
def test_hostile_ctm(ctm: Path, line: str, message: str) -> None:
    file = ctm / "words.ctm"
    file.write_text(file.read_text().rstrip("\n") + f"\n{line}\n", encoding="utf-8")
    file.write_text(file.read_text().replace(";; a comment\n", ""))
    with pytest.raises(StrataError, match=message):
        read_ctm(ctm)


def test_ctm_of_other_audio_and_nothing_asked(ctm: Path) -> None:
    text = (ctm / "words.ctm").read_text()
    (ctm / "words.ctm").write_text(text.replace("-1 ", "-9 "))
    (ctm / "phones.ctm").write_text("")
    with pytest.raises(StrataError, match=r"none of 2 recordings .*anna-9.*anna-1"):
        read_ctm(ctm)
    with pytest.raises(StrataError, match="both null"):
        read_ctm(ctm, words=None, phones_file=None)
    with pytest.raises(StrataError, match=r"dataset.words=/nowhere: no such file"):
        read_ctm(ctm, words="/nowhere")


# Buckeye and EmoDB


def xlabel(intervals: tuple[Interval, ...], after: str = "") -> str:
    lines = [f"   {i.end / 16_000:.6f}  122 {i.label}{after}" for i in intervals]
    head = ["signal s0101a", "type 0", "color 121", "separator ;", "nfields 1", "#"]
    return "\n".join([*head, "    0.100000  122 {B_TRANS}", *lines, "  0.95 122 <SIL>"]) + "\n"


@pytest.fixture
def buckeye(tmp_path: Path) -> Path:
    folder = tmp_path / "s01"
    write_audio(folder / "s0101a.wav")
    (folder / "s0101a.words").write_text(xlabel(WORDS, "; sh iy; sh iy; PRP"))
    (folder / "s0101a.phones").write_text(xlabel(SPOKEN, "; *"))
    return tmp_path


def test_buckeye(buckeye: Path) -> None:
    (one,) = both(Buckeye(root=str(buckeye)).read(), 1).utterances
    assert (one.id, one.speaker, one.text) == ("s0101a", "s01", "she had")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no header", "no line `#`"),
        ("#\n 0.5 122 a\n 0.4 122 b\n", r"line 3: .*earlier than the line before"),
        ("#\n half 122 a\n", r"line 2: .*not END COLOUR LABEL"),
        (None, r"no s0101a.words beside it"),
    ],
)
def test_hostile_buckeye(buckeye: Path, content: str | None, message: str) -> None:
    path = buckeye / "s01/s0101a.words"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(StrataError, match=message):
        Buckeye(root=str(buckeye)).read()
    write_audio(buckeye / "s02/s0201a.wav", 1)
    for suffix in (".words", ".phones"):
        (buckeye / f"s02/s0201a{suffix}").write_text(xlabel(SPOKEN))
    kept = Buckeye(root=str(buckeye)).read("skip")
    assert [one.id for one in kept.utterances] == ["s0201a"]
    assert kept.dropped["utterance: a file of it could not be read"] == 1


def test_emodb(tmp_path: Path) -> None:
    write_audio(tmp_path / "wav/03a01Fa.wav")
    (tmp_path / "lablaut").mkdir()
    (tmp_path / "lablaut/03a01Fa.lablaut").write_text(xlabel(SPOKEN))
    corpus = EmoDb(root=str(tmp_path), suffix="lablaut", licence="x", phones="as_is").read()
    (one,) = corpus.utterances
    assert one.tiers["phone"] == SPOKEN
    assert one.speaker == "03"
    assert one.attributes == {"sentence": "a01", "emotion": "happiness", "gender": "m"}
    with pytest.raises(StrataError, match=r"no sound file with a .labsilb file .*\(0 of those"):
        EmoDb(root=str(tmp_path), suffix="labsilb", licence="x").read()


# Kaldi


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    """A recording of three seconds, of which two stretches are utterances."""
    write_audio(tmp_path / "audio/call.wav", 5, seconds=3)
    for name, content in {
        "wav.scp": "call audio/call.wav\n",
        "segments": "anna-1 call 0.5 1.5\nbert-1 call 2.0 -1\n",
        "utt2spk": "anna-1 anna\nbert-1 bert\n",
        "text": "anna-1 She had.\nbert-1 She had.\n",
        "spk2gender": "anna f\nbert m\n",
        "words.ctm": ctm_lines("call", WORDS, 0.5) + ctm_lines("call", WORDS, 2.0),
        "phones.ctm": ctm_lines("anna-1", SPOKEN) + ctm_lines("bert-1", SPOKEN),
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def read_kaldi(root: Path, **keys: Any) -> Corpus:
    defaults = {"root": str(root), "audio_root": str(root), "licence": "mine", "phones": "arpabet"}
    files = {"words": str(root / "words.ctm"), "phones_file": str(root / "phones.ctm")}
    return Kaldi(**(defaults | files | keys)).read()


def test_kaldi(kaldi: Path) -> None:
    anna, bert = both(read_kaldi(kaldi)).utterances
    whole, _ = soundfile.read(kaldi / "audio/call.wav", dtype="float32")
    assert np.array_equal(anna.read(), whole[8000:24_000])
    assert np.array_equal(bert.read(), whole[32_000:])
    assert (anna.speaker, anna.text, anna.attributes) == ("anna", "She had.", {"gender": "f"})
    (kaldi / "segments").unlink()
    (one,) = read_kaldi(kaldi, phones_file=None).utterances
    assert (one.id, one.n_samples, len(one.tiers["word"])) == ("call", 48_000, 4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wav.scp", "call sph2pipe -f wav call.sph |\n", r"output of a command .*does not run"),
        ("wav.scp", "other audio/call.wav\n", r"no call, of which anna-1 is"),
        ("wav.scp", "call audio/call.wav\ncall audio/call.wav\n", r"line 2: call is there twice"),
        ("wav.scp", "call audio/nothing.wav\n", r"nothing.wav"),
        ("segments", "anna-1 call 0.5\n", r"anna-1 'call 0.5': each line is UTTERANCE RECORDING"),
        ("segments", "anna-1 call 0.5 9\n", r"ends at 9 s, and .*call.wav at 3 s"),
        ("segments", "anna-1 call 1.5 0.5\n", r"no stretch of time"),
    ],
)
def test_hostile_kaldi(kaldi: Path, name: str, content: str, message: str) -> None:
    (kaldi / name).write_text(content)
    with pytest.raises(StrataError, match=message):
        read_kaldi(kaldi)


# NeMo and Lhotse


@pytest.fixture
def nemo(tmp_path: Path) -> Path:
    rows = []
    for seed, name in enumerate(("a", "b")):
        write_audio(tmp_path / f"audio/{name}.wav", seed)
        (tmp_path / f"{name}.words.ctm").write_text(ctm_lines(name, WORDS))
        blank = (Interval(0, 1600, "<b>"), *SPOKEN)
        (tmp_path / f"{name}.tokens.ctm").write_text(ctm_lines(name, blank))
        row = {"audio_filepath": f"audio/{name}.wav", "duration": 1.0, "text": "she had"}
        row |= {"speaker": f"s{seed}", "words_level_ctm_filepath": f"{name}.words.ctm"}
        rows.append(row | {"tokens_level_ctm_filepath": f"{name}.tokens.ctm"})
    (tmp_path / "manifest.json").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "manifest.json"


def read_nemo(manifest: Path, **keys: Any) -> Corpus:
    defaults = {
        "speaker_key": "speaker",
        "tokens_are_phones": True,
        "licence": "x",
        "phones": "arpabet",
    }
    return Nemo(manifest=str(manifest), **(defaults | keys)).read()


def test_nemo(nemo: Path) -> None:
    corpus = both(read_nemo(nemo))
    assert [(u.id, u.speaker, u.text) for u in corpus.utterances] == [
        ("a", "s0", "she had"),
        ("b", "s1", "she had"),
    ]
    assert set(read_nemo(nemo, tokens_are_phones=False).utterances[0].tiers) == {"word"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"audio_filepath": "audio/a.wav", "duration"', "not a JSON object a line"),
        ("[1]", "line 1 is no object"),
        ('{"duration": 1.0}', "lacks or garbles one of audio_filepath"),
        ('{"audio_filepath": "audio/a.wav", "duration": "long"}', "lacks or garbles"),
        ('{"audio_filepath": "audio/a.wav", "duration": 1}', "has no speaker"),
        ('{"audio_filepath": "audio/a.wav", "offset": 3, "speaker": 1}', "no stretch of time"),
        ("", "no utterance is listed"),
    ],
)
def test_hostile_nemo(nemo: Path, content: str, message: str) -> None:
    nemo.write_text(content)
    with pytest.raises(StrataError, match=message):
        read_nemo(nemo)


@pytest.fixture
def lhotse(tmp_path: Path) -> Path:
    path = write_audio(tmp_path / "audio/call.wav", 5, seconds=3)
    source = {"type": "file", "channels": [0], "source": str(path.relative_to(tmp_path))}
    recording = {"id": "call", "sources": [source], "sampling_rate": 16_000, "duration": 3.0}
    rows = []
    for id, start in (("anna-1", 0.5), ("bert-1", 2.0)):
        alignment = {
            name: [
                [i.label, start + i.start / 16_000, (i.end - i.start) / 16_000, 0.5] for i in tier
            ]
            for name, tier in (("word", WORDS), ("phone", SPOKEN))
        }
        row = {"id": id, "recording_id": "call", "start": start, "duration": 1.0, "channel": 0}
        rows.append(row | {"speaker": id[:4], "gender": "f", "alignment": alignment})
    (tmp_path / "recordings.jsonl").write_text(json.dumps(recording))
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "supervisions.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def read_lhotse(root: Path, **keys: Any) -> Corpus:
    defaults = {"recordings": str(root / "recordings.jsonl"), "audio_root": str(root)}
    defaults |= {"supervisions": str(root / "supervisions.jsonl.gz"), "licence": "x"}
    names = {"word_alignment": "word", "phone_alignment": "phone", "phones": "arpabet"}
    return Lhotse(**(defaults | names | keys)).read()


def test_lhotse(lhotse: Path) -> None:
    anna, _ = both(read_lhotse(lhotse)).utterances
    assert (anna.id, anna.speaker, anna.text) == ("anna-1", "anna", "she had")
    assert anna.attributes == {"gender": "f"}
    corpus = read_lhotse(lhotse, phone_alignment="phoneme")
    assert corpus.dropped["phone: no such alignment of the supervision"] == 2


def test_hostile_lhotse(lhotse: Path) -> None:
    file = lhotse / "supervisions.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    for change, message in (
        ({"recording_id": "other"}, r"anna-1 is of the recording other, which is not among the 1"),
        ({"start": None}, "lacks or garbles"),
        ({"alignment": {"word": [["she"]]}}, "lacks or garbles"),
        ({"id": "bert-1"}, "bert-1 is listed twice"),
    ):
        text = "\n".join(map(json.dumps, [rows[0] | change, rows[1]]))
        file.write_bytes(gzip.compress(text.encode()))
        with pytest.raises(StrataError, match=message):
            read_lhotse(lhotse)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StrataError, match="not a JSON object a line"):
        read_lhotse(lhotse)


# ELAN


def eaf(path: Path) -> Path:
    """Words with times; phones that divide their word's time, without times of their own."""
    slots = [("ts1", 100), ("ts2", 400), ("ts3", 400), ("ts4", 900)]
    words = [("a1", "ts1", "ts2", "She"), ("a2", "ts3", "ts4", "had")]
    inner = [("a3", "ts1", "p1", "SH"), ("a4", "p1", "ts2", "IY1")]
    inner += [("a5", "ts3", "p2", "HH"), ("a6", "p2", "p3", "AE1"), ("a7", "p3", "ts4", "D")]
    order = [*slots[:1], ("p1", None), *slots[1:3], ("p2", None), ("p3", None), slots[3]]
    times = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"'
        + (f' TIME_VALUE="{value}"' if value is not None else "")
        + "/>"
        for name, value in order
    )

    def tier(name: str, rows: list[tuple[str, str, str, str]], more: str = "") -> str:
        annotations = "".join(
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{i}" TIME_SLOT_REF1="{a}" '
            f'TIME_SLOT_REF2="{b}"><ANNOTATION_VALUE>{t}</ANNOTATION_VALUE>'
            "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            for i, a, b, t in rows
        )
        return f'<TIER LINGUISTIC_TYPE_REF="default" TIER_ID="{name}"{more}>{annotations}</TIER>'

    parent = ' PARENT_REF="words"'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT AUTHOR="" DATE="" FORMAT="3.0" '
        'VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>'
        f"<TIME_ORDER>{times}</TIME_ORDER>{tier('words', words)}{tier('phones', inner, parent)}"
        '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default" '
        'TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>'
    )
    return path


def read_elan(root: Path, **keys: Any) -> Corpus:
    defaults = {
        "audio_root": str(root),
        "alignment_root": None,
        "word_tier": None,
        "phone_tier": None,
    }
    return Elan(
        **(defaults | {"speaker": "folder", "licence": "x", "phones": "arpabet"} | keys)
    ).read()


def test_elan(tmp_path: Path) -> None:
    write_audio(tmp_path / "anna/a1.wav")
    eaf(tmp_path / "anna/a1.eaf")
    corpus = read_elan(tmp_path)
    (one,) = corpus.utterances
    assert corpus.name == "elan"
    assert one.tiers["word"] == WORDS
    assert one.tiers["phone"] == (
        Interval(1600, 4000, "sh"),
        Interval(4000, 6400, "iy"),
        Interval(6400, 9067, "hh"),
        Interval(9067, 11_733, "ae"),
        Interval(11_733, 14_400, "d"),
    )
    assert one.speaker == "anna"


def test_hostile_elan(tmp_path: Path) -> None:
    write_audio(tmp_path / "anna/a1.wav")
    path = eaf(tmp_path / "anna/a1.eaf")
    whole = path.read_text()
    for content in ("", whole[:900], "<html></html>", whole.replace('ID="p1"', 'ID="p9"')):
        path.write_text(content)
        with pytest.raises(StrataError, match=r"a1.eaf: ELAN's file cannot be read"):
            read_elan(tmp_path)
    path.unlink()
    with pytest.raises(StrataError, match=r"0 .eaf files below"):
        read_elan(tmp_path)


# The Hub


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder as a data set of the Hub has it: parquet with encoded audio and intervals."""
    import pyarrow
    from pyarrow import parquet

    rows = []
    for seed, name in enumerate(("a", "b")):
        encoded = write_audio(tmp_path / f"wav/{name}.wav", seed).read_bytes()
        words = [{"word": i.label, "start": i.start / 16, "end": i.end / 16} for i in WORDS]
        phones = [{"word": i.label, "start": i.start / 16, "end": i.end / 16} for i in SPOKEN]
        row = {"audio": {"bytes": encoded, "path": f"{name}.wav"}, "name": name, "who": f"s{seed}"}
        rows.append(row | {"words": words, "phones": phones, "sex": "f"})
    (tmp_path / "set/data").mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "set/data/train-00000-of-00001.parquet")
    return tmp_path / "set"


def read_hub(root: Path, **keys: Any) -> Corpus:
    named = {"audio": "audio", "id": "name", "speaker": "who", "text": None, "words": "words"}
    defaults = {"repo_id": str(root), "subset": None, "revision": "main", "partition": "train"}
    times = {"label": None, "start": "start", "end": "end", "times_per_second": 1000}
    more = {"phones_column": "phones", "attribute_columns": ["sex"], "licence": "x"}
    return Hub(**(named | defaults | times | more | {"phones": "arpabet"} | keys)).read()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("hub_cache")
def test_hub(hub: Path) -> None:
    corpus = both(read_hub(hub))
    one = corpus.utterances[0]
    assert (one.id, one.speaker, one.text, one.attributes) == ("a", "s0", "she had", {"sex": "f"})
    assert [u.id for u in read_hub(hub, id=None).utterances] == ["000000", "000001"]
    for keys, message in (
        ({"words": "wrds"}, r"no column wrds; it has audio, name"),
        ({"start": "begin"}, r"row 0, words: .*dataset.label, dataset.start"),
        ({"times_per_second": 1}, "beyond the audio"),
        ({"id": "sex"}, "2 names|1 names stand for several rows, such as f"),
        ({"partition": "dev"}, "split dev"),
    ):
        with pytest.raises(StrataError, match=message):
            read_hub(hub, **keys)
