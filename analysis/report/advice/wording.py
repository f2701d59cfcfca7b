"""How the advice says numbers, layers and lists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.report.advice.curve import FEW_PAIRS, Control, Curve
from analysis.report.advice.paired import FEW_DRAWS


@dataclass(frozen=True)
class Advice:
    """A conclusion in words.

    `topic`: what it is about. `claim`: one plain sentence. `numbers`: the figures it stands on.
    `caveat`: what it does not say.
    """

    topic: str
    model: str
    claim: str
    numbers: str
    caveat: str


CONTROL_WORDS = {
    "mel": "the mel filterbank",
    "comb": "boundaries at equal distances",
    "random_weights": "random weights",
    "shuffled_labels": "shuffled labels",
    "permuted_table": "a permuted table",
}


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def layers_of(curve: Curve, positions: Sequence[int]) -> str:
    """T0, T2 to T5: neighbours are joined."""
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
    return listed(words)


def number(value: float) -> str:
    """Three decimals, four where the first would be lost."""
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.4f}"


def p_value(p: float) -> str:
    """P = 0.012 or p < 0.001."""
    if np.isnan(p):
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def mean_and_deviation(curve: Curve, k: int) -> str:
    """0.271 ± 0.007, or the mean alone where there is one draw."""
    scores = curve.scores[:, k]
    if len(scores) < 2:
        return number(curve.means[k])
    return f"{number(curve.means[k])} ± {number(scores.std(ddof=1))}"


def layer_numbers(curve: Curve, positions: Sequence[int]) -> str:
    """T1 0.268 (p = 0.412), T2 …: each held against the best layer."""
    p = curve.against_best.p
    return ", ".join(
        f"{curve.layers[k]} {number(curve.means[k])} ({p_value(p[k])})" for k in positions
    )


def curve_numbers(curve: Curve) -> str:
    """What one experiment found: best layer, those like it, those below, controls."""
    told = [k for k in range(len(curve.layers)) if curve.against_best.told_apart[k]]
    draws = len(curve.scores)
    parts = [f"{curve.layers[curve.best]} {mean_and_deviation(curve, curve.best)}"]
    if not curve.too_few:
        parts += [f"not told apart {layer_numbers(curve, curve.alike)}"] if curve.alike else []
        parts += [f"lower {layer_numbers(curve, told)}"] if told else []
    else:
        others = [k for k in range(len(curve.layers)) if k != curve.best]
        parts += [", ".join(f"{curve.layers[k]} {number(curve.means[k])}" for k in others)]
    parts += [control_numbers(control) for control in curve.compared]
    kind = "score" if draws == 1 else "paired scores"
    pairs = "" if curve.pairs is None else f" of {curve.pairs} pairs"
    said = "; ".join(part for part in parts if part)
    return f"{curve.experiment} ({curve.metric}, {draws} {kind} a layer{pairs}): {said}."


def control_numbers(control: Control) -> str:
    """Mel 0.123 (p < 0.001), at the control's own best layer."""
    layer = f" {control.layer}" if control.layer else ""
    return f"{CONTROL_WORDS[control.name]}{layer} {number(control.mean)} ({p_value(control.p)})"


def common_caveats(curves: Sequence[Curve]) -> list[str]:
    """What holds for any claim about these curves."""
    said = []
    few = [c.experiment for c in curves if c.folds < FEW_DRAWS and len(c.layers) > 1]
    if few:
        said.append(
            f"{listed(few)}: not scored on {FEW_DRAWS} folds of speakers or more, so nothing tells "
            "differences from noise and nothing is said of the layers' order; CCA and probes have "
            "such folds with protocol=held_out and enough speakers"
        )
    scarce = [c.experiment for c in curves if c.pairs is not None and c.pairs < FEW_PAIRS]
    if scarce:
        said.append(
            f"{listed(scarce)}: with so few pairs another choice of them would often give another "
            "order, and every sample has the same ones; more speech has more of the words"
        )
    if any(c.alike and not c.too_few for c in curves):
        said.append("“Not told apart” does not mean equal: more samples may tell")
    said += [
        f"{c.experiment}: {c.alike_draws} draws scored to the last digit as another one did, so "
        "they are the same data and count once"
        for c in curves
        if c.alike_draws
    ]
    lost = {c.experiment: len(c.table) - len(c.table.dropna()) for c in curves}
    said += [
        f"{name}: {count} draws lack a layer and were left out"
        for name, count in lost.items()
        if count
    ]
    said += [
        f"{c.experiment}: left out {listed(c.left_out)}, which has the same seed and name but "
        "other data or settings"
        for c in curves
        if c.left_out
    ]
    return said


def control_caveats(curves: Sequence[Curve]) -> list[str]:
    """Which controls are missing, and which cannot be compared and why."""
    said = []
    if any(c.target == "mel" and not c.controls for c in curves):
        said.append(
            "cca_mel: no random weights to hold it against; controls=true adds them, but not for a "
            "model that hears a mel spectrum itself, where they are no floor"
        )
    without = [c.experiment for c in curves if not c.controls and c.target != "mel"]
    if without:
        said.append(
            f"{listed(without)}: no controls, so it is not known whether a layer knows more than "
            "random weights do; run with controls=true"
        )
    said += [
        f"{c.experiment}: {listed(c.otherwise_weighed)} left out, since CCA weighs these layers by "
        "another view than the others and the scores cannot be compared"
        for c in curves
        if not c.layers_comparable
    ]
    unlike = [c.experiment for c in curves if "mel" in c.controls and not c.mel_comparable]
    if unlike:
        said.append(
            f"Not held against mel: {listed(unlike)}. CCA weighs by the view with fewer columns, "
            "mel has 80, and with 80 target columns or more mel and layers are weighed by "
            "different sides"
        )
    return said


def sentences(parts: Sequence[str]) -> str:
    """Each part a sentence."""
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts)
