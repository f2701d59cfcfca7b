"""Download data: python -m common.datasets.download {librispeech,librilight,glove,agwe} --help.

librispeech: audio from OpenSLR 12 and TextGrids from Zenodo record 2619474 (Lugosch et al.), both
CC BY 4.0, unpacked as dataset=librispeech_local reads them. librilight: 10 min, 1 h and 10 h of it
as Libri-light lists them (Kahn et al. 2020), with the audio. glove, agwe: tables of word vectors
for target.path, kept zipped. Transfers resume, checksums are compared before anything is unpacked,
and a folder appears under its name only when it is whole.
"""

import argparse
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests

from common.datasets.librilight import FOLDER
from common.datasets.librispeech_local import PARTITIONS, canonical
from common.datasets.transfer import TIMEOUT, Remote, fetch, read_sums
from common.records import StrataError

OPENSLR = (
    "https://www.openslr.org/resources/12",
    "https://openslr.trmal.net/resources/12",
    "https://openslr.elda.org/resources/12",
)
ZENODO = "https://zenodo.org/api/records/2619474"
LIBRILIGHT = Remote(
    "librispeech_finetuning.tgz",
    ("https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz",),
    # As torchaudio checks it.
    "sha256:5d1efdc777b548194d7e09ba89126e2188026df9fd57aa57eb14408d2b2342af",
)

EXPANSION = 100  # times the archive's size, the most that is unpacked

# SHA-256 of OpenSLR's archives, as torchaudio has long checked them.
SHA256 = {
    "dev-clean.tar.gz": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other.tar.gz": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean.tar.gz": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other.tar.gz": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100.tar.gz": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360.tar.gz": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500.tar.gz": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}


@dataclass(frozen=True)
class VectorTable:
    """A table of word vectors: what it is, for the help, and its URLs, the publisher's first."""

    what: str
    urls: tuple[str, ...]


VECTOR_TABLES = {
    "glove": VectorTable(
        "GloVe 840B.300d (Pennington et al. 2014), 2.2 million cased words, 2.2 GB; PDDL",
        (
            "https://nlp.stanford.edu/data/glove.840B.300d.zip",
            "https://huggingface.co/stanfordnlp/glove/resolve/main/glove.840B.300d.zip",
        ),
    ),
    # The URL that scripts/save_embeddings.sh of ankitapasad/layerwise-analysis takes it from.
    "agwe": VectorTable(
        "acoustically grounded word embeddings of LibriSpeech's words (Shi et al. 2021; Settle et "
        "al. 2019), the map that the authors of arXiv 2107.04734 publish",
        ("https://dl.ttic.edu/librispeech_agwe_map.zip",),
    ),
}


def audio_archive(partition: str, mirrors: Sequence[str]) -> Remote:
    """OpenSLR's archive of a partition; an unlisted one is checked against its md5sum.txt."""
    name = f"{partition.replace('_', '-')}.tar.gz"
    checksum = f"sha256:{SHA256[name]}" if name in SHA256 else _published_md5(name, mirrors)
    return Remote(name, tuple(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), checksum)


def _published_md5(name: str, mirrors: Iterable[str]) -> str | None:
    for mirror in mirrors:
        try:
            answer = requests.get(f"{mirror.rstrip('/')}/md5sum.txt", timeout=TIMEOUT)
        except requests.RequestException:
            continue
        if answer.ok and name in (sums := read_sums(answer.text)):
            return f"md5:{sums[name]}"
    return None


def alignment_archive(record: str) -> Remote:
    """The zip file of a Zenodo record, with the checksum that its API states."""
    try:
        answer = requests.get(record, timeout=TIMEOUT)
        answer.raise_for_status()
        entry = next(f for f in answer.json()["files"] if f["key"].endswith(".zip"))
        return Remote(entry["key"], (entry["links"]["self"],), entry.get("checksum"))
    except (requests.RequestException, KeyError, ValueError, StopIteration) as error:
        raise StrataError(
            f"{record} does not describe the alignments' zip file ({type(error).__name__}: "
            f"{error}). Zenodo is down or has moved: try later, or give --zenodo URL of the record"
        ) from error


def unpack_audio(archive: Path, root: Path, partition: str) -> Path:
    """`root`/LibriSpeech/dev-clean, and the corpus's README, LICENSE and SPEAKERS files."""
    scratch = _scratch(root, archive)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter=_Bound(archive, root).tar_member)
        source = scratch / "LibriSpeech"
        _require(source / partition, archive)
        (root / "LibriSpeech").mkdir(exist_ok=True)
        for path in sorted(source.iterdir(), key=lambda p: p.name == partition):
            path.replace(root / "LibriSpeech" / path.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _broken(archive, error) from error
    finally:
        shutil.rmtree(scratch)
    return root / "LibriSpeech" / partition


def unpack_alignments(archive: Path, root: Path, partition: str) -> Path:
    """`root`/alignments/dev-clean: the partition's TextGrids, whatever folders enclose it."""
    scratch = _scratch(root, archive)
    try:
        with zipfile.ZipFile(archive) as bundle:
            bound = _Bound(archive, root)
            for member in bundle.infolist():
                bound.take(member.file_size)
                _extract(bundle, member, scratch, partition)
        _require(scratch / partition, archive)
        (root / "alignments").mkdir(exist_ok=True)
        (scratch / partition).replace(root / "alignments" / partition)
    except (zipfile.BadZipFile, OSError) as error:
        raise _broken(archive, error) from error
    finally:
        shutil.rmtree(scratch)
    return root / "alignments" / partition


def _extract(
    bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, partition: str
) -> None:
    """A TextGrid of the partition to `folder`/dev-clean/…; any other member is left out."""
    parts = PurePosixPath(member.filename).parts
    if partition not in parts or not member.filename.casefold().endswith(".textgrid"):
        return
    below = parts[parts.index(partition) :]
    target = folder.joinpath(*below)
    if ".." in below or not target.resolve().is_relative_to(folder.resolve()):
        raise StrataError(f"{bundle.filename}: {member.filename} would leave its folder: unsafe")
    target.parent.mkdir(parents=True, exist_ok=True)
    with bundle.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


class _Bound:
    """Counts what is unpacked of an archive: at most a hundred times its size, and the disk's room.

    Audio and TextGrids shrink to a tenth at best; an archive that announces a hundred times its
    size is made to fill disks. Neither format gives more than it announces.
    """

    def __init__(self, archive: Path, root: Path) -> None:
        self.archive = archive
        self.most = EXPANSION * archive.stat().st_size
        self.free = shutil.disk_usage(root).free
        self.taken = 0

    def take(self, size: int) -> None:
        """Count a member; StrataError where it is too much."""
        self.taken += size
        if self.taken > self.most:
            raise StrataError(
                f"{self.archive}: announces more than {EXPANSION} times its own size "
                f"({self.taken / 1e6:.0f} MB): unsafe, not what was published. Delete it"
            )
        if self.taken > self.free:
            raise StrataError(
                f"{self.archive}: needs more than {self.taken / 1e6:.0f} MB, the disk has "
                f"{self.free / 1e6:.0f} MB. Make room, or give another --root"
            )

    def tar_member(self, member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        """A member that stays in its folder, counted."""
        self.take(member.size)
        return tarfile.data_filter(member, path)


def _scratch(root: Path, archive: Path) -> Path:
    """An empty folder beside the results, so that a rename finishes the work."""
    scratch = root / f".unpacking-{archive.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _require(folder: Path, archive: Path) -> None:
    if not folder.is_dir():
        raise StrataError(f"{archive}: holds no {folder.name}. Another archive by this name?")


def _broken(archive: Path, error: Exception) -> StrataError:
    return StrataError(
        f"{archive} could not be unpacked ({type(error).__name__}: {error}). "
        "Disk full, or an archive not ours: make room or delete it, and run this again"
    )


def librispeech(
    partition: str, root: Path, mirrors: Sequence[str] = OPENSLR, zenodo: str = ZENODO
) -> tuple[Path, Path]:
    """Folders of audio and of alignments of a partition; what is there already stays as it is."""
    folder = canonical(partition).replace("_", "-")
    audio, alignments = root / "LibriSpeech" / folder, root / "alignments" / folder
    if not audio.is_dir():
        archive = fetch(audio_archive(folder, mirrors), root / "archives")
        audio = unpack_audio(archive, root, folder)
    if not alignments.is_dir():
        archive = fetch(alignment_archive(zenodo), root / "archives")
        alignments = unpack_alignments(archive, root, folder)
    return audio, alignments


def librilight(root: Path, remote: Remote = LIBRILIGHT) -> Path:
    """`root`/librispeech_finetuning, whole; what is there already stays as it is."""
    folder = root / FOLDER
    if folder.is_dir():
        return folder
    archive = fetch(remote, root / "archives")
    scratch = _scratch(root, archive)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter=_Bound(archive, root).tar_member)
        for part in ("1h", "9h"):
            _require(scratch / FOLDER / part, archive)
        (scratch / FOLDER).replace(folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _broken(archive, error) from error
    finally:
        shutil.rmtree(scratch)
    return folder


def vector_table(name: str, root: Path, url: str | None = None) -> Path:
    """The file of a table of word vectors below `root`, as its publisher zipped it.

    What is there already is checked and stays as it is. No publisher states a checksum, so that of
    the first download is recorded beside the file and later ones are compared with it.
    """
    urls = VECTOR_TABLES[name].urls if url is None else (url,)
    file = PurePosixPath(urlsplit(urls[0]).path).name
    if not file:
        raise StrataError(f"--url {url}: it must end in the name of a file")
    return fetch(Remote(file, urls, None), root)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 on failure, with the reason on stderr."""
    options = _parser().parse_args(arguments)
    try:
        print(ACTIONS.get(options.what, _vectors)(options))
    except StrataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="python -m common.datasets.download",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    libri = kinds.add_parser("librispeech", help="audio and alignments of a partition")
    libri.add_argument("--partition", default="dev_clean", help=", ".join(PARTITIONS))
    libri.add_argument("--openslr", action="append", help="base URL of a mirror of OpenSLR 12")
    libri.add_argument("--zenodo", default=ZENODO, help="API URL of the alignments' record")
    light = kinds.add_parser("librilight", help="10 min, 1 h, 10 h to fine-tune on")
    light.add_argument("--url", help=f"another address, instead of {LIBRILIGHT.urls[0]}")
    for name, table in VECTOR_TABLES.items():
        vectors = kinds.add_parser(name, help=table.what, description=table.what)
        vectors.add_argument("--url", help=f"another address, instead of {table.urls[0]}")
    for kind in kinds.choices.values():
        kind.add_argument("--root", type=Path, required=True, help="folder to put everything in")
    return parser


def _librispeech(options: argparse.Namespace) -> str:
    audio, alignments = librispeech(
        options.partition, options.root, options.openslr or OPENSLR, options.zenodo
    )
    return (
        f"audio: {audio}\nalignments: {alignments}\nuse: dataset=librispeech_local "
        f"dataset.partition={canonical(options.partition)} dataset.audio_root={options.root} "
        f"dataset.alignment_root={options.root / 'alignments'}"
    )


def _librilight(options: argparse.Namespace) -> str:
    remote = replace(LIBRILIGHT, urls=(options.url,)) if options.url else LIBRILIGHT
    folder = librilight(options.root, remote)
    return f"audio and text: {folder}\nuse: finetune=libri_10m finetune.train.dataset.root={folder}"


def _vectors(options: argparse.Namespace) -> str:
    path = vector_table(options.what, options.root, options.url)
    return f"vectors: {path}\nuse: experiment=cca_{options.what} target.path={path}"


ACTIONS = {"librispeech": _librispeech, "librilight": _librilight}


if __name__ == "__main__":
    sys.exit(main())
