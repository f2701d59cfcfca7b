"""Advice on where content is: the best layer, and the layers that cannot be told apart from it."""

from collections.abc import Mapping, Sequence

from analysis.report.advice.curve import Curve
from analysis.report.advice.wording import (
    CONTROL_WORDS,
    Advice,
    common_caveats,
    control_caveats,
    curve_numbers,
    layers_of,
    listed,
    sentences,
)

TOPICS: Mapping[str, tuple[str, ...]] = {
    "acoustic content": ("cca_mel",),
    "phonetic content": ("cca_phone", "probe_phone", "mi_phone"),
    "word content": ("cca_word", "probe_word", "mi_word", "word_discrimination"),
    "semantic content": ("cca_glove", "cca_semantic", "word_similarity", "spoken_sts"),
}


def best_layers(topic: str, model: str, dataset: str, curves: Sequence[Curve]) -> Advice:
    """Where `topic` is highest, by each of its experiments; `curves` holds one at least."""
    enough = [curve for curve in curves if not curve.too_few]
    few = [curve for curve in curves if curve.too_few]
    known = [curve for curve in enough if not curve.unbeaten]
    unknown = [curve for curve in enough if curve.unbeaten]
    caveats = [*common_caveats(curves), *control_caveats(curves)]
    if topic == "acoustic content":
        caveats.append(
            "Only transformer layers are held against each other: the convolutional ones have "
            "other numbers of columns"
        )
    return Advice(
        topic=topic,
        model=model,
        claim=_claim(topic, model, dataset, known, unknown, few),
        numbers=" ".join(curve_numbers(curve) for curve in curves),
        caveat=sentences(caveats),
    )


def _claim(
    topic: str,
    model: str,
    dataset: str,
    known: Sequence[Curve],
    unknown: Sequence[Curve],
    few: Sequence[Curve],
) -> str:
    doubts = "; ".join(_doubt(curve) for curve in unknown)
    unsaid = listed([f"{curve.experiment} ({curve.too_few})" for curve in few])
    if not known and not unknown:
        return (
            f"Too little was scored to say where {topic} of {model} on {dataset} is highest: "
            f"{unsaid}."
        )
    if known:
        clauses = "; ".join(_where(curve) for curve in known)
        claim = f"{topic.capitalize()} of {model} on {dataset} is highest {clauses}"
        claim += f"; but {doubts}" if doubts else ""
    else:
        claim = f"No layer of {model} is shown to hold {topic} on {dataset}: {doubts}"
    return f"{claim}; too little was scored for {unsaid}." if unsaid else f"{claim}."


def _where(curve: Curve) -> str:
    """At T3 by cca_phone (not told apart from it: T1, T2)."""
    at = f"at {curve.layers[curve.best]} by {curve.experiment}"
    if len(curve.layers) == 1:
        return f"{at} (the only layer scored)"
    if not curve.alike:
        return f"{at} (told apart from every other layer)"
    if len(curve.alike) == len(curve.layers) - 1:
        return f"{at} (no other layer can be told apart from it)"
    return f"{at} ({layers_of(curve, curve.alike)} cannot be told apart from it)"


def _doubt(curve: Curve) -> str:
    """By mi_word the best layer, T0, is not shown to know more than shuffled labels."""
    controls = listed([CONTROL_WORDS[control.name] for control in curve.unbeaten], "or")
    best = curve.layers[curve.best]
    return (
        f"by {curve.experiment} its best layer, {best}, is not shown to know more than {controls}"
    )
