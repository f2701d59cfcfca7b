"""Experiments on pooled units: what they share, whatever their metrics consume."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from marks import slow
from running import composed, execute
from units import planted

from analysis.studies.vectors import check_target
from analysis.targets.labels import Phone
from common.config import resolve
from common.records import StrataError

AGREEMENT = [
    "~experiments.cca_phone.metric.ridges",
    "experiments.cca_phone.metric._target_=planted.Agreement",
    "plugins=[planted]",
]


@pytest.fixture(scope="module")
def common(common: tuple[str, ...], cache: str) -> tuple[str, ...]:
    """One cache for all runs here."""
    return (*common, cache)


def write_table(path: Path, words: list[str], d: int = 4) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=d))}" for word in words]
    path.write_text("\n".join(lines) + "\n")
    return path


def words_of(common: tuple[str, ...]) -> list[str]:
    corpus = resolve(composed(("experiment=cca_word", *common))).dataset.read()
    return sorted({iv.label for u in corpus.utterances for iv in u.tiers["word"]})


def test_moments_and_units_are_scored_from_the_same_vectors(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    cca = execute(tmp_path / "cca", "experiment=cca_phone", *common)
    other = execute(tmp_path / "other", "experiment=cca_phone", *common, *AGREEMENT)
    assert cca.passed
    assert not other.passed
    rows = other.rows
    assert set(rows["metric"]) == {"agreement", "n", "d", "scored"}
    assert rows.loc[rows["primary"], "metric"].unique().tolist() == ["agreement"]
    assert rows["trial"].isna().all()
    wide = rows.pivot_table(index="layer", columns="metric", values="value")
    assert (wide["n"] == rows["n"].iloc[0]).all()
    assert (wide["scored"] == wide["n"]).all()
    assert (wide["d"] == 32).all()
    assert wide["agreement"].between(0.05, 1).all()
    primary = rows[rows["primary"]]
    np.testing.assert_allclose(primary["high"] - primary["low"], 0.2)
    assert rows.loc[~rows["primary"], "low"].isna().all()


@pytest.mark.slow
def test_secondary_figures_are_in_neither_table_nor_picture(
    common: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    execute(tmp_path, "experiment=cca_phone", *common, *AGREEMENT, pictures=True)
    table = capsys.readouterr().out
    assert "32.000" not in table
    svg = (tmp_path / "layers.svg").read_text()
    assert "agreement" in svg
    assert svg.count("<!-- CNN -->") + svg.count("<!-- transformer -->") == 1  # one panel


def test_a_metric_says_before_the_pass_what_it_cannot_score(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    more = "+experiments.cca_phone.metric.at_least=100000"
    with pytest.raises(StrataError, match=r"\d+ units, 100000 are needed"):
        execute(tmp_path, "experiment=cca_phone", *common, *AGREEMENT, more, "cache=off")
    assert not (tmp_path / "results.csv").exists()


def test_a_metric_of_another_kind_is_refused_for_the_experiment() -> None:
    more = ["experiment=cca_phone", *AGREEMENT, "metric=cka"]
    with pytest.raises(StrataError, match=r"metric=cka: .*similarity.*cca_phone takes agreement"):
        resolve(composed(tuple(more)))


def test_an_error_names_a_metric_as_it_was_typed() -> None:
    more = ["experiment=cca_mel", "metric=average_precision"]
    with pytest.raises(StrataError, match="metric=average_precision: it is a word_discrimination"):
        resolve(composed(tuple(more)))


def test_words_against_a_table_of_vectors(common: tuple[str, ...], tmp_path: Path) -> None:
    words = words_of(common)
    table = write_table(tmp_path / "table.txt", [*words[::2], "zyzzyva"])
    more = [f"target.path={table}", "sampling.min_instances=1"]
    run = execute(tmp_path / "run", "experiment=cca_glove", *common, *more)
    assert set(run.rows["split"]) == {"type"}
    assert run.curve("cca_glove").keys() == {"T0", "T1", "T2", "T3"}
    assert set(run.rows["target"]) == {"embedding:table.txt"}
    (study,) = run.metadata["studies"]
    assert set(study["units_per_label"]) <= set(words[::2])
    assert study["dropped"]["word: not known to the target"] > 0
    assert study["dropped"]["word: labels not known to the target"] == len(words) - len(words[::2])


@pytest.mark.slow
def test_a_table_with_all_the_words_draws_what_the_words_themselves_draw(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    """Equal rows are one entry, so they come from one pass, together or one after the other."""
    table = write_table(tmp_path / "table.txt", words_of(common))
    common = (*common, "sampling.min_instances=2")
    word = execute(tmp_path / "word", "experiment=cca_word", *common)
    glove = execute(tmp_path / "glove", "experiment=cca_glove", *common, f"target.path={table}")
    assert not glove.passed
    both = execute(
        tmp_path / "both",
        *("experiment=cca_word", *common, "cache=off"),
        "+experiments.cca_glove=${experiments.cca_word}",
    )
    pd.testing.assert_frame_equal(
        both.rows.query("experiment == 'cca_glove'").reset_index(drop=True)["value"].to_frame(),
        word.rows["value"].to_frame(),
    )
    assert len(both.metadata["studies"]) == 1


@pytest.mark.parametrize("metric", [slow("cka"), "pwcca"])
def test_a_one_hot_table_gives_what_one_hot_words_give(
    metric: str, common: tuple[str, ...], tmp_path: Path
) -> None:
    words = words_of(common)
    np.savez(tmp_path / "table.npz", words=words, vectors=np.eye(len(words)))
    glove = ["experiment=cca_glove", f"target.path={tmp_path / 'table.npz'}"]
    scored = (*common, f"metric={metric}")
    word = execute(tmp_path / "word", "experiment=cca_word", *scored)
    table = execute(tmp_path / "table", *glove, *scored, "by_type=false")
    # Few units in 32 dimensions under a ridge of 1e-10: rounding shows.
    np.testing.assert_allclose(table.rows["value"], word.rows["value"], atol=1e-5)
    # A word that was not fitted on has a column that never occurred.
    with pytest.raises(StrataError, match=r"constant over the \d+ .*by_type=false"):
        execute(tmp_path / "apart", *glove, *common, "sampling.min_instances=2", "cache=off")


def test_a_table_without_a_word_of_the_corpus_is_an_error_before_the_pass(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    table = write_table(tmp_path / "table.txt", ["zyzzyva", "qoph"])
    with pytest.raises(StrataError, match=r"table\.txt: shares no word"):
        execute(tmp_path, "experiment=cca_glove", *common, f"target.path={table}", "cache=off")


def test_a_corpus_without_words_is_an_error_before_the_pass(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    table = write_table(tmp_path / "table.txt", ["the", "of"])
    more = [f"target.path={table}", "dataset.word_tier=none", "cache=off"]
    with pytest.raises(StrataError, match=r"no word tier"):
        execute(tmp_path, "experiment=cca_semantic", *common, *more)


def test_one_label_alone_is_an_error_before_the_pass(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    more = ["experiments.cca_phone.sampling.labels=1", "cache=off"]
    with pytest.raises(StrataError, match=r"1 phone label.*a comparison needs two"):
        execute(tmp_path, "experiment=cca_phone", *common, *more)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.repeat(np.arange(4), 3), r"trial 0: the target is the same .* dev fold, of 1 label"),
        (np.tile([0, 1, 2, 3], 3), ""),
        (np.arange(12), r"trial 0: none of the 3 phone labels .* among the 6"),
    ],
    ids=["a label fills a fold", "even", "no label comes twice"],
)
def test_trials_whose_correlations_would_be_undefined_are_known_from_the_labels(
    labels: np.ndarray, message: str
) -> None:
    units = planted(n=12, labels=12, label=labels, fold=np.repeat(np.arange(4), 3))
    with pytest.raises(StrataError, match=message) if message else nullcontext():
        check_target("phone", units, Phone())


# Two partitions: here the folders of two speakers


def parted(fit: str, score: str, partition: str) -> list[str]:
    return [
        *AGREEMENT,
        f"experiments.cca_phone.fit_partition={fit}",
        f"experiments.cca_phone.score_partition={score}",
        f"dataset.partition={partition}",
        "experiments.cca_phone.sampling.min_instances=1",
        "experiments.cca_phone.sampling.instances=null",
    ]


def figures(rows: pd.DataFrame) -> dict[str, float]:
    """Secondary figures of T1."""
    scores = rows[rows["layer"] == "T1"]
    return dict(zip(scores["metric"], scores["value"], strict=True))


@pytest.mark.slow
def test_one_partition_is_fitted_on_and_another_one_scored_on(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    phone = ["experiment=cca_phone", *common]
    both = execute(tmp_path / "both", *phone, *parted("s0001", "s0002", "s0003"))
    assert both.metadata["forward_pass"]["utterances"] < 24
    assert set(both.rows["partition"]) == {"s0001>s0002"}
    assert set(both.rows["split"]) == {"partition"}
    others = [other["partition"] for other in both.metadata["dataset"]["other_partitions"]]
    assert others == ["s0001", "s0002"]
    alone = {
        name: figures(execute(tmp_path / name, *phone, *parted("null", "null", name)).rows)["n"]
        for name in ("s0001", "s0002")
    }
    seen = figures(both.rows)
    assert seen["n"] == sum(alone.values())
    assert seen["scored"] == alone["s0002"]


HALVES = {"fit": "s0001", "score": "s0002"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (parted("s0001", "all", "all"), r"fit_partition=s0001 and score_partition=all share \d+"),
        (parted("s0001", "nobody", "all"), r"experiments\.cca_phone\.score_partition=nobody"),
        (
            [f"experiments.cca_phone.{k}_partition={s}" for k, s in HALVES.items()],
            r"fit_partition=s0001: pwcca is fitted and scored in folds",
        ),
    ],
    ids=["overlapping", "unknown", "nothing to fit"],
)
def test_partitions_that_cannot_work_are_refused_before_the_pass(
    overrides: list[str], message: str, common: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(StrataError, match=message):
        execute(tmp_path, "experiment=cca_phone", *common, *overrides, "cache=off")
