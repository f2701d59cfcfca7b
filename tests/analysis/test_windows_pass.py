"""What a forward pass over windows of a long recording leaves, against one over the recording.

Convolutions see nothing beyond their receptive fields, so that their frames must be the same ones;
a frame that lay elsewhere would be another one, as the recording is noise.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import models
import numpy as np
import pytest
from drawn import analysis
from marks import slow
from passes import SEED, collect_frames, collect_units, crosses_with_mel, entry_at

from analysis.forward.collectors import load_view
from analysis.sampling.folds import draw_frames
from analysis.sampling.segments import draw_units
from common.config import SamplingConfig, UnitSampling
from common.encoder.encoder import Encoder, load_encoder
from common.records import Corpus, Interval, Utterance
from common.windows import in_windows

pytestmark = pytest.mark.usefixtures("one_thread")

SECONDS = 16_000
RUN = SamplingConfig(samples=1, folds=3, trials=1)


def recording(seconds: float, id: str = "long") -> Utterance:
    """Noise, with phones side by side, and instead of every fourth one a pause."""
    n, rng = int(seconds * SECONDS), np.random.default_rng(0)
    bounds = np.cumsum(rng.integers(1100, 2100, n // 1700)).tolist()
    units = tuple(
        Interval(start, end, f"p{k % 4}") for k, (start, end) in enumerate(pairwise(bounds))
    )
    spoken = tuple(unit for k, unit in enumerate(units) if k % 4)
    waveform = models.noise(n)
    return Utterance(id, "s", "", n, {"phone": spoken}, lambda: waveform)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    utterances = (recording(20), recording(0.9, "short"))
    return Corpus("toy", "all", "none", utterances, {}, "fingerprint")


def encoder_of(folder: Path, name: str) -> Encoder:
    """A model that neither scales its input nor norms over time, so that frames are local."""
    models.save(name, folder)
    if name != "whisper":
        models.raw(False, True)().save_pretrained(folder)
    return load_encoder(models.configured(folder), "cpu")


def vectors(encoder: Encoder, corpus: Corpus, folder: Path) -> dict[str, np.ndarray]:
    """Each layer's vectors of all phones, in order of time."""
    limits = analysis(instances=100_000)
    units = draw_units(corpus, limits, RUN, "frame", SEED)
    entry = entry_at(folder)
    collect_units(corpus, encoder, units, entry, "mean")
    return {layer.name: np.array(entry.open(layer.name)) for layer in encoder.layers}


def moments(encoder: Encoder, corpus: Corpus, folder: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Number and mean of each layer's rows."""
    samples = draw_frames(corpus, UnitSampling(), RUN, "frame", SEED)
    entry = entry_at(folder)
    collect_frames(corpus, encoder, samples, entry, crosses_with_mel(encoder))
    found = {}
    for layer in encoder.layers:
        grid = "10ms" if layer.geometry.hop <= 160 else "20ms"
        parts = load_view(entry, f"sample0.{grid}", layer.name, RUN.tested_folds).parts
        n = sum(part.n for part in parts)
        found[layer.name] = (n, sum(part.n * part.mean for part in parts) / n)
    return found


@pytest.mark.parametrize("seconds", [2, slow(5)])
def test_frames_segments_and_vectors_are_those_of_the_whole_recording(
    seconds: int, corpus: Corpus, tmp_path: Path
) -> None:
    encoder = encoder_of(tmp_path / "model", "wavlm_large")
    cut = in_windows(corpus, seconds * SECONDS)
    assert len(cut.utterances) > 20 / seconds
    whole, pieces = (
        vectors(encoder, one, tmp_path / f"vectors{k}") for k, one in enumerate((corpus, cut))
    )
    local = [layer.name for layer in encoder.layers if layer.part == "cnn"]
    for name in (*local, "T0"):
        # T0 has a convolution over 16 frames, which sees the window's edges.
        most = 1e-5 if name in local else 0.1 * np.abs(whole[name]).max()
        np.testing.assert_allclose(pieces[name], whole[name], rtol=0, atol=most)
    sums = [moments(encoder, one, tmp_path / f"moments{k}") for k, one in enumerate((corpus, cut))]
    for name in local:
        assert sums[0][name][0] == sums[1][name][0]
        np.testing.assert_allclose(sums[0][name][1], sums[1][name][1], rtol=0, atol=1e-5)


def test_a_model_of_fixed_length_takes_recordings_of_any_length(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Its short recording is whole in both; of the long one it cannot hear more than a window."""
    encoder = encoder_of(tmp_path / "model", "whisper")
    assert encoder.max_samples == 2 * SECONDS
    found = [
        vectors(encoder, in_windows(corpus, samples), tmp_path / f"{samples}")
        for samples in (2 * SECONDS, int(1.4 * SECONDS))
    ]
    for name in ("C1", "C2"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=0, atol=1e-4)


def test_frames_at_a_windows_edge_see_the_audio_beside_it(corpus: Corpus, tmp_path: Path) -> None:
    """Blocks attend to a window's neighbourhood: with it they are closer to the whole recording."""
    encoder = encoder_of(tmp_path / "model", "wavlm_large")
    deaf = replace(
        corpus,
        utterances=tuple(
            u
            for bare in [in_windows(corpus, 4 * SECONDS, 3 * SECONDS, overlap=False)]
            for u in bare.utterances
        ),
    )
    hearing = in_windows(corpus, 4 * SECONDS)
    whole = vectors(encoder, corpus, tmp_path / "whole")
    far, near = (
        float(np.abs(vectors(encoder, one, tmp_path / name)["T0"] - whole["T0"]).mean())
        for name, one in (("deaf", deaf), ("hearing", hearing))
    )
    assert near < far
