"""What the configuration and the results know of a target; `analysis/targets` holds the targets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from common.config.analysis import UnitSampling
from common.records import Corpus, StrataError


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """What a layer's units are compared with. `units`: the kinds of unit that it takes.

    `labels_units`: whether units are drawn by a label that it gives them.

    Derive from the classes of `analysis.targets.base`, which say what a target is asked for.
    """

    units: ClassVar[tuple[str, ...]]
    needs_second_model: ClassVar[bool] = False
    labels_units: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What the column `target` of a row holds."""

    def check(self, key: str, unit: str, sampling: UnitSampling) -> None:  # noqa: ARG002
        """Raise StrataError where units of this kind, so drawn, cannot be compared with it.

        `key`: of the analysis, as `experiments.cca_glove`.
        """
        if unit not in self.units:
            raise StrataError(
                f"{key}.unit={unit}: the target {self.name} is for units {', '.join(self.units)}"
            )

    def unit_of(self, unit: str) -> str:
        """The kind of unit that the configuration's `unit` stands for, as a tier for `own`."""
        return unit

    def tiers(self, unit: str) -> tuple[str, ...]:  # noqa: ARG002
        """Tiers that a dataset reads only when they are asked for by name."""
        return ()

    def partition(self, partition: str, sampling: UnitSampling) -> str:  # noqa: ARG002
        """Name of the speech that it is asked of: the `partition`, or one derived from it."""
        return partition

    def derived(self, corpus: Corpus, sampling: UnitSampling, seed: int) -> Corpus:  # noqa: ARG002
        """The speech of that name, made from the partition's corpus."""
        return corpus

    def missing(self, key: str) -> str:  # noqa: ARG002
        """What the user has yet to give, and how to get it; "" where nothing is missing.

        `key`: of the target's node, as `experiments.cca_glove.target`.
        """
        return ""


@dataclass(frozen=True, kw_only=True)
class FromFile(Target):
    """A target that is read from `path`, a file or a folder; `obtain` says how to get it."""

    kind: ClassVar[str]

    path: str | None = None
    obtain: str | None = None

    @property
    def name(self) -> str:
        """Kind and name of the file."""
        return f"{self.kind}:{self.file.name}"

    @property
    def file(self) -> Path:
        """Where it is."""
        return Path(str(self.path)).expanduser()

    def missing(self, key: str) -> str:
        """The path, where it was not given; one that is not there is an error."""
        remedy = f": {self.obtain}" if self.obtain else ""
        if self.path is None:
            return f"{key}.path is not given{remedy}"
        if not self.file.exists():
            raise StrataError(f"{key}.path={self.path}: there is no such file or folder{remedy}")
        return ""
