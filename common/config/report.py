"""The configuration of the task `report` as a type: which runs, which of their rows."""

from dataclasses import dataclass
from typing import Any

from common.records import StrataError

FILTERS = ("models", "datasets", "experiments", "metrics")


@dataclass(kw_only=True)
class ReportConfig:
    """Runs to gather into one report, and what of them.

    `runs`: a glob or a folder, or a list of them; folders are searched to the bottom. `mix` puts
    runs side by side that were not made alike, each under a name that says so, instead of
    refusing them. `models`, `datasets`, `experiments` and `metrics` keep these alone; null: all.
    """

    runs: Any = None
    mix: bool = False
    models: list[str] | None = None
    datasets: list[str] | None = None
    experiments: list[str] | None = None
    metrics: list[str] | None = None

    def __post_init__(self) -> None:
        given = self.runs if isinstance(self.runs, list) else [self.runs]
        if not all(one is None or (isinstance(one, str) and one.strip()) for one in given):
            raise StrataError(
                f"report.runs={self.runs}: give folders or globs, e.g. 'report.runs=runs/**' or "
                "'report.runs=[runs/paper,runs/ctc/**]'"
            )
        for key in FILTERS:
            if getattr(self, key) == []:
                raise StrataError(f"report.{key}=[]: nothing would be left; null keeps all")

    @property
    def patterns(self) -> tuple[str, ...]:
        """The folders and globs that were given; none for null."""
        given = self.runs if isinstance(self.runs, list) else [self.runs]
        return tuple(one for one in given if one is not None)

    @property
    def filters(self) -> dict[str, list[str]]:
        """Values to keep, by the column of the rows that they are of."""
        chosen = {key: getattr(self, key) for key in FILTERS}
        return {key.removesuffix("s"): names for key, names in chosen.items() if names is not None}
