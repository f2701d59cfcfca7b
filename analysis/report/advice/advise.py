"""Advice in words from any set of runs: best layers, turns, blocks to re-initialise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.report.advice.curve import Curve, curves_of
from analysis.report.advice.reinit import TOPIC as REINIT
from analysis.report.advice.reinit import Suggestion, suggest, tried
from analysis.report.advice.wording import (
    CONTROL_WORDS,
    HEADLINE,
    NOUNS,
    TOPICS,
    Advice,
    Caveat,
    Figures,
    capitalised,
    caveats,
    control_caveats,
    curve_caveats,
    curve_figures,
    layers_of,
    listed,
    number,
    p_value,
    with_curve,
)
from common.config.analysis import BY_SPEAKER
from common.results.results import WITHOUT_LAYERS, unlike_widths

TURNS = "where content turns back"
INPUTS = {"cca_intra": "their input T0", "cca_mel": "the mel filterbank"}
RANDOM = "random:"  # how the revision of random weights begins
APART = (*BY_SPEAKER, "partition")  # splits with other speakers in training and in test
# Columns of the tidy frame that a plain results.csv lacks.
OPTIONAL: Mapping[str, object] = {
    "run": "",
    "reinit_top": pd.NA,
    "subset": "",
    "train_dataset": "",
    "weighted": "",
    "pairs": pd.NA,
}


def advise(frame: pd.DataFrame) -> list[Advice]:
    """Advice from the scores of a tidy frame (columns of `Row`, and `OPTIONAL`), model by model.

    For every model and dataset: where acoustic, phonetic and word content and meaning are highest
    and which layers cannot be told apart from there, where content turns back (only where that is
    beyond the noise), and how many top blocks to re-initialise; then the error rates, where the
    frame holds fine-tunings with several `reinit_top`. Differences are paired over folds of
    speakers (`analysis.report.advice.curve.compare_with`); scores whose folds do not keep speakers
    apart give no advice, and one line says so. Secondary figures, missing scores and models with
    random weights (a reference for others) are not considered.
    """
    if frame.empty:
        return []
    whole = frame.assign(**{k: v for k, v in OPTIONAL.items() if k not in frame})
    words = ("control", "part", "subset", "train_dataset", "weighted")
    whole = whole.fillna(dict.fromkeys(words, ""))
    untrained = whole["revision"].astype(str).str.startswith(RANDOM) & (whole["control"] == "")
    analysed = whole[(whole["experiment"] != "ctc") & ~untrained]
    names = _names(analysed)
    widths = unlike_widths(analysed[analysed["control"] == ""])
    advice: list[Advice] = []
    suggestions = []
    for (model, revision, dataset), every in _by_model(analysed).items():
        name = names[model, revision]
        curves = [curve for curve in every if curve.split in APART]
        for topic, experiments in TOPICS.items():
            of_topic = [c for one in experiments for c in curves if c.experiment == one]
            if of_topic:
                advice.append(_with_widths(best_layers(topic, name, dataset, of_topic), widths))
        advice += turns(name, dataset, curves)
        suggestion = suggest(name, dataset, revision, curves)
        if isinstance(suggestion, Suggestion):
            suggestions.append((model, suggestion))
            advice.append(suggestion.advice)
        elif suggestion:
            advice.append(suggestion)
        advice += without_advice(name, dataset, [c for c in every if c not in curves])
    return [*advice, *tried(whole, suggestions)]


def without_advice(model: str, dataset: str, curves: Sequence[Curve]) -> list[Advice]:
    """Say that curves whose folds do not keep speakers apart give no advice; [] without curves."""
    if not curves:
        return []
    cut = dict.fromkeys(f"{c.experiment} (split={c.split})" for c in curves)
    return [
        Advice(
            topic="no advice",
            model=model,
            dataset=dataset,
            headline="No advice where speakers are in training and in test",
            claim=f"The same speakers are, or may be, in training and in test of "
            f"{listed(list(cut))}, so nothing says what holds for others.",
            caveats=caveats(
                ["protocol=held_out keeps speakers apart where there are as many as folds"]
            ),
            says_something=False,
        )
    ]


def summary(advice: Iterable[Advice]) -> str:
    """Phones peak at T3, words at T4: what measures agree on, of one model and dataset; or ""."""
    peaks = [(*NOUNS[one.topic], one.peak) for one in advice if one.peak]
    if not peaks:
        return ""
    (noun, ending, place), *others = peaks
    phrases = [f"{noun} peak{ending} {place}", *(f"{noun} {place}" for noun, _, place in others)]
    return capitalised(", ".join(phrases))


def lines_of(advice: Sequence[Advice]) -> list[str]:
    """What a run ends with: what the measures agree on, then a line for each conclusion.

    With the model and dataset in front where there are several. Where nothing can be concluded the
    line says why.
    """
    several = len({(one.model, one.dataset) for one in advice}) > 1
    lines = []
    for model, dataset in dict.fromkeys((one.model, one.dataset) for one in advice):
        of_model = [one for one in advice if (one.model, one.dataset) == (model, dataset)]
        where = f"{model} on {dataset}: " if several else ""
        lines += [f"{where}{summary(of_model)}."] if summary(of_model) else []
        lines += [f"{where}{one.headline}. {one.claim}" for one in of_model if one.says_something]
        lines += [
            f"{where}{capitalised(one.topic)}: {one.claim}"
            for one in of_model
            if not one.says_something and one.topic != REINIT
        ]
    return lines


def _with_widths(advice: Advice, widths: Mapping[str, str]) -> Advice:
    """Add the caveat that models have views of other widths, where a measure depends on it."""
    names = [figures.measure.partition(" ")[0] for figures in advice.figures]
    wide = [Caveat(f"{capitalised(widths[n])}.", (n,)) for n in names if n in widths]
    return replace(advice, caveats=(*advice.caveats, *wide))


def _by_model(frame: pd.DataFrame) -> dict[tuple[str, str, str], list[Curve]]:
    """Curves by model, revision and dataset, as they come."""
    found: dict[tuple[str, str, str], list[Curve]] = {}
    for study, curve in curves_of(frame):
        where = f"{study['dataset']} ({study['partition']})"
        found.setdefault((study["model"], study["revision"], where), []).append(curve)
    return found


def _names(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Each model's name; with the run's, or else the revision, where its weights differ."""
    of_model = frame[
        frame["control"].isin(["", *WITHOUT_LAYERS, "shuffled_labels", "permuted_table"])
    ]
    names = {}
    for model, rows in of_model.groupby("model", sort=False):
        revisions = rows.groupby("revision", sort=False)["run"].unique()
        for revision, runs in revisions.items():
            which = str(runs[0]) if len(runs) == 1 and runs[0] else str(revision)
            alone = len(revisions) == 1
            names[str(model), str(revision)] = str(model) if alone else f"{model} [{which}]"
    return names


# Where content is highest.


def best_layers(topic: str, model: str, dataset: str, curves: Sequence[Curve]) -> Advice:
    """Where `topic` is highest, by each of its experiments; `curves` holds one at least."""
    enough = [curve for curve in curves if not curve.too_few]
    known = [curve for curve in enough if not curve.unbeaten]
    doubtful = [curve for curve in enough if curve.unbeaten]
    notes = [*curve_caveats(curves), *control_caveats(curves)]
    if topic == "acoustic content":
        notes += caveats(
            [
                "Only transformer layers are held against each other: the convolutional ones have "
                "other numbers of columns"
            ]
        )
    not_above = "; ".join(_not_above_controls(doubtful))
    if known:
        claim = "; ".join(filter(None, [listed([_where(curve) for curve in known]), not_above]))
        headline = _headline(topic, known, doubtful)
    elif doubtful:
        claim = not_above
        headline = f"{capitalised(NOUNS[topic][0])}: no layer is shown to beat its controls"
    else:
        few = listed([f"{curve.experiment} ({curve.too_few})" for curve in curves])
        claim = f"too little was scored to name a best layer: {few}"
        headline = f"{capitalised(NOUNS[topic][0])}: too little was scored to name a layer"
    return Advice(
        topic=topic,
        model=model,
        dataset=dataset,
        headline=headline,
        claim=f"{capitalised(claim) if not known else claim}.",
        figures=tuple(curve_figures(curve) for curve in curves),
        caveats=tuple(notes),
        says_something=bool(enough),
        peak="" if doubtful else _peak(known),
    )


def _places(curve: Curve) -> str:
    """The layers that can be the best one: T2 or T3; "" where any of several can."""
    positions = sorted([curve.best, *curve.alike])
    several = len(curve.layers) > 1
    if several and len(positions) == len(curve.layers):
        return ""
    return layers_of(curve, positions, "or")


def _peak(curves: Sequence[Curve]) -> str:
    """As "at T3", where all measures share their best layers; else ""."""
    places = {_places(curve) for curve in curves}
    return f"at {places.pop()}" if len(places) == 1 and all(places) else ""


def _headline(topic: str, curves: Sequence[Curve], doubtful: Sequence[Curve]) -> str:
    """Phones peak at T3; with the measures' names, or with the range, where they differ."""
    noun, ending = capitalised(NOUNS[topic][0]), NOUNS[topic][1]
    by_place: dict[str, list[str]] = {}
    for curve in curves:
        by_place.setdefault(_places(curve), []).append(curve.experiment)
    agree = len(by_place) == 1 and not doubtful
    by_place.pop("", None)
    if not by_place:
        return f"{noun}: no layer stands out"
    if agree:
        headline = f"{noun} peak{ending} at {next(iter(by_place))}"
    else:
        places = (f"at {at} by {listed(names)}" for at, names in by_place.items())
        headline = f"{noun} peak{ending} {', '.join(places)}"
    if len(headline.split()) <= HEADLINE:
        return headline
    every = _in_order(layer for curve in curves for layer in curve.layers)
    best = _in_order(
        curve.layers[k] for curve in curves if _places(curve) for k in (curve.best, *curve.alike)
    )
    if (best[0], best[-1]) == (every[0], every[-1]):
        return f"{noun}: no single layer stands out"
    several = ", depending on the measure" if len(by_place) > 1 else ""
    return f"{noun} peak{ending} between {best[0]} and {best[-1]}{several}"


def _in_order(layers: Iterable[str]) -> list[str]:
    return sorted(layers, key=lambda layer: int(layer[1:]))


def _where(curve: Curve) -> str:
    """As "cca_phone is highest at T3 (not told apart from it: T1, T2)"."""
    at = f"{curve.experiment} is highest at {curve.layers[curve.best]}"
    if len(curve.layers) == 1:
        return f"{at} (the only layer scored)"
    if not curve.alike:
        return f"{at} (told apart from every other transformer layer)"
    if len(curve.alike) == len(curve.layers) - 1:
        return f"{at} (though every other layer may be as high)"
    return f"{at} (not told apart from it: {layers_of(curve, curve.alike)})"


def _not_above_controls(curves: Sequence[Curve]) -> list[str]:
    """By mi_word no layer is shown to know more than random weights; measures alike together."""
    by_controls: dict[str, list[str]] = {}
    for curve in curves:
        controls = listed([CONTROL_WORDS[control.name] for control in curve.unbeaten], "or")
        by_controls.setdefault(controls, []).append(curve.experiment)
    return [
        f"by {listed(names)} no layer is shown to know more than {controls}"
        for controls, names in by_controls.items()
    ]


# Where content turns back: the autoencoder's shape, and what falls at the top.


def turns(model: str, dataset: str, curves: Sequence[Curve]) -> list[Advice]:
    """Every turn that is beyond the noise; none where there is none."""
    found = [
        _turn_back(model, dataset, curve)
        for curve in curves
        if curve.experiment in INPUTS and (curve.experiment != "cca_intra" or curve.target == "T0")
    ]
    for topic in ("phonetic content", "word content"):
        of_topic = [c for name in TOPICS[topic] for c in curves if c.experiment == name]
        found.append(_falls(topic, model, dataset, of_topic))
    return [advice for advice in found if advice]


def _turn_back(model: str, dataset: str, curve: Curve) -> Advice | None:
    """Pasad et al. 2021, section 4.1: layers leave the input, then come closer to it again.

    Claimed where a layer below the lowest and a layer above it are both told apart from it. The
    input itself is no evidence: against itself it is 1 by construction.
    """
    if curve.too_few:
        return None
    low = int(np.argmin(curve.means))
    compared = curve.compared_with(low)
    others = np.array([layer != curve.target for layer in curve.layers])
    higher = np.flatnonzero(compared.told_apart & others)
    below, above = higher[higher < low], higher[higher > low]
    if not len(below) or not len(above):
        return None
    start = int(below[np.argmax(curve.means[below])])
    end = int(above[np.argmax(curve.means[above])])
    at, back, first = (curve.layers[k] for k in (low, end, start))
    unsure = [k for k in range(len(curve.layers)) if k != low and not compared.told_apart[k]]
    width = f" (the turn may also be at {layers_of(curve, unsure)})" if unsure else ""
    cells = {
        "before": f"{first} {number(curve.means[start])} ({p_value(compared.p[start])})",
        "turn": f"{at} {number(curve.means[low])}",
        "after": f"{back} {number(curve.means[end])} ({p_value(compared.p[end])})",
    }
    figures = with_curve(curve, f"{curve.metric}, {len(curve.scores)} paired scores a layer", cells)
    shape = caveats(["A shape says nothing of its cause"])
    return Advice(
        topic=TURNS,
        model=model,
        dataset=dataset,
        headline=f"Layers leave {INPUTS[curve.experiment]}, and turn back at {at}",
        claim=f"By {curve.experiment} layers move away from {INPUTS[curve.experiment]} up to "
        f"{at} and come closer again at {back}{width}, as in an autoencoder.",
        figures=(replace(figures, best=low, alike=tuple(unsure)),),
        caveats=(*shape, *curve_caveats([curve])),
    )


def _falls(topic: str, model: str, dataset: str, curves: Sequence[Curve]) -> Advice | None:
    """Content whose top layer is told apart from, and below, its best."""
    tested = [c for c in curves if not c.too_few and not c.unbeaten and c.compared_with_best.tested]
    falling = [c for c in tested if c.compared_with_best.told_apart[-1]]
    if not falling:
        return None
    steady = [c.experiment for c in tested if c not in falling]
    none = [f"No fall beyond the noise by {listed(steady)}"] if steady else []
    noun, ending = NOUNS[topic]
    count = min(c.fallen_top for c in falling)
    first = falling[0].layers[-count]
    where = f"at the top layer, {first}" if count == 1 else f"from {first} to the top"
    return Advice(
        topic=TURNS,
        model=model,
        dataset=dataset,
        headline=f"{capitalised(noun)} fall{ending} off {where}",
        claim=f"{capitalised(listed([_fall(c) for c in falling]))}.",
        figures=tuple(_fall_figures(c) for c in falling),
        caveats=(*caveats(none), *curve_caveats(falling)),
    )


def _fall(curve: Curve) -> str:
    """As "by cca_word T6 is below T1 (so is every layer from T4 up)"."""
    sentence = f"by {curve.experiment} {curve.layers[-1]} is below {curve.layers[curve.best]}"
    count = curve.fallen_top
    return (
        sentence if count == 1 else f"{sentence} (so is every layer from {curve.layers[-count]} up)"
    )


def _fall_figures(curve: Curve) -> Figures:
    top, p = curve.layers[-1], p_value(curve.compared_with_best.p[-1])
    cells = {"best": f"{curve.layers[curve.best]} {number(curve.means[curve.best])}"}
    cells["top"] = f"{top} {number(curve.means[-1])} ({p})"
    return with_curve(curve, f"{curve.metric}, {len(curve.scores)} paired scores a layer", cells)
