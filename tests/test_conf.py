"""Every option of every group composes and resolves; what the design promises of names holds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from analysis.metrics.base import Metric
from common.config import Config, register, resolve
from common.datasets.base import Dataset
from common.records import StrataError
from common.steps import steps_of

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("*/*.yaml")
)
MODELS = [name for group, name in OPTIONS if group == "model"]
ANALYSES = [name for group, name in OPTIONS if group == "analysis"]
METRICS = [name for group, name in OPTIONS if group == "metric"]
SIMILARITIES = ["pwcca", "mean_cca", "svcca", "cka", "pwcca_published"]
# What an option leaves for the user to say.
LACKING = {
    ("dataset", "textgrid"): ["dataset.audio_root={tmp}"],
    ("dataset", "librispeech_local"): ["dataset.audio_root={tmp}", "dataset.alignment_root=null"],
    ("dataset", "timit"): ["dataset.root={tmp}"],
    ("dataset", "recordings"): ["dataset.audio_root={tmp}"],
    ("model", "hf"): ["model.checkpoint=owner/name"],
    ("layers", "single"): ["layers.index=3"],
    ("experiment", "growth"): ["snapshots={tmp}"],
    ("experiment", "cca_glove"): ["target.path={tmp}"],
    ("experiment", "cca_agwe"): ["target.path={tmp}"],
    ("experiment", "cca_semantic"): ["target.path={tmp}"],
    ("experiment", "cca_syntactic"): ["target.path={tmp}"],
    ("experiment", "spoken_sts"): ["target.path={tmp}"],
    ("experiment", "word_similarity"): ["target.path={tmp}"],
}
# Recipes for Libri-light's lists name a folder of their own.
LACKING |= {
    ("finetune", f"libri_{size}{kind}"): ["finetune.train.dataset.root={tmp}"]
    for size in ("10m", "1h", "10h")
    for kind in ("", "_large")
} | {("finetune", "authors"): ["finetune.train.dataset.root={tmp}"]}
LACKING[("dataset", "librilight")] = ["dataset.root={tmp}"]
RECIPES = {  # peak rate, updates, time mask, channel mask, layer drop, encoder frozen for
    "libri_10m": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_1h": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_10h": (5e-5, 20_000, 0.65, 0.5, 0.05, 10_000),
    "libri_100h": (3e-5, 80_000, 0.65, 0.5, 0.1, 0),
    "libri_10m_large": (1e-4, 13_000, 0.65, 0.25, 0.1, 10_000),
    "libri_1h_large": (3e-4, 13_000, 0.75, 0.25, 0.1, 10_000),
    "libri_10h_large": (1e-4, 20_000, 0.75, 0.25, 0.1, 10_000),
    "libri_100h_large": (3e-5, 80_000, 0.5, 0.5, 0.1, 10_000),
    "authors": (5e-5, 13_000, 0.075, 0.5, 0.0, 0),
}
KEYS = [field.name for field in fields(Config)]
PHONE = ["experiment=cca_phone", "model=wav2vec2_tiny", "dataset=synthetic"]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


@lru_cache
def composed(*overrides: str) -> DictConfig:
    return compose("config", list(overrides))


def resolved(*overrides: str) -> Config:
    return resolve(composed(*overrides))


def lacking(case: dict[str, str], tmp: Path) -> list[str]:
    """What the options of a case leave for the user to say, with something in `tmp`."""
    more = [more for option in case.items() for more in LACKING.get(option, [])]
    return [override.format(tmp=tmp) for override in more]


def libri_light(root: Path) -> None:
    for folder in ("1h/0", "9h"):
        (root / folder).mkdir(parents=True)


# One configuration composes one option of every group: together they cover all of them. A metric
# fits some experiments only.
APART = ("analysis", "metric")
GROUPS = {g: [name for group, name in OPTIONS if group == g] for g, _ in OPTIONS if g not in APART}
CASES = [
    {group: names[k % len(names)] for group, names in GROUPS.items()}
    for k in range(max(map(len, GROUPS.values())))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']}-{case['experiment']}")
def test_every_option_of_every_group_composes_and_resolves(
    case: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "dev-clean").mkdir()  # librispeech_local and timit look for their partitions
    (tmp_path / "TRAIN").mkdir()
    libri_light(tmp_path)
    overrides = [f"{group}={name}" for group, name in case.items()]
    config = resolved(*overrides, *lacking(case, tmp_path))
    assert isinstance(config.dataset, Dataset)
    assert (config.model.name, config.name) == (case["model"], case["experiment"])
    assert (config.layers.select, config.tracking.backend) == (case["layers"], case["tracking"])
    assert config.experiments or config.task != "analysis"
    for member in config.experiments.values():
        assert isinstance(member.metric, Metric)


@pytest.fixture(scope="module")
def families(hydra: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Family of each analysis's own metric."""
    tmp = tmp_path_factory.mktemp("given")
    more = {name: lacking({"experiment": name}, tmp) for name in ANALYSES}
    return {
        name: resolved(f"experiment={name}", *more[name]).experiments[name].metric.family
        for name in ANALYSES
    }


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_fairseqs_and_bring_their_own_speech(name: str, tmp_path: Path) -> None:
    libri_light(tmp_path)
    more = lacking({"finetune": name}, tmp_path)
    config = resolved("experiment=ctc", f"finetune={name}", *more)
    own = config.finetune
    assert RECIPES[name] == (
        own.learning_rate, own.updates, own.mask_time_prob, own.mask_feature_prob, own.layerdrop,
        own.freeze_updates,
    )  # fmt: skip
    assert (own.batch_seconds, own.activation_dropout, own.freeze_exclude_reinit) == (
        1600,
        0.1,
        True,
    )
    assert (own.mask_time_length, own.mask_feature_length, own.eps) == (10, 64, 1e-8)
    assert (own.weight_decay, own.gradient_clip, own.head_factor) == (0, 0, 1)
    assert (own.betas, own.stages, own.final_scale) == ([0.9, 0.98], [0.1, 0.4, 0.5], 0.05)
    assert own.train.dataset.__class__.__name__ == (
        "LibriSpeech" if "100h" in name else "LibriLight"
    )
    assert (own.valid.partition, own.test.partition) == ("dev_other", "test_clean")
    assert config.dataset == resolved("experiment=ctc").dataset


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_for_the_analyses_of_its_family(
    name: str, families: dict[str, str], tmp_path: Path
) -> None:
    whole = {"metric": OmegaConf.load(CONF / f"metric/{name}.yaml"), "clusterer": "minibatch"}
    family = instantiate(OmegaConf.create(whole).metric).family
    taker = next(analysis for analysis, own in families.items() if own == family)
    more = lacking({"experiment": taker}, tmp_path)
    config = resolved(f"experiment={taker}", f"metric={name}", *more)
    assert config.experiments[taker].metric.name == name
    alone = "cca_phone" if family != families["cca_phone"] else "word_segmentation"
    with pytest.raises(StrataError, match=f"metric={name}: a {family} metric"):
        resolved(f"experiment={alone}", f"metric={name}")


def test_the_groups_are_those_of_the_design() -> None:
    expected = {"analysis", "dataset", "debug", "experiment", "launcher", "layers", "metric"}
    assert {group for group, _ in OPTIONS} >= expected | {"model", "paths", "tracking"}


def test_no_option_repeats_a_key() -> None:
    """YAML keeps the last of two equal keys without a word."""
    for path in CONF.rglob("*.yaml"):
        lines = path.read_text().splitlines()
        top = [m[1] for line in lines if (m := re.match(r"([\w@/]+):", line))]
        assert len(top) == len(set(top)), path


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_says_its_own_name_and_its_revision(name: str) -> None:
    content = yaml.safe_load((CONF / f"model/{name}.yaml").read_text())
    assert content["name"] == name
    assert content["revision"]
    assert content["checkpoint"]


def test_the_models_are_those_of_the_issue() -> None:
    assert set(MODELS) >= {
        *("wav2vec2_base", "wav2vec2_large", "wav2vec2_large_lv60", "wav2vec2_base_100h"),
        *("wav2vec2_base_960h", "wav2vec2_large_960h", "hubert_base", "hubert_large"),
        *("wavlm_base", "wavlm_base_plus", "wavlm_large", "xlsr53", "xls_r_300m", "w2v_bert"),
        *("data2vec_base", "data2vec_large", "unispeech_sat_base", "whisper_base"),
        *("whisper_large_v3", "hf"),
    }


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_is_an_experiment_of_the_same_name(name: str, tmp_path: Path) -> None:
    config = resolved(f"experiment={name}", *lacking({"experiment": name}, tmp_path))
    beside = {"word_discrimination": ["word_discrimination_dtw"]}  # on a draw of the same words
    assert list(config.experiments) == [name, *beside.get(name, [])]
    assert (config.name, config.task) == (name, "analysis")
    assert (config.model.name, type(config.dataset).__name__) == ("wav2vec2_base", "LibriSpeech")


def test_the_bare_command_is_the_demo_and_needs_no_network() -> None:
    config = resolved()
    assert config.name == "demo"
    assert list(config.experiments) == ["cca_mel", "cca_intra", "cca_phone", "cca_word"]
    assert config.model.name == "wav2vec2_tiny"
    assert (ROOT / config.model.checkpoint / "config.json").is_file()
    assert type(config.dataset).__name__ == "Synthetic"


def test_a_model_and_a_dataset_on_the_command_line_win_over_the_demo() -> None:
    config = resolved("model=hubert_base")
    assert (config.model.name, type(config.dataset).__name__) == ("hubert_base", "Synthetic")
    config = resolved("experiment=demo", "dataset=librispeech")
    assert (config.model.name, type(config.dataset).__name__) == ("wav2vec2_tiny", "LibriSpeech")


def test_paper_is_the_four_analyses_with_the_default_model_and_data() -> None:
    config = resolved("experiment=paper")
    assert list(config.experiments) == ["cca_mel", "cca_intra", "cca_phone", "cca_word"]
    assert (config.model.name, config.dataset.partition) == ("wav2vec2_base", "dev_clean")


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_metric_reaches_every_member(name: str) -> None:
    config = resolved("experiment=paper", f"metric={name}")
    assert {member.metric.name for member in config.experiments.values()} == {name}
    assert {type(m.metric) for m in config.experiments.values()} == {type(config.metric)}


def test_a_metrics_own_keys_reach_every_member_or_one() -> None:
    config = resolved("experiment=paper", "metric=svcca", "metric.variance=0.9")
    assert {member.metric.variance for member in config.experiments.values()} == {0.9}
    one = resolved("experiment=paper", "experiments.cca_mel.metric.ridges=[[0.5,0.5]]")
    assert list(map(list, one.experiments["cca_mel"].metric.ridges)) == [[0.5, 0.5]]
    assert len(one.experiments["cca_word"].metric.ridges) > 1


@pytest.mark.parametrize(
    ("more", "clusters", "batch"),
    [([], 5000, 4000), (["metric.clusters=70"], 70, 4000), (["clusterer=faiss"], 5000, 4000)],
)
def test_the_metric_that_it_has_leaves_an_analysis_its_own_settings(
    more: list[str], clusters: int, batch: int
) -> None:
    config = resolved("experiment=mi_word", "metric=mutual_information", *more)
    metric = config.experiments["mi_word"].metric
    assert (metric.clusters, metric.batch) == (clusters, batch)
    phone = resolved("experiment=mi_phone", "metric=mutual_information")
    assert phone == replace(resolved("experiment=mi_phone"), metric=phone.metric)


def test_a_setting_that_nobody_gives_is_an_error() -> None:
    with pytest.raises(StrataError, match=r"experiments.mi_phone.metric.clusters=null: give it"):
        resolved("experiment=mi_phone", "experiments.mi_phone.metric.clusters=null")


def test_without_one_each_member_keeps_its_own_metric() -> None:
    config = resolved("experiment=paper")
    assert {member.metric.name for member in config.experiments.values()} == {"pwcca"}


def test_a_target_layer_is_for_a_single_experiment_against_a_layer() -> None:
    def target(*overrides: str) -> str | None:
        return resolved(*overrides).experiments["cca_intra"].target.layer

    assert target("experiment=cca_intra") == "T0"
    assert target("experiment=cca_intra", "target.layer=T3") == "T3"
    assert target("experiment=paper", "experiments.cca_intra.target.layer=T3") == "T3"
    with pytest.raises(StrataError, match=r"experiments\.cca_intra\.target\.layer=T3"):
        resolved("experiment=paper", "target.layer=T3")
    with pytest.raises(StrataError, match=r"target\.layer=T3"):
        resolved("experiment=cca_phone", "target.layer=T3")


def test_a_targets_file_is_asked_for_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match=r"target\.path.*download glove --root"):
        resolved("experiment=cca_glove")
    with pytest.raises(StrataError, match=r"target\.path=/no/where.*download agwe --root"):
        resolved("experiment=cca_agwe", "target.path=/no/where")
    table = tmp_path / "table.txt"
    table.touch()
    config = resolved("experiment=cca_glove", f"target.path={table}")
    assert config.experiments["cca_glove"].target.path == str(table)
    with pytest.raises(StrataError, match=r"experiments\.cca_glove\.target\.path="):
        resolved("experiment=cca_phone", f"target.path={table}")


def test_the_second_model_is_any_of_the_group_or_any_folder() -> None:
    config = resolved("experiment=cca_inter", "model=wav2vec2_base")
    assert config.other is not None
    assert (config.model.name, config.other.name) == ("wav2vec2_base", "wav2vec2_base_960h")
    config = resolved("experiment=cca_inter", "model@other=hubert_base", "other.checkpoint=/folder")
    assert config.other is not None
    assert (config.other.name, config.other.checkpoint) == ("hubert_base", "/folder")
    assert resolved("experiment=cca_phone").other is None
    with pytest.raises(StrataError, match="model@other=NAME"):
        resolved("experiment=cca_inter", "other=null")


def test_pairs_of_layers_are_the_same_or_all() -> None:
    (one,) = resolved("experiment=cca_inter", "target.pairs=all").experiments.values()
    assert one.target.pairs == "all"
    with pytest.raises(StrataError, match=r"target\.pairs=some: choose one of same, all"):
        resolved("experiment=cca_inter", "target.pairs=some")
    with pytest.raises(StrataError, match=r"experiments\.cca_inter\.target\.pairs=all"):
        resolved("experiment=cca_phone", "target.pairs=all")
    every = "experiments.cca_inter.sampling.frames=null"
    with pytest.raises(StrataError, match="gigabytes"):
        resolved("experiment=cca_inter", "target.pairs=all", every)


def test_full_is_every_analysis_with_controls_and_leaves_out_what_lacks_a_file(
    tmp_path: Path,
) -> None:
    config = resolved("experiment=full")
    assert set(config.experiments) | set(config.left_out) == set(ANALYSES)
    assert config.controls
    assert not resolved("experiment=paper").controls
    files = {name: why for name, why in config.left_out.items() if name != "cca_inter"}
    for name, why in files.items():
        assert f"experiments.{name}.target.path is not given: " in why
    assert "model@other=NAME" in config.left_out["cca_inter"]
    paths = [f"experiments.{name}.target.path={tmp_path}" for name in files]
    assert resolved("experiment=full", "model@other=hubert_base", *paths).left_out == {}
    with pytest.raises(StrataError, match="no such file"):  # what was given must be there
        resolved("experiment=full", f"{paths[0]}/absent")


def test_a_metric_that_does_not_fit_its_own_analysis_is_refused() -> None:
    config = composed("experiment=cca_phone").copy()
    config.merge_with_dotlist(["experiments.cca_phone.target.kind=speaker"])
    assert resolve(config).experiments["cca_phone"].labelled_by == "speaker"
    config.merge_with_dotlist(["experiments.cca_phone.metric._target_=builtins.dict"])
    with pytest.raises(StrataError, match=r"experiments\.cca_phone\.metric: dict is not"):
        resolve(config)


NAMES = [*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(13))]


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        ([], NAMES),
        (["layers=cnn"], NAMES[:7]),
        (["layers=transformer"], NAMES[7:]),
        (["layers=last4"], ["T9", "T10", "T11", "T12"]),
        (["layers=every_other"], ["C1", "C3", "C5", "C7", *(f"T{i}" for i in range(0, 13, 2))]),
        (["layers.index=3"], ["T3"]),
        (["layers=single", "layers.index=0"], ["T0"]),
        (["layers.indices=[T3,C7]"], ["C7", "T3"]),
        (["layers=single", "layers.indices=[C7,T3]"], ["C7", "T3"]),
    ],
)
def test_layers_choose(overrides: list[str], chosen: list[str]) -> None:
    assert resolved("experiment=cache", *overrides).layers.choose(NAMES) == chosen


def test_a_layer_that_the_model_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(StrataError, match=r"T99.*C1.*T12"):
        resolved("layers.index=99").layers.choose(NAMES)


def test_sampling_of_the_run_lies_over_what_a_member_draws() -> None:
    plain = resolved("experiment=paper").experiments
    config = resolved("experiment=paper", "sampling.instances=7", "sampling.samples=5").experiments
    assert [config[name].sampling.instances for name in config] == [None, None, 7, 7]
    assert config["cca_phone"].sampling.labels == plain["cca_phone"].sampling.labels == 39
    own = resolved("experiment=paper", "experiments.cca_word.sampling.instances=3").experiments
    assert [own[name].sampling.instances for name in own] == [None, None, 200, 3]


def test_defaults_of_sampling_are_the_papers() -> None:
    config = resolved("experiment=paper")
    drawn = {name: vars(member.sampling) for name, member in config.experiments.items()}
    assert (config.sampling.samples, config.sampling.folds, config.sampling.trials) == (3, 10, 3)
    assert drawn["cca_mel"]["utterances"] == drawn["cca_intra"]["utterances"] == 500
    assert (drawn["cca_phone"]["labels"], drawn["cca_phone"]["instances"]) == (39, 200)
    assert (drawn["cca_word"]["labels"], drawn["cca_word"]["instances"]) == (500, 15)


@pytest.mark.parametrize("name", ["demo", "cca_word"])
def test_debug_comes_after_the_experiment(name: str) -> None:
    config = resolved(f"experiment={name}", "debug=default")
    assert (config.sampling.samples, config.sampling.trials, config.dataset.limit) == (1, 1, 24)
    for member in config.experiments.values():
        assert (member.sampling.utterances or 24, member.sampling.instances or 20) == (24, 20)


@pytest.mark.parametrize("value", ["on", "off", "refresh"])
def test_cache_is_a_string_whatever_yaml_thinks_of_it(value: str) -> None:
    assert resolved("experiment=cache", f"cache={value}").cache == value
    assert resolved().cache == "on"


WRONG = {
    "split=word": ["split=word", "frame, utterance, speaker"],
    "device=tpu": ["device=tpu", "auto, cpu, cuda, mps"],
    "precision=fp16": ["precision=fp16", "fp32, bf16"],
    "cache=maybe": ["cache=maybe", "on, off, refresh"],
    "clear=some": ["clear=some", "stale, all"],
    "task=sing": ["task=sing", "analysis"],
    "sampling.folds=6": ["sampling.folds=6", "sampling.trials=3", "at least 7"],
    "sampling.trials=5": ["sampling.folds=10", "sampling.trials=5", "at least 11"],
    "sampling.trials=0": ["sampling.trials=0", "at least 1"],
    "sampling.samples=0": ["sampling.samples=0", "at least 1"],
    "sampling.instances=0": ["sampling.instances=0", "at least 1"],
    "model.batch_size=0": ["model.batch_size=0", "at least 1"],
    "dataset.limit=0": ["dataset.limit=0", ">= 1"],
    "dataset.minutes=0": ["dataset.minutes=0", "more than 0"],
    "layers.index=-1": ["layers.index=-1", "at least 0"],
    "layers.indices=[X3]": ["layers.indices", "X3", "C1"],
    "layers.select=single": ["layers=single", "layers.index=3"],
    "experiments.cca_intra.target.layer=last": ["target.layer=last", "T0"],
    "experiments.cca_intra.target.layer=null": ["target.layer=null", "T0"],
    "experiments.cca_mel.unit=syllable": ["unit=syllable", "frame, phone, word"],
    "experiments.cca_phone.pooling=median": ["pooling=median", "middle_third"],
    "experiments.cca_phone.target.kind=mel": ["target.kind", "mel", "phone"],
    "experiments.cca_phone.target.kind=embedding": ["target.kind", "embedding", "phone"],
    "experiments.cca_phone.split=word": ["split=word", "speaker_else_utterance"],
    "experiments.cca_mel.parts=[rnn]": ["parts=rnn", "cnn, transformer"],
    "experiments.cca_mel.metric.ridges=[]": ["ridges"],
    "experiments.cca_mel.metric.ridges=[[-1,1]]": ["ridges", "-1"],
    "pretrain.steps=0": ["pretrain.steps=0", "at least 1"],
    "pretrain.units=1": ["pretrain.units=1", "at least 2"],
    "pretrain.mask_prob=1.5": ["pretrain.mask_prob=1.5", "up to 1"],
    "pretrain.valid_share=0": ["pretrain.valid_share=0", "more than 0"],
    "pretrain.crop_seconds=60": ["pretrain.crop_seconds=60", "batch_seconds=32"],
    "pretrain.snapshots=[0.5,2]": ["pretrain.snapshots", "up to 1"],
    "pretrain.temperature=[1]": ["pretrain.temperature", "[first, last]"],
    "pretrain.teacher=tests": ["pretrain.teacher_layer=None", "give both"],
    "pretrain.start=no/where": ["pretrain.start=no/where", "snapshots"],
    "finetune.updates=0": ["finetune.updates=0", "at least 1"],
    "finetune.processes=0": ["finetune.processes=0", "at least 1"],
    "finetune.reinit_top=-1": ["finetune.reinit_top=-1", "at least 0"],
    "finetune.reinit_layers=[C3]": ["finetune.reinit_layers", "C3", "T1"],
    "finetune.subset=10": ["subset=10", "10m"],
    "finetune.stages=[0.1,0.1]": ["finetune.stages", "[rising, holding, falling]"],
    "finetune.betas=[0.9]": ["finetune.betas=[0.9]", "Adam's two"],
    "finetune.eps=0": ["finetune.eps=0", "more than 0"],
    "finetune.checkpoint_minutes=0": ["finetune.checkpoint_minutes=0", "more than 0"],
    "finetune.gradient_clip=-1": ["finetune.gradient_clip=-1", "at least 0"],
    "finetune.mask_time_length=0": ["finetune.mask_time_length=0", "at least 1"],
    "finetune.max_seconds=90": ["finetune.max_seconds=90", "batch_seconds=16"],
    "finetune.layerdrop=1": ["finetune.layerdrop=1", "below 1"],
    "finetune.characters=words": ["finetune.characters=words", "text, checkpoint"],
    "finetune.valid.speaker_share=2": ["finetune.valid.speaker_share=2", "below 1"],
    "finetune.lm.path=/no/where.arpa": ["finetune.lm.path=/no/where.arpa", "no such file"],
    "tracking.mode=live": ["tracking.mode=live", "online, offline, disabled"],
}


@pytest.mark.parametrize("override", WRONG)
def test_a_value_out_of_range_is_told_with_its_key_and_what_would_be_right(override: str) -> None:
    config = composed().copy()
    config.merge_with_dotlist([override])
    with pytest.raises(StrataError) as told:
        resolve(config)
    for part in WRONG[override]:
        assert part in str(told.value)


def test_a_step_is_a_task() -> None:
    with pytest.raises(StrataError, match=r"steps\.after=sing: choose one of analysis"):
        resolved("experiment=ctc_then_analyse", "steps.after=sing")


def test_what_compares_two_models_waits_for_a_step_that_makes_the_second(tmp_path: Path) -> None:
    others = [f"~experiments.cca_{name}" for name in ("intra", "phone", "word")]
    cfg = composed("experiment=ctc_then_analyse", *others)
    raw = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(raw, dict)
    steps = {}
    for _, config, folder, own in steps_of(resolve(cfg), tmp_path, raw):
        steps[folder.name] = (list(config.experiments), config.other, own["other"])
        (folder / "model").mkdir() if folder.name == "ctc" else None
    assert steps["before"] == (["cca_mel"], None, None)
    names, other, written = steps["after"]
    assert names == ["cca_mel", "cca_inter"]
    assert other is not None
    assert (other.name, written["name"]) == ("wav2vec2_tiny", "wav2vec2_tiny")
    alone = resolved("experiment=ctc_then_analyse", *others, "~experiments.cca_mel")
    assert next(steps_of(alone, tmp_path / "alone", raw))[0] == "ctc"
    named = resolved("experiment=ctc_then_analyse", "model@other=hubert_tiny")
    assert "cca_inter" in next(steps_of(named, tmp_path / "named", raw))[1].experiments


def test_a_weight_is_for_a_dataset_of_the_mix() -> None:
    with pytest.raises(StrataError, match=r"pretrain\.weights=real: choose one of main"):
        resolved("experiment=pretrain", "+pretrain.weights.real=2")


def test_both_ways_of_choosing_layers_at_once_are_refused() -> None:
    with pytest.raises(StrataError, match=r"layers\.index and layers\.indices"):
        resolved("layers.index=3", "layers.indices=[T3]")


@pytest.mark.parametrize("override", ["metric.variance=0", "metric.variance=1.5"])
def test_an_error_of_a_metric_is_the_users_own(override: str) -> None:
    with pytest.raises(StrataError, match=re.escape(override.removesuffix(".0"))):
        resolved("metric=svcca", override)


@pytest.mark.parametrize(
    "override", ["sampling.fold=5", "sampling.folds=many", "model.batchsize=2", "sed=1"]
)
def test_an_unknown_key_or_type_fails_while_composing(override: str) -> None:
    with pytest.raises(ConfigCompositionException, match=override.split("=")[0].split(".")[-1]):
        composed(override)


def test_an_unknown_key_of_a_dataset_is_told_by_the_dataset() -> None:
    with pytest.raises((StrataError, ConfigCompositionException), match="minute"):
        resolved("dataset.minute=3")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("dataset=textgrid", "dataset.audio_root"),
        ("dataset=timit", "dataset.root"),
        ("model=hf", "model.checkpoint"),
        ("experiment=growth", "snapshots"),
    ],
)
def test_what_was_not_given_is_asked_for(override: str, key: str) -> None:
    with pytest.raises(StrataError, match=re.escape(f"{key}=")):
        resolved(override)


@pytest.mark.parametrize("name", ["joblib", "slurm", "basic"])
def test_launchers_set_hydras_launcher_and_nothing_else(name: str) -> None:
    plain, other = (
        compose("config", [*PHONE, *more], return_hydra_config=True)
        for more in ([], [f"launcher={name}"])
    )
    expected = {"joblib": "joblib", "slurm": "submitit_slurm", "basic": "basic"}[name]
    assert other.hydra.runtime.choices["hydra/launcher"] == expected
    assert OmegaConf.masked_copy(plain, KEYS) == OmegaConf.masked_copy(other, KEYS)


def test_run_folders_do_not_collide() -> None:
    hydra = yaml.safe_load((CONF / "config.yaml").read_text())["hydra"]
    assert "%f" in hydra["run"]["dir"]
    assert "%f" in hydra["sweep"]["dir"]


def test_the_schema_is_registered_once_under_its_name() -> None:
    assert ConfigStore.instance().load("schema.yaml").name == "schema.yaml"
    assert GlobalHydra.instance().is_initialized()


IMPORTS_NO_TORCH = """
import json, sys
from hydra import compose, initialize_config_dir
from common.config import register, resolve
register()
with initialize_config_dir(version_base="1.3", config_dir=sys.argv[1]):
    for overrides in json.loads(sys.argv[2]):
        resolve(compose("config", overrides))
print(sorted({"torch", "transformers", "datasets", "wandb", "matplotlib"} & set(sys.modules)))
"""


def clean_env(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def test_composing_and_resolving_import_no_torch() -> None:
    each = [["experiment=paper", f"metric={name}"] for name in SIMILARITIES]
    each += [[f"experiment={name}"] for name in ("word_segmentation", "word_discrimination")]
    each += [["experiment=demo"], ["experiment=cca_phone", "tracking=wandb"], ["experiment=cache"]]
    command = [sys.executable, "-c", IMPORTS_NO_TORCH, str(CONF), json.dumps(each)]
    done = subprocess.run(
        command, env=clean_env(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# Runs run.py as the command line does, and says at its end what it cost and what it imported.
MEASURED = """
import atexit, runpy, sys, time
atexit.register(lambda: print("MEASURED", time.process_time(), "torch" in sys.modules))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["dataset=textgrid", "dataset.audio_root=/no/where"], ["dataset.audio_root=/no/where"]),
        (["split=words"], ["split=words", "speaker"]),
        (["model=wav2vec3"], ["model/wav2vec3", "wav2vec2_base", "hubert_base"]),
    ],
)
def test_a_missing_root_or_wrong_name_fails_at_once(
    overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", MEASURED, str(ROOT / "run.py"), *overrides]
    command.append(f"hydra.run.dir={tmp_path}")
    done = subprocess.run(
        command, env=clean_env(), capture_output=True, text=True, check=False, timeout=60
    )
    _, seconds, torch = re.search(r"(MEASURED) (\S+) (\w+)", done.stdout).groups()  # type: ignore[union-attr]
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert all(part in told for part in parts), told
    assert "Traceback" not in told
    assert torch == "False"
    assert float(seconds) < 1.5  # of CPU: 0.6 s here, of which Hydra takes most
