"""Tables of labels: of utterances, speakers and stretches, and what is wrong with them."""

from pathlib import Path

import pytest

from common.datasets.label_tables import columns_of, read_labels
from common.records import Interval, StrataError


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_of_utterances_speakers_and_stretches(tmp_path: Path) -> None:
    of_speakers = read_labels(written(tmp_path, "speaker,age\na,3\nb,\n"), 1, "k", "age")
    assert (of_speakers.by, dict(of_speakers.values)) == ("speaker", {"a": "3", "b": ""})
    text = "speaker\tutterance\tx\na\tu1\t é \n"
    of_utterances = read_labels(written(tmp_path, text, "t.tsv"), 1, "k", "x")
    assert (of_utterances.by, dict(of_utterances.values)) == ("utterance", {"u1": "é"})
    text = "utterance,start,end,x\nu,0.5,1,b\nu,0,0.5,a\nv,0,1,\n"
    stretches = read_labels(written(tmp_path, text, "s.csv"), 1, "k", "x")
    assert stretches.by == "segment"
    assert stretches.intervals["u"] == (Interval(0, 8000, "a"), Interval(8000, 16000, "b"))
    assert stretches.intervals["v"] == ()


HOSTILE = {
    "speaker,age\na,1\na,2\n": "line 3: a has a line already",
    "utterance,start,end,age\nu,0,0.5,a\nu,0.4,1,b\n": r"u has 'a' and 'b' at 0\.4 s",
    "utterance,start,end,age\nu,1,1,a\n": "line 2: start '1' and end '1' are no stretch of time",
    "utterance,start,end,age\nu,-1,1,a\n": "no stretch of time",
    "utterance,start,end,age\nu,x,1,a\n": "no stretch of time",
    "utterance,start,end,age\nu,0,,a\n": "no stretch of time",
    "utterance,start,end,age\nu,nan,inf,a\n": "no stretch of time",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_wrong_is_told_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=HOSTILE[text]):
        read_labels(written(tmp_path, text), 1, "k", "age")


def test_columns(tmp_path: Path) -> None:
    assert columns_of(written(tmp_path, "speaker,age\n"), "k") == ["speaker", "age"]
    with pytest.raises(StrataError, match=r"k=.*must name a column utterance or speaker.*has a, b"):
        columns_of(written(tmp_path, "a,b\n"), "k")
    with pytest.raises(StrataError, match="it has nothing"):
        columns_of(written(tmp_path, ""), "k")
    with pytest.raises(StrataError, match=r"k=.*there is no such file"):
        columns_of(tmp_path / "absent.csv", "k")
    (tmp_path / "bad.csv").write_bytes(b"speaker,\xff\xe9\n")
    with pytest.raises(StrataError, match="UTF-8"):
        columns_of(tmp_path / "bad.csv", "k")
