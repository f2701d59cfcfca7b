"""Any corpus with Praat TextGrids beside, or parallel to, its audio: the layout of the MFA."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from common import alignments, audio
from common.datasets import files
from common.datasets.base import Dataset
from common.datasets.faults import Faults
from common.datasets.listed import check_convention, convention
from common.records import Corpus, Interval, StrataError, Utterance

log = logging.getLogger(__name__)

SpeakerRule = Literal["folder", "prefix", "none"]


@dataclass(frozen=True, kw_only=True)
class TextGrid(Dataset):
    """Audio files and TextGrids of the same path below two roots, or of the same unique name.

    `audio_root`, `alignment_root` (null: the same folder); `partition` other than "all" names a
    folder below both. `word_tier`, `phone_tier`: regular expressions for a tier's whole name,
    case-insensitive, {speaker} allowed; null tries `common.alignments.TIER_PATTERNS`.
    `speaker`: "folder" = the first folder below the root, "prefix" = the file name up to the first
    "-" or "_", "none" = unknown. An unknown speaker is "".
    `tiers`: further tiers to take as they are, by their names in the files (a "{speaker} - " before
    them may be left out); those that an experiment's labels are of are taken anyway.
    Transcripts come from the .lab or .txt beside the audio or the alignment, else the word tier.
    `phones`: the convention of phone labels (`common.phones.parse`); null guesses it, and takes
    labels as they are where the inventory leaves a doubt. `licence` is recorded with the results.
    """

    audio_root: str
    alignment_root: str | None
    word_tier: str | None
    phone_tier: str | None
    tiers: list[str] | None = None
    phones: str | None = None
    speaker: SpeakerRule
    licence: str

    name: ClassVar[str] = "textgrid"
    suffix: ClassVar[str] = ".TextGrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._roots()
        for key, value in (("word_tier", self.word_tier), ("phone_tier", self.phone_tier)):
            _check_pattern(key, value)
        check_convention(self.phones)
        if self.speaker not in get_args(SpeakerRule):
            raise StrataError(f"dataset.speaker={self.speaker}: use folder, prefix or none")

    def _list(self, faults: Faults) -> Corpus:
        """List the pairs: every TextGrid is parsed, of the audio only the header is read."""
        audio_root, alignment_root = self._roots()
        found = files.pair(audio_root, alignment_root, faults, self.suffix)
        pairs = files.evenly_spaced(found, self.limit, faults.dropped)
        names = Counter(pair.key.name for pair in pairs)
        unfit: Counter[tuple[str, ...]] = Counter()

        def times(pair: files.Pair, dropped: Counter[str]) -> tuple[int, alignments.RawTiers]:
            n_samples = audio.header(pair.audio)
            alignment = self._read_alignment(pair.alignment)
            return n_samples, alignments.in_audio_time(
                alignment, n_samples, pair.alignment, dropped
            )

        timed = list(faults.usable(pairs, times))
        phones = self._convention({pair: raw for pair, (_, raw) in timed})

        def utterance(
            one: tuple[files.Pair, tuple[int, alignments.RawTiers]], dropped: Counter[str]
        ) -> tuple[Utterance | None, bytes]:
            pair, (n_samples, raw) = one
            name = pair.key.name
            id = name if names[name] == 1 else pair.key.as_posix()
            made = self._utterance(pair, id, n_samples, raw, phones, dropped, unfit)
            return made, files.evidence_of(pair.audio)

        listed = [made for _, made in faults.usable(timed, utterance)]
        utterances = [one for one, _ in listed if one is not None]
        if not utterances and not faults.found:
            raise self._no_tier(len(pairs), unfit)
        self._warn_of_unknown_speakers(utterances)
        return Corpus(
            name=self.name,
            partition=self.partition,
            licence=self.licence,
            utterances=tuple(utterances),
            dropped=faults.dropped,
            fingerprint=files.fingerprint(
                map(self._without_further, utterances),
                (proof for one, proof in listed if one is not None),
                phones,
            ),
            phones=phones,
        )

    @staticmethod
    def _read_alignment(path: Path) -> alignments.Alignment:
        return alignments.read(path)

    def _convention(self, raw: Mapping[files.Pair, alignments.RawTiers]) -> str:
        """The convention of phone labels: as declared, or as all of them show without doubt."""
        labels: list[str] = []
        for pair, tiers in raw.items():
            try:
                index = self._select("phone", self.phone_tier, tiers, pair)
            except StrataError:
                continue  # reported where the utterance is listed
            if index is not None:
                labels += [interval.label for interval in tiers[index][1]]
        return convention(labels, self.phones)

    def with_tiers(self, names: Sequence[str]) -> Self:
        """The dataset with these tiers too; words, phones and their marks are always read."""
        more = [*(self.tiers or ()), *(name for name in names if name not in ("word", "phone"))]
        return replace(self, tiers=list(dict.fromkeys(more)) or None)

    def _without_further(self, utterance: Utterance) -> Utterance:
        """The part that the fingerprint covers: further tiers change nothing that is stored."""
        if not self.tiers:
            return utterance
        kept = {name: i for name, i in utterance.tiers.items() if name not in self.tiers}
        return replace(utterance, tiers=kept)

    def _select(
        self, kind: str, pattern: str | None, tiers: alignments.RawTiers, pair: files.Pair
    ) -> int | None:
        return alignments.select(tiers, kind, pattern, self._speaker(pair.key), pair.alignment)

    def _roots(self) -> tuple[Path, Path]:
        """Folders of the audio and of the alignments, checked."""
        below = "" if self.partition == "all" else self.partition
        audio_root = _folder("dataset.audio_root", self.audio_root, below)
        if self.alignment_root is None:
            return audio_root, audio_root
        return audio_root, _folder("dataset.alignment_root", self.alignment_root, below)

    def _utterance(
        self,
        pair: files.Pair,
        id: str,
        n_samples: int,
        raw: alignments.RawTiers,
        phones: str,
        dropped: Counter[str],
        unfit: Counter[tuple[str, ...]],
    ) -> Utterance | None:
        """One pair, or None where no tier has a fitting name."""
        speaker = self._speaker(pair.key)
        tiers: dict[str, tuple[Interval, ...]] = {}
        words: tuple[Interval, ...] = ()
        for kind, pattern in (("word", self.word_tier), ("phone", self.phone_tier)):
            index = self._select(kind, pattern, raw, pair)
            if index is None:
                dropped[f"{kind}: no such tier in the file"] += 1
                continue
            arguments = (raw[index][1], n_samples, pair.alignment, dropped)
            if kind == "phone":
                tiers |= alignments.phone_tiers(*arguments, phones)
            else:
                tiers[kind] = alignments.tier(kind, *arguments)
                words = raw[index][1]
        for name in self.tiers or ():
            found = alignments.tier_named(raw, name, speaker, pair.alignment)
            if found is not None:
                tiers[name] = alignments.tier(name, found, n_samples, pair.alignment, dropped)
            elif name not in tiers:
                dropped[f"{name}: no such tier in the file"] += 1
        if not tiers:
            unfit[tuple(name for name, _ in raw)] += 1
            dropped["utterance: neither word nor phone tier"] += 1
            return None
        text = files.transcript(pair.audio, [pair.alignment], n_samples)
        if not text and "word" in tiers:
            text = alignments.transcript(tiers["word"], words, dropped)
        read = partial(audio.read, pair.audio)
        return Utterance(id, speaker, text, n_samples, tiers, read)

    def _speaker(self, key: Path) -> str:
        if self.speaker == "folder":
            return key.parts[0] if len(key.parts) > 1 else ""
        return re.split(r"[-_]", key.name)[0] if self.speaker == "prefix" else ""

    def _warn_of_unknown_speakers(self, utterances: Sequence[Utterance]) -> None:
        unknown = sum(not u.speaker for u in utterances)
        if unknown and self.speaker == "folder":
            log.warning(
                "%d of %d files lie directly in %s, so their speaker is unknown and a split by "
                "speaker impossible: dataset.speaker=prefix takes it from the file name",
                unknown,
                len(utterances),
                self.audio_root,
            )

    def _no_tier(self, n_pairs: int, unfit: Counter[tuple[str, ...]]) -> StrataError:
        names, times = unfit.most_common(1)[0]
        return StrataError(
            f"none of {n_pairs} {self.suffix} files below "
            f"{self.alignment_root or self.audio_root} has a word or phone tier by these names: "
            f"dataset.word_tier={self.word_tier}, "
            f"dataset.phone_tier={self.phone_tier}. {times} have the tiers "
            f"{', '.join(map(repr, names)) or '(none)'}: name those"
        )


def _folder(key: str, value: str, below: str) -> Path:
    root = files.existing_folder(key, value)
    return files.existing_folder(f"dataset.partition={below} with {key}", str(root / below))


def _check_pattern(key: str, value: str | None) -> None:
    try:
        re.compile((value or "").replace("{speaker}", ""))
    except re.error as error:
        raise StrataError(
            f"dataset.{key}={value}: not a regular expression ({error}). Use a tier's name, with "
            r"\ before ( ) [ ] . * + ?, or null for the usual names"
        ) from error
