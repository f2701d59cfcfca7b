"""Where a model's files are: in a folder, in the Hub's cache or on the Hub. Needs no torch."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.config import ModelConfig
from common.encoder.hub import explained
from common.records import StrataError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ("config.json",)
# transformers 5 writes the second name where a feature extractor was saved with its tokenizer.
PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
WHY = {
    CONFIG: "It says what the model is made of.",
    PREPROCESSOR: "It says how audio becomes the model's input, which Strata never guesses: a "
    "model without one is none for speech, or its copy is incomplete (a fine-tuned model takes "
    "that of the one it began from).",
    WEIGHTS: "For an untrained model of this architecture, set model.random_init=true.",
}
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's place: a folder, and the Hub's repository and commit if it comes from there.

    `asked` is what the configuration says, for messages.
    """

    asked: str
    folder: Path
    repository: str | None = None
    commit: str | None = None

    def file(self, names: Sequence[str]) -> Path:
        """First of `names` that the folder has, else that can be fetched from the Hub."""
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        if self.repository is not None and self.commit is not None:
            return _fetch(self.asked, self.repository, self.commit, names)
        held = ", ".join(sorted(p.name for p in self.folder.iterdir())) or "nothing"
        raise StrataError(
            f"{self.asked}: the folder {self.folder} has no {' or '.join(names)}; it holds {held}. "
            f"{WHY.get(tuple(names), '')}"
        )

    def weights(self, names: re.Pattern[str] | None = None) -> tuple[Path, ...]:
        """Files that hold the weights: safetensors if there are, else .bin, whole or in shards.

        `names`: names of the weights that will be read; None for all.
        """
        first, shards = self._shards(names)
        return (first, *(self.file((shard,)) for shard in shards))

    def held_weights(self) -> tuple[Path, ...]:
        """The files of weights that the folder holds: for a model's audio tower some are enough."""
        first, shards = self._shards(None)
        return (first, *(self.folder / name for name in shards if (self.folder / name).is_file()))

    def _shards(self, names: re.Pattern[str] | None) -> tuple[Path, list[str]]:
        """The file of the weights, or their index and the names of the shards."""
        first = self.file(WEIGHTS)
        if first.suffix != ".json":
            return first, []
        try:
            held = json.loads(first.read_text(encoding="utf-8"))["weight_map"]
            return first, sorted(
                {held[key] for key in held if names is None or names.fullmatch(key)}
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise StrataError(
                f"{self.asked}: {first} is damaged ({error!r}). Delete it and get it again."
            ) from error


def locate(config: ModelConfig) -> Checkpoint:
    """Find a checkpoint and its two small JSON files, fetched if need be; no weights."""
    asked = f"model.checkpoint={config.checkpoint} (model.revision={config.revision})"
    path = Path(config.checkpoint).expanduser()
    folder = next((p.resolve() for p in (path, ROOT / path) if p.is_dir()), None)
    if folder is not None:
        checkpoint = Checkpoint(asked, folder)
    elif path.suffix in (".pt", ".pth", ".ckpt", ".nemo"):
        raise StrataError(
            f"{asked}: this is a file of another toolkit, such as fairseq. Make a folder in the "
            f"Hub's format of it, as docs/models.md explains (checkpoints of fairseq), and "
            "give that."
        )
    elif HUB_ID.fullmatch(config.checkpoint):
        snapshot = _fetch(asked, config.checkpoint, config.revision, CONFIG).parent
        checkpoint = Checkpoint(asked, snapshot, config.checkpoint, snapshot.name)
    else:
        raise StrataError(
            f"{asked}: there is no such folder (looked from {Path.cwd()} and {ROOT}). Give a "
            f"folder with config.json, preprocessor_config.json and model.safetensors, or an id on "
            f"the Hub such as facebook/wav2vec2-base."
        )
    for names in (CONFIG, PREPROCESSOR):
        checkpoint.file(names)
    return checkpoint


def revision_of(config: ModelConfig, checkpoint: Checkpoint | None = None) -> str:
    """What identifies a model's numbers: the Hub's commit, or a hash of what the folder holds.

    For a folder this reads the weights' bytes, at about a second per gigabyte.
    """
    checkpoint = checkpoint or locate(config)
    small = (checkpoint.file(CONFIG), checkpoint.file(PREPROCESSOR))
    normalised = "" if config.normalise is None else f":normalise={str(config.normalise).lower()}"
    if config.random_init:
        return f"random:{config.init_seed}:{_digest(small)}{normalised}"
    if checkpoint.commit is not None:
        return f"{checkpoint.commit}{normalised}"
    return f"sha256:{_digest((*small, *checkpoint.held_weights()))}{normalised}"


def _fetch(asked: str, repository: str, revision: str, names: Sequence[str]) -> Path:
    """First of `names` that the repository has at a revision."""
    from huggingface_hub import errors, hf_hub_download

    absent: list[errors.EntryNotFoundError] = []
    with explained("model", f"{asked}: {' or '.join(names)}"):
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, revision=revision))
            except errors.EntryNotFoundError as error:
                absent.append(error)
        unreachable = [e for e in absent if isinstance(e, errors.LocalEntryNotFoundError)]
        if unreachable:  # Which says more than that another name is not there.
            raise unreachable[0]
        raise StrataError(
            f"{asked}: the repository has no {' or '.join(names)}. {WHY.get(tuple(names), '')}"
        ) from absent[0]


def _digest(paths: Sequence[Path]) -> str:
    """First 16 hex digits of the SHA-256 of the files' names and contents."""
    total = hashlib.sha256()
    for path in paths:
        status = path.stat()
        contents = _contents(path, status.st_size, status.st_mtime_ns)
        total.update(f"{path.name}\0{contents}\n".encode())
    return total.hexdigest()[:16]


@lru_cache(maxsize=64)
def _contents(path: Path, size: int, changed: int) -> str:  # noqa: ARG001
    """SHA-256 of a file; kept, because a run asks for its model's more than once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
