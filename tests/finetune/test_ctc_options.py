"""Whole runs with the options of a training that the others leave alone."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from models import save
from running import Finished
from safetensors.torch import load_file
from test_ctc import finetune, module_of

from finetune.ctc.module import Recogniser
from finetune.ctc.scoring import count_errors
from finetune.curves import read_curves

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*is deprecated")

ARPA = """\\data\\
ngram 1={n}
ngram 2=1

\\1-grams:
{lines}

\\2-grams:
-0.5\t<s> {word}

\\end\\
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("wav2vec2_base", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def first(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A recogniser to go on from, as it was exported; `at_work` of each update is told below."""
    folder = tmp_path_factory.mktemp("first")
    learn, at_work = Recogniser.training_step, []

    def watched(self: Recogniser, batch: Any, number: int) -> torch.Tensor:
        masks = {} if batch.mask is None else {"attention_mask": batch.mask}
        with torch.no_grad():
            encoder = self.model.base_model
            one, other = (encoder(batch.waveforms, **masks)[0] for _ in range(2))
        at_work.append(not torch.equal(one, other))
        return learn(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recogniser, "training_step", watched)
        done = finetune(folder, model, "finetune.updates=2", "finetune.valid_every=1")
    (folder / "at_work").write_text(" ".join(map(str, at_work)))
    return done


def test_masks_and_dropout_are_at_work_in_every_update(first: Finished) -> None:
    """The same batch twice: from_pretrained gives a model in eval mode, and Lightning leaves it."""
    assert (first.folder / "at_work").read_text() == "True True"


@pytest.mark.slow
def test_a_recogniser_goes_on_in_bf16_until_it_gets_no_better(
    first: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = []
    plain = Recogniser.log_probabilities

    def watched(self: Recogniser, batch: Any) -> Any:
        types.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return plain(self, batch)

    monkeypatch.setattr(Recogniser, "log_probabilities", watched)
    done = finetune(
        tmp_path,
        first.folder / "model",
        "finetune.characters=checkpoint",
        "precision=bf16",
        "finetune.learning_rate=1e-8",
        "finetune.patience=2",
        "finetune.valid_every=1",
        "finetune.freeze_updates=0",
    )
    assert set(types) == {torch.bfloat16}
    assert done.metadata["characters"] == first.metadata["characters"]
    assert done.metadata["reinit"]["head"] == []
    assert read_curves(done.folder).index.tolist() == [0, 1, 2]  # of six updates
    assert done.metadata["best_update"] == 1
    best = torch.load(done.folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    kept = load_file(done.folder / "model" / "model.safetensors")
    began = load_file(first.folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    torch.testing.assert_close(kept, began, atol=1e-6, rtol=0)
    assert not torch.equal(kept["lm_head.weight"], began["lm_head.weight"])
    assert all(torch.equal(tensor, best[f"model.{name}"]) for name, tensor in kept.items())


def test_an_n_gram_adds_rates_and_hypotheses_of_its_own(first: Finished, tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder", reason="needs the extra lm")
    greedy = pd.read_csv(first.folder / "hypotheses.csv", keep_default_na=False)
    words = sorted({word for text in greedy["reference"] for word in text.split()})
    entries = ["<unk>", "<s>", "</s>", *words]
    lines = "\n".join(f"-1.0\t{word}\t-0.3" for word in entries)
    arpa = ARPA.format(n=len(entries), lines=lines, word=words[0])
    (tmp_path / "words.arpa").write_text(arpa)
    done = finetune(
        tmp_path / "run",
        first.folder / "model",
        "finetune.characters=checkpoint",
        "finetune.updates=1",
        "finetune.valid_every=1",
        "finetune.learning_rate=1e-8",
        f"finetune.lm.path={tmp_path / 'words.arpa'}",
        "finetune.lm.weights=[0.5,1]",
        "finetune.lm.word_scores=[-3,0]",
        "finetune.lm.beam=20",
    )
    rows = done.rows.set_index("metric")["value"]
    assert set(rows.index) == {"wer", "cer", "wer_lm", "cer_lm"}
    chosen = done.metadata["test"]["n_gram"]
    assert chosen["weight"] in (0.5, 1)
    assert chosen["word_score"] in (-3, 0)
    table = pd.read_csv(done.folder / "hypotheses.csv", keep_default_na=False)
    assert {w for text in table["hypothesis_lm"] for w in text.split()} <= set(words)
    pairs = zip(table["reference"], table["hypothesis_lm"], strict=True)
    errors = sum(count_errors(*pair)[0] for pair in pairs)
    assert rows["wer_lm"] == pytest.approx(errors / table["words"].sum())
    assert rows["wer"] == pytest.approx(table["word_errors"].sum() / table["words"].sum())


@pytest.mark.slow
def test_the_compiled_model_trains_and_the_plain_one_is_saved(
    model: Path, first: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling even this model takes 90 s of CPU, so that a stand-in counts its calls."""
    modes: list[bool] = []

    def compiled(plain: Any, dynamic: bool) -> Any:
        assert dynamic  # lengths differ from batch to batch
        return lambda *args, **keys: modes.append(plain.training) or plain(*args, **keys)

    monkeypatch.setattr(torch, "compile", compiled)
    options = ["finetune.updates=2", "finetune.valid_every=1", "finetune.compile=true"]
    done = finetune(tmp_path, model, *options)
    assert modes[:2] == [True, False]  # an update, validation
    assert modes.count(True) == 2
    one, other = (load_file(r.folder / "model" / "model.safetensors") for r in (done, first))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_the_model_gets_every_rate_of_masks_and_dropout(model: Path) -> None:
    rates = {
        "mask_time_prob": 0.65,
        "mask_time_length": 7,
        "mask_feature_prob": 0.25,
        "mask_feature_length": 9,
        "layerdrop": 0.15,
        "activation_dropout": 0.11,
        "attention_dropout": 0.12,
        "hidden_dropout": 0.13,
        "feat_proj_dropout": 0.14,
        "final_dropout": 0.16,
    }
    config = module_of(model, ["A"], **rates)[0].model.config
    assert {key: getattr(config, key) for key in rates} == rates
    assert config.apply_spec_augment
