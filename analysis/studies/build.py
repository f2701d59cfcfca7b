"""Which studies a run's experiments make up: one for each cache entry."""

import logging

from analysis.metrics.base import FrameMetric, MomentMetric
from analysis.studies import frames as stretch_study
from analysis.studies import moments as frame_study
from analysis.studies import vectors as unit_study
from analysis.studies.frames import StretchStudy
from analysis.studies.moments import FrameStudy
from analysis.studies.study import Failure, Setting, Study, failure_of, metric_of
from analysis.studies.vectors import UnitStudy
from analysis.targets.layers import SecondModel
from common.config import AnalysisConfig
from common.records import StrataError

log = logging.getLogger(__name__)

# Of the stages that an entry's numbers went through; an entry with other versions is stale.
VERSIONS = {
    unit_study.KIND: unit_study.VERSIONS,
    frame_study.KIND: frame_study.VERSIONS,
    stretch_study.KIND: stretch_study.VERSIONS,
    unit_study.KIND_OF_TWO: unit_study.VERSIONS_OF_TWO,
    frame_study.KIND_OF_TWO: frame_study.VERSIONS,
}


def study_of(analysis: AnalysisConfig) -> type[Study]:
    """The kind of study, by what the metric consumes: moments, vectors of units, or frames."""
    metric = metric_of(analysis)
    if isinstance(metric, FrameMetric):
        return StretchStudy
    every_pair = isinstance(analysis.target, SecondModel) and analysis.target.pairs == "all"
    if isinstance(metric, MomentMetric) and analysis.unit == "frame" and not every_pair:
        return FrameStudy
    return UnitStudy


def build_studies(setting: Setting) -> tuple[list[Study], dict[str, str], list[Failure]]:
    """Draw every sample and find every cache entry, before any weights are read.

    Experiments whose statistics are the same share a study. Returns also those that cannot run,
    with the reason, where `leave_out` allows it (otherwise the first is an error), and those in
    which something else went wrong.
    """
    studies: dict[tuple[type[Study], object], Study] = {}
    left_out: dict[str, str] = {}
    failures: list[Failure] = []
    for name, analysis in setting.config.experiments.items():
        kind = study_of(analysis)
        try:
            study = kind.build(setting, name, analysis)
        except StrataError as error:
            if not setting.config.leave_out:
                raise
            left_out[name] = str(error)
            continue
        except Exception as error:  # the other experiments go on
            failures.append(failure_of(name, "drawing units", error))
            continue
        key = kind, study.entry.folder
        studies[key] = studies[key].joined(study) if key in studies else study
    return list(studies.values()), left_out, failures
