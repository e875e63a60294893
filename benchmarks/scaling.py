"""Training throughput with one worker and with two on different nodes, and the time of an all-reduce between two.

`python -m benchmarks.scaling [--steps 60]` simulates tiles, starts a local cluster of three nodes with one CPU each and
trains the same run with one worker and with two (equal examples per worker and step, fp32, tiles decoded once). It
prints examples/s, the share of time spent waiting for data, and the ratio; then the time of gloo's all-reduce of
gradients of the published size between two processes; and, as the last line, JSON. The nodes share this machine, so two
workers and the data stream compete for its cores, which they would not on separate machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from restore_dit.threads import ONE_THREAD

PARAMETERS = 9_835_168
"""Number of parameters of the published network with ten bands."""

ALL_REDUCES = 10


class Rates:
    """Collects the step reports of a run."""

    def __init__(self) -> None:
        self.examples_per_second: list[float] = []
        self.data_wait: list[float] = []

    def show(self, report: Any) -> None:
        """Records a report."""
        if type(report).__name__ == "StepReport":
            self.examples_per_second.append(report.examples_per_second)
            self.data_wait.append(report.data_wait_share)

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


def train(workers: int, store: str, output: str, steps: int, batch: int) -> dict[str, float]:
    """Trains with `batch` examples per worker and step; returns medians without the first quarter of the reports."""
    from rich.console import Console

    from cluster.connection import connect
    from restore_dit.config.loading import load
    from restore_dit.training.run import run_training

    connect()
    examples = batch * workers
    tiles = 24
    config = load(
        "tiny",
        [
            f"name=scaling-{workers}", f"data.store={store}", f"output={output}", "data.examples_per_tile=2",
            "data.split.test_fraction=0.0", "data.split.validation_fraction=0.0", "data.cache_decoded=true",
            "model.hidden_size=128", "model.depth=4", "model.heads=4", f"training.batch_size={examples}",
            f"training.epochs={-(-steps * examples // (tiles * 2))}", "training.save_every=100000",
            "training.precision=fp32", "training.log_every=2", "training.log_examples=false",
            f"workers.count={workers}", "workers.cpus_each=1", "workers.data_cpus=0.5",
        ],
    )  # fmt: skip
    rates = Rates()
    run_training(config, Console(quiet=True), [rates])
    kept = len(rates.examples_per_second) // 4
    return {
        "workers": workers,
        "examples_per_second": statistics.median(rates.examples_per_second[kept:]),
        "data_wait_share": statistics.median(rates.data_wait[kept:]),
    }


def all_reduce_seconds(processes: int = 2) -> float:
    """Median time in seconds of gloo's all-reduce of the published network's gradients in fp32, on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", _RANK, str(rank), str(processes), folder, str(PARAMETERS), str(ALL_REDUCES)],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ONE_THREAD,
            )
            for rank in range(processes)
        ]
        answers = [rank.communicate(timeout=120)[0] for rank in ranks]
    return float(answers[0])


_RANK = """
import statistics, sys, time, torch, torch.distributed as dist
rank, world, folder, size, count = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
gradients = torch.ones(size)
times = []
for _ in range(count + 2):
    dist.barrier()
    begun = time.perf_counter()
    dist.all_reduce(gradients)
    times.append(time.perf_counter() - begun)
print(statistics.median(times[2:]))
dist.destroy_process_group()
"""


def main() -> int:
    """Runs both measurements and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps per run (default 60)")
    parser.add_argument("--batch", type=int, default=8, help="examples per worker and step (default 8)")
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)  # one run, in a process connected to the cluster
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.workers:
        print(
            json.dumps(train(given.workers, f"{given.folder}/store", f"{given.folder}/runs", given.steps, given.batch))
        )
        return 0

    from cluster.local.lifecycle import ClusterPlan, client_environment, running
    from restore_dit.config.simulation import SimulationConfig
    from restore_dit.data.simulation import simulate_tiles
    from restore_dit.data.store.tile_store import TileStoreWriter

    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        writer = TileStoreWriter(Path(folder) / "store", source="simulation")
        for series in simulate_tiles(SimulationConfig(height=64, width=64), 5, range(24)):
            writer.add(series)
        writer.commit()
        runs = []
        with running(ClusterPlan(nodes=3, cpus_per_node=1, name="scaling")) as cluster:
            for workers in (1, 2):
                answer = subprocess.run(
                    [
                        sys.executable, "-m", "benchmarks.scaling", "--workers", str(workers), "--folder", folder,
                        "--steps", str(given.steps), "--batch", str(given.batch),
                    ],
                    env=os.environ | client_environment(cluster),
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                    timeout=900,
                )  # fmt: skip
                runs.append(json.loads(answer.stdout.splitlines()[-1]))
                time.sleep(2)
    one, two = runs
    seconds = all_reduce_seconds()
    print(f"{'workers':>8}{'examples/s':>12}{'waiting for data':>18}{'ratio':>8}")
    for run in runs:
        ratio = run["examples_per_second"] / one["examples_per_second"]
        print(f"{run['workers']:>8}{run['examples_per_second']:>12.2f}{run['data_wait_share']:>18.1%}{ratio:>8.2f}")
    print(f"all-reduce of {PARAMETERS / 1e6:.1f} M gradients in fp32, 2 processes, loopback: {seconds * 1e3:.0f} ms")
    ratio = two["examples_per_second"] / one["examples_per_second"]
    print(json.dumps({"benchmark": "scaling", "runs": runs, "ratio": ratio, "all_reduce_seconds": seconds}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
