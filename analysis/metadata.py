"""What a run tells of itself beside its rows: model, corpus, process, choices of the metrics."""

from collections.abc import Sequence
from dataclasses import asdict

from analysis.study import Scored, metric_of
from common import results
from common.architecture import ModelDescription
from common.config import Config
from common.records import Corpus
from common.timing import Stopwatch, peak_memory_bytes


def describe_model(
    config: Config, description: ModelDescription, revision: str
) -> dict[str, object]:
    """Which model it was, for the metadata."""
    return asdict(config.model) | {
        "revision": revision,
        "architecture": description.architecture,
        "parameters": description.n_parameters,
    }


def describe_process(watch: Stopwatch) -> dict[str, object]:
    """What the run took, and what ran it."""
    return {
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": results.versions(),
        "git_commit": results.git_commit(),
    }


def describe_corpus(corpus: Corpus) -> dict[str, object]:
    """What was listed, for the metadata."""
    return {
        "name": corpus.name,
        "partition": corpus.partition,
        "licence": corpus.licence,
        "fingerprint": corpus.fingerprint,
        "utterances": len(corpus.utterances),
        "hours": round(corpus.hours, 4),
        "speakers": len({u.speaker for u in corpus.utterances}),
        "dropped": dict(corpus.dropped),
    }


def summarise_scoring(config: Config, scored: Sequence[Scored]) -> dict[str, object]:
    """What each experiment's metric has to say of its choices."""
    summaries: dict[str, object] = {}
    for name, analysis in config.experiments.items():
        scores = [score for one in scored if one.experiment == name for score in one.scores]
        summaries[name] = metric_of(analysis).summary(scores, name)
    return summaries
