"""Advice on how many top blocks to re-initialise for recognition, and how well it worked."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # loads a submodule when it is first used

from analysis.report.advice.curve import LEVEL, Curve
from analysis.report.advice.wording import (
    TOPICS,
    Advice,
    Caveat,
    Figures,
    caveats,
    layer_numbers,
    listed,
    mean_and_deviation,
    p_value,
    with_curve,
)

TOPIC = "re-initialisation"
TRIED = "re-initialisation, tried"
RATES = ("CER", "PER", "WER")  # without words: of characters, of phones
NOTHING_LEARNT = 0.9  # a WER above which a recogniser hardly recognises
SWEEP = ["dataset", "partition", "train_dataset", "subset"]


@dataclass(frozen=True)
class Suggestion:
    """Re-initialise the top `blocks` of a model, by what `dataset` showed of it."""

    dataset: str
    revision: str
    blocks: int
    advice: Advice


def suggest(
    model: str, dataset: str, revision: str, curves: Sequence[Curve]
) -> Suggestion | Advice | None:
    """How many top blocks to re-initialise before fine-tuning for recognition.

    Pasad et al. 2021 (arXiv 2107.04734) see phone and word content fall in the top layers of
    wav2vec 2.0, take them for a poor start for recognition, and re-initialise them. They leave the
    number to a trial. The rule here: for phones and for words take one measure each, the first of
    TOPICS with enough scores (six a layer) whose best layer is above its controls; count the layers
    from the top down, without a gap, that are told apart from its best layer; suggest the smaller
    count, for a block that still holds one of the two is worth keeping. Where only one of them was
    measured, its count alone. The advice says so where neither can be used, and None without any.
    """
    measured = {
        topic: [c for name in TOPICS[topic] for c in curves if c.experiment == name]
        for topic in ("phonetic content", "word content")
    }
    if not any(measured.values()):
        return None
    used = [
        next(c for c in measures if _usable(c))
        for measures in measured.values()
        if any(map(_usable, measures))
    ]
    if not used:
        return _no_suggestion(
            model, dataset, [c for measures in measured.values() for c in measures]
        )
    blocks = min(c.fallen_top for c in used)
    missing = [topic for topic, measures in measured.items() if not any(map(_usable, measures))]
    which = "block" if blocks == 1 else f"{blocks} blocks"
    advice = Advice(
        topic=TOPIC,
        model=model,
        dataset=dataset,
        headline=f"Re-initialise the top {which}" if blocks else "Re-initialise no block",
        claim=_suggested(model, dataset, blocks, used),
        figures=tuple(_top_figures(c) for c in used),
        caveats=_caveats(blocks, used, missing),
    )
    return Suggestion(dataset, revision, blocks, advice)


def _caveats(blocks: int, used: Sequence[Curve], missing: Sequence[str]) -> tuple[Caveat, ...]:
    """What a suggestion does not say; `missing`: topics without a usable measure."""
    texts = [
        "A rule of thumb, tested on three small models only (docs/claim.md): try N = 0 and others "
        "too, each at its own learning rate. It counts drops that are beyond the noise, however "
        "small, so more data may raise it"
    ]
    without = [c.experiment for c in used if not c.controls]
    if without:
        texts.append(f"No controls beside {listed(without)}: run with controls=true")
    if missing:
        names = listed([c.experiment for c in used])
        texts.append(f"It rests on {names} alone: no usable measure of {listed(missing)}")
    if blocks >= len(used[0].layers) - 1:
        texts.append("These are all its blocks: nothing but the convolutions would be kept")
    return caveats(texts)


def _usable(curve: Curve) -> bool:
    """Enough scores to compare layers, and content that can be lost."""
    return (
        not curve.otherwise_weighed
        and len(curve.layers) > 1
        and not curve.too_few
        and not curve.unbeaten
    )


def _suggested(model: str, dataset: str, blocks: int, used: Sequence[Curve]) -> str:
    if not blocks:
        top = used[0].layers[-1]
        kept = [c for c in used if not c.fallen_top]
        best = [c.experiment for c in kept if c.best == len(c.layers) - 1]
        as_good = [c.experiment for c in kept if c.best < len(c.layers) - 1]
        reasons = [f"is the best by {listed(best)}"] if best else []
        reasons += [f"cannot be told apart from the best by {listed(as_good)}"] if as_good else []
        return (
            f"{dataset} gives no reason to re-initialise any block of {model}: its top layer, "
            f"{top}, {listed(reasons)}."
        )
    fallen = listed(used[0].layers[-blocks:])
    which, have = ("block", "it has") if blocks == 1 else (f"{blocks} blocks", "they have")
    return (
        f"Re-initialise the top {which} of {model} ({fallen}): on {dataset} {have} fallen "
        f"below the best layer by {listed([c.experiment for c in used])}."
    )


def _top_figures(curve: Curve) -> Figures:
    """The best layer, and those from the last one kept to the top."""
    first = max(len(curve.layers) - curve.fallen_top - 1, 0)
    others = [k for k in range(first, len(curve.layers)) if k != curve.best]
    cells = {"best": f"{curve.layers[curve.best]} {mean_and_deviation(curve, curve.best)}"}
    cells["top layers"] = layer_numbers(curve, others) or "the best is the top layer"
    return with_curve(curve, curve.metric, cells)


def _no_suggestion(model: str, dataset: str, curves: Sequence[Curve]) -> Advice:
    reasons = {}
    for c in curves:
        if c.unbeaten:
            reasons[c.experiment] = "no layer is shown to know more than its controls"
        elif len(c.layers) < 2:
            reasons[c.experiment] = "one layer was scored"
        elif c.too_few:
            reasons[c.experiment] = c.too_few
        else:
            reasons[c.experiment] = "CCA weighs its layers by different views"
    return Advice(
        topic=TOPIC,
        model=model,
        dataset=dataset,
        headline="No suggestion of what to re-initialise",
        claim=f"{dataset} gives no suggestion for {model}: no measure of phones or words can tell "
        "its layers apart.",
        figures=tuple(Figures(measure, {"why not": why}) for measure, why in reasons.items()),
        caveats=caveats(["No suggestion is not the suggestion to re-initialise none"]),
        says_something=False,
    )


def tried(frame: pd.DataFrame, suggestions: Sequence[tuple[str, Suggestion]]) -> Iterator[Advice]:
    """How each suggestion did in every sweep over `reinit_top` of its model (lower is better).

    By word errors; where hardly a word is right, by character errors; of phones, by theirs.
    """
    rows = frame[(frame["experiment"] == "ctc") & frame["metric"].isin(["wer", "cer", "per"])]
    rows = rows[rows["reinit_top"].notna() & rows["value"].notna()]
    for (model, *key), sweep in rows.groupby(["model", *SWEEP], sort=False, dropna=False):
        if sweep["reinit_top"].nunique() < 2:
            continue
        revisions = set(sweep["revision"].astype(str))
        matching = [one for _, one in suggestions if {one.revision} == revisions]
        matching = matching or [one for name, one in suggestions if name == model]
        parts = [str(part) for part in key]
        if not matching:
            yield _trial(str(model), parts, sweep, None)
        for one in matching:
            yield _trial(str(model), parts, sweep, one)


def _trial(
    model: str, key: Sequence[str], sweep: pd.DataFrame, suggestion: Suggestion | None
) -> Advice:
    dataset, _, train_dataset, subset = key
    errors = {str(name): _by_seed(rows) for name, rows in sweep.groupby("metric")}
    words = errors.get("wer")
    judge_words = words is not None and words.mean().min() <= NOTHING_LEARNT
    rate = "WER" if judge_words else next(r for r in RATES if r.lower() in errors)
    rates = errors[rate.lower()]
    best = int(rates.mean().idxmin())
    speech = " of ".join(filter(None, (subset, train_dataset))) or "its training speech"
    where = f"{model}, fine-tuned on {speech} and tested on {dataset}"
    cells = {f"N = {n}": f"{rate} {_rate(rates[n])}" for n in rates.columns}
    texts = ["The sweep's best N is picked on the scores that are shown here, which flatters it"]
    if suggestion is None:
        claim = f"{where}: N = {best} is best; there is no suggestion to hold it against."
        headline = f"Re-initialising {_blocks(best)} was best"
    else:
        claim, headline, tests = _verdict(where, rate, rates, suggestion, best)
        cells |= tests
        if set(sweep["revision"].astype(str)) != {suggestion.revision}:
            texts.append("The sweep and the analysis are of different revisions of the weights")
    if rates.mean().min() > NOTHING_LEARNT:
        texts.insert(0, "With errors this many, little was learnt by any: do not compare")
    elif rate == "CER" and words is not None:
        lowest = f"the lowest WER is {100 * words.min(axis=None):.1f} %"
        texts.insert(0, f"By characters, since hardly a word is right: {lowest}")
    seeds = int(rates.notna().sum().min())
    if seeds < 2:
        texts.append("With one seed, nothing says how much another seed would change")
    elif seeds < 5:
        texts.append(f"{seeds} seeds show large differences only")
    figures = Figures(
        measure=f"{rate}, lower is better",
        cells=cells,
        layers=tuple(f"N = {n}" for n in rates.columns),
        means=tuple(map(float, rates.mean())),
        best=list(rates.columns).index(best),
    )
    return Advice(TRIED, model, where, headline, claim, (figures,), caveats(texts))


def _blocks(n: int) -> str:
    return f"{n or 'no'} block{'' if n == 1 else 's'}"


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Error rates, a line for each seed, a column for each number of blocks."""
    return rows.assign(reinit_top=rows["reinit_top"].astype(int)).pivot_table(
        index="seed", columns="reinit_top", values="value", aggfunc="mean"
    )


def _verdict(
    where: str, rate: str, rates: pd.DataFrame, suggestion: Suggestion, best: int
) -> tuple[str, str, dict[str, str]]:
    """The claim, the headline, and the paired tests that they rest on."""
    n = suggestion.blocks
    which = f"{where}: the suggestion from {suggestion.dataset}, N = {n},"
    pairs = {other: _paired(rates, n, other) for other in dict.fromkeys((0, best)) if other != n}
    tests = {f"N = {n} less N = {other}": pair.description for other, pair in pairs.items() if pair}
    blocks = f"Re-initialising {_blocks(n)}"
    if n not in rates:
        headline = f"{blocks}, as suggested, was not tried"
        return f"{which} was not tried; of what was, N = {best} is best.", headline, tests
    if 0 not in rates:
        headline = f"{blocks}, as suggested, cannot be judged"
        claim = f"{which} cannot be judged, since N = 0 was not run; N = {best} is best."
        return claim, headline, tests
    if n == 0 and best == 0:
        return f"{which} had the lowest {rate} of the sweep.", f"{blocks} was best", tests
    if n == 0:
        how = _compare(rate, rates, 0, best)
        headline = f"{blocks} did {_short(how)} {_blocks(best)}"
        return f"{which} did {how} N = {best}, the sweep's best.", headline, tests
    how = _compare(rate, rates, n, 0)
    rest = "it is the sweep's best" if n == best else f"the sweep's best is N = {best}"
    headline = f"{blocks} did {_short(how)} re-initialising none"
    return f"{which} did {how} re-initialising nothing; {rest}.", headline, tests


def _short(comparison: str) -> str:
    """A name without the part in brackets."""
    return re.sub(r" \(.*\)", "", comparison)


@dataclass(frozen=True)
class Paired:
    """Two settings over the seeds both have: mean difference of the error rates, and its p."""

    difference: float
    p: float
    description: str


def _paired(rates: pd.DataFrame, n: int, other: int) -> Paired | None:
    """Paired t-test over seeds: each is a training of its own, so no overlap to correct for."""
    if n not in rates or other not in rates:
        return None
    differences = (rates[n] - rates[other]).dropna().to_numpy(dtype=np.float64)
    if not len(differences):
        return None
    mean = float(differences.mean())
    p = np.nan
    if len(differences) > 1 and np.ptp(differences) > 0:
        p = float(scipy.stats.ttest_1samp(differences, 0).pvalue)
    fewer = int((differences < 0).sum())
    change = f"{100 * mean:+.1f} points, lower in {fewer} of "
    seeds = f"{len(differences)} paired seed" + ("s" if len(differences) > 1 else "")
    return Paired(mean, p, f"{change}{seeds} ({p_value(p)})")


def _compare(rate: str, rates: pd.DataFrame, n: int, other: int) -> str:
    """How n did beside `other`, in words: “better than”, “no better than”, …"""
    pair = _paired(rates, n, other)
    if pair is None:
        return "what no shared seed can judge, beside"
    if pair.difference >= 0:
        sure = pair.p < LEVEL and pair.difference > 0
        return "worse than" if sure else "no better than"
    if pair.p < LEVEL:
        return "better than"
    return f"not provably better (lower {rate}, within what seeds change) than"


def _rate(values: pd.Series) -> str:
    """As "78.2 % (77.9 to 78.4 over 3 seeds)"."""
    each = 100 * values.dropna()
    if len(each) < 2:
        return f"{each.mean():.1f} % (1 seed)"
    return f"{each.mean():.1f} % ({each.min():.1f} to {each.max():.1f} over {len(each)} seeds)"
