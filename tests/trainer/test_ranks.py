"""Several ranks without Ray: they stop together, and what they have computed together one of them continues."""

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from rich.console import Console

from restore_dit.config import RunConfig, WorkersConfig
from restore_dit.trainer.loop import fit
from restore_dit.trainer.monitor import LocalMonitor, Report, SavedReport
from restore_dit.trainer.pace import MAX_STEPS_BETWEEN_LOOKS, StopLooks
from restore_dit.training.run import DenoiserTask, run_training
from restore_dit.training.setup import set_up

pytestmark = pytest.mark.slow

RANKS = 2


class Watched(LocalMonitor):
    """Looked at twice a second, as that of a cluster."""

    seconds_between_looks = 0.5


def join(rank: int, folder: str) -> None:
    store = dist.FileStore(f"{folder}/ranks", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)


def look(rank: int, folder: str) -> None:
    """Steps of other lengths on each rank; only rank 0 is asked to stop."""
    join(rank, folder)
    looked: list[int] = []

    def stop() -> bool:
        looked.append(step)
        return rank == 0 and step >= 30

    looks = StopLooks(Watched(lambda report: None, stop), 0)
    step = 0
    while True:
        step += 1
        time.sleep(0.1 if step < 5 else 0.002 * (rank + 1))
        dist.barrier()  # as in a step's exchange of gradients
        if looks.agreed(step, paused=step == 21):
            break
    Path(folder, f"rank-{rank}.json").write_text(json.dumps([step, looked]))
    dist.destroy_process_group()


def test_all_ranks_stop_after_the_same_step_and_look_seldom(tmp_path):
    torch.multiprocessing.spawn(look, (str(tmp_path),), RANKS)
    results = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(RANKS)]
    (step, looked), *others = results
    assert all(other == [step, []] for other in others)
    assert 30 <= step <= 30 + MAX_STEPS_BETWEEN_LOOKS
    assert looked[0] == 1
    assert 21 in looked  # after a pause, at once
    assert 2 < len(looked) < step / 3
    assert max(after - before for before, after in pairwise(looked)) <= MAX_STEPS_BETWEEN_LOOKS


def train(rank: int, folder: str, config: RunConfig) -> None:
    """Some steps on each rank, until rank 0 is asked to stop."""
    join(rank, folder)
    task = DenoiserTask(set_up(config))
    setup = task.setup

    def batches(start: int, stop: int):
        for step in range(start, stop):
            shares = setup.plan.share(step, rank, RANKS, task.micro_batch_size)
            yield [setup.maker.training(setup.reader.all([one.tile_id for one in share]), share) for share in shares]

    def show(report: Report) -> None:
        if isinstance(report, SavedReport):
            monitor.request_stop()

    monitor = LocalMonitor(show)
    assert not fit(task, batches, monitor)
    dist.destroy_process_group()


def test_what_two_ranks_began_one_finishes_as_if_it_had_been_alone(small_run, tmp_path):
    changes = {"output": str(tmp_path), "training": small_run.training.model_copy(update={"log_every": 4})}
    alone = small_run.model_copy(update={"name": "alone", **changes})
    assert run_training(alone, Console(quiet=True)).finished
    config = alone.model_copy(update={"name": "shared", "workers": WorkersConfig(count=RANKS)})
    task = DenoiserTask(set_up(config))
    task.claim()
    torch.multiprocessing.spawn(train, (str(tmp_path), config), RANKS)
    assert json.loads((tmp_path / "shared" / "state" / "latest.json").read_text()) == {"state": "step-000000003"}
    assert run_training(config.model_copy(update={"workers": WorkersConfig()}), Console(quiet=True)).finished
    for part in ("weights", "average", "exp_avg", "exp_avg_sq"):
        files = [next((tmp_path / name / "state").glob(f"*12/{part}.safetensors")) for name in ("alone", "shared")]
        expected, found = map(safetensors.torch.load_file, files)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            difference = (found[name] - value).norm() / value.norm().clamp(min=1e-8)
            assert difference < 1e-5, f"{part} {name}: {difference}"
    lines = [(tmp_path / name / "logs" / "metrics.jsonl").read_text().splitlines() for name in ("alone", "shared")]
    losses = [{line["step"]: line["loss"] for line in map(json.loads, each) if "loss" in line} for each in lines]
    assert list(losses[0]) == [4, 8, 12]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)  # also of the steps before the stop
