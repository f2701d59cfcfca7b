"""What corpora on disk share: find files, pair audio with alignments, thin, fingerprint."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.audio import is_audio
from common.datasets.faults import Faults
from common.file_hashes import content_hash
from common.reading import decode, shown
from common.records import StrataError, Utterance, counts_of

log = logging.getLogger(__name__)

T = TypeVar("T")


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


def list_files(root: Path, accept: Callable[[Path], bool], faults: Faults) -> tuple[Path, ...]:
    """Files below a folder that `accept`, in order of path; hidden ones (._x of macOS) are not.

    Linked folders are entered, each folder once whatever leads to it. Folders that cannot be
    entered, links to nothing and names that are not UTF-8 are faults.
    """
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    folders, links = [root], list[Path]()
    while folders or links:
        # Linked folders last: what is below the root without a link keeps that name.
        folder = folders.pop() if folders else links.pop(0)
        if _enter(folder, entered, faults):
            below, linked = _list_folder(folder, accept, found, faults)
            folders += below
            links += linked
    return tuple(sorted(found, key=lambda p: p.relative_to(root).parts))


def _enter(folder: Path, entered: set[tuple[int, int]], faults: Faults) -> bool:
    """Whether a folder was not entered before; a link back is logged and counted."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in entered:
        log.warning("%s: a link to a folder that is listed already, not followed", shown(folder))
        faults.dropped["folder: a link to one that is listed already"] += 1
        return False
    entered.add(identity)
    return True


def _list_folder(
    folder: Path, accept: Callable[[Path], bool], found: list[Path], faults: Faults
) -> tuple[list[Path], list[Path]]:
    """Put a folder's files to `found`; its own folders and its links to folders."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        faults.add(
            "folder: cannot be entered",
            StrataError(
                f"{shown(folder)}: the folder cannot be entered ({error.strerror}): its files "
                "would be missing. Give yourself the right to read it, or take it away"
            ),
        )
        return [], []
    below: list[Path] = []
    linked: list[Path] = []
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if path.is_dir():
            (linked if entry.is_symlink() else below).append(path)
        elif accept(path) or (entry.is_symlink() and not path.suffix and not path.exists()):
            unusable = _unusable(path)
            if unusable is None:
                found.append(path)
            else:
                faults.add("utterance: a file of it could not be read", unusable)
    return below[::-1], linked


def _unusable(path: Path) -> StrataError | None:
    """Why a file cannot be one of a corpus, if so."""
    if shown(path) != str(path):
        return StrataError(
            f"{shown(path)}: its name is not UTF-8 (Latin-1, most likely), and results could not "
            "name it. Rename it (convmv -f latin1 -t utf8)"
        )
    if path.is_symlink() and not path.exists():
        return StrataError(
            f"{path}: a link to {path.readlink()}, which is not there. Fetch it (git annex get, "
            "datalad get), or take the link away"
        )
    if not path.is_file():
        return StrataError(f"{path}: neither a file nor a folder. Take it away")
    return None


def pair(
    audio_root: Path, alignment_root: Path, faults: Faults, suffix: str = ".TextGrid"
) -> tuple[Pair, ...]:
    """Audio with alignments of the same path below the roots; else of the same, unique name.

    Alignments are files with that suffix, in any case.

    The second rule serves an aligner's flat output beside nested audio: the name must be that of
    one audio file and of one alignment alone. What has no partner is counted; nothing to pair at
    all is an error.
    """
    audio = _keyed(list_files(audio_root, is_audio, faults), audio_root, faults)
    # A folder of both was looked through for faults already.
    again = Faults() if alignment_root == audio_root else faults

    def is_alignment(path: Path) -> bool:
        return path.suffix.casefold() == suffix.casefold()

    alignments = _keyed(list_files(alignment_root, is_alignment, again), alignment_root, faults)
    pairs = [Pair(k, p, alignments[k]) for k, p in audio.items() if k in alignments]
    paired = {p.key for p in pairs}
    named_audio, named_alignments = _by_unique_name(audio), _by_unique_name(alignments)
    for name in named_audio.keys() & named_alignments.keys():
        key, other = named_audio[name], named_alignments[name]
        if key not in paired and other not in paired:
            pairs.append(Pair(key, audio[key], alignments[other]))
    if not pairs and not faults.found:
        raise _nothing(audio_root, alignment_root, audio, alignments, suffix)
    _count(faults.dropped, "utterance: audio without alignment", len(audio) - len(pairs))
    _count(faults.dropped, "utterance: alignment without audio", len(alignments) - len(pairs))
    return tuple(sorted(pairs, key=lambda p: p.key.parts))


def key_of(path: Path, root: Path) -> Path:
    """A file's path below a root without its suffixes of a kind of sound (SX127.WAV.wav)."""
    key = path.relative_to(root).with_suffix("")
    while is_audio(key):
        key = key.with_suffix("")
    return key


def _keyed(paths: Iterable[Path], root: Path, faults: Faults) -> dict[Path, Path]:
    """Paths by their key; of SX127.WAV and SX127.WAV.wav, which was made of it, the first."""
    keyed: dict[Path, Path] = {}
    for path in paths:
        key = key_of(path, root)
        if key in keyed and path.name.startswith(f"{keyed[key].name}."):
            faults.dropped["audio: a converted copy beside its original"] += 1
            continue
        if key in keyed:
            faults.add(
                "utterance: two files of one name",
                StrataError(
                    f"{path} and {keyed[key].name} beside it share one name: which is meant? "
                    "Keep one of them, or give the two kinds of files folders of their own"
                ),
            )
            continue
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
    suffix: str,
) -> StrataError:
    found = (
        f"{len(audio)} audio files (.wav, .flac, .mp3, .ogg, …) below {audio_root} and "
        f"{len(alignments)} {suffix} files below {alignment_root}"
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


def evenly_spaced(items: Sequence[T], limit: int | None, dropped: Counter[str]) -> tuple[T, ...]:
    """`limit` items, evenly spaced over the sequence, the rest counted; all of them for None."""
    n = len(items)
    if limit is None or limit >= n:
        return tuple(items)
    dropped["utterance: beyond dataset.limit"] += n - limit
    return tuple(items[i * n // limit] for i in range(limit))


def evidence_of(path: Path) -> bytes:
    """A hash of all of a file's contents; a file that has not changed is not read again."""
    return content_hash(path).encode()


def fingerprint(
    utterances: Iterable[Utterance], evidence: Iterable[bytes], phones: str = "arpabet"
) -> str:
    """SHA-256 over what was listed and a piece of `evidence` of the audio for each utterance.

    `phones`: the convention that their labels were read in.

    Hashes contents only: the same corpus in another place, or copied at another time, agrees.
    """
    digest = hashlib.sha256(phones.encode())
    for utterance, proof in zip(utterances, evidence, strict=True):
        tiers = {
            name: [(i.start, i.end, i.label) for i in utterance.tiers[name]]
            for name in sorted(utterance.tiers)
        }
        listed = (utterance.id, utterance.speaker, utterance.text, utterance.n_samples, tiers)
        digest.update(repr(listed).encode())
        digest.update(hashlib.sha256(proof).digest())
    return digest.hexdigest()


def report(name: str, partition: str, n: int, dropped: Mapping[str, int]) -> None:
    """Log how much was listed and how much was not."""
    counts = counts_of(dict(sorted(dropped.items()))) or "left out: nothing"
    log.info("%s %s: %d utterances; %s", name, partition, n, counts)


_TIMES = re.compile(r"[0-9]+(?:\.[0-9]+)?\s+[0-9]+(?:\.[0-9]+)?(?:\s|$)|[0-9]+\.[0-9]+\s+\S")
_STRETCH = re.compile(r"0\s+([0-9]{1,12})\s+(\S.*)")


def transcript(audio: Path, others: Iterable[Path], n_samples: int) -> str:
    """Text of the .lab or .txt beside the audio, or beside one of `others`; "" where none is.

    TIMIT's .txt is `0 LENGTH text`. Label files that hold times (HTK, Festival, xwaves) and
    TextGrids by these names are refused: their digits are no words.
    """
    for beside in (audio, *others):
        for suffix in (".lab", ".txt"):
            path = beside.parent / f"{key_of(beside, beside.parent).name}{suffix}"
            if path.is_file():
                return _transcript(decode(path), path, n_samples)
    return ""


def _transcript(text: str, path: Path, n_samples: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    stretch = _STRETCH.fullmatch(lines[0]) if len(lines) == 1 else None
    if stretch and abs(int(stretch[1]) - n_samples) <= n_samples // 10:
        return " ".join(stretch[2].split())
    body = lines[lines.index("#") + 1 :] if "#" in lines else lines
    timed = len(body) > 1 and all(_TIMES.match(line) for line in body)
    if timed or text.startswith(("#!MLF!#", 'File type = "ooTextFile')):
        raise StrataError(
            f"{path}: holds times ({len(lines)} lines, the first {lines[0][:60]!r}), where the "
            "transcript is looked for: a label file of TIMIT, HTK, Festival or xwaves, or a "
            "TextGrid. Give alignments as TextGrids, or keep such files in another folder"
        )
    return " ".join(text.split())
