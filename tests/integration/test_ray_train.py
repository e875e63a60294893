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
from restore_dit.data import storage
from restore_dit.data.storage import Location
from restore_dit.errors import UserError
from restore_dit.trainer.monitor import LocalMonitor, Report, StartedReport, StepReport
from restore_dit.training.run import DenoiserTask, fit_on_cluster, run_training
from restore_dit.training.setup import set_up
from tests.messages import refused

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


def latest_state(config: RunConfig) -> Location:
    folder = storage.locate(config.output).join(config.name, "state")
    return folder.join(json.loads(storage.read_bytes(folder.join("latest.json")))["state"])


def state(config: RunConfig, part: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(storage.read_bytes(latest_state(config).join(f"{part}.safetensors")))


def computed(config: RunConfig) -> Counter:
    counted: Counter = Counter()
    folder = storage.locate(config.output).join(config.name, "logs", "examples")
    for name in storage.list_names(folder):
        for line in map(json.loads, storage.read_bytes(folder.join(name)).splitlines()):
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
            assert difference < 1e-5, f"{part} {name}: {difference}"
    assert computed(config) == computed(reference)


def train_some_steps(config: RunConfig) -> tuple[int, int]:
    """Stops the fit two steps after it has started; where it started and where it stopped."""
    task = DenoiserTask(set_up(config))
    task.claim()
    starts: list[int] = []

    def stop(report: Report) -> None:
        if isinstance(report, StartedReport):
            starts.append(report.step)
        elif isinstance(report, StepReport) and report.step >= starts[0] + 2:
            monitor.request_stop()

    monitor = LocalMonitor(stop)
    assert not fit_on_cluster(task, monitor)
    return starts[0], int(latest_state(config).uri.rpartition("step-")[2])


def train_by(course: list[RunConfig], reference: RunConfig) -> None:
    """Takes a few steps as each of these configurations says, and all that are left as the last says."""
    *first, last = course
    step = 0
    for config in first:
        started, stopped = train_some_steps(config)
        assert started == step
        assert stopped >= started + 2
        step = stopped
    assert run_training(last, QUIET).finished
    assert_same_fit(last, reference)


def test_from_two_workers_at_stage_2_by_stage_3_to_this_process_the_fit_is_that_of_one(small_run, in_process):
    course = [(2, 2), (2, 3), (0, 0)]
    train_by([variant(small_run, "moved", workers, zero_stage=stage) for workers, stage in course], in_process)


@pytest.mark.s3
def test_in_a_bucket_alone_from_two_workers_at_stage_0_to_one_at_stage_1_the_fit_is_that_of_one_process(
    small_run, small_store, in_process, bucket, tmp_path, monkeypatch
):
    place = f"s3://{bucket}"
    for file in filter(Path.is_file, Path(small_store.uri).rglob("*")):
        storage.write_bytes_atomically(f"{place}/store/{file.relative_to(small_store.uri)}", file.read_bytes())
    monkeypatch.chdir(tmp_path)
    data = small_run.data.model_copy(update={"store": f"{place}/store"})
    config = small_run.model_copy(update={"output": f"{place}/runs", "data": data})
    course = [variant(config, "moved", workers, zero_stage=stage) for workers, stage in ((2, 0), (1, 1))]
    spread = course[0].workers.model_copy(update={"spread": True})
    train_by([course[0].model_copy(update={"workers": spread}), course[1]], in_process)

    run = f"{place}/runs/moved"
    assert {"model", "state", "logs", "run.json", "config.yaml"} <= set(storage.list_names(run))
    assert "model.safetensors" in storage.list_names(f"{run}/model")
    assert {name[-7:-6] for name in storage.list_names(f"{run}/logs/examples")} == {"0", "1"}  # ranks
    assert len(storage.list_names(f"{run}/logs/tensorboard")) == 1  # of the last, which alone is a whole command
    assert not storage.is_folder(f"{run}/ray")
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_the_cluster_has_cpus_for_are_refused(small_run):
    workers = WorkersConfig(count=4, cpus_each=0.6, data_cpus=0.4)
    with refused("workers.count", "workers.cpus_each"):
        run_training(small_run.model_copy(update={"name": "large", "workers": workers}), QUIET)


@pytest.mark.faults
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
    task = DenoiserTask(set_up(config))
    task.claim()
    monitor = LocalMonitor(lambda report: isinstance(report, StartedReport) and starts.append(report.step))
    assert fit_on_cluster(task, monitor)
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
