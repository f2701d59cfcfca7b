"""The Buckeye corpus (Pitt et al. 2007): conversations of 40 speakers, hand-corrected times."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common import audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import Listed, to_corpus
from common.datasets.xlabel import read_xlabel
from common.records import Corpus, StrataError

LICENCE = "Buckeye Corpus licence (buckeyecorpus.osu.edu): for research, not to be passed on"


@dataclass(frozen=True, kw_only=True)
class Buckeye(Dataset):
    """Sound files s0101a.wav below `root`, each with .words and .phones beside, as unpacked.

    A file is a conversation's ten minutes or so, of speaker s01; longer ones than the model takes
    are read in windows (`model.max_seconds`). Words are the entries of the dictionary; those that
    were cut off or not understood (<CUTOFF-…>, <UNKNOWN>), silence, noise, laughter and the
    interviewer (IVER) are left out, and counted. Phones are Buckeye's own, ARPABET with nasal
    vowels (aan), syllabics (en) and the flap (dx), taken as they are.
    """

    root: str

    def __post_init__(self) -> None:
        super().__post_init__()
        files.existing_folder("dataset.root", self.root)

    def _list(self, faults: Faults) -> Corpus:
        """List the sound files: their labels and headers are read."""
        root = files.existing_folder("dataset.root", self.root)
        sounds = files.list_files(root, audio.is_audio, faults)
        if not sounds and not faults.found:
            raise StrataError(
                f"dataset.root={self.root}: no sound files below it. Unpack s01.zip and so on, and "
                "the zip files in them"
            )

        def one(sound: Path, _: Counter[str]) -> Listed:
            words, _fields = read_xlabel(_beside(sound, ".words"))
            phones, _fields = read_xlabel(_beside(sound, ".phones"))
            return Listed(
                id=sound.stem,
                where=sound,
                sound=sound,
                speaker=sound.stem[:3],
                tiers={"word": words, "phone": phones},
            )

        listed = [made for _, made in faults.usable(sounds, one)]
        return to_corpus("buckeye", self.partition, LICENCE, listed, faults, self.limit, "as_is")


def _beside(sound: Path, suffix: str) -> Path:
    path = sound.with_suffix(suffix)
    if not path.is_file():
        raise StrataError(f"{sound}: no {path.name} beside it. An incomplete copy? Unpack it again")
    return path
