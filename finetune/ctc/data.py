"""Which utterances are trained, validated and tested on."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import cast

from common.config import Config, FinetuneConfig
from common.config.finetune import PartConfig, seconds_of
from common.datasets.base import Dataset
from common.datasets.faults import OnError
from common.encoder.frames import FrameGeometry
from common.records import SAMPLE_RATE, Corpus, StrataError, Utterance
from common.seeding import generator
from common.windows import in_windows, longest_input
from finetune.ctc.text import Vocabulary, references, symbols

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")
BEYOND_LIMIT = "utterance: beyond dataset.limit"


@dataclass(frozen=True)
class TranscribedSpeech:
    """Utterances with the text to recognise, and counts of what was left out, by reason."""

    name: str
    corpus: Corpus
    utterances: tuple[Utterance, ...]
    dropped: Mapping[str, int]

    @property
    def texts(self) -> list[str]:
        """Text to recognise of every utterance."""
        return [u.text for u in self.utterances]

    @property
    def seconds(self) -> float:
        """Length of all utterances together."""
        return sum(u.n_samples for u in self.utterances) / SAMPLE_RATE

    def describe(self) -> dict[str, object]:
        """What is used of the corpus, for a run's metadata."""
        return {
            "corpus": self.corpus.describe(),
            "utterances": len(self.utterances),
            "minutes": round(self.seconds / 60, 3),
            "speakers": sorted({u.speaker for u in self.utterances}),
            "dropped": dict(self.dropped),
        }


@dataclass(frozen=True)
class Limits:
    """How long an utterance may be: for the model, and for the recipe."""

    geometry: FrameGeometry
    max_samples: float
    max_seconds: float


def read_parts(
    config: Config, geometry: FrameGeometry, max_samples: int | None = None
) -> dict[str, TranscribedSpeech]:
    """Training, validation and test speech: no speaker is in two of them.

    `geometry` of the frames that get characters; `max_samples` that the model takes at once.
    Recordings that are longer, or longer than `model.max_seconds`, are several utterances where
    a tier says which words (or phones) are when; of training speech each is short enough for it.
    """
    recipe = config.finetune
    longest = longest_input(config.model.max_seconds, [max_samples])
    shorter = {"train": min(longest, int(recipe.max_seconds * SAMPLE_RATE))}
    corpora = {}
    for name, corpus in _corpora(config).items():
        words = not (recipe.targets == "phones" and "phone" in corpus.tiers)
        corpora[name] = in_windows(corpus, longest, shorter.get(name), False, words)
    speakers = choose_speakers(recipe, corpora)
    parts: dict[str, TranscribedSpeech] = {}
    for name in reversed(PARTS):  # the test set first: it keeps all its speakers
        others = {u.speaker for part in parts.values() for u in part.utterances}
        others |= {s for other in PARTS[PARTS.index(name) + 1 :] for s in speakers[other] or ()}
        limits = Limits(
            geometry, max_samples or inf, recipe.max_seconds if name == "train" else inf
        )
        parts[name] = _part(name, recipe, corpora[name], speakers[name], others, limits)
    return {name: parts[name] for name in PARTS}


def _corpora(config: Config) -> dict[str, Corpus]:
    """The corpus of every part; one that serves several is listed once."""
    listed: list[tuple[Dataset, Corpus]] = []
    corpora = {}
    for name in PARTS:
        part: PartConfig = getattr(config.finetune, name)
        dataset: Dataset = config.dataset if part.dataset is None else part.dataset
        if part.partition is not None:
            dataset = replace(dataset, partition=part.partition)
        known = next((corpus for one, corpus in listed if one == dataset), None)
        corpora[name] = known or dataset.read(cast(OnError, config.on_error))
        listed.append((dataset, corpora[name]))
    return corpora


def choose_speakers(
    recipe: FinetuneConfig, corpora: Mapping[str, Corpus]
) -> dict[str, set[str] | None]:
    """Speakers of every part that names or draws some; None: all that the corpus has."""
    chosen: dict[str, set[str] | None] = dict.fromkeys(PARTS)
    for name in PARTS:
        part: PartConfig = getattr(recipe, name)
        speakers = {u.speaker for u in corpora[name].utterances}
        unknown = sorted(set(part.speakers or ()) - speakers)
        if unknown:
            raise StrataError(
                f"finetune.{name}.speakers names {', '.join(unknown)}; {corpora[name].name} has "
                f"{len(speakers)} speakers, such as {', '.join(sorted(speakers)[:5])}. Numbers "
                "with leading zeros need quotes: ['0036']"
            )
        if part.speakers is not None:
            chosen[name] = set(part.speakers)
    for name in PARTS:
        part = getattr(recipe, name)
        if part.speaker_share is None:
            continue
        taken = set().union(*(named or () for named in chosen.values()))
        speakers = {u.speaker for u in corpora[name].utterances}
        free = sorted(speakers - taken)
        count = max(1, round(part.speaker_share * len(speakers)))
        if count >= len(free):
            raise StrataError(
                f"finetune.{name}.speaker_share={part.speaker_share}: {count} of "
                f"{corpora[name].name}'s {len(speakers)} speakers, of whom {len(free)} are in no "
                "other part: none would be left. Use more speakers, or a smaller share"
            )
        order = generator(recipe.subset_seed, "speakers", name).permutation(len(free))
        chosen[name] = {free[k] for k in order[:count]}
    return chosen


def _part(
    name: str,
    recipe: FinetuneConfig,
    corpus: Corpus,
    speakers: Collection[str] | None,
    others: Collection[str],
    limits: Limits,
) -> TranscribedSpeech:
    options: PartConfig = getattr(recipe, name)
    dropped: Counter[str] = Counter()
    texts = references(corpus.utterances, recipe.targets)
    written = [replace(u, text=text) for u, text in zip(corpus.utterances, texts, strict=True)]
    kept = list(_usable(written, recipe.targets, speakers, others, dropped, limits))
    if name == "train":
        kept = list(_alignable(kept, recipe, limits.geometry, dropped))
    if options.subset is not None:
        seconds = seconds_of(f"finetune.{name}.subset", options.subset)
        chosen = subset(kept, seconds, recipe.subset_seed)
        if len(chosen) == len(kept) and _seconds(kept) < 0.98 * seconds:
            raise StrataError(
                f"finetune.{name}.subset={options.subset}: {corpus.name} ({corpus.partition}) has "
                f"{_seconds(kept) / 60:.1f} min for it. Left out: {dict(dropped)}{_limited(corpus)}"
            )
        dropped["beyond the subset"] += len(kept) - len(chosen)
        kept = chosen
    if not kept:
        raise StrataError(
            f"finetune.{name}: no utterance of {corpus.name} ({corpus.partition}) is left. Left "
            f"out: {dict(dropped)}. No speaker may be in two of train, valid and test: give "
            "speakers, a speaker_share or a partition of their own to valid and test"
        )
    part = TranscribedSpeech(name, corpus, tuple(kept), {k: n for k, n in dropped.items() if n})
    log.info(
        "%s: %s (%s), %d utterances, %.1f min, %d speakers; left out: %s",
        name,
        corpus.name,
        corpus.partition,
        len(kept),
        part.seconds / 60,
        len({u.speaker for u in kept}),
        ", ".join(f"{reason} {count}" for reason, count in part.dropped.items()) or "nothing",
    )
    return part


def _limited(corpus: Corpus) -> str:
    """A hint where `dataset.limit` is the reason for too little speech."""
    beyond = corpus.dropped.get(BEYOND_LIMIT, 0)
    if not beyond:
        return ""
    listed = len(corpus.utterances)
    return (
        f". dataset.limit={listed} lists {listed} of {listed + beyond} utterances (debug=default "
        "sets it): give dataset.limit=null, or a smaller subset"
    )


def _usable(
    utterances: Iterable[Utterance],
    targets: str,
    speakers: Collection[str] | None,
    others: Collection[str],
    dropped: Counter[str],
    limits: Limits,
) -> Iterable[Utterance]:
    """Utterances of a part's speakers with something to recognise."""
    nothing = "no phones" if targets == "phones" else "no words in its text"
    for utterance in utterances:
        if speakers is not None and utterance.speaker not in speakers:
            dropped["of another speaker"] += 1
        elif utterance.speaker in others:
            dropped["of a speaker of another part"] += 1
        elif not utterance.text:
            dropped[nothing] += 1
        elif utterance.n_samples < limits.geometry.min_samples:
            dropped["too short for a frame"] += 1
        elif utterance.n_samples > limits.max_samples:
            dropped["longer than the model takes at once"] += 1
        elif utterance.n_samples > limits.max_seconds * SAMPLE_RATE:
            dropped["longer than finetune.max_seconds"] += 1
        else:
            yield utterance


def _alignable(
    utterances: Iterable[Utterance],
    recipe: FinetuneConfig,
    geometry: FrameGeometry,
    dropped: Counter[str],
) -> Iterable[Utterance]:
    """Utterances with a frame for every symbol, and more frames than a mask is long."""
    unit = "phones" if recipe.targets == "phones" else "characters"
    for utterance in utterances:
        n_frames = geometry.n_frames(utterance.n_samples)
        if n_frames < frames_needed(symbols(utterance.text, recipe.targets)):
            dropped[f"fewer frames than {unit}"] += 1
        elif recipe.mask_time_prob and n_frames <= recipe.mask_time_length:
            dropped["no longer than finetune.mask_time_length"] += 1
        else:
            yield utterance


def frames_needed(written: Sequence[object]) -> int:
    """Frames of the shortest alignment: one a symbol, and a blank between two of the same."""
    return len(written) + sum(a == b for a, b in pairwise(written))


def subset(utterances: Sequence[Utterance], seconds: float, seed: int) -> list[Utterance]:
    """Whole utterances of at most `seconds`, hardly less, shared as equally as can be by speakers.

    One order serves all lengths, so that a smaller subset is the beginning of every larger one:
    each speaker's utterances are shuffled, and the speaker who has least so far is next.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in sorted(utterances, key=lambda u: u.id):
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    names = list(by_speaker)
    turn = {names[k]: place for place, k in enumerate(_order(seed, "speakers", len(names)))}
    waiting = {
        name: [members[k] for k in _order(seed, name, len(members))]
        for name, members in by_speaker.items()
    }
    given = dict.fromkeys(names, 0)
    chosen: list[Utterance] = []
    room = seconds * SAMPLE_RATE
    while waiting:
        name = min(waiting, key=lambda name: (given[name], turn[name]))
        utterance = waiting[name].pop()
        if not waiting[name]:
            del waiting[name]
        if utterance.n_samples > room:
            break
        room -= utterance.n_samples
        given[name] += utterance.n_samples
        chosen.append(utterance)
    return chosen


def _order(seed: int, name: str, n: int) -> list[int]:
    return [int(k) for k in generator(seed, "subset", name).permutation(n)]


def _seconds(utterances: Iterable[Utterance]) -> float:
    return sum(u.n_samples for u in utterances) / SAMPLE_RATE


def log_unknown(
    parts: Mapping[str, TranscribedSpeech], vocabulary: Vocabulary
) -> dict[str, dict[str, int]]:
    """Log how many characters or phones of each part the model cannot write; they cost errors."""
    unit = "phones" if vocabulary.targets == "phones" else "characters"
    lacking = {
        name: counts for name, part in parts.items() if (counts := vocabulary.lacking(part.texts))
    }
    for name, counts in lacking.items():
        log.warning("%s: %s that the model cannot write: %s", name, unit, counts)
    return lacking
