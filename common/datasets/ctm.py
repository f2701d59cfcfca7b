"""Recordings with CTM files: a line for each word or phone, as NIST, Kaldi and NeMo write them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common.alignments import to_samples
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import Listed, check_convention, sounds_by_name, to_corpus
from common.reading import decode, shown
from common.records import Corpus, Interval, StrataError

# A recording's name -> its intervals, in samples.
Rows = dict[str, list[Interval]]


@dataclass(frozen=True, kw_only=True)
class Ctm(Dataset):
    """Audio files below `audio_root`, and files of lines `NAME CHANNEL START DURATION LABEL`.

    NAME is that of an audio file without its suffix, times are in seconds, a line may end with a
    confidence, and lines that begin with ;; are comments. `words` and `phones_file` are such files,
    or folders of them (.ctm); one of the two may be null. Recordings have one channel each.
    `speaker`: "prefix" = the name up to its first "-" or "_", "none" = unknown.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    """

    audio_root: str
    words: str | None
    phones_file: str | None
    speaker: str
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        files.existing_folder("dataset.audio_root", self.audio_root)
        check_convention(self.phones)
        if self.words is None and self.phones_file is None:
            raise StrataError(
                "dataset.words and dataset.phones_file are both null: name the CTM file of one"
            )
        for key, value in (("words", self.words), ("phones_file", self.phones_file)):
            if value is not None and not Path(value).expanduser().exists():
                raise StrataError(f"dataset.{key}={value}: no such file or folder")
        if self.speaker not in ("prefix", "none"):
            raise StrataError(f"dataset.speaker={self.speaker}: use prefix or none")

    def _list(self, faults: Faults) -> Corpus:
        """List the recordings that the CTM files name."""
        root = files.existing_folder("dataset.audio_root", self.audio_root)
        sounds = sounds_by_name(root, faults)
        kinds = {"word": self.words, "phone": self.phones_file}
        rows = {
            kind: _all(Path(value).expanduser(), faults)
            for kind, value in kinds.items()
            if value is not None
        }
        named = sorted({name for tiers_of in rows.values() for name in tiers_of})
        listed = []
        for name in named:
            if name not in sounds:
                faults.dropped["utterance: alignment without audio"] += 1
                continue
            tiers = {kind: tiers_of[name] for kind, tiers_of in rows.items() if name in tiers_of}
            for kind in rows.keys() - tiers.keys():
                faults.dropped[f"{kind}: none in the file"] += 1
            speaker = name.replace("_", "-").split("-")[0] if self.speaker == "prefix" else ""
            where = Path(self.words or self.phones_file or "")
            listed.append(
                Listed(id=name, where=where, sound=sounds[name], speaker=speaker, tiers=tiers)
            )
        if named and not listed and not faults.found:
            raise StrataError(
                f"none of {len(named)} recordings that the CTM files name ({named[0]}, …) is among "
                f"{len(sounds)} audio files below {root} ({', '.join(sorted(sounds)[:3])}, …)"
            )
        lost = len(sounds.keys() - set(named))
        if lost:
            faults.dropped["utterance: audio without alignment"] += lost
        return to_corpus(
            "ctm", self.partition, self.licence, listed, faults, self.limit, self.phones
        )


def _all(path: Path, faults: Faults) -> Rows:
    """Intervals of a CTM file, or of all of a folder's."""
    if path.is_dir():
        paths = files.list_files(path, lambda p: p.suffix.casefold() == ".ctm", faults)
    else:
        paths = (path,)

    def read(one: Path, _: Counter[str]) -> Rows:
        return read_ctm(one)

    rows: Rows = {}
    for _, tiers in faults.usable(paths, read):
        for name, intervals in tiers.items():
            rows.setdefault(name, []).extend(intervals)
    return rows


def read_ctm(path: Path) -> Rows:
    """Intervals of a CTM file by recording, in order of time."""
    rows: Rows = {}
    channels: dict[str, str] = {}
    for number, line in enumerate(decode(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        try:
            name, channel, start, duration, label, *_ = fields
            begin = to_samples(float(start))
            end = begin + to_samples(float(duration))
        except ValueError as error:
            raise StrataError(
                f"{shown(path)}, line {number}: {line[:60]!r} is no line of a CTM file "
                f"({error}). Each is NAME CHANNEL START DURATION LABEL, times in seconds"
            ) from error
        if channels.setdefault(name, channel) != channel:
            raise StrataError(
                f"{shown(path)}, line {number}: {name} has the channels {channels[name]} and "
                f"{channel}. Cut the recording into one file for each, and name them apart"
            )
        rows.setdefault(name, []).append(Interval(begin, end, label))
    for intervals in rows.values():
        intervals.sort(key=lambda interval: interval.start)
    return rows
