"""A piece of advice, and the wording of its numbers, layers, lists and caveats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from analysis.report.advice.curve import MIN_FOLDS, MIN_PAIRS, Control, Curve

# Experiments by kind of content, the most informative one first.
TOPICS: Mapping[str, tuple[str, ...]] = {
    "acoustic content": ("cca_mel",),
    "phonetic content": ("cca_phone", "probe_phone", "mi_phone"),
    "word content": ("cca_word", "probe_word", "mi_word", "word_discrimination"),
    "semantic content": ("cca_glove", "cca_semantic", "word_similarity", "spoken_sts"),
}
# What a headline calls it, and the ending of its verb.
NOUNS = {
    "acoustic content": ("acoustics in the transformer", ""),
    "phonetic content": ("phones", ""),
    "word content": ("words", ""),
    "semantic content": ("meaning", "s"),
}
CONTROL_WORDS = {
    "mel": "the mel filterbank",
    "comb": "boundaries at equal distances",
    "random_weights": "random weights",
    "shuffled_labels": "shuffled labels",
    "permuted_table": "a permuted table",
}
HEADLINE = 12  # words at most


@dataclass(frozen=True)
class Figures:
    """The figures of one measure: `cells` by their names, and a curve to draw small.

    `layers` and `means` are the curve; `best` is the position of its marked layer (-1: none is),
    `alike` are those of the layers that cannot be told apart from it.
    """

    measure: str
    cells: Mapping[str, str]
    layers: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    best: int = -1
    alike: tuple[int, ...] = ()


@dataclass(frozen=True)
class Caveat:
    """What a piece of advice does not say; `measures`: which of its measures, () for all of it."""

    text: str
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """A conclusion in words.

    `topic`: what it is about. `headline`: a dozen words at most. `claim`: one plain sentence.
    `figures`: the numbers behind it. `caveats`: what it does not show. `says_something`: whether
    the scores supported a conclusion; if not, `claim` says why. `peak`: where the content is
    highest, in words that follow "peak"; "" unless the measures agree.
    """

    topic: str
    model: str
    dataset: str
    headline: str
    claim: str
    figures: tuple[Figures, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    says_something: bool = True
    peak: str = ""


def listed(words: Sequence[str], last: str = "and") -> str:
    """As "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def layers_of(curve: Curve, positions: Sequence[int], last: str = "and") -> str:
    """As "T0, T2 to T5": neighbours are joined."""
    runs: list[list[int]] = []
    for k in positions:
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    words = []
    for run in runs:
        names = [curve.layers[k] for k in run]
        words += [f"{names[0]} to {names[-1]}"] if len(run) > 2 else names
    return listed(words, last)


def capitalised(text: str) -> str:
    """With its first letter a capital."""
    return text[:1].upper() + text[1:]


def number(value: float) -> str:
    """Three decimals, four where the first would be lost."""
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.4f}"


def p_value(p: float) -> str:
    """As "p = 0.012" or "p < 0.001"."""
    if np.isnan(p):
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def mean_and_deviation(curve: Curve, k: int) -> str:
    """As "0.271 ± 0.007", or the mean alone where there is one score."""
    scores = curve.scores[:, k]
    if len(scores) < 2:
        return number(curve.means[k])
    return f"{number(curve.means[k])} ± {number(scores.std(ddof=1))}"


def layer_numbers(curve: Curve, positions: Sequence[int]) -> str:
    """T1 0.268, T2 0.264 (p = 0.412), T3 …: each against the best layer, with p once."""
    by_p = groupby(positions, lambda k: p_value(float(curve.compared_with_best.p[k])))
    return ", ".join(
        f"{', '.join(f'{curve.layers[k]} {number(curve.means[k])}' for k in alike)} ({p})"
        for p, alike in by_p
    )


def curve_figures(curve: Curve) -> Figures:
    """What one experiment found: best layer, those like it, those below, controls."""
    cells = {}
    if curve.too_few:
        cells["best"] = f"not named: {curve.too_few}"
        cells["scores"] = ", ".join(
            f"{layer} {number(mean)}" for layer, mean in zip(curve.layers, curve.means, strict=True)
        )
    else:
        cells["best"] = f"{curve.layers[curve.best]} {mean_and_deviation(curve, curve.best)}"
        lower = np.flatnonzero(curve.compared_with_best.told_apart)
        if curve.alike:
            cells["not told apart"] = layer_numbers(curve, curve.alike)
        if len(lower):
            cells["lower"] = layer_numbers(curve, list(lower))
    if curve.compared:
        cells["controls"] = "; ".join(map(control_numbers, curve.compared))
    return with_curve(curve, f"{curve.metric}, {_count(curve)}", cells)


def with_curve(curve: Curve, of: str, cells: Mapping[str, str]) -> Figures:
    """Figures with the small curve; layers are marked only where something may be said of them."""
    named = not curve.too_few
    return Figures(
        measure=f"{curve.experiment} ({of})",
        cells=cells,
        layers=curve.layers,
        means=tuple(map(float, curve.means)),
        best=curve.best if named else -1,
        alike=tuple(curve.alike) if named else (),
    )


def _count(curve: Curve) -> str:
    """As "10 paired scores a layer of 200 pairs"."""
    scores = len(curve.scores)
    kind = "score" if scores == 1 else "paired scores"
    pairs = "" if curve.pairs is None else f" of {curve.pairs} pairs"
    return f"{scores} {kind} a layer{pairs}"


def control_numbers(control: Control) -> str:
    """As "mel 0.123 (p < 0.001)", at the control's own best layer."""
    layer = f" {control.layer}" if control.layer else ""
    return f"{CONTROL_WORDS[control.name]}{layer} {number(control.mean)} ({p_value(control.p)})"


def curve_caveats(curves: Sequence[Curve]) -> list[Caveat]:
    """What holds for any claim about these curves."""
    few = [c.experiment for c in curves if c.folds < MIN_FOLDS and len(c.layers) > 1]
    scarce = [c.experiment for c in curves if c.pairs is not None and c.pairs < MIN_PAIRS]
    alike = [c.experiment for c in curves if c.alike and not c.too_few]
    caveats = _of(
        few,
        f"Not scored on {MIN_FOLDS} folds of speakers or more, so differences cannot be told from "
        "noise and nothing is said of the layers' order; CCA and probes have such folds with "
        "protocol=held_out and enough speakers",
    )
    caveats += _of(
        scarce,
        "With so few pairs another choice of them would often give another order, and every sample "
        "has the same ones; more speech has more of the words",
    )
    caveats += _of(
        alike, "“Not told apart” does not mean equal: more samples may show a difference"
    )
    for curve in curves:
        measure = [curve.experiment]
        lost = len(curve.table) - len(curve.table.dropna())
        if curve.repeats:
            caveats += _of(
                measure,
                f"{curve.repeats} scores are to the last digit those of another sample, so they "
                "are the same data and count once",
            )
        if lost:
            caveats += _of(measure, f"{lost} scores lack a layer and were left out")
        if curve.left_out:
            caveats += _of(
                measure,
                f"Left out {listed(curve.left_out)}, which has the same seed and name but other "
                "data or settings",
            )
    return caveats


def control_caveats(curves: Sequence[Curve]) -> list[Caveat]:
    """Which controls are missing, and which cannot be compared and why."""
    mel = [c.experiment for c in curves if c.target == "mel" and not c.controls]
    without = [c.experiment for c in curves if c.target != "mel" and not c.controls]
    unlike = [c.experiment for c in curves if "mel" in c.controls and not c.mel_comparable]
    caveats = _of(
        mel,
        "No random weights to hold it against; controls=true adds them, but not for a model that "
        "takes a mel spectrum itself, where they are no floor",
    )
    caveats += _of(
        without,
        "No controls, so it is not known whether a layer knows more than random weights do; run "
        "with controls=true",
    )
    for curve in curves:
        if curve.otherwise_weighed:
            caveats += _of(
                [curve.experiment],
                f"{listed(curve.otherwise_weighed)} left out, since CCA weighs these layers by "
                "another view than the others and the scores cannot be compared",
            )
    return caveats + _of(
        unlike,
        "Not held against mel: CCA weighs by the view with fewer columns, mel has 80, and with 80 "
        "target columns or more mel and layers are weighed by different sides",
    )


def _of(measures: Sequence[str], text: str) -> list[Caveat]:
    """The caveat, if any measure has it."""
    return [Caveat(f"{text}.", tuple(measures))] if measures else []


def caveats(texts: Sequence[str]) -> tuple[Caveat, ...]:
    """Caveats of a whole piece of advice, each a sentence."""
    return tuple(Caveat(text if text.endswith(".") else f"{text}.") for text in texts)
