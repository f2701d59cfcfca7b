"""Any folder of recordings without alignments, for analyses of whole utterances."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from common import audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.records import Corpus, StrataError, Utterance

SpeakerRule = Literal["folder", "prefix", "suffix", "none"]


@dataclass(frozen=True, kw_only=True)
class Recordings(Dataset):
    """Audio files below a root; an utterance's id is the file's name, its tiers are none.

    `partition` other than "all" names a folder below the root. `speaker`: "folder" = the first
    folder below the root, "prefix" and "suffix" = the file name up to its first, from its last
    "-" or "_", "none" = unknown. The transcript is the .lab or .txt beside the audio, if there is
    one. `licence` is recorded with the results.
    """

    audio_root: str
    speaker: SpeakerRule
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._root()
        if self.speaker not in get_args(SpeakerRule):
            raise StrataError(
                f"dataset.speaker={self.speaker}: use {', '.join(get_args(SpeakerRule))}"
            )

    def _list(self, faults: Faults) -> Corpus:
        """List the files: of the audio only the header is read."""
        root = self._root()
        found = files.list_files(root, audio.is_audio, faults)
        paths = files.evenly_spaced(found, self.limit, faults.dropped)
        if not paths and not faults.found:
            raise StrataError(f"no audio files (.wav, .flac, .mp3, .ogg, …) below {root}")
        keys = {path: path.relative_to(root).with_suffix("") for path in paths}
        names = Counter(key.name for key in keys.values())

        def utterance(path: Path, _: Counter[str]) -> tuple[Utterance, bytes]:
            key = keys[path]
            id = key.name if names[key.name] == 1 else key.as_posix()
            return self._utterance(path, key, id), files.evidence_of(path)

        listed = [made for _, made in faults.usable(paths, utterance)]
        utterances = [one for one, _ in listed]
        return Corpus(
            name="recordings",
            partition=self.partition,
            licence=self.licence,
            utterances=tuple(utterances),
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, (proof for _, proof in listed)),
        )

    def _root(self) -> Path:
        below = "" if self.partition == "all" else self.partition
        root = files.existing_folder("dataset.audio_root", self.audio_root)
        return files.existing_folder(
            f"dataset.partition={below} with dataset.audio_root", str(root / below)
        )

    def _utterance(self, path: Path, key: Path, id: str) -> Utterance:
        n_samples = audio.header(path)
        text = files.transcript(path, (), n_samples)
        return Utterance(id, self._speaker(key), text, n_samples, {}, partial(audio.read, path))

    def _speaker(self, key: Path) -> str:
        parts = re.split(r"[-_]", key.name)
        return {
            "folder": key.parts[0] if len(key.parts) > 1 else "",
            "prefix": parts[0],
            "suffix": parts[-1] if len(parts) > 1 else "",
            "none": "",
        }[self.speaker]
