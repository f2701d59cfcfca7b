"""What corpora share whose files list recordings, or stretches of them, with their times."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from common import alignments, audio
from common.datasets import files
from common.datasets.faults import Faults
from common.phones import CONVENTIONS, guess_convention, normalise, parse
from common.reading import shown
from common.records import SAMPLE_RATE, Corpus, Interval, StrataError, Utterance, Waveform

log = logging.getLogger(__name__)

Tiers = Mapping[str, Sequence[Interval]]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An utterance as listed in a corpus's files; `where` names the file, for messages.

    `start` and `end`, samples of the sound file, cut it out; None: the file's own. The intervals of
    `tiers` ("phone", "word") count from `start`, and their labels are as written.
    """

    id: str
    where: Path
    sound: Path
    start: int = 0
    end: int | None = None
    speaker: str = ""
    text: str = ""
    tiers: Tiers = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def check_convention(phones: str | None) -> None:
    """Refuse an unknown convention."""
    if phones is not None and phones not in CONVENTIONS:
        raise StrataError(
            f"dataset.phones={phones}: use {', '.join(CONVENTIONS)}, or null to guess"
        )


def convention(labels: Iterable[str], declared: str | None) -> str:
    """The convention of phone labels: as declared, or as all labels together show without doubt."""
    inventory = Counter(label.strip() for label in labels)
    spoken = sorted(label for label in inventory if parse(label, "as_is"))
    if not spoken:
        return declared or "as_is"
    phones = declared or guess_convention(inventory)
    read = sorted({str(normalise(label, phones)) for label in spoken})
    doubt = declared is None and phones == "as_is"
    log.log(
        logging.WARNING if doubt else logging.INFO,
        "phones: %d labels read as %s (%s): %s%s",
        len(spoken),
        phones,
        "dataset.phones" if declared else "in doubt" if doubt else "guessed",
        " ".join(read),
        f". Name their convention, dataset.phones={'|'.join(CONVENTIONS)}" if doubt else "",
    )
    return phones


def to_corpus(
    name: str,
    partition: str,
    licence: str,
    listed: Sequence[Listed],
    faults: Faults,
    limit: int | None,
    phones: str | None,
) -> Corpus:
    """The utterances that files list: sound files' headers are read, no audio is decoded.

    Two of one id are a fault; what lies beyond its sound file is one, too.
    """
    if not listed and not faults.found:
        raise StrataError(f"dataset={name}, dataset.partition={partition}: no utterance is listed")
    once = list(_once(listed, faults))
    chosen = files.evenly_spaced(once, limit, faults.dropped)
    written = [interval.label for one in chosen for interval in one.tiers.get("phone", ())]
    read_as = convention(written, phones)

    def utterance(one: Listed, dropped: Counter[str]) -> tuple[Utterance, bytes]:
        return _utterance(one, read_as, dropped), files.evidence_of(one.sound)

    made = [found for _, found in faults.usable(chosen, utterance)]
    utterances = tuple(one for one, _ in made)
    stretches = {one.id: (one.start, one.end) for one in chosen}
    return Corpus(
        name=name,
        partition=partition,
        licence=licence,
        utterances=utterances,
        dropped=faults.dropped,
        fingerprint=files.fingerprint(
            utterances,
            (proof + repr(stretches[one.id]).encode() for one, proof in made),
            read_as,
        ),
        phones=read_as,
    )


def _once(listed: Iterable[Listed], faults: Faults) -> Iterator[Listed]:
    ids: dict[str, Listed] = {}
    for one in listed:
        if one.id in ids:
            faults.add(
                "utterance: two files of one name",
                StrataError(
                    f"{shown(one.where)}: the utterance {one.id} is listed twice (before in "
                    f"{shown(ids[one.id].where)}): which is meant? Keep one of them"
                ),
            )
            continue
        ids[one.id] = one
        yield one


def _utterance(one: Listed, phones: str, dropped: Counter[str]) -> Utterance:
    length = audio.header(one.sound)
    end = length if one.end is None else one.end
    if one.end is not None and end - length > SAMPLE_RATE // 100:
        raise StrataError(
            f"{shown(one.where)}: utterance {one.id} ends at {end / SAMPLE_RATE:g} s, and "
            f"{shown(one.sound)} at {length / SAMPLE_RATE:g} s. Of another sound file, or of "
            "another version of it"
        )
    end = min(end, length)
    if not 0 <= one.start < end:
        raise StrataError(
            f"{shown(one.where)}: utterance {one.id} is from {one.start / SAMPLE_RATE:g} to "
            f"{end / SAMPLE_RATE:g} s of {shown(one.sound)}: no stretch of time"
        )
    n_samples = end - one.start
    where = f"{shown(one.where)}: {one.id}"
    tiers: dict[str, tuple[Interval, ...]] = {}
    for kind, raw in one.tiers.items():
        if kind == "phone":
            tiers |= alignments.phone_tiers(raw, n_samples, where, dropped, phones)
        else:
            tiers[kind] = alignments.tier(kind, raw, n_samples, where, dropped)
    text = one.text
    if not text and "word" in tiers:
        text = alignments.transcript(tiers["word"], one.tiers["word"], dropped)
    read = Stretch(one.sound, one.start, None if one.end is None else end)
    return Utterance(one.id, one.speaker, text, n_samples, tiers, read, one.attributes)


@dataclass(frozen=True)
class Stretch:
    """Reads the waveform (n,) of samples `start` to `end` (None: the end) of a sound file."""

    sound: Path
    start: int
    end: int | None

    def __call__(self) -> Waveform:
        """Decode it; of a file that is cut into utterances, the last one decoded is kept."""
        if self.start == 0 and self.end is None:
            return audio.read(self.sound)
        return _whole(self.sound)[self.start : self.end].copy()


@lru_cache(maxsize=1)
def _whole(sound: Path) -> Waveform:
    return audio.read(sound)


def sounds_by_name(root: Path, faults: Faults) -> dict[str, Path]:
    """Audio files below a root by their name without suffix; of two of one name, neither."""
    found: dict[str, list[Path]] = {}
    for path in files.list_files(root, audio.is_audio, faults):
        found.setdefault(files.key_of(path, root).name, []).append(path)
    for name, paths in found.items():
        if len(paths) > 1:
            faults.add(
                "utterance: two files of one name",
                StrataError(
                    f"{paths[1]} and {paths[0]} share the name {name}, by which alignments name "
                    "their audio: keep one of them"
                ),
            )
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}
