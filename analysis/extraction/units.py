"""The task `units`: the cluster of each frame as text, and how much clusters tell about phones."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from safetensors import safe_open

from analysis.describe import describe_model, describe_speech
from analysis.experiment import limits
from analysis.extraction.features import publish, write_layers
from analysis.extraction.writer import TIMES, UtteranceFiles, check_ids
from analysis.metrics.agreement import bitrate, figures_of
from analysis.metrics.kmeans import clusterer_of, nearest
from analysis.sampling.speech import read_speech
from common.arrays import Index, Vectors
from common.cache.locks import clear_left_over, scratch_folder
from common.config import Config
from common.encoder.architecture import describe
from common.encoder.checkpoint import revision_of
from common.encoder.frames import FrameGeometry
from common.processes import ALONE, Processes
from common.reading import reading
from common.records import SAMPLE_RATE, Interval, StrataError, Utterance
from common.results import results
from common.results.score_table import console_for
from common.seeding import generator
from common.tables import csv_of
from common.timing import Stopwatch
from common.writing import replacing, write_text

log = logging.getLogger(__name__)


CENTROIDS, TABLE = "centroids.npz", "units.csv"
LEAST_ROWS = 10  # fitted frames for each cluster on average, as for mutual information
LLOYD = {"seeds": 3, "iterations": 25}  # of clusterer=faiss, as for mutual information


@dataclass(frozen=True, eq=False)
class Centroids:
    """Cluster centres (k, d) of a layer and model, and the number of frames fitted."""

    centres: Vectors
    layer: str
    revision: str
    frames: int

    def save(self, path: Path) -> None:
        """Write the arrays `centroids` (k, d), `layer`, `revision`, `frames`."""
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                centroids=self.centres,
                layer=np.array(self.layer),
                revision=np.array(self.revision),
                frames=np.array(self.frames),
            )

    @classmethod
    def load(cls, path: Path) -> "Centroids":
        """Read what an earlier run saved; a file of another kind is an error."""
        if not path.is_file():
            raise StrataError(f"units.centroids={path}: there is no such file")
        with reading(path, f"the centroids that experiment=units writes ({CENTROIDS})"):
            arrays = np.load(path, allow_pickle=False)
            return cls(
                np.asarray(arrays["centroids"], dtype=np.float32),
                str(arrays["layer"]),
                str(arrays["revision"]),
                int(arrays["frames"]),
            )


def run(config: Config, folder: Path, raw: Mapping[str, Any], processes: Processes = ALONE) -> None:
    """Units of every chosen layer, in a folder of its name; a row of figures for each.

    Several processes share the pass; the first one clusters, which needs the frames of all.
    """
    settings, watch = config.units, Stopwatch()
    with watch.stage("preparing"), processes.first_before_others():
        description = describe(config.model)
        revision = revision_of(config.model)
        known = [layer.name for layer in description.layers]
        given = (
            None
            if settings.centroids is None
            else Centroids.load(Path(settings.centroids).expanduser())
        )
        if given is None:
            names = config.layers.choose(known)
            clusterer_of(config.clusterer, settings.batch, **LLOYD)
        else:
            check_centroids(
                given, settings.centroids, {x.name: x.dim for x in description.layers}, revision
            )
            names = [given.layer]
        layers = [layer for layer in description.layers if layer.name in names]
        speech = read_speech(config, limits(config, description))
        check_ids(speech.corpus)
    processes.first(lambda: clear_left_over(Path(config.paths.runs).expanduser()))
    with scratch_folder(folder) if processes.leads else nullcontext(folder) as held:
        scratch = processes.first(lambda: held)
        processes.see_same_disk(scratch)
        files = UtteranceFiles(scratch, [name + more for name in names for more in ("", TIMES)])
        passed = write_layers(
            config, speech.corpus, layers, files, "float32", watch, processes=processes
        )
        if not processes.leads:
            return
        complete = [u for u in speech.corpus.utterances if files.complete(u.id)]
        rows = []
        for layer in layers:
            place = folder / layer.name
            place.mkdir(exist_ok=True)
            with watch.stage("clustering"):
                frames = Frames(files, complete, layer.name)
                found = given or fit(config, frames, layer.name, revision)
                codes = [nearest(frames.of(k), found.centres) for k in range(len(complete))]
            with watch.stage("writing"):
                found.save(place / CENTROIDS)
                write_units(place, complete, codes, len(found.centres))
                rows.append(
                    figures(layer.name, layer.geometry, complete, codes, found, config.seed)
                )
    table = pd.DataFrame(rows)
    write_text(folder / TABLE, csv_of(table))
    missing = sorted({u.id for u in speech.corpus.utterances} - {u.id for u in complete})
    metadata = {
        "model": describe_model(config, description, revision),
        "dataset": describe_speech(speech),
        "forward_pass": asdict(passed) if passed else "none",
        "units": {"clusterer": config.clusterer, **asdict(settings)},
        "not_complete": missing,
        **results.describe_process(watch, processes.size),
        "config": raw,
    }
    show(table, f"{config.model.name} on {speech.corpus.name} ({speech.corpus.partition})")
    paths = [*(folder / name for name in names), folder / TABLE]
    publish(config, folder, "units", table, metadata, missing, paths)


def check_centroids(
    given: Centroids, key: str | None, dims: Mapping[str, int], revision: str
) -> None:
    """Raise where centroids are not of a layer of this model."""
    n, d = given.centres.shape
    if given.revision != revision or dims.get(given.layer) != d:
        raise StrataError(
            f"units.centroids={key}: {n} centres of {d} numbers of layer {given.layer} of "
            f"{given.revision}, and this model is {revision} with layers {', '.join(dims)}: give "
            "centroids that were fitted on the same model"
        )


class Frames:
    """Frames of one layer of utterances, read from their files as they are asked for."""

    def __init__(self, files: UtteranceFiles, utterances: Sequence[Utterance], layer: str) -> None:
        self.files = files
        self.utterances = utterances
        self.layer = layer

    def of(self, utterance: int) -> Vectors:
        """Frames (t, d) of an utterance."""
        (path,) = self.files.paths(self.utterances[utterance].id)
        with safe_open(path, "np") as held:
            return np.asarray(held.get_tensor(self.layer))

    def counts(self) -> Index:
        """How many each utterance has."""
        counts = []
        for utterance in self.utterances:
            (path,) = self.files.paths(utterance.id)
            with safe_open(path, "np") as held:
                counts.append(held.get_slice(self.layer).get_shape()[0])
        return np.array(counts, dtype=np.int64)


def fit(config: Config, frames: Frames, layer: str, revision: str) -> Centroids:
    """Centres of `units.clusters` clusters of at most `fit_frames` frames, drawn over all."""
    settings, counts = config.units, frames.counts()
    total = int(counts.sum())
    n = min(total, settings.fit_frames)
    if n < LEAST_ROWS * settings.clusters:
        raise StrataError(
            f"{n} frames of {layer} are too few for {settings.clusters} clusters ({LEAST_ROWS} for "
            f"each are needed): use more speech, units.fit_frames={LEAST_ROWS * settings.clusters} "
            f"or more, or units.clusters={max(n // LEAST_ROWS, 2)}"
        )
    rng = generator(config.seed, "units", layer)
    drawn = np.sort(rng.choice(total, n, replace=False))
    ends = np.cumsum(counts)
    parts = [
        frames.of(k)[drawn[(drawn >= end - count) & (drawn < end)] - (end - count)]
        for k, (end, count) in enumerate(zip(ends, counts, strict=True))
    ]
    rows = np.concatenate(parts)
    seed = int(rng.integers(2**31))
    clusterer = clusterer_of(config.clusterer, settings.batch, **LLOYD)
    found = clusterer.cluster(rows, rows[:1], settings.clusters, seed)
    return Centroids(found.centres, layer, revision, n)


def write_units(
    place: Path, utterances: Sequence[Utterance], codes: Sequence[Index], k: int
) -> None:
    """The same units as HuBERT's training reads them, and as textless tools do.

    units.km: a line for each utterance, its units with blanks between; units.tsv: the utterances
    in that order with their samples, below a line for the folder; dict.km.txt: the inventory
    (fairseq). units.txt and deduplicated.txt: `ID|UNITS`, as they are and with runs as one.
    """
    lines = [" ".join(map(str, sequence)) for sequence in codes]
    short = [" ".join(map(str, deduplicated(sequence))) for sequence in codes]
    ids = [utterance.id for utterance in utterances]
    if barred := [id for id in ids if "|" in id or "\t" in id or "\n" in id]:
        raise StrataError(
            f"utterance {barred[0]}: an id with | or a tab cannot be separated from its units"
        )
    write_text(place / "units.km", "".join(f"{line}\n" for line in lines))
    samples = "".join(f"{u.id}\t{u.n_samples}\n" for u in utterances)
    write_text(place / "units.tsv", f".\n{samples}")
    write_text(place / "dict.km.txt", "".join(f"{unit} 1\n" for unit in range(k)))
    for name, texts in (("units.txt", lines), ("deduplicated.txt", short)):
        pairs = zip(ids, texts, strict=True)
        write_text(place / name, "".join(f"{id}|{text}\n" for id, text in pairs))


def deduplicated(codes: Index) -> Index:
    """The first unit of every run of equal ones."""
    return codes[np.concatenate([[True], codes[1:] != codes[:-1]])] if len(codes) else codes


def figures(
    layer: str,
    geometry: FrameGeometry,
    utterances: Sequence[Utterance],
    codes: Sequence[Index],
    found: Centroids,
    seed: int,
) -> dict[str, object]:
    """A row of the table: bitrates, and how far units agree with the phones of frames in phones.

    PNMI and purities as Hsu et al. 2021 (HuBERT, arXiv 2106.07447, section IV-E).
    """
    seconds = sum(utterance.n_samples for utterance in utterances) / SAMPLE_RATE
    every = np.concatenate(list(codes))
    short = np.concatenate([deduplicated(sequence) for sequence in codes])
    row: dict[str, object] = {
        "layer": layer,
        "clusters": len(found.centres),
        "clusters_in_use": len(np.unique(every)) / len(found.centres),
        "frames": len(every),
        "bitrate": bitrate(every, seconds),
        "bitrate_deduplicated": bitrate(short, seconds),
    }
    pairs = list(zip(utterances, codes, strict=True))
    phones = [
        list(labels(u.tiers.get("phone", ()), geometry, len(sequence))) for u, sequence in pairs
    ]
    flat = [phone for sequence in phones for phone in sequence]
    has_phone = np.array([phone is not None for phone in flat])
    names = sorted({phone for phone in flat if phone is not None})
    if len(names) < 2:
        log.warning("%s: no figures on phones, of which the corpus has %d", layer, len(names))
        return row
    number = {name: k for k, name in enumerate(names)}
    label = np.array([number[phone] for phone in flat if phone is not None], dtype=np.int64)
    units = every[has_phone]
    return row | {"frames_in_phones": len(units), **figures_of(units, label, seed, "phone")}


def labels(
    phones: Sequence[Interval], geometry: FrameGeometry, n_frames: int
) -> Iterator[str | None]:
    """The phone in which each frame is centred, or None."""
    starts = [phone.start for phone in phones]
    for frame in range(n_frames):
        centre = geometry.centre(frame)
        k = int(np.searchsorted(starts, centre, side="right")) - 1
        yield phones[k].label if k >= 0 and centre < phones[k].end else None


def show(table: pd.DataFrame, title: str) -> None:
    """Layers down, figures across."""
    shown = Table(title=title)
    columns = [name for name in table.columns if not name.endswith("_shuffled")]
    for name in columns:
        shown.add_column(name.replace("_", " "), justify="right")
    for row in table[columns].itertuples(index=False):
        shown.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row))
    console_for(160).print(shown)
