"""Ray Train with DeepSpeed: every ZeRO stage is the same fit, and a state moves between stages and worker counts."""

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch
from rich.console import Console

from restore_dit.config import RunConfig, WorkersConfig
from restore_dit.errors import UserError
from restore_dit.training.monitor import LocalMonitor, Report, StartedReport, StepReport
from restore_dit.training.ray_train import fit_on_cluster
from restore_dit.training.run import run_training
from restore_dit.training.setup import set_up

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.usefixtures("ray_cluster")]

QUIET = Console(quiet=True)


def variant(config: RunConfig, name: str, workers: int, **training) -> RunConfig:
    return config.model_copy(
        update={
            "name": name,
            "workers": WorkersConfig(count=workers, cpus_each=0.4, data_cpus=0.4),
            "training": config.training.model_copy(update=training),
        }
    )


def state(config: RunConfig, part: str = "weights") -> dict[str, torch.Tensor]:
    folder = Path(config.output, config.name, "state")
    latest = json.loads((folder / "latest.json").read_text())["state"]
    return safetensors.torch.load_file(folder / latest / f"{part}.safetensors")


def computed(config: RunConfig) -> Counter:
    counted: Counter = Counter()
    for file in Path(config.output, config.name, "logs", "examples").iterdir():
        for line in map(json.loads, file.read_text().splitlines()):
            for batch in line["examples"]:
                for tile, draw, weight in batch:
                    counted[line["step"], tile, draw] += weight
    return counted


@pytest.fixture(scope="module")
def in_process(small_run: RunConfig) -> RunConfig:
    config = variant(small_run, "in-process", 0)
    assert run_training(config, QUIET).finished
    return config


def assert_same_fit(config: RunConfig, reference: RunConfig) -> None:
    for part in ("weights", "average", "exp_avg"):
        for name, value in state(reference, part).items():
            difference = (state(config, part)[name] - value).norm() / value.norm().clamp(min=1e-8)
            assert difference < 1e-4, f"{part} {name}: {difference}"
    assert computed(config) == computed(reference)


def train_some_steps(config: RunConfig) -> tuple[int, int]:
    """Stops the fit two steps after it has started; where it started and where it stopped."""
    setup = set_up(config)
    setup.folder.claim(setup.store_fingerprint)
    starts: list[int] = []

    def stop(report: Report) -> None:
        if isinstance(report, StartedReport):
            starts.append(report.step)
        elif isinstance(report, StepReport) and report.step >= starts[0] + 2:
            monitor.request_stop()

    monitor = LocalMonitor(stop)
    assert not fit_on_cluster(setup, monitor)
    latest = json.loads(Path(config.output, config.name, "state", "latest.json").read_text())["state"]
    return starts[0], int(latest.removeprefix("step-"))


@pytest.mark.parametrize("course", [[(2, 0), (1, 1)], [(2, 2), (2, 3), (0, 0)]])
def test_a_state_moves_between_stages_and_worker_counts_and_the_fit_is_that_of_one_process(
    small_run, in_process, course
):
    """A course is of workers and ZeRO stages; of each but the last a few steps are taken."""
    name = "-".join(f"{workers}at{stage}" for workers, stage in course)
    *first, last = [variant(small_run, name, workers, zero_stage=stage) for workers, stage in course]
    step = 0
    for config in first:
        started, stopped = train_some_steps(config)
        assert started == step
        assert stopped >= started + 2
        step = stopped
    assert run_training(last, QUIET).finished
    assert_same_fit(last, in_process)


def test_a_killed_worker_is_replaced_and_the_fit_is_that_of_one_process(small_run, in_process):
    config = variant(small_run, "killed-worker", 2, zero_stage=1)
    latest = Path(config.output, config.name, "state", "latest.json")

    killed = []

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while not latest.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in p.name()]
        os.kill(workers[0].pid, signal.SIGKILL)
        killed.append(workers[0].pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    starts = []
    setup = set_up(config)
    setup.folder.claim(setup.store_fingerprint)
    monitor = LocalMonitor(lambda report: isinstance(report, StartedReport) and starts.append(report.step))
    assert fit_on_cluster(setup, monitor)
    killer.join()
    assert len(killed) == 1
    assert len(starts) == 2
    assert starts[1] >= 3
    assert_same_fit(config, in_process)


def test_a_damaged_tile_is_one_line_and_no_retry(small_run, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(small_run.data.store, store)
    config = variant(small_run, "damaged", 1)
    config = config.model_copy(update={"data": config.data.model_copy(update={"store": str(store)})})
    for tile in set_up(config).plan.tile_ids:
        (store / "tiles" / f"{tile}.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"tiles/sim-3-.*\.parquet: ") as error:
        run_training(config, QUIET)
    assert "\n" not in str(error.value)
