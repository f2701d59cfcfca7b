"""What a pass holds in memory is planned before a model is loaded, or refused."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from passes import crosses_with_mel, draw, entry_at
from running import execute

from analysis.forward.consumers import MEL, MissingMoments, MomentConsumer
from analysis.forward.stream import stream
from analysis.sampling.folds import FrameSamples, draw_frames
from common.cache.cache import Entry
from common.config import SamplingConfig, UnitSampling
from common.encoder.architecture import Layer
from common.encoder.encoder import Encoder
from common.memory import free_memory
from common.records import Corpus, StrataError
from common.timing import Stopwatch

CPU = torch.device("cpu")


class Weighed(MomentConsumer):
    """Writes down how many bytes its sums and buffers take after each utterance."""

    most = 0

    def end(self) -> None:
        super().end()
        grids = self.grids.values()
        sums = [grid.sums for grid in grids if "sums" in grid.__dict__]
        sums += [total for totals in self._totals.values() for total in totals.values()]
        held = [t for total in sums for t in total.second.values()]
        held += [buffer for grid in grids for buffer in grid._buffers.values()]
        self.most = max(self.most, sum(t.nbytes for t in {id(t): t for t in held}.values()))


@pytest.mark.parametrize("samples", [1, 3])
def test_a_pass_holds_what_was_planned(
    samples: int, corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    entry, crosses = entry_at(tmp_path / "entry"), crosses_with_mel(encoder)
    drawn = draw(corpus)
    if samples == 1:
        run = SamplingConfig(samples=1, folds=5, trials=2)
        drawn = draw_frames(corpus, UnitSampling(utterances=5), run, "frame", 0)
    planned = MissingMoments.of(entry, drawn, encoder.layers, crosses).memory_bytes()
    consumer = Weighed(drawn, entry, encoder.layers, crosses, encoder.device)
    stream(corpus, encoder, [consumer], Stopwatch())
    assert consumer.most <= planned
    assert consumer.most > 0.6 * planned


def wide(tmp_path: Path, corpus: Corpus) -> tuple[Entry, FrameSamples, list[Layer]]:
    layers = [Layer(f"T{i}", "transformer", i, 1920, MEL.geometry) for i in range(50)]
    run = SamplingConfig(samples=1, folds=10)
    return (
        entry_at(tmp_path / "entry"),
        draw_frames(corpus, UnitSampling(utterances=5), run, "frame", 0),
        layers,
    )


def test_fifty_layers_of_1920_columns_on_paper(tmp_path: Path, corpus: Corpus) -> None:
    entry, samples, layers = wide(tmp_path, corpus)
    crosses = [(layer.name, "T0") for layer in layers] + [(layer.name, "mel") for layer in layers]
    planned = MissingMoments.of(entry, samples, layers, crosses).memory_bytes()
    square = 8 * 10 * 1920**2  # one scatter of ten groups in float64
    sums = (50 + 49) * square + 8 * 10 * (50 * 1920 * 80 + 80**2)
    waiting = 4 * 1024 * 10 * (50 * 1920 + 80)
    assert planned == sums + waiting + 2 * square
    assert planned == pytest.approx(33.9e9, rel=0.02)


def test_what_does_not_fit_is_refused_before_weights_are_read(
    common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.studies.provide.free_memory", lambda _: 100_000)
    monkeypatch.setattr("analysis.studies.provide.load_encoders", None)
    at = f"paths.cache={tmp_path / 'cache'}"
    message = r"moments of \d+ layers of up to \d+ columns take about .* GB .*sampling\.samples=1"
    with pytest.raises(StrataError, match=message):
        execute(tmp_path / "run", "experiment=cca_mel", *common, at)


def test_free_memory_is_within_a_container_s_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = SimpleNamespace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr("common.memory.CGROUPS", ((str(limit), str(used)),))
    assert free_memory(CPU) == 10_000
    used.write_text("700\n")
    for text, free in (("max\n", 10_000), ("1000\n", 300), ("500\n", 0), ("99999\n", 10_000)):
        limit.write_text(text)
        assert free_memory(CPU) == free
