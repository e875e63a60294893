"""Sweeps on Ray: trials with and without workers of their own, stopped early, failed, gone on with."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.tune

from jobs import tune
from restore_dit.config import RunConfig, load
from restore_dit.data import storage
from restore_dit.errors import UserError
from restore_dit.program import console
from restore_dit.training.run import run_training
from tests.integration.workers import TRIAL, one_killed
from tests.messages import assert_names
from tuning.config import SweepConfig
from tuning.records import SweepFolder, Trial
from tuning.sweep import _Recorder, plan_sweep, run_sweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280), pytest.mark.usefixtures("ray_cluster")]

FAMILIES = {
    "bundles": {
        "x0": {"diffusion.prediction": "x0"},
        "v": {"diffusion.prediction": "v", "diffusion.schedule": "cosine"},
        "diverges": {"diffusion.prediction": "v", "training.optimiser.learning_rate": 1e30},
    }
}


@pytest.fixture
def sweep(small_run: RunConfig, tmp_path: Path):
    """A grid of three trials, which train in their own process; the last fails."""

    def make(**changes) -> SweepConfig:
        tree = {
            "name": "sweep",
            "output": str(tmp_path / "sweeps"),
            "run": small_run.model_dump(mode="json") | {"output": ""},
            "space": {"family": FAMILIES},
            "search": {"algorithm": "grid", "trials": 3},
        }
        return SweepConfig.model_validate(tree | changes)

    return make


def all_cpus_are_free() -> bool:
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    return ray.available_resources().get("CPU", 0) == 2


def test_a_sweep_goes_on_where_it_was_and_its_best_trains_as_it_is(sweep, tmp_path, capfd):
    first = sweep(search={"algorithm": "grid", "trials": 2})
    assert tune.run(first, console()) == 0
    folder = SweepFolder.of(first)
    records = {path.name: path.read_bytes() for path in (tmp_path / "sweeps" / "sweep" / "trials").glob("*.json")}
    assert [trial.status for trial in folder.read()] == ["finished"] * 2
    capfd.readouterr()

    assert tune.run(sweep(seeds={"best": 1, "repeats": 1}), console()) == 0
    out, err = capfd.readouterr()
    assert_names(err, "trial-002", "training.optimiser.learning_rate")
    assert_names(out, "2 trials", 0)
    assert "trial-000" not in out.partition("best:")[0].replace("trial-000-seed-1", "")
    trials = {trial.name: trial for trial in folder.read()}
    assert trials["trial-002"].status == "failed"
    assert_names(trials["trial-002"].error, "training.optimiser.learning_rate")
    (again,) = [trial for trial in trials.values() if trial.repeats]
    assert again.values == trials[again.repeats].values
    assert again.best.psnr != trials[again.repeats].best.psnr
    for name, before in records.items():
        assert (tmp_path / "sweeps" / "sweep" / "trials" / name).read_bytes() == before
    assert not (tmp_path / "sweeps" / "sweep" / "ray").exists()
    assert all_cpus_are_free()

    best = load(tmp_path / "sweeps" / "sweep" / "best.yaml", [f"output={tmp_path}", "name=best"])
    of_sweep = trials[again.repeats]
    result = run_training(best, console())
    assert result.finished
    assert f"{of_sweep.best.psnr:.2f} dB" in capfd.readouterr().out  # the same run: the same weights


def test_a_trial_that_lags_behind_is_stopped_and_its_workers_are_gone(sweep):
    """One trial at a time, the good one first, so that which of them lags is no matter of chance: one step from pure
    noise is too much for a network that predicts noise. Only the other has workers."""
    families = {
        "x0": {"diffusion.prediction": "x0", "workers.count": 0},
        "epsilon": {"diffusion.prediction": "epsilon", "workers.count": 1},
    }
    config = sweep(space={"family": {"bundles": families}}, concurrent=1, stopping={"grace_steps": 4, "reduction": 2})
    workers = config.run.workers.model_copy(update={"count": 1, "cpus_each": 0.5, "data_cpus": 0.5})
    config = config.model_copy(update={"run": config.run.model_copy(update={"workers": workers})})
    assert tune.run(config, console()) == 0
    good, lags = SweepFolder.of(config).read()
    assert (good.status, lags.status) == ("finished", "stopped")
    assert lags.best.psnr < good.best.psnr
    assert lags.step < good.step
    assert all_cpus_are_free()


@pytest.mark.faults
def test_a_trial_whose_process_is_killed_goes_on_from_its_saved_state(sweep, capfd):
    """SIGKILL once the first state is saved; the trial is tried again, and the sweep knows nothing of it at the end."""
    config = sweep(space={"family": {"bundles": {"x0": {"diffusion.prediction": "x0"}}}}, max_failures=1)
    state = Path(config.output) / "sweep" / "trials" / "trial-000" / "state"
    with one_killed(TRIAL, lambda: state.exists() and any(state.iterdir())):
        assert tune.run(config, console()) == 0
    (trial,) = SweepFolder.of(config).read()
    assert (trial.status, trial.error) == ("finished", None)
    steps = [score.step for score in SweepFolder.of(config).curve(trial)]
    assert steps == sorted(set(steps))
    assert all_cpus_are_free()


def test_the_record_of_a_trial_that_fails_says_why(tmp_path):
    """Once by an error that the user can fix, from another worker, and once by any other."""
    folder = SweepFolder(storage.locate(tmp_path / "sweep"))
    trials = [Trial(name=name, values={}).model_dump(mode="json") for name in ("damaged", "odd")]

    @ray.remote(num_cpus=0)
    def read() -> None:
        raise UserError("tile a: damaged")

    def trainable(suggestion: dict[str, Any]) -> None:
        if suggestion["trial"]["name"] == "damaged":
            ray.get(read.remote())
        raise ValueError("no such thing")

    tuner = ray.tune.Tuner(
        trainable,
        param_space={"trial": ray.tune.grid_search(trials)},
        run_config=ray.tune.RunConfig(
            storage_path=str(tmp_path / "ray"), callbacks=[_Recorder(folder, lambda trial: None)], verbose=0
        ),
    )
    tuner.fit()
    damaged, odd = folder.read()
    assert (damaged.status, damaged.error) == ("failed", "tile a: damaged")
    assert (odd.status, odd.error) == ("failed", "ValueError: no such thing")


@pytest.mark.faults
def test_a_population_goes_on_after_its_driver_was_stopped_and_the_last_follows_the_first(sweep, capfd):
    """Its driver is stopped once the first trial has copied another."""

    class Stopped(Exception):
        pass

    def stop(trial: Trial) -> None:
        if trial.exploits:
            raise Stopped

    space = {
        "family": {"bundles": {"x0": {"diffusion.prediction": "x0"}, "epsilon": {"diffusion.prediction": "epsilon"}}},
        "training.optimiser.learning_rate": {"values": [1e-4, 1e-3]},
    }
    config = sweep(space=space, search={"algorithm": "grid", "trials": 4}, population={"every_steps": 4, "share": 0.25})
    plan = plan_sweep(config)
    with pytest.raises(Stopped):
        run_sweep(plan, stop)
    folder = SweepFolder.of(config)
    assert {trial.paused_at for trial in folder.read()} == {4}
    (lagged,) = [trial for trial in folder.read() if trial.exploits]
    assert lagged.exploits[0].before["family"] == "epsilon"
    assert lagged.values["family"] == "x0"

    capfd.readouterr()
    assert tune.run(config, console()) == 0
    out = capfd.readouterr().out
    trials = {trial.name: trial for trial in folder.read()}
    assert {trial.status for trial in trials.values()} == {"finished"}
    assert trials[lagged.name].exploits[0] == lagged.exploits[0]
    later = [(trial.name, exploit) for trial in trials.values() for exploit in trial.exploits if exploit.step > 4]
    assert later
    for name, exploit in later:
        assert re.search(rf"{name}: .*{exploit.source}\b.*\b{exploit.step}\b", out)
    for trial in trials.values():
        steps = [score.step for score in folder.curve(trial)]
        assert steps == sorted(set(steps))
        assert steps[-1] == plan.setup.total_steps
    page = (Path(config.output) / "sweep" / "report.html").read_text()
    for name, exploit in later:
        assert f"<td>{exploit.step}</td><td>{name}</td><td>{exploit.source}</td>" in page
    assert all_cpus_are_free()
