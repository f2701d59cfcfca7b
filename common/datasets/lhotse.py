"""Manifests of Lhotse: recordings, and supervisions with their alignments."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.alignments import to_samples
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import Listed, check_convention, to_corpus
from common.json_lines import read_json_lines
from common.reading import shown
from common.records import Corpus, Interval, StrataError


@dataclass(frozen=True, kw_only=True)
class Lhotse(Dataset):
    """`recordings` and `supervisions`, .jsonl or .jsonl.gz, as `lhotse prepare` writes them.

    An utterance is a supervision; `word_alignment` and `phone_alignment` are the names of its
    alignments ("word", "phone"), null: none. Recordings are sound files of one channel (sources of
    type "file"), relative paths below `audio_root` (null: the folder from which Strata is started).
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    """

    recordings: str
    supervisions: str
    audio_root: str | None
    word_alignment: str | None
    phone_alignment: str | None
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_convention(self.phones)
        for key, value in (("recordings", self.recordings), ("supervisions", self.supervisions)):
            if not Path(value).expanduser().is_file():
                raise StrataError(f"dataset.{key}={value}: no such file")

    def _list(self, faults: Faults) -> Corpus:
        """List the supervisions; of the sound files only the headers are read."""
        path = Path(self.supervisions).expanduser()
        recordings = Path(self.recordings).expanduser()
        below = Path(self.audio_root).expanduser() if self.audio_root else Path()
        sounds = {str(row.get("id")): row for row in read_json_lines(recordings)}

        def one(row: Mapping[str, Any], dropped: Counter[str]) -> Listed:
            try:
                return self._listed(path, row, sounds, below, dropped)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                if isinstance(error, StrataError):
                    raise
                raise StrataError(
                    f"{shown(path)}: {str(row)[:80]}: lacks or garbles what a supervision has "
                    f"({error!r}): id, recording_id, start, duration, channel, alignment"
                ) from error

        listed = [made for _, made in faults.usable(read_json_lines(path), one)]
        return to_corpus(
            "lhotse", self.partition, self.licence, listed, faults, self.limit, self.phones
        )

    def _listed(
        self,
        path: Path,
        row: Mapping[str, Any],
        recordings: Mapping[str, Mapping[str, Any]],
        below: Path,
        dropped: Counter[str],
    ) -> Listed:
        id, recording = str(row["id"]), recordings.get(str(row["recording_id"]))
        if recording is None:
            raise StrataError(
                f"{shown(path)}: {id} is of the recording {row['recording_id']}, which is not "
                f"among the {len(recordings)} of dataset.recordings={self.recordings}"
            )
        sources = recording["sources"]
        if len(sources) != 1 or sources[0]["type"] != "file" or len(sources[0]["channels"]) != 1:
            raise StrataError(
                f"{shown(path)}: the recording {recording['id']} is not one sound file of one "
                "channel: save its cuts as such files first (CutSet.save_audios)"
            )
        start = to_samples(float(row["start"]))
        tiers = {}
        alignment = row.get("alignment") or {}
        names = (("word", self.word_alignment), ("phone", self.phone_alignment))
        for kind, name in names:
            if name is None:
                continue
            if name not in alignment:
                dropped[f"{kind}: no such alignment of the supervision"] += 1
                continue
            # (symbol, start, duration, score): times of the recording
            tiers[kind] = [
                Interval(
                    to_samples(float(begin)) - start,
                    to_samples(float(begin) + float(duration)) - start,
                    str(symbol),
                )
                for symbol, begin, duration, *_ in alignment[name]
            ]
        return Listed(
            id=id,
            where=path,
            sound=below / str(sources[0]["source"]),
            start=start,
            end=start + to_samples(float(row["duration"])),
            speaker=str(row.get("speaker") or ""),
            text=str(row.get("text") or ""),
            tiers=tiers,
            attributes={"gender": str(row["gender"])} if row.get("gender") else {},
        )
