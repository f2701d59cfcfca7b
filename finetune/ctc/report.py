"""What a fine-tuning found: rows for results.csv, and a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd
from rich.console import Console
from rich.table import Table

from common.config import Config
from common.records import Corpus
from common.results.results import Row, git_commit
from finetune.ctc.scoring import UNITS, ErrorRate, error_rate


@dataclass(frozen=True)
class Tested:
    """Tables by `scoring.score`, greedy and with an n-gram (or None), and how that was set."""

    table: pd.DataFrame
    with_lm: pd.DataFrame | None
    chosen: Mapping[str, float]

    def rates(self) -> dict[str, ErrorRate]:
        """Error rates (wer, cer; per), greedy; wer_lm and cer_lm with an n-gram."""
        tables = {"": self.table} | ({} if self.with_lm is None else {"_lm": self.with_lm})
        return {
            f"{metric}{suffix}": error_rate(table, unit, seed=0)
            for suffix, table in tables.items()
            for metric, unit in UNITS.items()
            if metric in table
        }

    @property
    def hypotheses(self) -> pd.DataFrame:
        """Every utterance's reference, hypotheses and errors."""
        if self.with_lm is None:
            return self.table
        given = ("id", "speaker", "reference", "words", "characters")
        added = [name for name in self.with_lm if name not in given]
        return self.table.join(self.with_lm[added].add_suffix("_lm"))

    def describe(self) -> dict[str, object]:
        """Rates with their intervals, for the metadata."""
        rates = {name: asdict(rate) for name, rate in self.rates().items()}
        return {"rates": rates, "n_gram": dict(self.chosen), "utterances": len(self.table)}


def score_rows(
    config: Config, tested: Tested, corpus: Corpus, revision: str, key: str
) -> list[Row]:
    """A row for each rate. They are errors: of these alone, lower is better."""
    commit = git_commit()
    return [
        Row(
            model=config.model.name,
            dataset=corpus.name,
            partition=corpus.partition,
            experiment=config.task,
            unit="utterance",
            target="text",
            metric=name,
            split="speaker",
            layer="",
            layer_index=0,
            part="",
            sample=0,
            trial=None,
            value=rate.value,
            n=rate.n,
            dim=0,
            seed=config.seed,
            revision=revision,
            config_key=key,
            git_commit=commit,
            primary=place == 0,
            low=rate.low,
            high=rate.high,
        )
        for place, (name, rate) in enumerate(tested.rates().items())
    ]


def print_scores(tested: Tested, title: str) -> None:
    """Every rate in per cent, with its interval."""
    table = Table(title=f"{title}: test")
    for column in ("rate", "%", "95 % interval", "of"):
        table.add_column(column, justify="left" if column == "rate" else "right", no_wrap=True)
    rates = tested.rates()
    for name, rate in rates.items():
        interval = f"{100 * rate.low:.1f} … {100 * rate.high:.1f}"
        table.add_row(name, f"{100 * rate.value:.1f}", interval, str(rate.n))
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
    resampled = next(iter(rates.values())).resampled
    console.print(f"intervals: bootstrap over {resampled}", soft_wrap=True)
