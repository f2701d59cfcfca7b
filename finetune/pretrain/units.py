"""Units to be predicted: k-means clusters of MFCC, or of a layer of a trained model."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from common.config import Config, ModelConfig, PretrainConfig
from common.encoder.encoder import Layer, describe, load_encoder
from common.encoder.frames import FrameGeometry
from common.progress import progress
from common.records import StrataError
from common.seeding import generator
from finetune.pretrain.speech import PretrainingSpeech

log = logging.getLogger(__name__)

FITTED = 200_000  # frames that k-means sees


def cluster(features: NDArray[np.floating], k: int, seed: int) -> MiniBatchKMeans:
    """k-means of feature rows (n, d), with HuBERT's settings (Hsu et al. 2021, section IV-B)."""
    n, _ = features.shape
    if n < 10 * k:
        raise StrataError(
            f"pretrain.units={k}: {n} frames are too few to cluster; use at most {n // 10} units "
            "or more speech"
        )
    rows = generator(seed, "k-means").permutation(n)[:FITTED]
    means = MiniBatchKMeans(
        k,
        init="k-means++",
        batch_size=10_000,
        n_init=5,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed,
    )
    return means.fit(features[np.sort(rows)].astype(np.float32))


def acoustic_units(speech: PretrainingSpeech, k: int, seed: int) -> NDArray[np.int32]:
    """Units (F,) of every frame: clusters of its normalised MFCC."""
    features = speech.normalised(np.arange(len(speech.units)))
    return _label(cluster(features, k, seed), features)


def teacher_of(recipe: PretrainConfig) -> ModelConfig:
    """The trained model whose layer gives the units."""
    return ModelConfig(name="teacher", checkpoint=str(recipe.teacher))


def teacher_layer(recipe: PretrainConfig, geometry: FrameGeometry) -> Layer:
    """The teacher's layer, known to have the frames of the model that is to be trained."""
    layers = describe(teacher_of(recipe)).layers
    layer = next((one for one in layers if one.name == recipe.teacher_layer), None)
    if layer is None:
        raise StrataError(
            f"pretrain.teacher_layer={recipe.teacher_layer}: the teacher has "
            f"{', '.join(one.name for one in layers)}"
        )
    if layer.geometry != geometry:
        raise StrataError(
            f"pretrain.teacher_layer={layer.name}: it has a frame every {layer.geometry.hop} "
            f"samples that sees {layer.geometry.receptive_field}, the model to train one every "
            f"{geometry.hop} that sees {geometry.receptive_field}: choose a layer with its frames"
        )
    return layer


def learnt_units(speech: PretrainingSpeech, config: Config) -> NDArray[np.int32]:
    """Units (F,) of every frame: clusters of a layer of a trained model, the teacher."""
    recipe = config.pretrain
    layer = teacher_layer(recipe, speech.geometry)
    encoder = load_encoder(teacher_of(recipe), config.device, config.precision)
    features = np.empty((len(speech.units), layer.dim), dtype=np.float16)
    for u in progress(range(len(speech.lengths)), "teacher's layer", "utterances"):
        waveform = speech.crop(u, 0, int(speech.lengths[u]))
        first = int(speech.frame_offsets[u])

        def keep(
            _: Layer, hidden: torch.Tensor, lengths: tuple[int, ...], first: int = first
        ) -> None:
            features[first : first + lengths[0]] = hidden[0, : lengths[0]].float().cpu().numpy()

        encoder.run([waveform], keep, only=[layer.name])
    return _label(cluster(features, recipe.units, config.seed), features)


def _label(means: MiniBatchKMeans, features: NDArray[np.floating]) -> NDArray[np.int32]:
    parts = np.array_split(features, max(1, len(features) // FITTED))
    units = np.concatenate([means.predict(part.astype(np.float32)) for part in parts])
    used = len(np.unique(units))
    log.info("%d units for %d frames; %d in use", means.n_clusters, len(units), used)
    return units.astype(np.int32)
