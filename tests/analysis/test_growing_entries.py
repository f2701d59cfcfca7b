"""Every way of adding to a cached entry gives the bits of one that was made in one go."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from running import Finished, execute, resolved, textgrids
from speech import write_textgrid

from common.records import SAMPLE_RATE

KEYS = ["experiment", "control", "layer", "sample", "trial", "metric"]
EXPERIMENTS = ("cca_mel", "cca_phone", "word_discrimination_dtw")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ending_short(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Speech whose utterances end in a phone of 6 ms: mel has a frame of it, the layers none."""
    folder = tmp_path_factory.mktemp("short")
    listed = resolved("experiment=cca_phone", "model=wav2vec2_tiny", *textgrids(speech))
    for utterance in listed.dataset.read().utterances:
        tiers = {
            name: [(i.start / SAMPLE_RATE, i.end / SAMPLE_RATE, i.label) for i in tier]
            for name, tier in utterance.tiers.items()
        }
        waveform = utterance.read()
        end = len(waveform) / SAMPLE_RATE
        last = tiers["phone"][-1]
        tiers["phone"] = [*tiers["phone"][:-1], (last[0], end - 0.006, last[2])]
        tiers["phone"].append((end - 0.006, end, "AA"))
        name = f"{utterance.speaker}/{utterance.id}"
        audio = folder / "audio" / f"{name}.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio, waveform, SAMPLE_RATE)
        write_textgrid(folder / "alignments" / f"{name}.TextGrid", **tiers)
    return tuple(textgrids(folder))


@pytest.fixture(scope="module")
def short(small: tuple[str, ...], ending_short: tuple[str, ...]) -> tuple[str, ...]:
    return (*small, *ending_short)


def scores(run: Finished) -> pd.DataFrame:
    """Every score, and of how many units, by what it is of."""
    return run.rows.set_index(KEYS)[["value", "n", "low", "high"]].sort_index()


def without_controls(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the controls."""
    return frame[frame.index.get_level_values("control") == ""]


def parts_of(experiment: str, *parts: str) -> str:
    return f"experiments.{experiment}.parts=[{','.join(parts)}]"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_controls_and_parts_that_come_later_change_nothing(
    experiment: str, short: tuple[str, ...], tmp_path: Path
) -> None:
    some, both = parts_of(experiment, "transformer"), parts_of(experiment, "cnn", "transformer")
    no_second_pass = "model.random_init=true"  # the control of random weights is the model itself

    def scored(cache: str, *more: str) -> pd.DataFrame:
        at = f"paths.cache={tmp_path / cache}"
        runs.append(
            execute(
                tmp_path / str(len(runs)),
                f"experiment={experiment}",
                *short,
                at,
                *more,
                no_second_pass,
            )
        )
        return scores(runs[-1])

    runs: list[Finished] = []
    first = scored("grown", some)
    same = partial(pd.testing.assert_frame_equal, check_exact=True)
    same(without_controls(scored("grown", some, "controls=true")), first)
    whole = scored("grown", both, "controls=true")
    same(whole, scored("fresh", both, "controls=true"))
    same(scored("grown", some), first)
    same(scored("grown", both), without_controls(whole))
    controls = experiment != "cca_mel"  # whose own target is the filterbank
    assert [run.passed for run in runs] == [True, controls, True, True, False, False]
