"""The arithmetic of benchmarks/reinit_claim.py: pairs, rates, and what goes on from a folder."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from running import composed

from benchmarks.reinit_claim import (
    ROOT,
    Job,
    Record,
    best_rate,
    overrides_of,
    paired_interval,
    summarise,
    values_of,
)


def lines_of(job: Job, errors: dict[str, int], validation: float = 0.5) -> pd.DataFrame:
    """What a job writes: errors among 100 words of each speaker."""
    return pd.DataFrame(
        {
            "speaker": list(errors),
            "word_errors": list(errors.values()),
            "words": 100,
            "arm": job.arm,
            "rate": job.rate,
            "seed": job.seed,
            "draw": job.draw,
            "validation": validation,
        }
    )


@pytest.mark.parametrize(
    ("arm", "key", "value"),
    [
        ("none", "finetune.reinit_top", 0),
        ("top4", "finetune.reinit_top", 4),
        ("drop2", "finetune.drop_top", 2),
        ("first3", "finetune.unfreeze_top", 3),
        ("bottom2", "finetune.reinit_layers", ["T1", "T2"]),
        ("random", "model.random_init", True),
    ],
)
def test_every_arm_is_a_key_of_the_configuration(arm: str, key: str, value: object) -> None:
    config = composed(("experiment=ctc", "model=wav2vec2_tiny", *overrides_of(arm)))
    assert OmegaConf.select(config, key) == value


def test_pairs_share_seed_and_speakers() -> None:
    """Seeds differ by 30 points; of a pair the re-initialised one has always 5 errors fewer."""
    tables = []
    for seed, errors in enumerate([20, 50, 35, 40]):
        voices = {f"s{3 * (seed % 3) + k}": errors + k for k in range(4)}
        tables.append(lines_of(Job("none", 1e-3, seed, seed % 3), voices))
        fewer = {name: n - 5 for name, n in voices.items()}
        tables.append(lines_of(Job("top2", 1e-3, seed, seed % 3), fewer))
    # Without its pair, which would have been tested on a speaker whom no other seed is tested on.
    tables.append(lines_of(Job("none", 1e-3, 4, 1), {"s0": 99, "s77": 99}))
    summary = summarise(pd.concat(tables), "word").set_index("arm")
    assert summary.loc["top2", "seeds"] == 4
    np.testing.assert_allclose(
        summary.loc["top2", ["difference", "low", "high"]].astype(float), -5, atol=1e-9
    )


def test_more_seeds_do_not_hide_how_speakers_differ() -> None:
    """A difference of each speaker that is the same with every seed: 4 times the seeds, as wide."""
    of_speakers = np.array([[-12.0, -3.0, 2.0, 8.0, 11.0, -6.0]])
    widths = []
    for seeds in (8, 32):
        plain, words = np.full((seeds, 6), 40.0), np.full((seeds, 6), 100.0)
        _, low, high = paired_interval(plain + of_speakers, plain, words)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[0] > 0.1


def test_rate_that_fails_now_and_then_is_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(tmp_path, ["model=hubert_tiny"])
    trials = []
    for rate, found in ((5e-4, (0.40, 0.38, 0.41)), (1e-3, (0.35, 1.0, 0.36))):
        for k, error in enumerate(found):
            job = Job("none", rate, 1_000 + k, k)
            trials.append(job)
            lines = lines_of(job, {"s0": 40}, validation=error)
            lines.to_csv(record.path, mode="a", header=not record.path.is_file(), index=False)
    assert all(map(record.holds, trials))
    assert not record.holds(Job("top1", 1e-3, 1_000, 0))
    assert best_rate("none", trials, record) == 5e-4
    assert "none: 0.0005 is the lowest rate of --rates" in capsys.readouterr().out
    assert best_rate("none", trials[::3], record) == 1e-3
    assert "none: 0.001 is the highest rate of --rates" in capsys.readouterr().out


def test_a_folder_goes_on_with_its_own_overrides_only(tmp_path: Path) -> None:
    given = ["model=hubert_tiny", "dataset.seed=7", "seed=1", "seed=2"]
    Record(tmp_path, given)
    Record(tmp_path, ["seed=1", "seed=2", *given[:2]])  # their order is of no matter
    for other in (["model=wav2vec2_tiny", *given[1:]], given[:2], [*given[:2], "seed=2", "seed=1"]):
        with pytest.raises(SystemExit, match="the jobs of this folder had other overrides"):
            Record(tmp_path, other)


def test_the_commands_of_the_claims_page_are_those_of_its_tables() -> None:
    """So that they go on from the tables; "benchmarks/claim/deep" is a folder with one."""
    lines = (ROOT / "docs" / "claim.md").read_text("utf-8").splitlines()
    start = "$ python benchmarks/reinit_claim.py benchmarks/claim/"
    folders = set()
    for line in lines:
        if line.startswith(start):
            _, _, _, folder, *rest = shlex.split(line)
            table = (ROOT / folder / "overrides.txt").read_text("utf-8").splitlines()
            assert values_of(rest[rest.index("--") + 1 :]) == values_of(table), folder
            folders.add(ROOT / folder)
    assert folders == {path.parent for path in (ROOT / "benchmarks" / "claim").glob("*/errors.csv")}
