"""What corpora on disk share: find files, pair audio with alignments, thin, fingerprint."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.audio import is_audio
from common.records import StrataError, Utterance

log = logging.getLogger(__name__)

T = TypeVar("T")

BLOCK = 4096  # bytes read at the head, middle and tail of an audio file for the fingerprint


class Pair(NamedTuple):
    """An audio file and its alignment; `key` is the audio's path below its root, no suffix."""

    key: Path
    audio: Path
    alignment: Path


def existing_folder(key: str, value: str) -> Path:
    """The folder that a config key names, `~` expanded; an error names key, value and remedy."""
    folder = Path(value).expanduser()
    if folder.is_dir():
        return folder
    parent = next((p for p in folder.absolute().parents if p.is_dir()), Path("/"))
    inside = ", ".join(sorted(p.name for p in parent.iterdir() if p.is_dir())[:8]) or "no folders"
    reason = "a file, not a folder" if folder.exists() else "no such folder"
    raise StrataError(
        f"{key}={value}: {reason}. Give the path of an existing folder "
        f"(its nearest existing parent {parent} holds: {inside})"
    )


def list_files(root: Path, accept: Callable[[Path], bool]) -> tuple[Path, ...]:
    """Files below a folder that `accept`, in order of path; hidden ones (._x of macOS) are not."""
    found = (p for p in root.rglob("*") if not p.name.startswith(".") and accept(p) and p.is_file())
    return tuple(sorted(found, key=lambda p: p.relative_to(root).parts))


def is_alignment(path: Path) -> bool:
    """Whether the suffix is .TextGrid, in any case."""
    return path.suffix.casefold() == ".textgrid"


def pair(audio_root: Path, alignment_root: Path, dropped: Counter[str]) -> tuple[Pair, ...]:
    """Audio with alignments of the same path below the roots; else of the same, unique name.

    The second rule serves an aligner's flat output beside nested audio. What has no partner is
    counted; nothing to pair at all is an error.
    """
    audio = _keyed(list_files(audio_root, is_audio), audio_root)
    alignments = _keyed(list_files(alignment_root, is_alignment), alignment_root)
    pairs = [Pair(k, p, alignments[k]) for k, p in audio.items() if k in alignments]
    paired = {p.key for p in pairs}
    spare_audio = _by_unique_name(k for k in audio if k not in paired)
    spare_alignments = _by_unique_name(k for k in alignments if k not in paired)
    for name in spare_audio.keys() & spare_alignments.keys():
        key = spare_audio[name]
        pairs.append(Pair(key, audio[key], alignments[spare_alignments[name]]))
    if not pairs:
        raise _nothing(audio_root, alignment_root, audio, alignments)
    _count(dropped, "utterance: audio without alignment", len(audio) - len(pairs))
    _count(dropped, "utterance: alignment without audio", len(alignments) - len(pairs))
    return tuple(sorted(pairs, key=lambda p: p.key.parts))


def _keyed(paths: Iterable[Path], root: Path) -> dict[Path, Path]:
    """Paths by their path below the root, without suffix."""
    keyed: dict[Path, Path] = {}
    for path in paths:
        key = path.relative_to(root).with_suffix("")
        if key in keyed:
            raise StrataError(
                f"{path} and {keyed[key].name} beside it share one name: which is meant? "
                "Keep one of them, or give the two kinds of files folders of their own"
            )
        keyed[key] = path
    return keyed


def _by_unique_name(keys: Iterable[Path]) -> dict[str, Path]:
    keys = tuple(keys)
    times = Counter(key.name for key in keys)
    return {key.name: key for key in keys if times[key.name] == 1}


def _nothing(
    audio_root: Path,
    alignment_root: Path,
    audio: dict[Path, Path],
    alignments: dict[Path, Path],
) -> StrataError:
    found = (
        f"{len(audio)} audio files (.wav, .flac, .mp3, .ogg, …) below {audio_root} and "
        f"{len(alignments)} .TextGrid files below {alignment_root}"
    )
    if not audio or not alignments:
        return StrataError(f"found {found}: need both. Check the two roots")
    return StrataError(
        f"found {found}, but no two of the same name: {next(iter(audio))} and "
        f"{next(iter(alignments))}, for instance. Audio and alignment pair by path or file name"
    )


def _count(dropped: Counter[str], reason: str, n: int) -> None:
    if n:
        dropped[reason] += n


def thin(items: Sequence[T], limit: int | None, dropped: Counter[str]) -> tuple[T, ...]:
    """`limit` items, evenly spaced over the sequence, the rest counted; all of them for None."""
    n = len(items)
    if limit is None or limit >= n:
        return tuple(items)
    dropped["utterance: beyond dataset.limit"] += n - limit
    return tuple(items[i * n // limit] for i in range(limit))


def glance(path: Path) -> bytes:
    """Size of a file and its first, middle and last 4 KiB: cheap, and moves when the audio does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        parts = [str(size).encode()]
        for start in (0, size // 2, max(size - BLOCK, 0)):
            file.seek(start)
            parts.append(file.read(BLOCK))
    return b"|".join(parts)


def fingerprint(utterances: Iterable[Utterance], evidence: Iterable[bytes]) -> str:
    """SHA-256 over what was listed and a piece of `evidence` of the audio for each utterance.

    Hashes contents only: the same corpus in another place, or copied at another time, agrees.
    """
    digest = hashlib.sha256()
    for utterance, proof in zip(utterances, evidence, strict=True):
        tiers = {
            name: [(i.start, i.end, i.label) for i in utterance.tiers[name]]
            for name in sorted(utterance.tiers)
        }
        listed = (utterance.id, utterance.speaker, utterance.text, utterance.n_samples, tiers)
        digest.update(repr(listed).encode())
        digest.update(hashlib.sha256(proof).digest())
    return digest.hexdigest()


def report(name: str, partition: str, n: int, dropped: Counter[str]) -> None:
    """Log how much was listed and how much was not."""
    lost = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items())) or "nothing"
    log.info("%s %s: %d utterances; left out: %s", name, partition, n, lost)
