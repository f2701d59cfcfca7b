"""Sweeps: jobs side by side, on a cluster's launcher, and one after another when some fail."""

import os
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from running import ROOT, Finished, command, execute

from common.config import register


@pytest.fixture(scope="module")
def phone(
    common: tuple[str, ...], cache: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A run of its own, from an empty cache."""
    return execute(tmp_path_factory.mktemp("phone"), "experiment=cca_phone", *common, cache)


@pytest.mark.slow
def test_parallel_jobs_of_a_sweep_over_layers_share_one_forward_pass(
    phone: Finished, common: tuple[str, ...], tmp_path: Path
) -> None:
    """Two processes begin on an empty cache: one computes, the other waits for it."""
    sweep = ["layers=single", "layers.index=range(0,3)", "launcher=joblib"]
    done = command(
        *("-m", "experiment=cca_phone", *common, *sweep),
        *(f"paths.cache={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    jobs = [Finished(tmp_path / str(k)) for k in range(3)]
    assert sorted(job.passed for job in jobs) == [False, False, True]
    curves = [job.curve("cca_phone") for job in jobs]
    expected = phone.curve("cca_phone")
    assert curves == [{layer: expected[layer]} for layer in ("T0", "T1", "T2")]


def test_a_failed_job_of_a_serial_sweep_is_told_and_the_others_finish(
    common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    done = command(
        *("-m", "experiment=cca_phone", *common, "layers=single", "layers.index=99,0,98"),
        *(cache, f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 1
    assert Finished(tmp_path / "1").curve("cca_phone").keys() == {"T0"}
    assert not (tmp_path / "0/results.csv").exists()
    for layer in ("T99", "T98"):  # every failure, not the first alone
        assert f"layer {layer} does not exist" in done.stdout + done.stderr


@pytest.mark.slow
def test_slurms_launcher_runs_jobs_on_this_machine_too(
    phone: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    """The local executor of submitit, with those of slurm.yaml's keys that it understands."""
    overrides = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    overrides += ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=4"]
    done = command(
        *("-m", "experiment=cca_phone", *common, "metric=cka", *overrides),
        *(cache, f"hydra.sweep.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    job = Finished(tmp_path / "0")
    assert not job.passed
    assert set(job.rows["metric"]) == {"cka"}
    assert job.curve("cca_phone").keys() == phone.curve("cca_phone").keys()
    assert list((tmp_path / ".submitit").rglob("*_result.pkl"))  # so submitit ran it


def test_slurm_is_asked_for_a_gpu_and_a_task_for_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script that submitit would submit; there is no Slurm here."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    register()
    size = ["hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=4"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        hydra = compose("config", ["launcher=slurm", *size], return_hydra_config=True).hydra
    launcher = Plugins.instance()._instantiate(hydra.launcher)
    asked: list[str] = []

    def submit(executor: Any, *_: Any) -> list[Any]:
        asked.append(executor._executor._make_submission_file_text("run", "id"))
        return []

    monkeypatch.setattr("submitit.AutoExecutor.map_array", submit)
    hydra.sweep.dir = str(tmp_path)
    launcher.params["submitit_folder"] = str(tmp_path)
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    assert launcher.launch([[]], 0) == []
    lines = asked[0].splitlines()
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=8"):
        assert f"#SBATCH --{line}" in lines
    assert "export SLURM_KILL_BAD_EXIT=1" in lines


@pytest.mark.slow
def test_a_sweep_looks_for_the_best_layer(
    phone: Finished, common: tuple[str, ...], cache: str, tmp_path: Path
) -> None:
    """What a run returns is what its sweeper makes as large as it can."""
    pytest.importorskip("optuna")
    done = command(
        *("-m", "experiment=cca_phone", *common, "layers=single", cache),
        *("hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3"),
        *(
            "hydra/sweeper/sampler=grid",
            "layers.index=choice(0,1,2)",
            f"hydra.sweep.dir={tmp_path}",
        ),
    )
    assert done.returncode == 0, done.stderr
    found = OmegaConf.load(tmp_path / "optimization_results.yaml")
    curve = phone.curve("cca_phone")
    best = max(("T0", "T1", "T2"), key=lambda layer: curve[layer])
    assert found.best_value == pytest.approx(curve[best])
    assert f"T{found.best_params['layers.index']}" == best
