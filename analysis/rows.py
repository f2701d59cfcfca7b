"""Scores as rows of the results."""

from collections import Counter
from collections.abc import Iterator, Sequence

from analysis.measure import Measured
from analysis.speech import Speech, partitions_of
from analysis.studies.study import metric_of
from common.config import Config
from common.metric import Score
from common.results.results import Row, git_commit


def to_rows(config: Config, speech: Speech, measured: Measured, run_key: str) -> list[Row]:
    """A row per score."""
    commit = git_commit()
    own = config.dataset.partition
    rows = []
    for one in measured.scored:
        analysis = config.experiments[one.experiment]
        metric = metric_of(analysis)
        rows += [
            Row(
                model=config.model.name,
                dataset=speech.own.name,
                partition=partition_label(speech, partitions_of(analysis, own)),
                experiment=one.experiment,
                unit=analysis.unit,
                target=one.target or analysis.target.name,
                metric=score.metric or metric.name,
                primary=not score.metric,
                split=one.split,
                layer=one.layer.name,
                layer_index=one.layer.index,
                part=one.layer.part,
                sample=one.sample,
                trial=trial if metric.held_out else None,
                value=score.value,
                low=score.low,
                high=score.high,
                weighted=score.weighted,
                pairs=score.pairs,
                control=one.control,
                n=one.n,
                dim=one.layer.dim,
                seed=config.seed,
                revision=measured.revision,
                config_key=run_key,
                git_commit=commit,
            )
            for trial, score in by_trial(one.scores)
        ]
    return rows


def partition_label(speech: Speech, names: tuple[str, str]) -> str:
    """What was scored, and in front of it what was fitted on, where that is another partition."""
    fit, score = (speech.partitions[name].partition for name in names)
    return score if fit == score else f"{fit}>{score}"


def by_trial(scores: Sequence[Score]) -> Iterator[tuple[int, Score]]:
    """Each score with its trial: the k-th of the scores of one figure is trial k's."""
    seen: Counter[str] = Counter()
    for score in scores:
        yield seen[score.metric], score
        seen[score.metric] += 1
