import gzip
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from analysis.targets import word_vectors as embeddings
from analysis.targets.word_vectors import Table, read_table
from common.records import StrataError

WORDS = ["the", "London", "london", "Paris", "nan", "7"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32)


def lines(words: list[str], vectors: np.ndarray) -> str:
    rows = (
        f"{word} {' '.join(map(repr, map(float, v)))}\n"
        for word, v in zip(words, vectors, strict=True)
    )
    return "".join(rows)


def store(folder: Path, form: str) -> Path:
    """The same table in each format."""
    path = folder / f"table.{form}"
    text = lines(WORDS, VECTORS)
    if form == "txt":
        path.write_text(text)
    elif form == "vec":
        path.write_text(f"{len(WORDS)} 4\n" + text.replace("\n", " \n"))  # as fastText writes
    elif form == "tsv":
        path.write_text(text.replace(" ", "\t"))
    elif form == "txt.gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("inside.txt", text)
    elif form == "npz":
        np.savez(path, words=np.array(WORDS), vectors=VECTORS.astype(np.float64))
    else:
        listed = np.frombuffer("\n".join(WORDS).encode(), dtype=np.uint8)
        save_file({"words": listed, "vectors": VECTORS}, path)
    return path


FORMS = ["txt", "vec", "tsv", "txt.gz", "zip", "npz", "safetensors"]


def vector(table: Table, word: str) -> np.ndarray:
    return table.vectors[table.index[word]]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_table(tmp_path: Path, form: str) -> None:
    table = read_table(store(tmp_path, form))
    assert table.words == tuple(WORDS)
    assert table.vectors.dtype == np.float32
    np.testing.assert_array_equal(table.vectors, VECTORS)
    assert table.counts == {}


@pytest.mark.parametrize("form", FORMS)
def test_own_spelling_first_then_another_case(tmp_path: Path, form: str) -> None:
    """Only rows that may be wanted are kept."""
    table = read_table(store(tmp_path, form), {"london", "paris", "rome", "7"})
    assert set(table.index) == {"london", "paris", "7"}
    assert set(table.words) == {"London", "london", "Paris", "7"}
    np.testing.assert_array_equal(vector(table, "london"), VECTORS[2])
    np.testing.assert_array_equal(vector(table, "paris"), VECTORS[3])
    assert table.counts == {"words found in another case only": 1}


def test_without_words_the_lower_case_is_found_too(tmp_path: Path) -> None:
    table = read_table(store(tmp_path, "txt"))
    assert table.index == {"the": 0, "London": 1, "london": 2, "Paris": 3, "paris": 3} | {
        "nan": 4,
        "7": 5,
    }


def test_safetensors_come_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 4)
    np.testing.assert_array_equal(read_table(store(tmp_path, "safetensors")).vectors, VECTORS)


def test_words_with_blanks_as_in_glove_840b(tmp_path: Path) -> None:
    """Their first part is no word of the table, and the numbers are the last fields."""
    words = [". . .", "at name@domain.com", "at", "1", "2 3"]
    vectors = VECTORS[: len(words)]
    (tmp_path / "glove.txt").write_text(lines(words, vectors))
    whole = read_table(tmp_path / "glove.txt")
    assert whole.words == tuple(words)
    np.testing.assert_array_equal(whole.vectors, vectors)
    some = read_table(tmp_path / "glove.txt", ["at", ". . .", "1"])
    assert some.words == (". . .", "at", "1")
    np.testing.assert_array_equal(vector(some, "at"), vectors[2])


def test_separators_of_other_scripts_stay_in_their_word(tmp_path: Path) -> None:
    words = ["a\u00a0b", "c\u2028d", "e\u0085f"]
    (tmp_path / "t.txt").write_bytes(lines(words, VECTORS[:3]).encode())
    assert read_table(tmp_path / "t.txt").words == tuple(words)


def test_repeats_and_numbers_that_are_none_are_counted(tmp_path: Path) -> None:
    text = "a 0.1 0.2\nb nan 0.3\nc 0.5 inf\na 0.7 0.8\n"
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode() + b"\xff\xfe 0.1 0.2\nd 1 2\n")
    table = read_table(path)
    assert table.words == ("a", "d")
    np.testing.assert_allclose(vector(table, "a"), [0.1, 0.2], rtol=1e-6)
    assert table.counts == {
        "repeats of a word": 1,
        "vectors with NaN or infinite numbers": 2,
        "lines that are not UTF-8": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0.1 0.2\nb 0.3\n" + "c 0.1 0.2\n" * 200, None),
        ("c 0.1 0.2\n" * 100 + "b 0.3\n", "line 101 has 1 numbers after its word where others"),
        ("c 0.1 0.2\n" * 100 + "b 0.3 0.1 0.2\n", "line 101 has 3 numbers after its word"),
        ("c 0.1 0.2\n" * 100 + "b 0.3 x\n", "line 101 has 0 numbers after its word"),
        ("c 0.1 0.2\n" * 100 + "\nb\n", "line 102 has 0 numbers after its word"),
        ("3 0\na\nb\nc\n", "states vectors of 0 numbers"),
        ("3 2\na 0.1 0.2\n", "states 3 words, it has 1: cut short"),
        ("no vectors here\n", "no words with numbers"),
        ("", "no words with numbers"),
    ],
)
def test_ragged_and_cut_files_are_errors(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "t.txt"
    path.write_text(text)
    if message is None:  # a short line among the first makes the others too long
        message = "line 1 has 2 numbers after its word where others have 1"
    with pytest.raises(StrataError, match=message):
        read_table(path)


def test_blank_lines_are_no_words(tmp_path: Path) -> None:
    for text in ("\n2 2\na 0.1 0.2\n\nb 0.3 0.4\n \n", "a 0.1 0.2\n\nb 0.3 0.4\n\n"):
        (tmp_path / "t.txt").write_text(text)
        assert read_table(tmp_path / "t.txt").words == ("a", "b")
    (tmp_path / "q.features").write_text('a\t{"x": 1}\n\nb\t{"y": 1}\n\n')
    assert read_table(tmp_path / "q.features").words == ("a", "b")


def test_what_macos_puts_into_an_archive_is_passed_over(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as bundle:
        for name in ("__MACOSX/._t.txt", "._t.txt", ".DS_Store"):
            bundle.writestr(name, "of macOS")
        bundle.writestr("t.txt", "a 0.1 0.2\n")
    assert read_table(tmp_path / "t.zip").words == ("a",)


def test_damage_within_an_archive_is_an_error(tmp_path: Path) -> None:
    """Flipped bytes raise zlib's own class, in .gz and .zip alike."""
    text = "".join(f"w{k} 0.{k} 0.{k * 7}\n" for k in range(3000)).encode()
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("t.txt", text)
    (tmp_path / "t.gz").write_bytes(gzip.compress(text))
    for name in ("t.zip", "t.gz"):
        data = bytearray((tmp_path / name).read_bytes())
        data[500:600] = bytes(100)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(StrataError, match=name):
            read_table(tmp_path / name)


def test_a_short_line_counts_even_where_its_word_is_not_wanted(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("c 0.1 0.2\n" * 100 + "b 0.3\n")
    with pytest.raises(StrataError, match="line 101"):
        read_table(tmp_path / "t.txt", ["c"])


def test_a_table_of_no_wanted_word_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"shares no word with the 2 asked for \(as chat, chien"):
        read_table(store(tmp_path, "npz"), ["chien", "chat"])


def test_pickles_are_refused(tmp_path: Path) -> None:
    """In their own files, and inside .npz."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was opened",))

    (tmp_path / "t.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StrataError, match="pickles can run code"):
        read_table(tmp_path / "t.pkl")
    np.savez(tmp_path / "t.npz", words=np.array([Bomb()], dtype=object), vectors=VECTORS[:1])
    with pytest.raises(StrataError, match="Pickled objects are not read"):
        read_table(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"words": np.array(["a"])}, "no arrays `words` and `vectors`"),
        ({"words": np.array([1]), "vectors": VECTORS[:1]}, "not .v,. strings"),
        ({"words": np.array(["a"]), "vectors": VECTORS[:2]}, r"shape \(2, 4\) for 1 words"),
        ({"words": np.array(["a"]), "vectors": np.ones((1, 2), int)}, "must be .v, d., floats"),
    ],
)
def test_arrays_of_another_shape_are_errors(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(StrataError, match=message):
        read_table(tmp_path / "t.npz")


def test_damaged_archives_are_errors(tmp_path: Path) -> None:
    for name in ("t.zip", "t.npz", "t.safetensors", "t.gz"):
        (tmp_path / name).write_bytes(b"not what its name says, by far")
        with pytest.raises(StrataError, match=name):
            read_table(tmp_path / name)
    whole = gzip.compress(lines(WORDS * 50, np.tile(VECTORS, (50, 1))).encode())
    (tmp_path / "cut.gz").write_bytes(whole[:-40])
    with pytest.raises(StrataError, match="damaged or cut short"):
        read_table(tmp_path / "cut.gz")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as bundle:
        bundle.writestr("a.txt", "a 1.0")
        bundle.writestr("b.txt", "b 1.0")
    with pytest.raises(StrataError, match=r"holds 2 files \(a.txt, b.txt\), one is read"):
        read_table(tmp_path / "two.zip")
    with pytest.raises(StrataError, match="no such file"):
        read_table(tmp_path / "absent.txt")


def test_features_of_qvec(tmp_path: Path) -> None:
    path = tmp_path / "words.features"
    entries = {"dog": {"n.animal": 1.0}, "Run": {"v.motion": 0.75, "n.act": 0.25}}
    path.write_text(
        "".join(f"{word}\t{json.dumps(features)}\n" for word, features in entries.items())
    )
    table = read_table(path, ["run"])
    np.testing.assert_array_equal(vector(table, "run"), np.array([0.25, 0, 0.75], np.float32))
    whole = path.read_text()
    for bad in ("animal", "[1]", '{"n": []}', '{"n": ' + "9" * 400 + "}", "[" * 100_000):
        path.write_text(f"{whole}cat\t{bad}\n")
        with pytest.raises(StrataError, match="line 3 is not word, tab, JSON"):
            read_table(path)


def test_the_published_tables(shared_data: Path) -> None:
    """Shares of QVEC's features sum to 1; GloVe's nearest neighbour of a king is what it is."""
    for name, shape in (
        ("ptb.pos_tags", (10865, 45)),
        ("semcor_noun_verb.supersenses.en", (4199, 41)),
    ):
        table = read_table(shared_data / "text" / "qvec" / name)
        assert table.vectors.shape == shape
        np.testing.assert_allclose(table.vectors.sum(1), 1, atol=1e-4)
    glove = read_table(shared_data / "text" / "glove.6B.50d.subset.txt")
    unit = glove.vectors / np.linalg.norm(glove.vectors, axis=1, keepdims=True)
    near = np.argsort(-unit @ unit[glove.index["king"]])[1:4]
    assert "prince" in {glove.words[i] for i in near}
