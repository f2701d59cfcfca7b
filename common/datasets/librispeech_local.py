"""LibriSpeech from disk: the OpenSLR tree, and TextGrids of the same tree (Zenodo 2619474)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from common import alignments, audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.reading import decode
from common.records import Corpus, Interval, StrataError, Utterance

PARTITIONS = (
    "dev_clean",
    "dev_other",
    "test_clean",
    "test_other",
    "train_clean_100",
    "train_clean_360",
    "train_other_500",
)

LICENCE = "CC BY 4.0"
SPEAKERS = "SPEAKERS.TXT"


def canonical(partition: str) -> str:
    """A partition's name with underscores; an error where LibriSpeech has no such part."""
    name = partition.strip().replace("-", "_")
    if name not in PARTITIONS:
        raise StrataError(
            f"dataset.partition={partition}: LibriSpeech has none such. Use one of "
            + ", ".join(PARTITIONS)
        )
    return name


@dataclass(frozen=True, kw_only=True)
class LibriSpeechLocal(Dataset):
    """`audio_root`/dev-clean/84/121123/84-121123-0000.flac with a TextGrid of the same name.

    Both roots may be the folder that holds the partitions or its parent (`LibriSpeech/…`, as the
    archives unpack); a null `alignment_root` looks beside the audio. `partition` takes - or _.
    `gender` and `subset` of the speakers are known where the archives' SPEAKERS.TXT is beside the
    partition's folder.
    """

    audio_root: str
    alignment_root: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._roots()

    def _list(self, faults: Faults) -> Corpus:
        """List the partition: TextGrids, .trans.txt files and FLAC headers are read."""
        audio_root, alignment_root = self._roots()
        found = files.pair(audio_root, alignment_root, faults)
        pairs = files.evenly_spaced(found, self.limit, faults.dropped)
        texts, known = read_transcripts(audio_root), read_speakers(audio_root.parent / SPEAKERS)

        def utterance(pair: files.Pair, dropped: Counter[str]) -> tuple[Utterance, bytes]:
            plain = _utterance(pair, texts, dropped)
            made = replace(plain, attributes=known.get(plain.speaker, {}))
            return made, files.evidence_of(pair.audio)

        listed = [made for _, made in faults.usable(pairs, utterance)]
        utterances = [one for one, _ in listed]
        return Corpus(
            name="librispeech",
            partition=canonical(self.partition),
            licence=LICENCE,
            utterances=tuple(utterances),
            dropped=faults.dropped,
            fingerprint=files.fingerprint(utterances, (proof for _, proof in listed)),
        )

    def _roots(self) -> tuple[Path, Path]:
        """The partition's folders of audio and of alignments, checked."""
        folder = canonical(self.partition).replace("_", "-")
        audio_root = _partition_folder("dataset.audio_root", self.audio_root, folder)
        if self.alignment_root is None:
            return audio_root, audio_root
        return audio_root, _partition_folder("dataset.alignment_root", self.alignment_root, folder)


def _partition_folder(key: str, value: str, folder: str) -> Path:
    """`value`/dev-clean or `value`/LibriSpeech/dev-clean, whichever exists."""
    root = files.existing_folder(key, value)
    for candidate in (root / folder, root / "LibriSpeech" / folder):
        if candidate.is_dir():
            return candidate
    inside = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise StrataError(
        f"{key}={value} holds neither {folder} nor LibriSpeech/{folder} but {inside}. Point it at "
        f"the unpacked archive, or run: python -m common.datasets.download librispeech "
        f"--partition {folder} --root {value}"
    )


def read_transcripts(root: Path) -> Mapping[str, str]:
    """Utterance id -> text, from every chapter's .trans.txt ("84-121123-0000 GO DO YOU HEAR")."""
    texts = {}
    # What is wrong with the folders is reported when the audio is listed.
    for path in files.list_files(root, lambda p: p.name.endswith(".trans.txt"), Faults()):
        for line in decode(path).splitlines():
            id, _, text = line.strip().partition(" ")
            texts[id] = text
    return texts


def read_speakers(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Gender (f, m) and subset of each speaker of a SPEAKERS.TXT; none without the file.

    Lines are `id | sex | subset | minutes | name`, those that begin with ; are comments.
    """
    if not path.is_file():
        return {}
    known = {}
    for number, line in enumerate(decode(path).splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 3:
            raise StrataError(
                f"{path}, line {number}: {line[:80]!r} is not `id | sex | subset | …`: unpack the "
                "archive again"
            )
        known[fields[0]] = {"gender": fields[1].casefold(), "subset": fields[2]}
    return known


def _utterance(pair: files.Pair, texts: Mapping[str, str], dropped: Counter[str]) -> Utterance:
    id = pair.key.name
    if id not in texts:
        raise StrataError(
            f"{pair.audio}: no line for {id} in the .trans.txt of its chapter. "
            "An incomplete copy: unpack the archive again"
        )
    speaker = id.split("-")[0]
    n_samples = audio.header(pair.audio)
    alignment = alignments.read(pair.alignment)
    raw = alignments.in_audio_time(alignment, n_samples, pair.alignment, dropped)
    tiers: dict[str, tuple[Interval, ...]] = {}
    for kind in ("word", "phone"):
        index = alignments.select(raw, kind, None, speaker, pair.alignment)
        if index is None:
            raise StrataError(
                f"{pair.alignment}: no {kind} tier among {', '.join(n for n, _ in raw) or 'none'}. "
                "Use the alignments of Zenodo record 2619474, or dataset=textgrid for others"
            )
        arguments = (raw[index][1], n_samples, pair.alignment, dropped)
        if kind == "phone":
            tiers |= alignments.phone_tiers(*arguments)
        else:
            tiers[kind] = alignments.tier(kind, *arguments)
    return Utterance(id, speaker, texts[id], n_samples, tiers, partial(audio.read, pair.audio))
