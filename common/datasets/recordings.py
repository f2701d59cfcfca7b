"""Any folder of recordings without alignments, for analyses of whole utterances."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from common import alignments, audio
from common.datasets import files
from common.datasets.base import Dataset
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

    def _list(self) -> Corpus:
        """List the files: of the audio only the header is read."""
        dropped: Counter[str] = Counter()
        root = self._root()
        paths = files.thin(files.list_files(root, audio.is_audio), self.limit, dropped)
        names = Counter(path.stem for path in paths)
        utterances, evidence = [], []
        for path in paths:
            key = path.relative_to(root).with_suffix("")
            utterance = self._utterance(path, key, names[key.name] == 1, dropped)
            if utterance is not None:
                utterances.append(utterance)
                evidence.append(files.glance(path))
        if not utterances:
            raise StrataError(f"none of {len(paths)} audio files below {root} can be read")
        files.report("recordings", self.partition, len(utterances), dropped)
        return Corpus(
            name="recordings",
            partition=self.partition,
            licence=self.licence,
            utterances=tuple(utterances),
            dropped=dict(dropped),
            fingerprint=files.fingerprint(utterances, evidence),
        )

    def _root(self) -> Path:
        below = "" if self.partition == "all" else self.partition
        root = files.existing_folder("dataset.audio_root", self.audio_root)
        return files.existing_folder(
            f"dataset.partition={below} with dataset.audio_root", str(root / below)
        )

    def _utterance(
        self, path: Path, key: Path, unique: bool, dropped: Counter[str]
    ) -> Utterance | None:
        """One file, or None where it cannot be read."""
        try:
            n_samples = audio.header(path)
        except StrataError:
            dropped["utterance: audio could not be read"] += 1
            return None
        id = key.name if unique else key.as_posix()
        text = transcript(path)
        return Utterance(id, self._speaker(key), text, n_samples, {}, partial(audio.read, path))

    def _speaker(self, key: Path) -> str:
        parts = re.split(r"[-_]", key.name)
        return {
            "folder": key.parts[0] if len(key.parts) > 1 else "",
            "prefix": parts[0],
            "suffix": parts[-1] if len(parts) > 1 else "",
            "none": "",
        }[self.speaker]


def transcript(path: Path) -> str:
    """Text of the .lab or .txt beside the audio; "" where there is none."""
    for suffix in (".lab", ".txt"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return " ".join(alignments.decode(beside).split())
    return ""
