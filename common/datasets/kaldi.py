"""A Kaldi data folder: wav.scp, text, utt2spk, segments; and CTM files of its alignments."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common.alignments import to_samples
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.ctm import read_ctm
from common.datasets.faults import Faults
from common.datasets.listed import Listed, check_convention, to_corpus
from common.reading import decode, shown
from common.records import Corpus, Interval, StrataError


@dataclass(frozen=True, kw_only=True)
class Kaldi(Dataset):
    """Utterances of a data folder `root`, or of ROOT/PARTITION where that is not "all".

    wav.scp names a sound file for each recording, relative ones below `audio_root` (null: the
    folder from which Strata is started). A command (`sph2pipe … |`) is not run: it is an error.
    Without `segments` a recording is an utterance. `utt2spk`, `text` and `spk2gender` are read
    where they are. `words` and `phones_file`: CTM files (steps/get_train_ctm.sh,
    `ali-to-phones --ctm-output`) whose names are those of utterances, or of recordings, whose times
    count from the recording's start; null: none.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    """

    root: str
    audio_root: str | None
    words: str | None
    phones_file: str | None
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folder()
        check_convention(self.phones)
        for key, value in (("words", self.words), ("phones_file", self.phones_file)):
            if value is not None and not Path(value).expanduser().is_file():
                raise StrataError(f"dataset.{key}={value}: no such file")
        if self.audio_root is not None:
            files.existing_folder("dataset.audio_root", self.audio_root)

    def _folder(self) -> Path:
        root = files.existing_folder("dataset.root", self.root)
        if self.partition != "all":
            key = f"dataset.partition={self.partition} with dataset.root"
            root = files.existing_folder(key, str(root / self.partition))
        if not (root / "wav.scp").is_file():
            raise StrataError(f"dataset.root={self.root}: {root} has no wav.scp")
        return root

    def _list(self, faults: Faults) -> Corpus:
        """List the utterances; of the sound files only the headers are read."""
        root = self._folder()
        below = Path(self.audio_root).expanduser() if self.audio_root else Path()
        sounds = _table(root / "wav.scp")
        segments = _table(root / "segments") if (root / "segments").is_file() else None
        texts, speakers = (_table(root / name, optional=True) for name in ("text", "utt2spk"))
        genders = _table(root / "spk2gender", optional=True)
        times = {
            kind: read_ctm(Path(value).expanduser())
            for kind, value in (("word", self.words), ("phone", self.phones_file))
            if value is not None
        }
        utterances = segments if segments is not None else {name: name for name in sounds}

        def one(item: tuple[str, str], dropped: Counter[str]) -> Listed:
            id, line = item
            recording, start, end = _stretch(root, id, line, segments is not None)
            if recording not in sounds:
                raise StrataError(f"{shown(root / 'wav.scp')}: no {recording}, of which {id} is")
            tiers = {}
            for kind, rows in times.items():
                if id in rows:
                    tiers[kind] = rows[id]
                elif recording in rows:
                    tiers[kind] = _within(rows[recording], start, end)
                else:
                    dropped[f"{kind}: none in the file"] += 1
            speaker = speakers.get(id, "")
            gender = genders.get(speaker)
            return Listed(
                id=id,
                where=root,
                sound=_sound(root, recording, sounds[recording], below),
                start=start,
                end=end,
                speaker=speaker,
                text=texts.get(id, ""),
                tiers=tiers,
                attributes={"gender": gender} if gender else {},
            )

        listed = [made for _, made in faults.usable(utterances.items(), one)]
        return to_corpus(
            "kaldi", self.partition, self.licence, listed, faults, self.limit, self.phones
        )


def _table(path: Path, optional: bool = False) -> dict[str, str]:
    """`KEY the rest` of each line."""
    if optional and not path.is_file():
        return {}
    table: dict[str, str] = {}
    for number, line in enumerate(decode(path).splitlines(), start=1):
        if not line.strip():
            continue
        key, *rest = line.split(maxsplit=1)
        if key in table:
            raise StrataError(
                f"{shown(path)}, line {number}: {key} is there twice (utils/fix_data_dir.sh)"
            )
        table[key] = rest[0].strip() if rest else ""
    return table


def _stretch(root: Path, id: str, line: str, segmented: bool) -> tuple[str, int, int | None]:
    """Recording and samples of an utterance."""
    if not segmented:
        return id, 0, None
    try:
        recording, start, end = line.split()
        first = to_samples(float(start))
        # Kaldi writes -1 for the end of the recording.
        return recording, first, None if float(end) == -1 else to_samples(float(end))
    except ValueError as error:
        raise StrataError(
            f"{shown(root / 'segments')}: {id} {line[:60]!r}: each line is UTTERANCE RECORDING "
            f"START END, times in seconds ({error})"
        ) from error


def _within(rows: list[Interval], start: int, end: int | None) -> list[Interval]:
    """Intervals of a recording that begin in a stretch of it, in the stretch's own time."""
    last = end if end is not None else max((row.end for row in rows), default=0)
    return [
        Interval(row.start - start, row.end - start, row.label)
        for row in rows
        if start <= row.start < last
    ]


def _sound(root: Path, recording: str, line: str, below: Path) -> Path:
    if line.endswith("|"):
        raise StrataError(
            f"{shown(root / 'wav.scp')}: {recording} is the output of a command ({line[:60]!r}), "
            "which Strata does not run. Write the sound files (Kaldi's wav-copy, "
            "ffmpeg), and name them"
        )
    if not line:
        raise StrataError(f"{shown(root / 'wav.scp')}: {recording} has no sound file")
    return below / line
