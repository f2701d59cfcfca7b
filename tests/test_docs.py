"""The documentation: its commands compose, its examples run, its error texts are the real ones."""

import ast
import csv
import json
import re
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from documentation import PAGES, blocks, commands, jobs
from marks import slow
from options import CONF
from running import ROOT, execute, resolved, write_corpus

from common.datasets.download import _parser as download_parser
from docs.reference import MARK, filled

EXTENDING = ROOT / "docs" / "extending.md"
TROUBLES = ROOT / "docs" / "troubleshooting.md"
# The commands by what is run: every one is looked at below.
RUNS = {
    " ".join(words): words
    for page in PAGES
    if page != EXTENDING
    for words in commands(page)
    if words[:2] == ["python", "run.py"]
}
OTHERS = {" ".join(words): words for page in PAGES for words in commands(page)}
OTHERS = {line: words for line, words in OTHERS.items() if words[:2] != ["python", "run.py"]}
ELSEWHERE = ("source", "wandb", "ffmpeg")  # programs that are not ours
FIRST = {" ".join(words) for words in commands(ROOT / "README.md")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands name in capitals, or say where to put."""
    folder = tmp_path_factory.mktemp("place")
    for name in (
        *("AUDIO/dev-clean", "AUDIO/dev-other", "AUDIO/test-clean", "TEXTGRIDS"),
        *("TIMIT/TRAIN", "TIMIT/TEST"),
        *("DIR/1h/0", "DIR/9h", "FOLDER", "runs/first/snapshots", "runs/first/model"),
        *("data/librispeech/LibriSpeech/dev-clean", "data/librispeech/alignments/dev-clean"),
        *("WORD_BENCHMARKS/word-similarity/monolingual/en", "data/glove", "data/agwe"),
        "qvec/oracles",
        *("RUN/model", "RUN/snapshots", "START", "assets/wav2vec2_tiny"),
        *("FRAMES", "VOXANGELES", "KALDI", "TABLES"),
    ):
        (folder / name).mkdir(parents=True)
    for name in (
        *("data/glove/glove.840B.300d.zip", "data/glove/glove.6B.50d.txt", "data/agwe/AGWE.zip"),
        *("PAIRS.csv", "4-gram.arpa", "EMA.csv", "SYNONYMS.csv"),
        "WORD_BENCHMARKS/word-similarity/monolingual/en/simlex999.csv",
        *("WORDS.ctm", "PHONES.ctm", "KALDI/wav.scp"),
        *("TABLES/frames.csv", "TABLES/pairs.csv", "TABLES/sounds.npz"),
        *("qvec/oracles/semcor_noun_verb.supersenses.en", "qvec/oracles/ptb.pos_tags"),
    ):
        (folder / name).touch()
    (folder / "SPEAKERS.tsv").write_text("speaker\tgender\tage\ns1\tf\t30\n", encoding="utf-8")
    phones = "utterance,start,end,manner,duration\na,0,0.1,vowel,100\n"
    (folder / "TABLES/phones.csv").write_text(phones, encoding="utf-8")
    return folder


@pytest.mark.parametrize("line", [line if line in FIRST else slow(line) for line in RUNS])
def test_every_command_of_the_documentation_composes(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for overrides in jobs(RUNS[line]):
        assert resolved(*overrides).name


@pytest.mark.parametrize("line", OTHERS)
def test_every_other_command_is_known(line: str) -> None:
    words = OTHERS[line]
    if words[:3] == ["python", "-m", "common.datasets.download"]:
        assert download_parser().parse_args(words[3:]).root
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    else:
        assert words[0] in ELSEWHERE


def test_links_between_pages_and_pictures_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            path = page.parent / link
            page_of_notebook = path.suffix == ".md" and path.with_suffix(".ipynb").exists()
            assert "://" in link or path.exists() or page_of_notebook, (page, link)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_mark_is_filled_from_the_code(page: Path) -> None:
    text = filled(page.read_text(encoding="utf-8"))
    assert not MARK.search(text)
    assert "<!-- generate" not in text


def test_the_notebook_composes_and_imports_what_there_is() -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert all(cell["outputs"] for cell in cells if "plt" in "".join(cell["source"]))
    tree = ast.parse(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (run,) = [call for call in calls if getattr(call.func, "id", "") == "analyse"]
    assert resolved(*(ast.literal_eval(argument) for argument in run.args)).task == "analysis"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_an_unknown_mark_is_an_error() -> None:
    with pytest.raises(KeyError, match="protcol"):
        filled("<!-- generate: protcol cca_phone -->")
    with pytest.raises(LookupError, match=r"cca\.py has no PWCA"):
        filled("<!-- generate: docstring analysis.metrics.cca.PWCA -->")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("analysis/*.yaml")))
def test_every_analysis_has_a_page(name: str) -> None:
    text = (ROOT / "docs" / "experiments" / f"{name}.md").read_text(encoding="utf-8")
    assert f"<!-- generate: protocol {name} -->" in text
    for heading in ("Protocol", "Formula", "How to read the curve", "Reference", "Example"):
        assert f"\n## {heading}\n" in text, heading
    assert any(f"experiment={name}" in words for words in commands(_page(name)))


def _page(name: str) -> Path:
    return ROOT / "docs" / "experiments" / f"{name}.md"


@cache
def texts() -> tuple[list[str], list[str]]:
    """The message of every StrataError in the source, and all texts with something filled in.

    `…` stands for what is filled in.
    """
    paths = [p for part in ("common", "analysis", "finetune") for p in (ROOT / part).rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    errors = [
        call.args[0]
        for call in nodes
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "StrataError"
        and call.args
    ]
    filled_in = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    return _texts(errors), _texts(filled_in)


def _texts(nodes: list[ast.expr]) -> list[str]:
    return [re.sub("…+", "…", _text(node)) for node in nodes]


def is_an_error(wanted: str) -> bool:
    """Whether a message begins so; what it ends with may be a text of its own."""
    errors, parts = texts()
    return any(text.startswith(wanted) for text in errors) or any(
        wanted.startswith(text[:-1])
        and any(part.startswith(wanted[len(text) - 1 :]) for part in parts)
        for text in errors
        if text.endswith(": …")
    )


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


HEADINGS = re.findall(r"^### `+ ?(.*?) ?`+$", TROUBLES.read_text(encoding="utf-8"), re.MULTILINE)


def test_errors_are_listed() -> None:
    assert len(HEADINGS) >= 30
    assert TROUBLES.read_text(encoding="utf-8").count("\n### ") == len(HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_troubleshooting_quotes_real_errors(heading: str) -> None:
    assert is_an_error(re.sub("…+", "…", heading))


def test_another_text_is_no_error() -> None:
    assert not is_an_error("metric=…: it is a … metric, and that is that")
    assert not is_an_error("…: no such thing")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page on extending, beside a copy of the configuration."""
    shutil.copytree(CONF, tmp_path / "conf")
    for block in blocks(EXTENDING):
        if block.title:
            path = tmp_path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if path.suffix == ".py":
                package = import_module(".".join(Path(block.title).parent.parts))
                monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    monkeypatch.setattr("common.config.CONF", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_example_of_a_metric_agrees_with_a_fit_on_the_data(written: Path) -> None:
    from analysis.metrics.regression import Regression  # the example's file

    from analysis.moments import fold_views

    generator = np.random.default_rng(0)
    x, noise = generator.normal(size=(2, 3000, 4))
    y = x @ generator.normal(size=(4, 4)) + noise + 5
    folds = generator.integers(0, 10, 3000)
    scores = Regression(ridge=0.0).score(fold_views(x, y, folds, trials=3))
    for trial, score in enumerate(scores):  # tested on fold t; the next one is for choices
        train, test = (folds != trial) & (folds != trial + 1), folds == trial
        x_train, y_train = x[train] - x[train].mean(0), y[train] - y[train].mean(0)
        x_test, y_test = x[test] - x[test].mean(0), y[test] - y[test].mean(0)
        weights = np.linalg.lstsq(x_train, y_train, rcond=None)[0]
        explained = 1 - np.sum((y_test - x_test @ weights) ** 2) / np.sum(y_test**2)
        assert score.value == pytest.approx(explained, abs=1e-9)


def manifest(folder: Path) -> None:
    """A corpus and the table that lists it, as the example's reader takes them."""
    write_corpus(folder / "corpus")
    with (folder / "MANIFEST.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["audio", "speaker", "alignment"])
        for path in sorted((folder / "corpus" / "audio").rglob("*.flac")):
            speaker, name = path.parent.name, path.stem
            grid = f"corpus/alignments/{speaker}/{name}.TextGrid"
            table.writerow([path.relative_to(folder), speaker, grid])


EXAMPLES = [" ".join(words) for words in commands(EXTENDING)]


@pytest.mark.slow
@pytest.mark.parametrize("line", EXAMPLES)
def test_the_examples_of_extending_run_as_they_stand(line: str, written: Path) -> None:
    if "MANIFEST.csv" in line:
        manifest(written)
    run = execute(written / "run", *line.split()[2:], conf=written / "conf")
    values = run.rows.loc[run.rows["primary"], "value"]
    assert len(values) >= 7  # layers T0 … T6
    assert np.isfinite(values).all()
    assert (values > 0).any()
