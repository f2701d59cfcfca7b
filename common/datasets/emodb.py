"""The Berlin database of emotional speech (Burkhardt et al. 2005), with its phone label files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common import audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import Listed, check_convention, to_corpus
from common.datasets.xlabel import read_xlabel
from common.records import Corpus, StrataError

# The sixth letter of a name: the emotion, in German.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
MEN = ("03", "10", "11", "12", "15")


@dataclass(frozen=True, kw_only=True)
class EmoDb(Dataset):
    """Sound files 03a01Fa.wav below `root`, and 03a01Fa.`suffix` somewhere below it.

    The name gives the speaker (03), the sentence (a01), the emotion (F) and the version (a): the
    last three are attributes, and so is the gender. The label files of EmoDB (lablaut) are xwaves':
    other corpora that have such files beside their sound can be read by the same keys.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    """

    root: str
    suffix: str
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        files.existing_folder("dataset.root", self.root)
        check_convention(self.phones)

    def _list(self, faults: Faults) -> Corpus:
        """List the sound files: their labels and headers are read."""
        root = files.existing_folder("dataset.root", self.root)
        suffix = f".{self.suffix.lstrip('.')}".casefold()
        labels = {
            path.stem: path
            for path in files.list_files(root, lambda p: p.suffix.casefold() == suffix, faults)
        }
        sounds = [
            path for path in files.list_files(root, audio.is_audio, faults) if path.stem in labels
        ]
        if not sounds and not faults.found:
            raise StrataError(
                f"dataset.root={self.root}: no sound file with a {suffix} file of the same name "
                f"({len(labels)} of those). dataset.suffix names their suffix"
            )

        def one(sound: Path, _: Counter[str]) -> Listed:
            phones, _fields = read_xlabel(labels[sound.stem])
            name = sound.stem
            return Listed(
                id=name,
                where=labels[name],
                sound=sound,
                speaker=name[:2],
                tiers={"phone": phones},
                attributes={
                    "sentence": name[2:5],
                    "emotion": EMOTIONS.get(name[5:6], ""),
                    "gender": "m" if name[:2] in MEN else "f",
                },
            )

        listed = [made for _, made in faults.usable(sounds, one)]
        return to_corpus(
            "emodb", self.partition, self.licence, listed, faults, self.limit, self.phones
        )
