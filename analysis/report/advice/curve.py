"""A model's scores over its layers, and which of them can be told apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy  # loads a submodule when it is first used

from common.arrays import Array, Mask
from common.config.analysis import BY_SPEAKER
from common.results.results import CONTROLS, WITHOUT_LAYERS, rankable, summarise

LEVEL = 0.05  # of significance
LEAST_FOLDS = 5  # with fewer there is no test
MIN_FOLDS = 6  # with fewer no layer is called the best, and every pair of layers is a comparison
# A layer whose rank correlation is better by 0.1 comes out ahead in 98 % of studies with as many
# pairs, in 85 % with 38 (benchmarks/advice_power.py). Samples share the pairs: no test sees this.
MIN_PAIRS = 150
SAME_SCORE = 1e-3  # machines differ by less
DRAW = ["seed", "sample", "trial"]
# One study: what may lie on one curve.
STUDY = ["model", "revision", "dataset", "partition", "experiment", "metric", "split", "target"]
# Their scores depend on which view has fewer columns, and mel has 80.
BY_COLUMNS = ("pwcca", "pwcca_published", "mean_cca", "svcca")
FEWER_THAN_MEL = ("phone",)  # one-hot targets that always have: 39 phones


@dataclass(frozen=True)
class Comparison:
    """Every layer compared with one of them, the anchor, over the same folds of speakers.

    `p` (l,): two-sided, corrected for the number of layers; NaN where there is nothing to test (the
    anchor itself, or fewer than five folds).
    """

    p: Array

    @property
    def told_apart(self) -> Mask:
        """(l,): layers whose difference is beyond the noise."""
        return self.p < LEVEL

    @property
    def tested(self) -> bool:
        """Whether any layer could be compared with the anchor."""
        return bool(np.isfinite(self.p).any())


def corrected_p(differences: Array, seeds: Sequence[int] | None = None) -> Array:
    """Two-sided p of a mean difference of 0, for each column of (folds, k) -> (k,).

    Each line is a fold that was tested on speakers of its own: differences that speakers bring are
    then part of what varies between lines. The corrected resampled t-test of Nadeau & Bengio
    (2003), "Inference for the Generalization Error", Machine Learning 52, section 5, as Bouckaert &
    Frank (2004) apply it to repeated cross-validation: trials share most of their training folds,
    so the variance of the mean is taken as (1 / folds + test / train) times that of a fold, with
    folds - 1 degrees of freedom; of n folds one is tested on and n - 2 are fitted on. `seeds`
    (folds,): other cuts of the same speakers, which add no speakers: the variance is that within a
    seed, and folds are counted for one. NaN for fewer than five folds.
    """
    lines, k = differences.shape
    _, cut, sizes = np.unique(
        np.zeros(lines) if seeds is None else seeds, return_inverse=True, return_counts=True
    )
    if not lines or sizes.min() < LEAST_FOLDS:
        return np.full(k, np.nan)
    folds = int(sizes.min())
    means = np.stack([differences[cut == c].mean(0) for c in range(len(sizes))])
    variance = ((differences - means[cut]) ** 2).sum(0) / (lines - len(sizes))
    mean = differences.mean(0)
    error = np.sqrt((1 / folds + 1 / (folds - 2)) * variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / error
    t = np.where(error > 0, t, np.where(np.abs(mean) > 0, np.inf, 0.0))
    return np.asarray(2 * scipy.special.stdtr(folds - 1, -t))


def holm(p: Array, comparisons: int | None = None) -> Array:
    """Holm's (1979) step-down correction of (k,) p values, out of `comparisons` (k if None)."""
    order = np.argsort(p)
    left = (comparisons or len(p)) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * left), 1.0)
    return corrected


def compare_with(scores: Array, anchor: int, seeds: Sequence[int] | None = None) -> Comparison:
    """Every layer of (folds, l) compared with the layer `anchor`, Holm-corrected over the layers.

    The anchor is mostly chosen by the same scores (the best layer, the lowest), which favours
    differences. With six folds or more the corrected test has room for that: where all layers are
    equal, one or more is called different in at most about 5 % of studies, speakers that respond to
    each layer in their own way included (benchmarks/equal_layers.py). With fewer folds it has not,
    so all l (l - 1) / 2 pairs count. `seeds` as in `corrected_p`.
    """
    _, n = scores.shape
    differences = scores - scores[:, [anchor]]
    others = np.arange(n) != anchor
    p = np.full(n, np.nan)
    raw = corrected_p(differences[:, others], seeds)
    if np.isfinite(raw).any():
        folds = len(scores) // len(set(seeds)) if seeds is not None else len(scores)
        comparisons = n - 1 if folds >= MIN_FOLDS else n * (n - 1) // 2
        p[others] = holm(raw, comparisons)
    return Comparison(p)


@dataclass(frozen=True)
class Control:
    """A control compared with the best layer; `layer` is its own best. `p` is Holm-corrected.

    `beaten`: the layer scores above it; beyond the noise, where that can be tested (else NaN).
    """

    name: str
    layer: str
    mean: float
    p: float
    beaten: bool


@dataclass(frozen=True)
class Curve:
    """Scores of the layers `layers`, from the lowest to the top.

    `table`: draws (seed, sample, trial) down, layer indices across; NaN where one is missing.
    `controls`: such a table for each control there is. `left_out`: runs of the same name and seed
    that scored other data or had other settings. `sides`: by which view's columns CCA weighed,
    layer by layer, and "mel"; "" where the results do not say. `otherwise_weighed`: layers that are
    not on the curve because CCA weighed them by another side than most. `split`: how folds were
    cut. `pairs`: how many pairs a rank correlation is of, the fewest of a score; None where it is
    none, or the results do not say.
    """

    experiment: str
    metric: str
    target: str
    layers: tuple[str, ...]
    table: pd.DataFrame
    controls: Mapping[str, pd.DataFrame]
    left_out: tuple[str, ...]
    sides: Mapping[str, str]
    otherwise_weighed: tuple[str, ...]
    split: str
    pairs: int | None = None

    @property
    def by_speaker(self) -> bool:
        """Whether each trial is tested on speakers of its own: only then is there a test."""
        return self.split in BY_SPEAKER and (self.table.index.get_level_values("trial") >= 0).all()

    def by_fold(self, table: pd.DataFrame) -> pd.DataFrame:
        """Lines of a table like `table` that have every layer: one for each fold of a seed.

        Samples are tested on the same speakers in a fold: they are averaged. Without folds of
        speakers a line for each draw, equal ones once: a corpus that is too small for several
        samples gives the same one again.
        """
        whole = table.dropna()
        if not self.by_speaker:
            return whole.drop_duplicates()
        return whole.groupby(level=["seed", "trial"]).mean()

    @cached_property
    def paired(self) -> pd.DataFrame:
        """The lines that layers are compared in."""
        return self.by_fold(self.table)

    @cached_property
    def scores(self) -> Array:
        """(draws, l): their scores."""
        return self.paired.to_numpy(dtype=np.float64)

    @property
    def repeats(self) -> int:
        """Number of draws with exactly the scores of another."""
        whole = self.table.dropna()
        return len(whole) - len(whole.drop_duplicates())

    def compared_with(self, anchor: int) -> Comparison:
        """Every layer compared with one of them; untested without folds of speakers."""
        if not self.by_speaker or self.paired.empty:
            return Comparison(np.full(len(self.layers), np.nan))
        seeds = self.paired.index.get_level_values("seed")
        return compare_with(self.scores, anchor, list(seeds))

    @cached_property
    def means(self) -> Array:
        """(l,): over the draws that every layer has; over what there is, if there are none."""
        return self.scores.mean(0) if len(self.scores) else self.table.mean().to_numpy()

    @cached_property
    def best(self) -> int:
        """Position of the best layer."""
        return int(np.argmax(self.means))

    @cached_property
    def compared_with_best(self) -> Comparison:
        """Every layer compared with the best one."""
        return self.compared_with(self.best)

    @property
    def folds(self) -> int:
        """How many folds of speakers each layer was scored on; 0 if none keeps them apart."""
        if not self.by_speaker or self.paired.empty:
            return 0
        return len(self.scores) // self.paired.index.get_level_values("seed").nunique()

    @property
    def too_few(self) -> str:
        """Why layers cannot be ordered; "" where they can.

        With fewer than `MIN_FOLDS` folds of speakers a layer that is better by twice the deviation
        of a difference is hardly ever found (benchmarks/advice_power.py), and without such folds
        there is no test: neither which layer is best nor that layers are alike can be said then.
        """
        if len(self.layers) < 2:
            return ""
        if self.pairs is not None and self.pairs < MIN_PAIRS:
            return f"{self.pairs} pairs, {MIN_PAIRS} needed"
        if self.folds < MIN_FOLDS:
            folds = "fold" if self.folds == 1 else "folds"
            return f"{self.folds or 'no'} {folds} of speakers, {MIN_FOLDS} needed"
        return ""

    @property
    def alike(self) -> list[int]:
        """Positions of the layers that cannot be told apart from the best one, without it."""
        told_apart = self.compared_with_best.told_apart
        return [k for k in range(len(self.layers)) if k != self.best and not told_apart[k]]

    @property
    def mel_comparable(self) -> bool:
        """Whether mel and a layer are weighed by the same side (docs/metrics.md).

        Where the results do not say by which, it is known of targets that are narrower than mel.
        """
        sides = self.sides.get("mel", ""), self.sides[self.layers[self.best]]
        if all(sides):
            return sides[0] == sides[1]
        return self.metric not in BY_COLUMNS or self.target in FEWER_THAN_MEL

    @cached_property
    def compared(self) -> list[Control]:
        """The controls that the best layer can be compared with, over the draws both have."""
        best = (self.paired if len(self.paired) else self.table).iloc[:, self.best]
        found = []
        for name, table in self.controls.items():
            if name == "mel" and not self.mel_comparable:
                continue
            column = table.mean().idxmax()
            other = self.by_fold(table[[column]])
            pairs = pd.concat([best, other], axis=1, join="inner").dropna()
            differences = pairs.iloc[:, [0]].to_numpy() - pairs.iloc[:, [1]].to_numpy()
            p = np.nan
            if self.by_speaker and len(pairs):
                p = float(corrected_p(differences, list(pairs.index.get_level_values("seed")))[0])
            gain = float(differences.mean()) if len(pairs) else np.nan
            layer = "" if name in WITHOUT_LAYERS else f"T{column}"
            found.append((name, layer, float(table[column].mean()), gain, p))
        corrected = holm(np.array([one[-1] for one in found]))
        return [
            Control(name, layer, mean, p, bool(gain > 0 and not p >= LEVEL))
            for (name, layer, mean, gain, _), p in zip(found, corrected, strict=True)
        ]

    @property
    def unbeaten(self) -> list[Control]:
        """The controls that the best layer is not shown to score above."""
        return [control for control in self.compared if not control.beaten]

    @property
    def fallen_top(self) -> int:
        """How many layers, from the top down without a gap, are told apart from the best one."""
        told_apart = self.compared_with_best.told_apart[::-1]
        return int(np.argmin(told_apart)) if not told_apart.all() else len(told_apart)


def curves_of(frame: pd.DataFrame) -> Iterator[tuple[dict[str, str], Curve]]:
    """Every study's curve, with the columns that name the study."""
    kept = frame[frame["primary"].astype(bool) & frame["value"].notna()]
    kept = kept.assign(trial=kept["trial"].fillna(-1).astype(int))
    for key, study in kept.groupby(STUDY, sort=False, dropna=False):
        layers = study[(study["control"] == "") & (study["part"] == "transformer")]
        if layers.empty:
            continue
        names = dict(zip(STUDY, map(str, key), strict=True))
        comparable, left_out = one_protocol(layers)
        same = kept[~kept["run"].isin(left_out)]
        yield names, _curve(names, comparable, _control_rows(same, names), left_out)


def one_protocol(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The first run, and those that go with it; the names of the runs that do not.

    Two runs with one seed that drew another number of units for a sample, or scored the same draw
    and layer differently, saw other data or had other settings: they must not lie on one curve.
    """
    kept: list[pd.DataFrame] = []
    left_out = []
    for run, scores in rows.groupby("run", sort=False):
        if all(_same_protocol(one, scores) for one in kept):
            kept.append(scores)
        else:
            left_out.append(str(run))
    return pd.concat(kept), tuple(left_out)


def _same_protocol(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    counts = one.merge(other, on=["seed", "sample"], suffixes=("", "_other"))
    if (counts["n"] != counts["n_other"]).any():
        return False
    both = one.merge(other, on=[*DRAW, "layer_index"], suffixes=("", "_other"))
    return bool(np.allclose(both["value"], both["value_other"], rtol=0, atol=SAME_SCORE))


def _control_rows(kept: pd.DataFrame, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The rows of each control of a study; random weights have a revision of their own."""
    kept = kept[kept["control"] != ""]
    same = [name for name in STUDY if name != "revision"]
    rows = kept[np.logical_and.reduce([kept[k].astype(str) == names[k] for k in same])]
    found = {}
    for name in CONTROLS:
        matching = rows[rows["control"] == name]
        exact = matching[matching["revision"].astype(str) == names["revision"]]
        matching = exact if len(exact) else matching
        if name not in WITHOUT_LAYERS:
            matching = matching[matching["part"] == "transformer"]
        if len(matching):
            found[name] = matching
    return found


def _curve(
    names: Mapping[str, str],
    scores: pd.DataFrame,
    controls: Mapping[str, pd.DataFrame],
    left_out: tuple[str, ...],
) -> Curve:
    every = list(dict.fromkeys(scores.sort_values("layer_index")["layer"].astype(str)))
    summary = summarise(scores)
    shown = set(rankable(summary)["layer"]) | set(
        summary.loc[summary["layer"] == summary["target"], "layer"]
    )
    scores = scores[scores["layer"].isin(shown)]
    table = _table(scores)
    layers = dict(zip(scores["layer_index"], scores["layer"].astype(str), strict=True))
    return Curve(
        experiment=names["experiment"],
        metric=names["metric"],
        target=names["target"],
        layers=tuple(layers[k] for k in table.columns),
        table=table,
        controls={name: _table(rows) for name, rows in controls.items()},
        left_out=left_out,
        otherwise_weighed=tuple(layer for layer in every if layer not in shown),
        sides=_sides(scores) | _sides(controls.get("mel", scores.iloc[:0])),
        split=names["split"],
        pairs=int(scores["pairs"].min()) if scores["pairs"].notna().any() else None,
    )


def _sides(rows: pd.DataFrame) -> dict[str, str]:
    """Each layer's side; both, where its draws differ."""
    sides = rows.groupby("layer")["weighted"].agg(lambda values: " and ".join(sorted(set(values))))
    return {str(layer): str(side) for layer, side in sides.items()}


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Draws down, layers across; of a draw that several runs scored, the first run's score."""
    first = rows.drop_duplicates([*DRAW, "layer_index"])
    table = first.pivot(index=DRAW, columns="layer_index", values="value")
    return table.sort_index(axis=1)
