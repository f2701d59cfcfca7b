"""Advice on where content turns back: the autoencoder's shape, and what falls at the top."""

from collections.abc import Sequence

import numpy as np

from analysis.report.advice.curve import Curve
from analysis.report.advice.layers import TOPICS
from analysis.report.advice.wording import (
    Advice,
    common_caveats,
    layers_of,
    listed,
    number,
    p_value,
    sentences,
)

TOPIC = "where content turns back"
INPUTS = {"cca_intra": "their input T0", "cca_mel": "the mel filterbank"}


def turns(model: str, dataset: str, curves: Sequence[Curve]) -> list[Advice]:
    """Every turn that is beyond the noise; none where there is none."""
    said = [
        _away_and_back(model, dataset, curve)
        for curve in curves
        if curve.experiment in INPUTS and (curve.experiment != "cca_intra" or curve.target == "T0")
    ]
    for topic in ("phonetic content", "word content"):
        own = [c for name in TOPICS[topic] for c in curves if c.experiment == name]
        said.append(_falls(topic, model, dataset, own))
    return [advice for advice in said if advice]


def _away_and_back(model: str, dataset: str, curve: Curve) -> Advice | None:
    """Pasad et al. 2021, section 4.1: layers leave the input, then come closer to it again.

    Claimed where a layer below the lowest and a layer above it are both told apart from it. The
    input itself is no evidence: against itself it is 1 by construction.
    """
    if curve.too_few:
        return None
    low = int(np.argmin(curve.means))
    against = curve.against(low)
    others = np.array([layer != curve.target for layer in curve.layers])
    told = np.flatnonzero(against.told_apart & others)
    below, above = told[told < low], told[told > low]
    if not len(below) or not len(above):
        return None
    start = int(below[np.argmax(curve.means[below])])
    end = int(above[np.argmax(curve.means[above])])
    at, back, first = (curve.layers[k] for k in (low, end, start))
    unsure = [k for k in range(len(curve.layers)) if k != low and not against.told_apart[k]]
    width = f" (the turn may also be at {layers_of(curve, unsure)})" if unsure else ""
    return Advice(
        topic=TOPIC,
        model=model,
        claim=f"The layers of {model} on {dataset} move away from {INPUTS[curve.experiment]} up to "
        f"{at} and come closer again at {back}{width}, as in an autoencoder.",
        numbers=f"{curve.experiment} ({curve.metric}, {len(curve.scores)} paired scores a layer): "
        f"{first} {number(curve.means[start])}, {at} {number(curve.means[low])}, "
        f"{back} {number(curve.means[end])}; {first} against {at} {p_value(against.p[start])}, "
        f"{back} against {at} {p_value(against.p[end])}.",
        caveat=sentences(["A shape says nothing of its cause", *common_caveats([curve])]),
    )


def _falls(topic: str, model: str, dataset: str, curves: Sequence[Curve]) -> Advice | None:
    """Content whose top layer is told apart from, and below, its best."""
    curves = [c for c in curves if not c.too_few]
    falling = [c for c in curves if c.against_best.told_apart[-1] and not c.unbeaten]
    if not falling:
        return None
    held = [c for c in curves if c.against_best.tested and not c.unbeaten]
    steady = [c.experiment for c in held if c not in falling]
    caveats = common_caveats(falling)
    if steady:
        caveats.insert(0, f"No fall beyond the noise by {listed(steady)}")
    return Advice(
        topic=TOPIC,
        model=model,
        claim=f"{topic.capitalize()} of {model} on {dataset} falls towards the top: "
        f"{'; '.join(_fall(c) for c in falling)}.",
        numbers=" ".join(
            f"{c.experiment} ({c.metric}, {len(c.scores)} paired scores a layer): "
            f"{c.layers[c.best]} {number(c.means[c.best])}, {c.layers[-1]} "
            f"{number(c.means[-1])}, {p_value(c.against_best.p[-1])}."
            for c in falling
        ),
        caveat=sentences(caveats),
    )


def _fall(curve: Curve) -> str:
    """T6 is below T1 by cca_word (so is every layer from T4 up)."""
    said = f"{curve.layers[-1]} is below {curve.layers[curve.best]} by {curve.experiment}"
    count = fallen_top(curve)
    return said if count == 1 else f"{said} (so is every layer from {curve.layers[-count]} up)"


def fallen_top(curve: Curve) -> int:
    """How many layers, from the top down without a gap, are told apart from the best one."""
    told = curve.against_best.told_apart[::-1]
    return int(np.argmin(told)) if not told.all() else len(told)
