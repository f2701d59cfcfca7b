"""Scores of layers and of trainings with a planted shape, and the advice on one topic."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from rows import placed, row

from analysis.report.advice.wording import Advice
from common.results.results import Row, to_frame

Levels = Sequence[float]
MEL = {"layer": "mel", "part": "mel"}
UP_AND_DOWN = (0.30, 0.40, 0.50, 0.495, 0.40, 0.30)


def rows(
    experiment: str,
    levels: Levels,
    draws: tuple[int, int | None] = (3, 10),
    noise: float = 0.012,
    control: str = "",
    metric: str = "pwcca",
    target: str = "phone",
    revision: str = "r1",
    model: str = "m",
    n: int = 500,
) -> list[Row]:
    """Layers T0, T1, … at `levels`, with noise that a draw's layers share and some of their own."""
    rng = np.random.default_rng(len(experiment + control))
    samples, trials = draws
    same = {"model": model, "dataset": "corpus", "experiment": experiment, "metric": metric}
    same |= {"target": target, "revision": revision, "control": control, "n": n}
    found = []
    for sample in range(samples):
        for trial in range(trials or 1):
            shared = rng.normal() * 0.05
            found += [
                row(
                    **same | placed(f"T{k}") | (MEL if control == "mel" else {}),
                    sample=sample,
                    trial=trial if trials else None,
                    value=level + shared + noise * rng.normal(),
                )
                for k, level in enumerate(levels)
            ]
    return found


FALLING = rows("cca_phone", (0.3, 0.4, 0.5, 0.5, 0.4, 0.3))  # N = 2


def ctc(wer: dict[int, Levels], subset: str = "10m", revision: str = "r1") -> pd.DataFrame:
    """Rows of a sweep: WER by number of blocks, a figure for each seed."""
    trained = [
        asdict(rows("ctc", [value], (1, None), metric="wer", target="text", revision=revision)[0])
        | {"value": value, "layer": "", "part": "", "seed": seed, "reinit_top": n}
        for n, values in wer.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(trained).assign(subset=subset, train_dataset="corpus", run="ctc")


def frame(*parts: list[Row]) -> pd.DataFrame:
    return to_frame([one for part in parts for one in part]).assign(
        run="run", reinit_top=pd.NA, subset="", train_dataset="", depth=0.5
    )


def caveats(advice: Advice) -> str:
    """Every caveat with the measures that it is of."""
    return " ".join(f"{', '.join(one.measures)}: {one.text}" for one in advice.caveats)


def figures(advice: Advice) -> str:
    """The table of its figures as text."""
    lines = (
        f"{one.measure} {'; '.join(f'{name}: {cell}' for name, cell in one.cells.items())}"
        for one in advice.figures
    )
    return " | ".join(lines)


def of(topic: str, advice: list[Advice]) -> Advice:
    (found,) = (one for one in advice if one.topic == topic)
    return found
