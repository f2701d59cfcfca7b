"""The task `features`: layers of utterances to files that other tools read."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from analysis.describe import describe_model, describe_speech
from analysis.experiment import limits
from analysis.extraction.writer import (
    TIMES,
    FeatureWriter,
    UtteranceFiles,
    bytes_of,
    check_ids,
)
from analysis.forward.stream import PassReport, stream
from analysis.sampling.speech import read_speech
from common.config import Config
from common.encoder.architecture import Layer, describe
from common.encoder.checkpoint import revision_of
from common.encoder.encoder import load_encoder
from common.processes import ALONE, Processes
from common.records import Corpus, StrataError
from common.results import results
from common.tables import csv_of
from common.timing import Stopwatch
from common.tracking import log_table, run_name
from common.writing import replacing, write_text

log = logging.getLogger(__name__)

SETTINGS, INDEX, HDF5 = "features.json", "index.csv", "features.h5"
UNPACKED = "utterances"  # folder of the files that will be packed
EXTRAS = {"hdf5": "h5py", "ark": "kaldiio"}


def run(config: Config, folder: Path, raw: Mapping[str, Any], processes: Processes = ALONE) -> None:
    """Write the chosen layers of the chosen utterances; nothing is written twice.

    Several processes share the utterances; the first one writes all that is not of one utterance.
    """
    options = config.features
    check_extra(options.format)
    watch = Stopwatch()
    with watch.stage("preparing"), processes.first_before_others():
        description = describe(config.model)
        names = config.layers.choose([layer.name for layer in description.layers])
        layers = [layer for layer in description.layers if layer.name in names]
        speech = read_speech(config, limits(config, description))
        corpus = chosen(speech.corpus, options.utterances)
        check_ids(corpus)
        revision = revision_of(config.model)
    place = Path(options.folder).expanduser() if options.folder else folder / "features"
    place.mkdir(parents=True, exist_ok=True)
    processes.see_same_disk(place)
    processes.first(lambda: check_settings(place, settings(config, corpus, names, revision)))
    packed = options.format in EXTRAS
    arrays = [name + more for name in names for more in ("", TIMES)]
    files = UtteranceFiles(place / UNPACKED if packed else place, arrays, options.format == "npy")
    packages = processes.first(lambda: archives(place, options.format, arrays) if packed else None)
    passed, missing = None, []
    if packages is None:
        passed = write_layers(
            config, corpus, layers, files, options.stored, watch, packed, processes
        )
    if not processes.leads:
        return
    if packages is not None:
        log.info("%s: already complete", place)
    else:
        missing = [u.id for u in corpus.utterances if not files.complete(u.id)]
        ids = [u.id for u in corpus.utterances if u.id not in set(missing)]
        with watch.stage("packing"):
            packages = pack(place, options.format, files, ids) if packed else []
    index = pd.DataFrame(
        [
            {"id": u.id, "speaker": u.speaker, "samples": u.n_samples}
            for u in corpus.utterances
            if u.id not in set(missing)
        ]
    )
    write_text(place / INDEX, csv_of(index))
    metadata = {
        "model": describe_model(config, description, revision),
        "dataset": describe_speech(speech),
        "forward_pass": asdict(passed) if passed else "none: all was there",
        "not_complete": missing,
        **results.describe_process(watch, processes.size),
        "config": raw,
    }
    paths = [*(packages or [place]), place / INDEX]
    publish(config, folder, "features", index, metadata, missing, paths)


def publish(
    config: Config,
    folder: Path,
    kind: str,
    table: pd.DataFrame,
    metadata: Mapping[str, Any],
    missing: Sequence[str],
    paths: Sequence[Path],
) -> None:
    """Write the metadata, log the table, print which utterances are missing and all paths.

    `kind`: "features" or "units".
    """
    written = folder / results.METADATA
    write_text(written, json.dumps(metadata, indent=1, default=str))
    raw = metadata["config"]
    tracked = log_table(config.tracking, run_name(config), raw, kind, table, metadata, folder)
    if missing:
        print(f"NOT COMPLETE: {len(missing)} utterances have no {kind}: {', '.join(missing[:5])}")
    for line in (*paths, written, *([tracked] if tracked else [])):
        print(line)


def check_extra(format: str) -> None:
    """Raise where the library of a format is not installed."""
    if format in EXTRAS and find_spec(EXTRAS[format]) is None:
        raise StrataError(
            f"features.format={format}: {EXTRAS[format]} is not installed; pip install "
            f"'strata[{format}]', or use features.format=safetensors"
        )


def chosen(corpus: Corpus, ids: Sequence[str] | None) -> Corpus:
    """The utterances of these ids alone."""
    if ids is None:
        return corpus
    known = {utterance.id for utterance in corpus.utterances}
    unknown = [id for id in ids if id not in known]
    if unknown:
        raise StrataError(
            f"features.utterances: {len(unknown)} of {len(ids)} are not among the {len(known)} of "
            f"{corpus.name} ({corpus.partition}), for example {unknown[0]}; its ids look like "
            f"{min(known)}"
        )
    kept = tuple(utterance for utterance in corpus.utterances if utterance.id in set(ids))
    return replace(corpus, utterances=kept)


def settings(
    config: Config, corpus: Corpus, names: Sequence[str], revision: str
) -> dict[str, object]:
    """Settings that all files of one folder share."""
    return {
        "checkpoint": config.model.checkpoint,
        "revision": revision,
        "final_norm": config.model.final_norm,
        "precision": config.precision,
        "layers": list(names),
        "format": config.features.format,
        "stored": config.features.stored,
        "dataset": corpus.fingerprint,
        "utterances": len(corpus.utterances),
    }


def check_settings(place: Path, current: Mapping[str, object]) -> None:
    """Write the settings, or raise where the folder holds features of other settings."""
    path = place / SETTINGS
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{key} {stored.get(key)} (now {current[key]})"
            for key in current
            if stored.get(key) != current[key]
        ]
        if changed:
            raise StrataError(
                f"{place} holds other features: {'; '.join(changed)}. Name another folder "
                "(features.folder=), or delete this one"
            )
    elif any(place.iterdir()):
        raise StrataError(
            f"{place} is not empty and holds no {SETTINGS}: name a new folder (features.folder=)"
        )
    write_text(path, json.dumps(current, indent=1))


def write_layers(
    config: Config,
    corpus: Corpus,
    layers: Sequence[Layer],
    files: UtteranceFiles,
    stored: str,
    watch: Stopwatch,
    twice: bool = False,
    processes: Processes = ALONE,
) -> PassReport | None:
    """The forward pass for the utterances that lack files; None if none does.

    `twice`: the files will be packed into a second copy.
    """
    writer = FeatureWriter(corpus, files, layers, stored)
    if not processes.first(lambda: writer.left):
        return None
    processes.first(lambda: check_room(corpus, writer, stored, twice))
    with watch.stage("loading"):
        encoder = load_encoder(config.model, config.device, config.precision)
    return stream(corpus, encoder, [writer], watch, config.on_error, processes=processes)


def check_room(corpus: Corpus, writer: FeatureWriter, stored: str, twice: bool) -> None:
    """Log how much disk the features take, and raise where there is less."""
    samples = [corpus.utterances[u].n_samples for u in writer.utterances()]
    needed = (1 + twice) * sum(bytes_of(n, writer.layers.values(), stored) for n in samples)
    place = writer.files.folder
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    log.info(
        "%d utterances of %d, %d layers: about %.3f GB as %s go to %s (%.1f GB free)",
        *(len(samples), len(corpus.utterances), len(writer.layers), needed / 1e9, stored),
        *(place, free / 1e9),
    )
    if needed > free:
        raise StrataError(
            f"layers of {len(samples)} utterances take about {needed / 1e9:.2f} GB and {place} has "
            f"{free / 1e9:.2f} GB free. Make room, name another disk (features.folder=), or write "
            "less: fewer layers (layers=), features.stored=float16, dataset.limit="
        )


def archives(place: Path, format: str, arrays: Sequence[str]) -> list[Path] | None:
    """The files of a packed folder; None where one is missing."""
    paths = [place / HDF5]
    if format == "ark":
        paths = [place / f"{name}.{suffix}" for name in arrays for suffix in ("ark", "scp")]
    return paths if all(path.exists() for path in paths) else None


def pack(place: Path, format: str, files: UtteranceFiles, ids: Sequence[str]) -> list[Path]:
    """One HDF5 file of all utterances, or an ark for each array; their own files are deleted."""
    if format == "hdf5":
        pack_hdf5(place / HDF5, files, ids)
    else:
        for name in files.names:
            pack_ark(place / f"{name}.ark", name, files, ids)
    shutil.rmtree(files.folder)
    return archives(place, format, files.names) or []


def pack_hdf5(path: Path, files: UtteranceFiles, ids: Sequence[str]) -> None:
    """A group for each utterance, with a data set for each array."""
    import h5py

    with replacing(path) as partial, h5py.File(partial, "w") as archive:
        for id in ids:
            for name, values in read(files, id):
                archive.create_dataset(f"{id}/{name}", data=values)


def pack_ark(path: Path, name: str, files: UtteranceFiles, ids: Sequence[str]) -> None:
    """One array of all utterances in Kaldi's binary format, and the index beside it."""
    import kaldiio

    spaced = [id for id in ids if id.split() != [id]]
    if spaced:
        raise StrataError(
            f"{len(spaced)} ids hold spaces, for example '{spaced[0]}': spaces separate the fields "
            "of Kaldi's tables; rename the files, or use another features.format"
        )
    index = path.with_suffix(".scp")
    with replacing(path) as partial, replacing(index) as listed:
        partial.touch()
        for id in ids:
            values = dict(read(files, id))[name]
            kaldiio.save_ark(str(partial), {id: values}, scp=str(listed), append=True)
        lines = listed.read_text(encoding="utf-8").replace(str(partial), str(path.resolve()))
        listed.write_text(lines, encoding="utf-8")


def read(files: UtteranceFiles, id: str) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """The arrays of an utterance by name."""
    yield from load_file(files.paths(id)[0]).items()
