"""What `resolve` makes of a composed configuration: metrics, targets, sampling of each member."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from marks import slow
from options import SIMILARITIES
from running import composed, resolved

from common.config import resolve
from common.records import StrataError


@pytest.mark.parametrize("name", ["cka", *(slow(name) for name in SIMILARITIES if name != "cka")])
def test_a_metric_reaches_every_member(name: str) -> None:
    config = resolved("experiment=paper", f"metric={name}")
    assert {member.metric.name for member in config.experiments.values()} == {name}
    assert {type(m.metric) for m in config.experiments.values()} == {type(config.metric)}


def test_a_metrics_own_keys_reach_every_member_or_one() -> None:
    config = resolved("experiment=paper", "metric=svcca", "metric.variance=0.9")
    assert {member.metric.variance for member in config.experiments.values()} == {0.9}
    one = resolved("experiment=paper", "experiments.cca_mel.metric.ridges=[[0.5,0.5]]")
    assert list(map(list, one.experiments["cca_mel"].metric.ridges)) == [[0.5, 0.5]]
    assert list(map(list, one.experiments["cca_word"].metric.ridges)) == [[1e-10, 1e-10]]


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


def test_a_metric_that_does_not_fit_its_own_analysis_is_refused() -> None:
    config = composed(("experiment=cca_phone",)).copy()
    speaker = {"_target_": "analysis.targets.labels.Attribute", "attribute": "speaker"}
    config.experiments.cca_phone.target = speaker
    assert resolve(config).experiments["cca_phone"].target.name == "speaker"
    for target, message in (
        ("builtins.dict", "not from analysis"),
        ("analysis.metrics.cca.np.linalg.svd", "it is not a Metric of analysis"),
        ("analysis.metrics.units.Units", "it is not a Metric of analysis"),
        ("analysis.metrics.cca.Misspelt", "cannot be found"),
    ):
        config.merge_with_dotlist([f"experiments.cca_phone.metric._target_={target}"])
        with pytest.raises(StrataError, match=rf"cca_phone\.metric\._target_={target}: {message}"):
            resolve(config)


def test_no_target_runs_before_it_is_known_to_be_allowed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    nested = f"+dataset.x={{_target_: os.mkdir, path: {made}}}"
    with pytest.raises(StrataError, match=r"dataset\.x\._target_=os\.mkdir: not from common\.dat"):
        resolved("dataset=synthetic", nested)
    below = f"+dataset.x=[{{_target_: common.datasets.files.os.mkdir, path: {made}}}]"
    with pytest.raises(StrataError, match=r"dataset\.x\[0\]\._target_=common\.datasets\.files"):
        resolved("dataset=synthetic", below)
    assert not made.exists()


def test_a_plugin_brings_classes_of_its_own() -> None:
    same = ("experiment=cca_phone", "~experiments.cca_phone.metric.ridges")
    target = "experiments.cca_phone.metric._target_=planted.Agreement"
    with pytest.raises(StrataError, match=r"plugins=\[planted\]"):
        resolved(*same, target)
    config = resolved(*same, target, "plugins=[planted]")
    assert type(config.experiments["cca_phone"].metric).__name__ == "Agreement"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.limit=2.5", "dataset.limit=2.5: use a whole number or null"),
        ("dataset.seed=1.5", "dataset.seed=1.5: use a whole number"),
        ("dataset.minutes=many", "dataset.minutes=many: use a number"),
        ("dataset.only_speakers=[36]", r"dataset.only_speakers=\[36\]: use a list of texts"),
        ("dataset.minutes=nan", "dataset.minutes=nan: use a finite number"),
        ("dataset.minutes=inf", "dataset.minutes=inf: use a finite number"),
        ("sampling.min_seconds=nan", "sampling.min_seconds=nan: use a finite number"),
        ("seed=${oc.env:NOPE}", "seed: .*NOPE"),
        ("dataset.seed=${oc.env:NOPE}", "dataset.seed: .*NOPE"),
        ("dataset.seed=${nowhere}", "dataset.seed: .*nowhere"),
        ("experiments.mi_phone.metric.clusters=2.5", r"metric.clusters=2.5: use a whole number"),
    ],
)
def test_numbers_of_another_kind_are_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(StrataError, match=message):
        resolved("experiment=mi_phone", "dataset=synthetic", override)


def test_sampling_of_the_run_lies_over_what_a_member_draws() -> None:
    plain = resolved("experiment=paper").experiments
    config = resolved("experiment=paper", "sampling.instances=7", "sampling.samples=5").experiments
    assert [config[name].sampling.instances for name in config] == [None, None, 7, 7]
    assert config["cca_phone"].sampling.labels == plain["cca_phone"].sampling.labels == 39
    members = resolved("experiment=paper", "experiments.cca_word.sampling.instances=3").experiments
    assert [members[name].sampling.instances for name in members] == [None, None, 200, 3]


@pytest.mark.parametrize("value", ["on", "off", "refresh"])
def test_cache_is_a_string_whatever_yaml_thinks_of_it(value: str) -> None:
    assert resolved("experiment=cache", f"cache={value}").cache == value
    assert resolved().cache == "on"


def test_a_weight_is_for_a_dataset_of_the_mix() -> None:
    with pytest.raises(StrataError, match=r"pretrain\.weights=real: choose one of main"):
        resolved("experiment=pretrain", "+pretrain.weights.real=2")


@pytest.mark.parametrize("override", ["metric.variance=0", "metric.variance=1.5"])
def test_an_error_of_a_metric_is_the_users_own(override: str) -> None:
    with pytest.raises(StrataError, match=re.escape(override)):
        resolved("metric=svcca", override)


@pytest.mark.parametrize(
    "override", ["sampling.fold=5", "sampling.folds=many", "model.batchsize=2", "sed=1"]
)
def test_an_unknown_key_or_type_fails_while_composing(override: str) -> None:
    with pytest.raises(ConfigCompositionException, match=override.split("=")[0].split(".")[-1]):
        composed((override,))


def test_an_unknown_key_of_a_dataset_is_told_by_the_dataset() -> None:
    with pytest.raises(ConfigCompositionException, match=r"dataset\.minute"):
        resolved("dataset.minute=3")
    with pytest.raises(StrataError, match=r"dataset: .*minute"):
        resolved("+dataset.minute=3")


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


def test_a_limit_reaches_every_analysis_that_draws_by_it_or_is_refused() -> None:
    def limits_of(key: str, *overrides: str) -> dict[str, object]:
        mounted = resolved("experiment=paper", *overrides).experiments
        return {name: getattr(member.sampling, key) for name, member in mounted.items()}

    frames, units = ("cca_mel", "cca_intra"), ("cca_phone", "cca_word")
    assert limits_of("min_seconds", "sampling.min_seconds=0.2") == (
        dict.fromkeys(frames) | dict.fromkeys(units, 0.2)
    )
    assert limits_of("min_characters", "sampling.min_characters=3")["cca_phone"] is None
    assert limits_of("min_characters", "sampling.min_characters=3")["cca_word"] == 3
    assert limits_of("min_seconds", "debug=default") == dict.fromkeys((*frames, *units))
    assert limits_of("instances", "debug=default", "sampling.instances=7")["cca_phone"] == 7
    for experiment, override in (
        ("cca_mel", "sampling.min_seconds=5"),
        ("cca_phone", "sampling.utterances=5"),
        ("cca_phone", "sampling.min_characters=2"),
        ("mi_phone_frame", "sampling.min_seconds=1"),
        ("word_segmentation", "sampling.instances=1"),
    ):
        with pytest.raises(StrataError, match=rf"{override}(\.0)?: does nothing, .* draws by"):
            resolved(f"experiment={experiment}", override)
    assert (
        resolved("experiment=report", "report.runs=[runs]", "sampling.instances=3").experiments
        == {}
    )
