"""Every option of every group composes and resolves; what is promised of names holds."""

import copy
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from marks import slow
from omegaconf import OmegaConf
from options import CONF, OPTIONS, lacking, libri_light
from running import ROOT, SLOW_TO_IMPORT, python, resolved

from common.config import Config, register
from common.records import StrataError

MODELS = [name for group, name in OPTIONS if group == "model"]
ANALYSES = [name for group, name in OPTIONS if group == "analysis"]
METRICS = [name for group, name in OPTIONS if group == "metric"]
KEYS = [field.name for field in fields(Config)]
PHONE = ["experiment=cca_phone", "model=wav2vec2_tiny", "dataset=synthetic"]
# One configuration composes one option of every group: together they cover all of them. A metric
# fits some experiments only, and every analysis is composed alone.
APART = ("analysis", "metric")
GROUPS = {g: [name for group, name in OPTIONS if group == g] for g, _ in OPTIONS if g not in APART}
GROUPS["experiment"] = [name for name in GROUPS["experiment"] if name not in ANALYSES]
# Analyses of one, of two models, with a draw or with a file beside; the others are as the first.
UNLIKE = ("cca_phone", "cca_inter", "word_discrimination", "cca_glove")
CASES = [
    {group: names[k % len(names)] for group, names in GROUPS.items()}
    for k in range(max(map(len, GROUPS.values())))
]
BUT_MODELS = max(len(names) for group, names in GROUPS.items() if group != "model")


@pytest.mark.parametrize(
    "case",
    # The first of them have every option but some models.
    [*CASES[:BUT_MODELS], *map(slow, CASES[BUT_MODELS:])],
    ids=lambda case: f"{case['model']}-{case['experiment']}",
)
def test_every_option_of_every_group_composes_and_resolves(
    case: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "dev-clean").mkdir()  # librispeech_local and timit look for their partitions
    (tmp_path / "TRAIN").mkdir()
    (tmp_path / "wav.scp").touch()  # and kaldi for this
    libri_light(tmp_path)
    overrides = [f"{group}={name}" for group, name in case.items()]
    config = resolved(*overrides, *lacking(case, tmp_path))
    assert (config.model.name, config.name) == (case["model"], case["experiment"])
    assert (config.layers.select, config.tracking.backend) == (case["layers"], case["tracking"])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of every analysis at once, given what each of them lacks."""
    tmp = tmp_path_factory.mktemp("given")
    given = [
        f"experiments.{name}.{more}"
        for name in ANALYSES
        for more in lacking({"experiment": name}, tmp)
    ]
    return resolved("experiment=full", "heavy=true", "model@other=hubert_base", *given)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_for_the_analyses_of_its_family(
    name: str, everything: Config, tmp_path: Path
) -> None:
    families = {one: everything.experiments[one].metric.family for one in ANALYSES}
    whole = {"metric": OmegaConf.load(CONF / f"metric/{name}.yaml"), "clusterer": "minibatch"}
    metric = instantiate(OmegaConf.create(whole).metric)
    family = metric.family
    taker = next(analysis for analysis, taken in families.items() if taken == family)
    more = lacking({"experiment": taker}, tmp_path)
    config = resolved(f"experiment={taker}", f"metric={name}", *more)
    assert config.experiments[taker].metric.name == metric.name


def test_the_groups_that_people_type_are_there() -> None:
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


@pytest.mark.parametrize("name", [name if name in UNLIKE else slow(name) for name in ANALYSES])
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


def test_full_is_every_analysis_with_controls_and_leaves_out_what_lacks_a_file(
    everything: Config, tmp_path: Path
) -> None:
    config = resolved("experiment=full", "heavy=true")
    assert set(config.experiments) | set(config.left_out) == set(ANALYSES)
    assert (set(everything.experiments), everything.left_out) == (set(ANALYSES), {})
    assert config.controls
    assert not resolved("experiment=paper").controls
    labels = [name for name in config.left_out if name.endswith(("_label", "_number"))]
    files = {n: why for n, why in config.left_out.items() if n not in ("cca_inter", *labels)}
    for name, why in files.items():
        assert f"experiments.{name}.target.path is not given: " in why
    assert all("which label is not given" in config.left_out[name] for name in labels)
    assert "model@other=NAME" in config.left_out["cca_inter"]
    with pytest.raises(StrataError, match="no such file"):  # what was given must be there
        resolved("experiment=full", f"experiments.cca_glove.target.path={tmp_path}/absent")


def test_what_is_heavy_is_asked_for_by_name_or_with_heavy() -> None:
    light, heavy = resolved("experiment=full"), resolved("experiment=full", "heavy=true")
    only = heavy.experiments.keys() - light.experiments.keys()
    assert only == {"abx_phone", "cca_word_parts", "context"}
    assert only == light.left_out.keys() - heavy.left_out.keys()
    assert light.left_out["context"].endswith(
        "encodes each of up to 200 utterances six times: heavy=true"
    )
    assert list(resolved("experiment=context").experiments) == ["context"]


def test_defaults_of_sampling_are_the_papers() -> None:
    config = resolved("experiment=paper")
    drawn = {name: vars(member.sampling) for name, member in config.experiments.items()}
    published = resolved("experiment=paper", "protocol=published")
    for run, trials, tested in ((config, None, 10), (published, 3, 3)):
        sampling = run.sampling
        assert (sampling.samples, sampling.folds, sampling.trials, sampling.tested_folds) == (
            3,
            10,
            trials,
            tested,
        )
    assert drawn["cca_mel"]["utterances"] == drawn["cca_intra"]["utterances"] == 500
    assert (drawn["cca_phone"]["labels"], drawn["cca_phone"]["instances"]) == (39, 200)
    assert (drawn["cca_word"]["labels"], drawn["cca_word"]["instances"]) == (500, 15)


@pytest.mark.parametrize("name", ["demo", "cca_word"])
def test_debug_comes_after_the_experiment(name: str) -> None:
    config = resolved(f"experiment={name}", "debug=default")
    assert (config.sampling.samples, config.sampling.trials, config.dataset.limit) == (1, 1, 24)
    for member in config.experiments.values():
        assert (member.sampling.utterances or 24, member.sampling.instances or 20) == (24, 20)


@pytest.mark.parametrize("name", ["joblib", "slurm", "basic"])
def test_launchers_set_hydras_launcher_and_nothing_else(name: str) -> None:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
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


@pytest.mark.parametrize("name", ["report", "dashboard"])
def test_an_experiment_may_set_its_run_folder(name: str) -> None:
    """A report is of no one model: its folder must not bear the default model's name."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose("config", [f"experiment={name}"], return_hydra_config=True)
    raw = OmegaConf.to_container(config.hydra.run, resolve=False)
    assert raw == {"dir": f"${{paths.runs}}/{name}/${{now:%Y-%m-%d_%H-%M-%S-%f}}"}


def test_hydra_does_not_copy_the_store_and_what_it_loads_is_a_copy() -> None:
    register()
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    store.load("schema.yaml").node["seed"] = 99
    assert store.load("schema.yaml").node["seed"] == 0


RESOLVES = """
import json, sys
from hydra import compose, initialize_config_dir
from common.config import register, resolve
register()
with initialize_config_dir(version_base="1.3", config_dir=sys.argv[1]):
    for overrides in json.loads(sys.argv[2]):
        resolve(compose("config", overrides))
print(sorted(set(sys.argv[3:]) & set(sys.modules)))
"""


def test_composing_and_resolving_import_nothing_slow() -> None:
    each = [["experiment=paper", f"metric={name}"] for name in ("cka", "pwcca_published")]
    each += [["experiment=full", "model@other=hubert_tiny"]]
    each += [["experiment=demo"], ["experiment=cca_phone", "tracking=wandb"], ["experiment=cache"]]
    done = python("-c", RESOLVES, str(CONF), json.dumps(each), *SLOW_TO_IMPORT)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


COMPOSES = """
import copy, sys
from pathlib import Path
import omegaconf
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.base import Box
from common import config
from common.config.composing import compose_in_linear_time

def composed():
    with initialize_config_dir(version_base="1.3", config_dir=sys.argv[1]):
        return compose("config", [*sys.argv[2:], "model@other=hubert_tiny", "seed=3"])

def know_their_parents(node):
    inner = node._content if isinstance(node._content, (dict, list)) else []
    inner = inner.values() if isinstance(inner, dict) else inner
    return all(
        one._get_parent() is node and (not isinstance(one, Box) or know_their_parents(one))
        for one in inner
    )

def read():
    return [OmegaConf.load(path) for path in sorted(Path(sys.argv[1]).glob("*/*.yaml"))]

config.compose_in_linear_time = lambda: None
config.register()
before, files = OmegaConf.to_yaml(composed()), read()
compose_in_linear_time()
after = composed()
print(OmegaConf.to_yaml(after) == before, know_their_parents(after), read() == files)
OmegaConf.set_readonly(after, True)
copied = copy.deepcopy(after)
OmegaConf.set_readonly(copied, False)
print(copied == after, OmegaConf.is_readonly(after), copied._metadata == after._metadata)
try:
    OmegaConf.create("seed: 1\\nseed: 2")
except Exception as error:
    print(str(error).splitlines()[2])
"""


@pytest.mark.parametrize("experiment", ["demo", slow("full")])
def test_hydra_composes_the_same_in_linear_time(experiment: str) -> None:
    done = python("-c", COMPOSES, str(CONF), f"experiment={experiment}")
    said = ["True True True", "True True False", "found duplicate key seed"]
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr
