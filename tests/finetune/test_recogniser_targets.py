"""Whole runs whose targets are phones or pieces of words: trained, exported and used again."""

import warnings
from pathlib import Path

import pandas as pd
import pytest
from models import noise, one_thread, save
from running import Finished, execute, resolved
from test_ctc import SMALL, finetune
from transformers import pipeline

from common.records import StrataError

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

SHORT = ("finetune.updates=2", "finetune.valid_every=2", "finetune.freeze_updates=0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def phones(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A recogniser of phones."""
    folder = tmp_path_factory.mktemp("phones")
    return finetune(folder, model, "finetune.targets=phones", *SHORT)


def transcript(folder: Path) -> str:
    """What transformers' own pipeline makes of noise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers' own pipeline
        recognise = pipeline("automatic-speech-recognition", model=str(folder / "model"))
        return str(recognise(noise(16_000))["text"])


def test_phones_are_trained_scored_and_exported(phones: Finished) -> None:
    rows = phones.rows
    assert rows["metric"].tolist() == ["per"]
    assert rows["primary"].tolist() == [True]
    assert phones.metadata["targets"] == "phones"
    assert set(phones.metadata["best_validation"]) == {"per"}
    table = pd.read_csv(phones.folder / "hypotheses.csv", keep_default_na=False)
    assert rows["value"][0] == pytest.approx(table["phone_errors"].sum() / table["phones"].sum())
    inventory = set(phones.metadata["characters"][4:])
    assert {"aa", "ih", "t", "hh"} & inventory
    unknown = set(phones.metadata["unknown_characters"].get("test", ()))
    phones_in_table = {phone for text in table["reference"] for phone in text.split()}
    assert unknown < phones_in_table <= inventory | unknown
    assert isinstance(transcript(phones.folder), str)


def test_a_recogniser_of_phones_is_evaluated_and_transcribes(
    phones: Finished, tmp_path: Path
) -> None:
    """By itself, and beside the characters that it was not trained for."""
    options = [f"model.checkpoint={phones.folder / 'model'}", *SMALL[2:4]]
    with one_thread():
        done = execute(tmp_path / "evaluate", "experiment=evaluate", *options, "dataset.limit=4")
        execute(
            tmp_path / "transcribe",
            "experiment=transcribe",
            *options,
            "dataset=synthetic",
            "dataset.limit=2",
        )
    assert done.rows["metric"].tolist() == ["per"]
    assert (done.folder / "errors_by_phone.csv").is_file()
    texts = pd.read_csv(tmp_path / "transcribe" / "transcripts.csv", keep_default_na=False)
    times = (tmp_path / "transcribe" / "phones.ctm").read_text().splitlines()
    grid = next((tmp_path / "transcribe").rglob("*.TextGrid")).read_text()
    assert 'name = "phones"' in grid
    assert len(times) == sum(len(text.split()) for text in texts["text"])
    with pytest.raises(StrataError, match=r"targets=characters: .* writes phones; use"):
        finetune(
            tmp_path / "again", phones.folder / "model", "finetune.characters=checkpoint", *SHORT
        )


@pytest.mark.slow
def test_a_recogniser_of_phones_goes_on(phones: Finished, tmp_path: Path) -> None:
    options = ("finetune.targets=phones", "finetune.characters=checkpoint")
    done = finetune(tmp_path, phones.folder / "model", *options, *SHORT)
    assert done.metadata["characters"] == phones.metadata["characters"]
    assert done.metadata["reinit"]["head"] == []


@pytest.mark.slow
def test_pieces_are_trained_scored_and_exported(model: Path, tmp_path: Path) -> None:
    options = ("finetune.targets=pieces", "finetune.pieces=60", *SHORT)
    done = finetune(tmp_path, model, *options)
    assert done.rows["metric"].tolist() == ["wer", "cer"]
    assert len(done.metadata["characters"]) == 60
    assert isinstance(transcript(done.folder), str)
    again = ("finetune.characters=checkpoint", "finetune.learning_rate=1e-8")
    on = finetune(tmp_path / "on", done.folder / "model", *options, *again)
    assert on.metadata["characters"] == done.metadata["characters"]
    assert on.rows["value"].tolist() == pytest.approx(done.rows["value"].tolist(), abs=0.02)


def test_an_n_gram_of_words_goes_with_characters(model: Path, tmp_path: Path) -> None:
    (tmp_path / "words.arpa").write_text("")
    options = ("finetune.targets=phones", f"finetune.lm.path={tmp_path / 'words.arpa'}")
    with pytest.raises(StrataError, match=r"lm\.path=.* goes with finetune\.targets=characters"):
        finetune(tmp_path, model, *options)


def test_the_phone_error_rate_is_watched_for_phones_alone() -> None:
    resolved("experiment=ctc", "finetune.targets=phones", "finetune.monitor=per")
    with pytest.raises(StrataError, match=r"monitor=per: .*targets=phones, not of characters; use"):
        resolved("experiment=ctc", "finetune.monitor=per")
    with pytest.raises(StrataError, match=r"monitor=perplexity: choose one of wer, cer, per"):
        resolved("experiment=ctc", "finetune.monitor=perplexity")
