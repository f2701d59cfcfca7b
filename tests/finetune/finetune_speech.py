"""Small recipes and prepared speech for the tests of training."""

from pathlib import Path
from typing import Any

from models import configured, save

from common.config import PretrainConfig
from common.datasets.synthetic import Synthetic
from common.encoder.architecture import Blueprint, read_blueprint
from common.records import Corpus
from finetune.pretrain.speech import PretrainingSpeech, prepare

RECIPE: dict[str, Any] = {
    "steps": 6,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "crop_seconds": 1.0,
    "batch_seconds": 4.0,
    "mask_prob": 0.65,
    "mask_length": 5,
    "acoustic_weight": 2.0,
    "temperature": [2.0, 0.5],
    "units": 10,
    "snapshots": [1.0],
}


def recipe(**keys: Any) -> PretrainConfig:
    return PretrainConfig(**RECIPE | keys)


def synthetic(minutes: float = 0.5, speakers: int = 3, seed: int = 0) -> Corpus:
    return Synthetic(minutes=minutes, speakers=speakers, seed=seed, write_to=None).read()


def blueprint_of(name: str, folder: Path) -> Blueprint:
    return read_blueprint(configured(save(name, folder / name), random_init=True))


def prepared(blueprint: Blueprint, folder: Path, **corpora: Corpus) -> PretrainingSpeech:
    corpora = corpora or {"main": synthetic()}
    geometry = blueprint.description.layers[-1].geometry
    return prepare(corpora, dict.fromkeys(corpora, 1.0), geometry, folder / "speech")
