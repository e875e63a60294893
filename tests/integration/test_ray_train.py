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
from restore_dit.training.monitor import LocalMonitor, StartedReport, StepReport
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


def losses(config: RunConfig) -> list[float]:
    lines = Path(config.output, config.name, "logs", "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


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


@pytest.fixture(scope="module")
def two_workers(small_run: RunConfig) -> RunConfig:
    config = variant(small_run, "stage-1", 2, zero_stage=1)
    assert run_training(config, QUIET).finished
    return config


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_workers_at_every_stage_are_the_fit_of_one_process(small_run, in_process, two_workers, stage):
    config = variant(small_run, f"stage-{stage}", 2, zero_stage=stage)
    if config.name != two_workers.name:
        assert run_training(config, QUIET).finished
    for part in ("weights", "average", "exp_avg"):
        for name, value in state(in_process, part).items():
            difference = (state(config, part)[name] - value).norm() / value.norm().clamp(min=1e-8)
            assert difference < 1e-4, f"{part} {name}: {difference}"
    assert computed(config) == computed(in_process)


@pytest.mark.parametrize(("before", "after"), [((2, 2), (3, 1)), ((3, 2), (0, 0))])
def test_a_state_moves_between_stages_and_worker_counts(small_run, in_process, before, after):
    stage, workers = before
    first = variant(small_run, f"moved-{stage}-{after[0]}", workers, zero_stage=stage)
    setup = set_up(first)
    setup.folder.claim(setup.store_fingerprint)
    monitor = LocalMonitor(
        lambda report: isinstance(report, StepReport) and report.step >= 4 and monitor.request_stop()
    )
    assert not fit_on_cluster(setup, monitor)
    stopped = json.loads(Path(first.output, first.name, "state", "latest.json").read_text())["state"]
    assert 4 <= int(stopped.removeprefix("step-")) < setup.total_steps
    stage, workers = after
    assert run_training(variant(small_run, first.name, workers, zero_stage=stage), QUIET).finished
    for name, value in state(in_process).items():
        torch.testing.assert_close(state(first)[name], value, rtol=0, atol=1e-4)
    assert computed(first) == computed(in_process)


def test_a_killed_worker_is_replaced_and_nothing_changes(small_run, two_workers):
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
    for name, value in state(two_workers).items():
        torch.testing.assert_close(state(config)[name], value, rtol=0, atol=1e-6)
    assert computed(config) == computed(two_workers)


def test_the_loss_falls_below_half_in_a_hundred_steps(small_run):
    optimiser = small_run.training.optimiser.model_copy(update={"learning_rate": 3e-3})
    config = variant(
        small_run, "hundred", 2, zero_stage=2, epochs=25, optimiser=optimiser, save_every=100, validate_every=1000
    )
    config = config.model_copy(update={"model": config.model.model_copy(update={"anchor": "none"})})
    assert run_training(config, QUIET).finished
    assert len(losses(config)) == 100
    assert sum(losses(config)[-10:]) < sum(losses(config)[:10]) / 2


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
