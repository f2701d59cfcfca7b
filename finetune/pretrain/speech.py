"""Speech prepared for training: 16-bit waveforms and the acoustics of every frame, on disk."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from common.datasets.faults import Faults, OnError
from common.encoder.frames import FrameGeometry
from common.progress import progress
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance, Waveform
from common.writing import checksum, replacing
from finetune.pretrain.acoustics import DIM, frame_mfcc
from finetune.pretrain.acoustics import VERSION as ACOUSTICS_VERSION

log = logging.getLogger(__name__)

VERSION = 2  # bumped when the files would hold something else
INDEX = "index.npz"
FILES = ("pcm", "acoustics")
SHORTEST = SAMPLE_RATE // 2  # samples: too short to predict a part of it from the rest


@dataclass(frozen=True, eq=False)
class PretrainingSpeech:
    """u utterances, one after another in two memory-mapped files.

    pcm (N,) int16; acoustics (F, 39) float16, MFCC as they come; lengths (u,) samples and
    frames (u,) of each utterance; share (u,) the part of the training that is to come from it;
    mean, scale (39,) of the MFCC; units (F,) int32 once they are known, else zeros; `identity` says
    what the files were made from.
    """

    pcm: NDArray[np.int16]
    acoustics: NDArray[np.float16]
    lengths: NDArray[np.int64]
    frames: NDArray[np.int64]
    share: NDArray[np.float64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    units: NDArray[np.int32]
    geometry: FrameGeometry
    identity: str = ""

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First sample (u,) of every utterance."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def frame_offsets(self) -> NDArray[np.int64]:
        """First frame (u,) of every utterance."""
        return np.cumsum(self.frames) - self.frames

    @cached_property
    def _by_length(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Utterances from the longest to the shortest, and the sum of shares up to each."""
        order = np.argsort(-self.lengths, kind="stable")
        return order, np.cumsum(self.share[order])

    def draw(self, count: int, at_least: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Utterances (count,) of `at_least` samples or more, by their shares, with replacement."""
        order, cumulative = self._by_length
        eligible = int(np.searchsorted(-self.lengths[order], -at_least, side="right"))
        points = rng.random(count) * cumulative[eligible - 1]
        return order[np.searchsorted(cumulative[:eligible], points, side="right")]

    def crop(self, utterance: int, start: int, n: int) -> Waveform:
        """Waveform (n,) of an utterance from a sample on."""
        first = self.offsets[utterance] + start
        return self.pcm[first : first + n].astype(np.float32) / np.float32(2**15)

    def first_frame(self, utterance: int, start: int) -> int:
        """Row of the frame that begins at a sample of an utterance, a multiple of the hop."""
        return int(self.frame_offsets[utterance]) + start // self.geometry.hop

    def normalised(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """MFCC (r, 39) of some frames, with mean 0 and deviation 1 in every column."""
        normalised: NDArray[np.float32] = (self.acoustics[rows] - self.mean) / self.scale
        return normalised.astype(np.float32)

    def with_units(self, units: NDArray[np.int32]) -> Self:
        """The same speech with the units (F,) of its frames."""
        return replace(self, units=units)

    def only(self, utterances: NDArray[np.bool_]) -> Self:
        """The same speech, where crops come only from some utterances (u,)."""
        return replace(self, share=np.where(utterances, self.share, 0.0))


def prepare(
    corpora: Mapping[str, Corpus],
    weights: Mapping[str, float],
    geometry: FrameGeometry,
    folder: Path,
    on_error: str = "raise",
) -> PretrainingSpeech:
    """Read all audio once and write it to `folder`; what is there already, whole, is kept.

    What cannot be read is one error after the rest has been read, or (`skip`) left out and counted.
    `weights`: the part of the training that each corpus gives, whatever its size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fingerprints = [corpus.fingerprint for corpus in corpora.values()]
    identity = json.dumps([VERSION, ACOUSTICS_VERSION, asdict(geometry), fingerprints])
    if not _holds(folder, identity):
        _write(corpora, geometry, folder, identity, on_error)
    with np.load(folder / INDEX) as index:
        arrays = dict(index)
    names = list(corpora)
    of_corpus = [arrays["lengths"] * (arrays["corpus"] == k) for k in range(len(names))]
    total = sum(weights[name] for name in names)
    share = sum(
        seconds / seconds.sum() * weights[name] / total
        for name, seconds in zip(names, of_corpus, strict=True)
    )
    n_frames = int(arrays["frames"].sum())
    acoustics = np.memmap(folder / "acoustics", np.float16, "r", shape=(n_frames, DIM))
    sample = acoustics[:: max(1, n_frames // 100_000)].astype(np.float32)
    return PretrainingSpeech(
        pcm=np.memmap(folder / "pcm", np.int16, "r"),
        acoustics=acoustics,
        lengths=arrays["lengths"],
        frames=arrays["frames"],
        share=np.asarray(share, dtype=np.float64),
        mean=sample.mean(0),
        scale=sample.std(0) + np.float32(1e-6),
        units=np.zeros(n_frames, dtype=np.int32),
        geometry=geometry,
        identity=identity,
    )


def _holds(folder: Path, identity: str) -> bool:
    """Whether the files are whole and those of `identity`; damaged ones are logged."""
    try:
        with (folder / INDEX).open("rb") as file, np.load(file) as index:
            if str(index["identity"]) != identity:
                return False
            sums = {name: int(index[f"{name}_checksum"]) for name in FILES}
    except FileNotFoundError:
        return False
    except Exception as error:
        # Damaged files raise zipfile's, zlib's or numpy's own classes.
        log.warning("%s is damaged: reading the speech again: %s", folder / INDEX, error)
        return False
    for name, expected in sums.items():
        if not (folder / name).is_file() or checksum(folder / name) != expected:
            log.warning("%s is damaged: reading the speech again", folder / name)
            return False
    return True


def _write(
    corpora: Mapping[str, Corpus],
    geometry: FrameGeometry,
    folder: Path,
    identity: str,
    on_error: str,
) -> None:
    """The two files, and then the index that says they are whole."""
    (folder / INDEX).unlink(missing_ok=True)
    faults = Faults()
    columns: dict[str, list[int]] = {"lengths": [], "frames": [], "corpus": []}
    with ExitStack() as stack:
        pcm, acoustics = (
            stack.enter_context(stack.enter_context(replacing(folder / name)).open("wb"))
            for name in FILES
        )
        for k, waveform in _waveforms(corpora, faults):
            rows = frame_mfcc(waveform, geometry)
            pcm.write(np.rint(waveform * (2**15 - 1)).astype(np.int16).tobytes())
            acoustics.write(rows.astype(np.float16).tobytes())
            for name, value in (("lengths", len(waveform)), ("frames", len(rows)), ("corpus", k)):
                columns[name].append(value)
        dropped = faults.resolve(cast(OnError, on_error))
    for k, name in enumerate(corpora):
        if k not in columns["corpus"]:
            raise StrataError(
                f"{name}: no utterance of {SHORTEST / SAMPLE_RATE:g} s or more can be read: "
                f"{dict(dropped)}"
            )
    for reason, count in dropped.items():
        log.warning("left out of training: %s %d", reason, count)
    arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
    sums = {f"{name}_checksum": np.array(checksum(folder / name)) for name in FILES}
    with replacing(folder / INDEX) as partial, partial.open("wb") as file:
        np.savez(file, identity=np.array(identity), **sums, **arrays)  # type: ignore[arg-type]


def _waveforms(corpora: Mapping[str, Corpus], faults: Faults) -> Iterator[tuple[int, Waveform]]:
    """(number of the corpus, waveform) of everything that can be learnt from."""
    listed: list[tuple[int, Utterance]] = [
        (k, u) for k, corpus in enumerate(corpora.values()) for u in corpus.utterances
    ]
    for k, utterance in progress(listed, "reading speech", "utterances"):
        try:
            waveform = utterance.read()
        except StrataError as error:
            faults.add("utterance: audio could not be read", error)
            continue
        if len(waveform) < SHORTEST:
            faults.dropped[f"utterance: shorter than {SHORTEST / SAMPLE_RATE:g} s"] += 1
            continue
        yield k, waveform
