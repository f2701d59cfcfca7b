"""A trained recogniser in use: what it scores, what it writes, and when it heard it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers as hf
from models import WHISPER, configured, noise, one_thread
from running import Finished, execute
from test_ctc import module_of, sung
from transformers import AutoModelForCTC

from common import alignments
from common.config import RecognitionConfig
from common.encoder.architecture import read_blueprint
from common.records import SAMPLE_RATE, StrataError, Utterance
from finetune.ctc.evaluate import errors_by_speaker, errors_by_word, transcribe_all
from finetune.ctc.recognition import CtcRecogniser, Transcript, cut_in_quiet, load_recogniser
from finetune.ctc.scoring import score
from finetune.ctc.text import Vocabulary
from finetune.ctc.transcribe import ctm, textgrid

TEXTS = ["A B", "BA", "ABBA", "B", "AB A", "C A B", "CAB", "BAC", "C", "A C"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser that has learnt ten sung texts by heart, exported."""
    from models import save

    from finetune.ctc.batches import Clips
    from finetune.ctc.recordings import Recordings
    from finetune.export import export

    root = tmp_path_factory.mktemp("recogniser")
    module, blueprint, vocabulary = module_of(
        save("wav2vec2_lv60", root / "start"),
        TEXTS,
        learning_rate=1e-2,
        updates=200,
        activation_dropout=0.0,
    )
    audio = [sung(text) for text in TEXTS]
    (root / "pcm").write_bytes(np.int16(2**15 * np.concatenate(audio)).tobytes())
    spelt = tuple(tuple(vocabulary.encode(text)) for text in TEXTS)
    clips = Clips(
        Recordings(root / "pcm", tuple(map(len, audio))), spelt, blueprint.feature_extractor
    )
    batch = clips.batch(range(10), [1 / sum(map(len, TEXTS))] * 10)
    made = module.configure_optimizers()
    module.train()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(200):
            made["optimizer"].zero_grad()
            (module.losses(batch)[0] * batch.weights).sum().backward()
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
    (root / "tokenizer").mkdir()
    tokenizer = vocabulary.tokenizer(root / "tokenizer")
    return export(module.model.eval(), blueprint.checkpoint, root / "model", tokenizer=tokenizer)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten texts as recordings of two speakers with transcripts; one transcript is wrong."""
    root = tmp_path_factory.mktemp("audio")
    for number, text in enumerate(TEXTS):
        speaker = root / ("one" if number < 5 else "two")
        speaker.mkdir(exist_ok=True)
        soundfile.write(speaker / f"{number}.wav", sung(text), SAMPLE_RATE)
        sentence = "a b. c" if number == 4 else text.lower()
        (speaker / f"{number}.lab").write_text(sentence)
    return root


def recognise(task: str, out: Path, model: Path, audio: Path, *more: str) -> Finished:
    overrides = [f"model.checkpoint={model}", "dataset=recordings", f"dataset.audio_root={audio}"]
    with one_thread():
        return execute(out, f"experiment={task}", *overrides, *more)


def test_a_recogniser_is_scored_by_word_and_by_speaker(
    folder: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audio / "one" / "mute.wav").write_bytes((audio / "one" / "0.wav").read_bytes())
    done = recognise("evaluate", tmp_path, folder, audio)
    (audio / "one" / "mute.wav").unlink()
    rates = done.rows.set_index("metric")["value"]
    table = pd.read_csv(done.folder / "hypotheses.csv", keep_default_na=False).set_index("id")
    assert table["word_errors"].sum() == 3, table  # AB A was said to be A B C
    assert rates["wer"] == pytest.approx(3 / table["words"].sum())
    assert set(done.rows["experiment"]) == {"evaluate"}
    assert done.metadata["dropped"] == {"without words in its text": 1}
    words = pd.read_csv(done.folder / "errors_by_word.csv").set_index("word")
    assert words["said"].sum() == table["words"].sum()
    wrong = words[["deleted", "inserted", "replaced"]].sum().sum()
    assert wrong == 3
    speakers = pd.read_csv(done.folder / "errors_by_speaker.csv")
    assert speakers["speaker"].tolist() == ["one", "two"]
    assert speakers["word_errors"].tolist() == [3, 0]
    printed = capsys.readouterr().out
    for wanted in ("wer", "errors_by_word.csv", "1 without words in its text"):
        assert wanted in printed


def test_audio_that_cannot_be_read_is_an_error_or_counted() -> None:
    def broken() -> Any:
        raise StrataError("a.wav: damaged")

    utterances = [
        Utterance("a", "s", "A", 16_000, {}, broken),
        Utterance("b", "s", "B", 16_000, {}, lambda: noise(16_000)),
    ]
    with pytest.raises(StrataError, match="damaged"):
        transcribe_all(lambda _: Transcript("B", None), utterances, "raise")
    recognised = transcribe_all(lambda _: Transcript("B", None), utterances, "skip")
    assert [u.id for u in recognised.utterances] == ["b"]
    assert recognised.dropped == {"whose audio cannot be read": 1}


def test_a_word_has_the_times_of_its_tones(folder: Path, audio: Path, tmp_path: Path) -> None:
    """A tone takes 0.12 s; a word's times are those of its first and last characters."""
    done = recognise("transcribe", tmp_path, folder, audio)
    texts = pd.read_csv(done.folder / "transcripts.csv", keep_default_na=False)
    assert texts["text"].tolist() == TEXTS
    lines = [line.split() for line in (done.folder / "words.ctm").read_text().splitlines()]
    assert [line[4] for line in lines] == " ".join(TEXTS).split()
    for number, text in enumerate(TEXTS):
        found = [line for line in lines if line[0] == str(number)]
        place = 0
        for line, word in zip(found, text.split(), strict=True):
            start, length = float(line[2]), float(line[3])
            assert start == pytest.approx(0.12 * place, abs=0.1)
            assert start + length == pytest.approx(0.12 * (place + len(word)), abs=0.1)
            assert 0.5 < float(line[5]) <= 1
            place += len(word) + 1
    grid = next(done.folder.rglob("5.TextGrid"))
    assert "C" in grid.read_text()


def test_a_textgrid_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    from finetune.ctc.recognition import Word

    words = (Word("SAY", 0.5, 0.75, 1.0), Word('"Å', 0.75, 1.25, 0.5))
    path = tmp_path / "x.TextGrid"
    path.write_text(textgrid(words, 2.0), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert 'text = """Å"' in text
    assert text.count("intervals [") == 4
    assert "xmax = 2.000000" in text
    assert alignments.read(path)
    assert ctm("a b", words).splitlines()[0] == "a_b 1 0.500 0.250 SAY 1.000"


def test_long_speech_in_windows_is_transcribed_as_if_whole(folder: Path) -> None:
    """No frame is lost, shifted or heard twice: a plain window's inside is what the whole has."""
    config = _config(folder, window_seconds=4.0, overlap_seconds=1.0)
    windowed = load_recogniser(config)
    whole = load_recogniser(_config(folder, window_seconds=60.0))
    assert isinstance(windowed, CtcRecogniser)
    assert isinstance(whole, CtcRecogniser)
    text = " ".join(TEXTS * 4)
    waveform = sung(text).astype(np.float32)
    one, other = (r.log_probabilities(waveform) for r in (whole, windowed))
    assert one.shape == other.shape
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.97
    words, others = whole(waveform).words, windowed(waveform).words
    assert words is not None
    assert others is not None
    assert len(words) > 30
    same = [
        any(word.text == o.text and abs(word.start - o.start) < 0.021 for o in others)
        for word in words
    ]
    assert np.mean(same) > 0.9


def _config(folder: Path, **keys: Any) -> Any:
    from running import resolved

    config = resolved("experiment=evaluate", f"model.checkpoint={folder}")
    config.recognition = RecognitionConfig(**keys)
    return config


def test_beam_search_gives_times_too(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    arpa = "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\n-1\t<s>\t-0.3\n-1\t</s>\n"
    arpa += "-0.5\tABBA\t-0.3\n\n\\2-grams:\n-0.1\t<s> ABBA\n\n\\end\\\n"
    (tmp_path / "n.arpa").write_text(arpa)
    config = _config(folder)
    config.recognition.lm.path = str(tmp_path / "n.arpa")
    recognised = load_recogniser(config)(sung("ABBA").astype(np.float32))
    assert recognised.text == "ABBA"
    assert recognised.words is not None
    (word,) = recognised.words
    assert (word.start, word.end) == pytest.approx((0.0, 0.48), abs=0.1)


def test_an_encoder_alone_is_no_recogniser(tmp_path: Path) -> None:
    from models import save

    model = save("wav2vec2_base", tmp_path / "m")
    with pytest.raises(StrataError, match="brings no tokenizer"):
        load_recogniser(_config(model))
    Vocabulary.of_text(["AB"]).tokenizer(tmp_path).save_pretrained(model)
    with pytest.raises(StrataError, match="no head for its own characters"):
        load_recogniser(_config(model))
    with pytest.raises(StrataError, match="has no decoder; use ctc"):
        load_recogniser(_config(model, decoder="own"))


def test_a_whisper_writes_with_its_own_decoder(tmp_path: Path) -> None:
    """Random weights, and the tokens of a tokenizer that knows four words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {name: n for n, name in enumerate(["<pad>", "<s>", "</s>", "<go>", "a", "b", "c", "d"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    config = hf.WhisperConfig(**WHISPER, max_target_positions=12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = hf.WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.save_pretrained(tmp_path)
    hf.WhisperFeatureExtractor(chunk_length=2).save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    recogniser = load_recogniser(_config(tmp_path))
    short, long = recogniser(noise(16_000)), recogniser(noise(80_000))
    assert short.words is None
    (end, *_) = cut_in_quiet(noise(80_000), 32_000)
    assert long.text.startswith(recogniser(noise(80_000)[:end]).text)
    with_n_gram = _config(tmp_path)
    with_n_gram.recognition.lm.path = "x.arpa"
    with pytest.raises(StrataError, match="an n-gram goes with CTC"):
        load_recogniser(with_n_gram)


def test_windows_of_another_decoder_are_cut_where_it_is_quiet() -> None:
    waveform = noise(100_000)
    for begin in (28_000, 55_000):
        waveform[begin : begin + 4_000] = 0
    first, second, *rest = cut_in_quiet(waveform, 40_000)
    assert 28_000 < first < 32_000
    assert 55_000 < second < 59_000
    pieces = np.diff([0, first, second, *rest])
    assert rest[-1] == 100_000
    assert 0 < pieces.min() <= pieces.max() <= 40_000
    assert cut_in_quiet(waveform[:40_000], 40_000) == [40_000]
    assert cut_in_quiet(np.zeros(90_000, np.float32), 40_000)[-1] == 90_000


def test_word_errors_are_listed_with_what_was_recognised_instead() -> None:
    table = score(["1", "2"], ["s", "t"], ["THE CAT SAT", "THE CAT"], ["THE HAT SAT DOWN", "THE"])
    words = errors_by_word(table).set_index("word")
    assert words.loc["CAT"].tolist() == [2, 0, 1, 0, 1, "HAT (1)"]
    assert words.loc["DOWN"].tolist() == [0, 0, 0, 1, 0, ""]
    assert words.loc["THE"].tolist() == [2, 2, 0, 0, 0, ""]
    assert words.index.tolist()[0] == "CAT"
    speakers = errors_by_speaker(table).set_index("speaker")
    assert speakers["wer"].to_dict() == pytest.approx({"s": 2 / 3, "t": 1 / 2})


def test_transformers_reads_what_is_scored(folder: Path) -> None:
    model = AutoModelForCTC.from_pretrained(folder).eval()
    feature_extractor = read_blueprint(configured(folder)).feature_extractor
    waveform = sung("CAB").astype(np.float32)
    with torch.inference_mode():
        logits = model(feature_extractor([waveform])["input_values"]).logits[0]
    recogniser = load_recogniser(_config(folder))
    assert isinstance(recogniser, CtcRecogniser)
    found = recogniser.log_probabilities(waveform)
    np.testing.assert_allclose(found, torch.log_softmax(logits, -1).numpy(), atol=1e-5)
