"""Manifests of NeMo, with the CTM files that its forced aligner writes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.alignments import to_samples
from common.datasets.base import Dataset
from common.datasets.ctm import read_ctm
from common.datasets.faults import Faults
from common.datasets.listed import Listed, check_convention, to_corpus
from common.json_lines import read_json_lines
from common.reading import shown
from common.records import Corpus, Interval, StrataError

CTM_KEYS = {"word": "words_level_ctm_filepath", "phone": "tokens_level_ctm_filepath"}


@dataclass(frozen=True, kw_only=True)
class Nemo(Dataset):
    """A manifest: a JSON object a line, with `audio_filepath`, `offset`, `duration` and `text`.

    Relative paths count from the manifest's folder. `speaker_key`: the key of the speaker, null
    where there is none. Word times are those of the CTM file under `words_level_ctm_filepath`, as
    NeMo's forced aligner writes into the manifest that it makes (…_with_output_file_paths.json);
    with `tokens_are_phones` those under `tokens_level_ctm_filepath` are taken for phones, which
    they are for models that were trained on phones. An utterance's id is the name of its file, and
    where it begins if that is not at 0.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it.
    """

    manifest: str
    speaker_key: str | None
    tokens_are_phones: bool
    phones: str | None = None
    licence: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_convention(self.phones)
        if not Path(self.manifest).expanduser().is_file():
            raise StrataError(f"dataset.manifest={self.manifest}: no such file")

    def _list(self, faults: Faults) -> Corpus:
        """List the utterances; of the sound files only the headers are read."""
        path = Path(self.manifest).expanduser()

        def one(row: Mapping[str, Any], dropped: Counter[str]) -> Listed:
            return self._listed(path, row, dropped)

        listed = [made for _, made in faults.usable(read_json_lines(path), one)]
        return to_corpus(
            "nemo", self.partition, self.licence, listed, faults, self.limit, self.phones
        )

    def _listed(self, path: Path, row: Mapping[str, Any], dropped: Counter[str]) -> Listed:
        try:
            sound = path.parent / str(row["audio_filepath"])
            start = to_samples(float(row.get("offset") or 0))
            duration = row.get("duration")
            end = None if duration is None else start + to_samples(float(duration))
        except (KeyError, TypeError, ValueError) as error:
            raise StrataError(
                f"{shown(path)}: {str(row)[:80]}: lacks or garbles one of audio_filepath, offset, "
                f"duration ({error!r})"
            ) from error
        speaker = "" if self.speaker_key is None else row.get(self.speaker_key)
        if speaker is None:
            raise StrataError(
                f"{shown(path)}: {sound.name} has no {self.speaker_key} (dataset.speaker_key); it "
                f"has {', '.join(row)}"
            )
        kinds = ("word", "phone") if self.tokens_are_phones else ("word",)
        tiers = {}
        for kind in kinds:
            if row.get(CTM_KEYS[kind]):
                tiers[kind] = _rows(path.parent / str(row[CTM_KEYS[kind]]))
            else:
                dropped[f"{kind}: no CTM file in the manifest"] += 1
        return Listed(
            id=sound.stem if start == 0 else f"{sound.stem}@{start / 16_000:.3f}",
            where=path,
            sound=sound,
            start=start,
            end=end,
            speaker=str(speaker),
            text=str(row.get("text") or ""),
            tiers=tiers,
        )


def _rows(path: Path) -> list[Interval]:
    """Intervals of the one utterance of a CTM file; NeMo's blanks are no labels."""
    rows = read_ctm(path)
    if len(rows) != 1:
        raise StrataError(f"{shown(path)}: {len(rows)} recordings in it, where one was expected")
    return [row for row in next(iter(rows.values())) if row.label not in ("<b>", "<space>")]
