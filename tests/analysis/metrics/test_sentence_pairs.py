"""Tables of sentence pairs, and the recordings that belong to their sentences."""

from pathlib import Path

import pytest

from analysis.targets.sentence_pairs import SentenceTable, plain, read_pairs
from common.records import StrataError


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_commas_tabs_quotes_and_columns_of_no_interest(tmp_path: Path) -> None:
    by_id = read_pairs(written(tmp_path, "a.csv", "n,score,id_b,id_a\n1,4.5,s2,s1\n2,0,s3,s1\n"))
    assert by_id == SentenceTable("id", ("s1", "s1"), ("s2", "s3"), (4.5, 0.0))
    text = 'text_a\ttext_b\tscore\n"A man, eating."\tA Man  eats\t3.2\n'
    by_text = read_pairs(written(tmp_path, "b.tsv", "\ufeff" + text))
    assert by_text == SentenceTable("text", ("a man eating",), ("a man eats",), (3.2,))


def test_a_recording_is_of_the_longest_sentence_id_that_its_name_starts_with() -> None:
    pairs = SentenceTable("id", ("12", "12-a"), ("12-b", "7"), (1.0, 2.0))
    named = {"12-a_jane": "12-a", "12-a-2_jane": "12-a", "12_joe": "12", "12-c_joe": "12"}
    for id, sentence in named.items():
        assert pairs.sentence_of(id, "") == sentence
    assert pairs.sentence_of("speaker1/7", "") == "7"
    assert [pairs.sentence_of(id, "") for id in ("123_joe", "a_12", "", "_12")] == [None] * 4


def test_a_recording_is_of_the_sentence_that_its_transcript_is() -> None:
    pairs = SentenceTable("text", (plain("It's late."),), (plain("Go home!"),), (1.0,))
    assert pairs.sentence_of("x", "IT’S   LATE") == "it's late"
    assert pairs.sentence_of("x", "it is late") is None
    assert pairs.sentence_of("x", "") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns id_a, id_b .* separated by commas; it has nothing"),
        ("id_a\tid_b\tscore\n", "it has 'id_a.tid_b.tscore'"),
        ("id_a,text_b,score\na,b,1\n", "it has 'id_a', 'text_b', 'score'"),
        ("id_a,id_b,score\n", "a header and no pairs"),
        ("id_a,id_b,score\na,b,1\nc,d,high\n", "line 3: 'c', 'd', 'high'"),
        ("id_a,id_b,score\na,b\n", "line 2: 'a', 'b', None"),
        ("id_a,id_b,score\na,,2\n", "line 2"),
        ("id_a,id_b,score\na,b,nan\n", "line 2"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        read_pairs(written(tmp_path, "pairs.csv", text))


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(StrataError, match=r"nowhere\.csv: no such file"):
        read_pairs("nowhere.csv")


def test_tables_as_people_save_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    text = "id_a,id_b,score\na,b,1.5\n,,\n\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le"):
        path.write_bytes(text.encode(encoding))
        read_pairs.cache_clear()
        assert read_pairs(str(path)).score == (1.5,)
    for bad in (b"id_a,id_b,score\ncaf\xe9,b,1\n", b'id_a,id_b,score\n"' + b"x" * 200_000):
        path.write_bytes(bad)
        read_pairs.cache_clear()
        with pytest.raises(StrataError, match=r"pairs\.csv"):
            read_pairs(str(path))
