"""Libri-light's limited supervision from disk: LibriSpeech's audio and text, 10 min to 10 h."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.librispeech_local import LICENCE, read_transcripts
from common.records import Corpus, StrataError, Utterance

FOLDER = "librispeech_finetuning"
# The release holds six folds of ten minutes, and nine hours; the larger sets hold the smaller.
PARTITIONS = {"10m": ("1h/0",), "1h": ("1h",), "10h": ("1h", "9h")}


@dataclass(frozen=True, kw_only=True)
class LibriLight(Dataset):
    """`root`/1h/0/clean/SPEAKER/CHAPTER/UTTERANCE.flac and the chapter's .trans.txt, as released.

    Libri-light (Kahn et al. 2020, section 3.2). `partition` 10m is the first fold of the hour, as
    usual. No alignments: to fine-tune on.
    """

    root: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partition not in PARTITIONS:
            raise StrataError(
                f"dataset.partition={self.partition}: Libri-light has {', '.join(PARTITIONS)}"
            )
        self._folders()

    def _list(self, faults: Faults) -> Corpus:
        """List the partition: .trans.txt files and FLAC headers are read."""
        folders = self._folders()
        texts = {id: text for folder in folders for id, text in read_transcripts(folder).items()}
        found = [
            path for folder in folders for path in files.list_files(folder, audio.is_audio, faults)
        ]
        chosen = files.evenly_spaced(found, self.limit, faults.dropped)

        def utterance(path: Path, _: Counter[str]) -> tuple[Utterance, bytes]:
            return _utterance(path, texts.get(path.stem)), files.evidence_of(path)

        listed = [made for _, made in faults.usable(chosen, utterance)]
        utterances = tuple(one for one, _ in listed)
        return Corpus(
            name="librilight",
            partition=self.partition,
            licence=LICENCE,
            utterances=utterances,
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, (proof for _, proof in listed)),
        )

    def _folders(self) -> list[Path]:
        """The partition's folders, checked."""
        root = files.existing_folder("dataset.root", self.root)
        root = root / FOLDER if (root / FOLDER).is_dir() else root
        folders = [root / name for name in PARTITIONS[self.partition]]
        for folder in folders:
            if not folder.is_dir():
                raise StrataError(
                    f"dataset.root={self.root} has no {folder.relative_to(root)}, which partition "
                    f"{self.partition} is made of. Get the release: "
                    f"python -m common.datasets.download librilight --root {self.root}"
                )
        return folders


def _utterance(path: Path, text: str | None) -> Utterance:
    if text is None:
        raise StrataError(
            f"{path}: no line for {path.stem} in the .trans.txt of its chapter. "
            "An incomplete copy: unpack the archive again"
        )
    speaker = path.stem.split("-")[0]
    return Utterance(path.stem, speaker, text, audio.header(path), {}, partial(audio.read, path))
