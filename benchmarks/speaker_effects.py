"""How much of a layer is the speaker's: the effects that coverage.py and equal_layers.py simulate.

    python benchmarks/speaker_effects.py experiment=cca_phone model=hubert_tiny dataset=textgrid …

Overrides as of a run with one experiment of phones or words. For every layer of the first sample,
in folds of speakers, about each trial's own fit:

    shift  share of the variance of the canonical variates of the layer that lies between speakers
    slope  share between speakers of the variance of the products of variates (their mean over a
           fold is the correlation): how differently speakers score
    own    by how much the test fold's correlation falls or rises as it is not centred by its own
           mean but has its share of what lies between folds (`about`)

The shares are weighed as the score weighs directions, and are variance components of a one-way
analysis of variance (Searle, Casella & McCulloch 1992, section 3.6), so that few units a speaker
do not raise them. The last lines have the same of the populations that coverage.py draws from.

On speechocean762 (67 speakers, hubert_tiny, one sample; all speakers but ten were heard in
training) they rise from layer to layer:

             shift          slope          own
    phones   .022 to .056   .005 to .006   -.0003 to -.0011
    words    .050 to .131   .010 to .011   -.0002 to -.0011
"""

import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.measure import statistics_key
from analysis.metrics.cca import PWCCA, about, held_out_correlations
from analysis.moments import fold_views
from analysis.sampling.speech import read_speech
from analysis.studies.provide import build_studies, collect
from analysis.studies.study import Setting
from analysis.studies.vectors import VectorStudy
from analysis.targets.base import LabelTarget
from benchmarks.coverage import ALIKE, DIFFER, MOSTLY, PHONES, WORDS
from common.cache.cache import Cache, cache_root
from common.config import register, resolve
from common.encoder.architecture import describe
from common.encoder.checkpoint import revision_of
from common.timing import Stopwatch

Array = NDArray[np.float64]
CONF = Path(__file__).resolve().parents[1] / "conf"
METRIC = PWCCA(((1e-10, 1e-10),))
FOLDS = 10


def share_between(values: Array, speaker: NDArray[np.int64]) -> Array:
    """Share (k,) of the variance of values (n, k) that lies between speakers (n,)."""
    _, codes, counts = np.unique(speaker, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, codes, values)
    means, n = sums / counts[:, None], counts.sum()
    within = ((values - means[codes]) ** 2).sum(0) / (n - len(counts))
    spread = (counts[:, None] * (means - values.mean(0)) ** 2).sum(0) / (len(counts) - 1)
    size = (n - (counts**2).sum() / n) / (len(counts) - 1)
    between = (spread - within) / size
    return between / (between + within)


def effects(x: Array, y: Array, fold: NDArray[np.int64], speaker: NDArray[np.int64]) -> Array:
    """(shift, slope, own) of two views, as above."""
    folds = fold_views(x, y, fold, FOLDS)
    found = []
    for t in range(FOLDS):
        train, _, test = folds.trial(t)
        fit = METRIC.fit(train)
        a, b = fit.projection.a, fit.projection.b
        rows = fold != t  # the fitted rows and dev: a test fold has too few speakers
        p, q = (x[rows] - train.x.mean) @ a.T, (y[rows] - train.y.mean) @ b.T
        shift = fit.weights @ share_between(p, speaker[rows])
        slope = fit.weights @ share_between(p * q, speaker[rows])
        true, strata = (
            fit.weights @ held_out_correlations(fit.projection, fold)
            for fold in (test, about(test, train))
        )
        found.append((shift, slope, strata - true))
    return np.mean(found, axis=0)


def study_of(overrides: list[str]) -> tuple[VectorStudy, str]:
    """The one study of a run, its vectors in the cache; and its experiment's name."""
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = resolve(compose("config", overrides))
    speech, layers = read_speech(config), describe(config.model).layers
    cache = Cache(cache_root(config))
    key = statistics_key(config, speech.corpus, revision_of(config.model))
    (study,), *_ = build_studies(Setting(config, speech, layers, cache, key))
    if not isinstance(study, VectorStudy):
        raise TypeError("give an experiment of phones or words")
    collect(config, speech.whole, [study], Stopwatch(), {})
    return study, next(iter(study.experiments))


def main() -> None:
    study, name = study_of(sys.argv[1:])
    labels = study.drawn[name].target
    if not isinstance(labels, LabelTarget):
        raise TypeError("give an experiment that compares with labels")
    print(f"{name:10} shift  slope  own")
    for layer in study.layers_of(name):
        units = study.units(name, 0, layer.name)
        target = labels.view(units.label, units.labels)
        x = units.vectors.astype(np.float64)
        effect = effects(x, np.asarray(target, np.float64), units.fold, units.speaker)
        print(f"{layer.name:10} {effect[0]:.3f}  {effect[1]:.3f}  {effect[2]:+.4f}", flush=True)
    simulated = {
        "as phones": PHONES,
        "as words": WORDS,
        "alike": ALIKE,
        "differ": DIFFER,
        "mostly": MOSTLY,
    }
    for what, population in simulated.items():
        rng, speaker = np.random.default_rng(0), np.repeat(np.arange(67), population.units)
        x, y = population.draw(67, population.common(rng), rng)
        effect = effects(x, y, speaker % FOLDS, speaker)
        print(f"{what:10} {effect[0]:.3f}  {effect[1]:.3f}  {effect[2]:+.4f}", flush=True)


if __name__ == "__main__":
    main()
