"""Attributes of speakers and utterances from a table, as labels of units."""

from pathlib import Path

import pytest
from running import execute

from common.datasets.label_tables import read_attributes, with_attributes
from common.records import Corpus, StrataError, Utterance


def corpus() -> Corpus:
    made = [Utterance(f"u{k}", f"s{k % 2}", "", 16_000, {}, None) for k in range(4)]
    return Corpus("toy", "all", "none", tuple(made), {}, "fingerprint")


def table(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_attributes_are_those_of_the_speaker_or_of_the_utterance(tmp_path: Path) -> None:
    by_speaker = table(tmp_path, "a.tsv", "speaker\tgender\tage\ns0\tf\t21\ns1\tm\t\n")
    found = with_attributes(corpus(), by_speaker)
    assert [u.attribute("gender") for u in found.utterances] == ["f", "m", "f", "m"]
    assert [u.attribute("age") for u in found.utterances] == ["21", "", "21", ""]
    assert found.utterances[0].attribute("speaker") == "s0"
    by_utterance = table(tmp_path, "a.csv", "utterance,emotion\nu1,joy\nu2,fear\n")
    found = with_attributes(corpus(), by_utterance)
    assert [u.attribute("emotion") for u in found.utterances] == ["", "joy", "fear", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has nothing"),
        ("name\tgender\ns0\tf\n", "column utterance or speaker .* tabs; it has name, gender"),
        ("speaker\tgender\nx\tf\n", "no speaker of toy .* it has x, the corpus s0, s1"),
        ("speaker\tgender\ns0\tf\ns0\tm\n", "line 3: s0 has a line already"),
    ],
)
def test_tables_of_no_use_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=message):
        with_attributes(corpus(), table(tmp_path, "a.tsv", text))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="there is no such file"):
        read_attributes(tmp_path / "none.tsv")


@pytest.mark.slow
def test_an_attribute_is_probed_like_any_label(
    common: tuple[str, ...], cache: str, tmp_path: Path, speech: Path
) -> None:
    speakers = sorted(path.name for path in (speech / "audio").iterdir())
    lines = [f"{name}\t{'fm'[k % 2]}" for k, name in enumerate(speakers)]
    attributes = table(tmp_path, "s.tsv", "\n".join(["speaker\tgender", *lines]) + "\n")
    chosen = (f"dataset.attributes={attributes}", "sampling.folds=5")
    run = execute(tmp_path / "run", "experiment=probe_gender", *common, cache, *chosen)
    assert set(run.rows["target"]) == {"gender"}
    assert run.rows["value"].between(0, 1).all()
    with pytest.raises(StrataError, match=r"have no gender .* knows of speaker"):
        execute(tmp_path / "without", "experiment=probe_gender", *common, cache, *chosen[1:])
