"""TIMIT (LDC93S1): hand-corrected phone and word times. Its licence is the LDC's: buy it there."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import alignments, audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.reading import decode
from common.records import Corpus, Interval, StrataError, Utterance

LICENCE = "LDC User Agreement for Non-Members (LDC93S1)"

# The 24 speakers of the documentation's core test set: two men and a woman per dialect region.
CORE_TEST = """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0
    mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
"""

PARTITIONS: Mapping[str, str] = {"train": "train", "test": "test", "core_test": "test"}

CLOSURES = frozenset(["bcl", "dcl", "gcl", "pcl", "tcl", "kcl"])
SILENCES = frozenset(["h#", "pau", "epi"])

# Lee & Hon (1989), table II: each of the 61 phones that changes its name; the others keep theirs.
FOLDED: Mapping[str, str] = {
    "ao": "aa",
    "ax": "ah",
    "ax-h": "ah",
    "axr": "er",
    "el": "l",
    "em": "m",
    "en": "n",
    "eng": "ng",
    "hv": "hh",
    "ix": "ih",
    "nx": "n",
    "ux": "uw",
    "zh": "sh",
}

# The 38 phones that remain beside silence, the 39th class of Lee & Hon.
PHONES = """
    aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v
    w y z
"""


@dataclass(frozen=True, kw_only=True)
class Timit(Dataset):
    """`root`/TRAIN/DR1/FCJF0/SX127.WAV with .PHN, .WRD and .TXT; names in upper or lower case.

    Folders may lie between the root and TRAIN (TIMIT, data), as in the copies that circulate; of
    SX127.WAV and SX127.WAV.wav the first is read.

    `partition`: train (462 speakers), test (168) or core_test (24 of these). `leave_out_sa` drops
    the two sentences that every speaker reads (SA1, SA2), whose words would otherwise leak from
    train to test. Sound files are NIST sphere, as LDC ships them, or RIFF.

    Phones: the 61 of TIMIT become 39 by the table of Lee & Hon (1989): ao -> aa; ax, ax-h -> ah;
    axr -> er; hv -> hh; ix -> ih; el -> l; em -> m; en, nx -> n; eng -> ng; zh -> sh; ux -> uw; the
    closures (bcl … kcl) and h#, pau, epi are silence; q, the glottal stop, is dropped. Silence is
    no phone here, so 38 labels remain, the flap dx among them; a stop's interval is its burst
    alone. All of this is counted. Neighbouring words share samples where they share a phone ("had
    your"): they are kept so.
    """

    root: str
    leave_out_sa: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folder()

    def _list(self, faults: Faults) -> Corpus:
        """List the partition: .PHN, .WRD, .TXT and the sound files' headers are read."""
        folder = self._folder()
        sounds = _one_each(files.list_files(folder, audio.is_audio, faults))
        chosen = [p for p in sounds if self._is_chosen(p, faults.dropped)]
        if not chosen and not faults.found:
            raise StrataError(
                f"dataset.partition={self.partition}: none of {len(sounds)} sound files below "
                f"{folder} belongs to it. Expected DR1/FCJF0/SX127.WAV and so on"
            )
        kept = files.evenly_spaced(chosen, self.limit, faults.dropped)

        def utterance(path: Path, dropped: Counter[str]) -> tuple[Utterance, bytes]:
            return _utterance(path, dropped), files.evidence_of(path)

        listed = [made for _, made in faults.usable(kept, utterance)]
        utterances = [one for one, _ in listed]
        return Corpus(
            name="timit",
            partition=self.partition,
            licence=LICENCE,
            utterances=tuple(utterances),
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, (proof for _, proof in listed)),
        )

    def _folder(self) -> Path:
        """The partition's folder, TRAIN or test, at the root or up to three folders below."""
        if self.partition not in PARTITIONS:
            raise StrataError(
                f"dataset.partition={self.partition}: use one of {', '.join(PARTITIONS)}"
            )
        root = files.existing_folder("dataset.root", self.root)
        name = PARTITIONS[self.partition]
        for depth in ("*", "*/*", "*/*/*"):
            for folder in sorted(root.glob(depth)):
                if folder.name.casefold() == name and folder.is_dir():
                    return folder
        raise StrataError(
            f"dataset.root={self.root}: neither {name.upper()} nor {name} is in it or up to "
            "three folders below it. Point it at the folder that holds TRAIN and TEST"
        )

    def _is_chosen(self, path: Path, dropped: Counter[str]) -> bool:
        if self.partition == "core_test" and path.parent.name.casefold() not in CORE_TEST.split():
            return False
        if self.leave_out_sa and path.stem.casefold().startswith("sa"):
            dropped["utterance: SA sentence"] += 1
            return False
        return True


def _one_each(paths: Iterable[Path]) -> list[Path]:
    """The first file of each sentence: some copies hold SX127.WAV and SX127.WAV.wav."""
    sentences: dict[tuple[Path, str], Path] = {}
    for path in paths:
        sentences.setdefault((path.parent, path.name.split(".")[0].casefold()), path)
    return list(sentences.values())


def fold(raw: Iterable[Interval], where: Path, dropped: Counter[str]) -> list[Interval]:
    """The 61 phones as 39; q and closures are left out and counted, silences by `tier`."""
    folded = []
    for start, end, label in ((i.start, i.end, i.label.casefold()) for i in raw):
        name = FOLDED.get(label, label)
        if label in CLOSURES:
            dropped["phone: closure"] += 1
        elif label == "q":
            dropped["phone: glottal stop"] += 1
        elif name in PHONES.split() or label in SILENCES:
            folded.append(Interval(start, end, name))
        else:
            raise StrataError(
                f"{where}: {label!r} at sample {start} is not one of TIMIT's 61 phones. "
                "An altered copy: use LDC93S1, or dataset=textgrid for other labels"
            )
    return folded


def _utterance(path: Path, dropped: Counter[str]) -> Utterance:
    """One sentence; its id is speaker_sentence, for sentences are shared."""
    n_samples = audio.header(path)
    raw = {kind: _beside(path, kind) for kind in ("phn", "wrd")}
    phones = fold(alignments.read_timit(raw["phn"]), raw["phn"], dropped)
    words = alignments.read_timit(raw["wrd"])
    tiers = {
        "phone": alignments.tier("phone", phones, n_samples, raw["phn"], dropped),
        "word": alignments.tier("word", words, n_samples, raw["wrd"], dropped, overlap=True),
    }
    speaker = path.parent.name.casefold()
    text = re.sub(r"^\d+\s+\d+\s+", "", decode(_beside(path, "txt")).strip())
    id = f"{speaker}_{path.stem.split('.')[0].casefold()}"
    attributes = {"gender": speaker[:1], "dialect": path.parent.parent.name.casefold()}
    return Utterance(id, speaker, text, n_samples, tiers, partial(audio.read, path), attributes)


def _beside(path: Path, suffix: str) -> Path:
    """The file of the same name with another suffix, in either case (SX127.WAV, SX127.WAV.wav)."""
    stem = path.name.split(".")[0]
    name = f"{stem}.{suffix}".casefold()
    for beside in path.parent.iterdir():
        if beside.name.casefold() == name:
            return beside
    raise StrataError(
        f"{path}: no {stem}.{suffix.upper()} beside it. An incomplete copy? Copy it again"
    )
