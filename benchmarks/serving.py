"""The endpoint under load: throughput and latency, with windows sampled in batches and one by one, and its behaviour
when there are ten times more clients than places in the queue.

`python -m benchmarks.serving [--seconds 60] [--clients 32]` serves a tiny network on this machine's loopback interface
and prints a table and, as the last line, JSON. The baseline is `batch_size=1`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import torch
from numpy.typing import NDArray
from ray import serve

from cluster.local.node import SERVE_ENVIRONMENT
from restore_dit import threads
from restore_dit.config import load
from restore_dit.config.loading import load_section
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.data.exchange import netcdf
from restore_dit.data.simulation import simulate_tile
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import load_model, save_model
from restore_dit.reconstruction.sampling import PreparedWindow, SamplingOptions, sample_windows
from restore_dit.series import TileSeries
from serving.access import Tokens
from serving.app import NAME, build
from serving.config import ServingConfig

TOKEN = "benchmark-" + "x" * 16


class Load:
    """Clients that send the next request as soon as they have a response."""

    def __init__(self, address: str, content: bytes, clients: int) -> None:
        self._url = f"{address}/v1/reconstructions"
        self._content = content
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    def run(self, seconds: float) -> None:
        """Sends requests for this many seconds."""
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-netcdf"}
        while not self._over.is_set():
            request = urllib.request.Request(f"{self._url}?seed={number}", self._content, headers)
            begin = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=300) as answer:
                    answer.read()
                    self.statuses[answer.status] += 1
                    self.seconds.append(time.monotonic() - begin)
            except urllib.error.HTTPError as error:
                self.statuses[error.code] += 1
                time.sleep(0.2)
            except OSError:
                self.statuses[0] += 1


def tiny_model(folder: Path) -> str:
    """Saves a network of the quickstart's size with random weights, as fast as trained ones, and returns its path."""
    config = load("tiny", ["data.store=x"])
    torch.manual_seed(0)
    normalisation = Normalisation(("VV", "VH", "VV-VH"), (-11, -18, 7), (3, 3, 3))
    save_model(str(folder / "tiny"), config, Denoiser(config.model).state_dict(), normalisation, {})
    return str(folder / "tiny")


def measured(model: str, folder: Path, content: bytes, given: argparse.Namespace, *changes: str) -> dict[str, Any]:
    """Starts a service with these configuration changes and measures it under load."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = load_section(ServingConfig, [
        f"models={model}", f"state={folder / 'state'}", "limits.requests_a_minute=1000000",
        "samplers.cpus=0.5", "reconstructors.cpus=0.5", "ingresses.cpus=0.2", *changes,
    ])  # fmt: skip
    quiet = {"log_level": "ERROR", "enable_access_log": False}  # as in `restore-dit serve`
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
    application = build(config, Tokens({"me": TOKEN}))
    handle = serve.run(application, name=NAME, route_prefix="/", logging_config={"enable_access_log": False})
    handle.ready.remote().result(timeout_s=120)
    address = f"http://127.0.0.1:{port}"
    Load(address, content, given.clients).run(5)  # warm-up
    before = _memory()
    load = Load(address, content, given.clients)
    begin = time.monotonic()
    load.run(given.seconds)
    seconds, after = time.monotonic() - begin, _memory()
    serve.shutdown()
    waits = sorted(load.seconds)
    return {
        "requests_a_second": len(waits) / seconds,
        "p50": statistics.median(waits),
        "p95": waits[int(0.95 * len(waits))],
        "p99": waits[int(0.99 * len(waits))],
        "statuses": dict(load.statuses),
        "memory_megabytes": [round(before / 1e6), round(after / 1e6)],
    }


def network_alone(model: str, series: TileSeries, together: int) -> list[float]:
    """Seconds per window of this series in the network alone: for a single window, and in a batch of `together`."""
    loaded, options, windows = load_model(model), SamplingOptions(), []

    def kept(prepared: Iterable[PreparedWindow]) -> Iterator[NDArray[np.float32]]:
        for window in prepared:
            windows.append(window)
            yield from sample_windows(loaded, [window], options)

    fill_gaps(loaded, series, options, sample=kept)
    found = []
    for count in (1, together):
        rounds = max(1, 48 // count)
        begin = time.perf_counter()
        for _ in range(rounds):
            sample_windows(loaded, windows[:1] * count, options)
        found.append((time.perf_counter() - begin) / rounds / count)
    return found


def _memory() -> int:
    """Private memory of the service's processes, in bytes."""
    found = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if "ServeReplica" in " ".join(process.cmdline()):
                found += process.memory_full_info().uss
        except psutil.Error:
            continue
    return found


def main() -> int:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    given = parser.parse_args()
    os.environ.update(SERVE_ENVIRONMENT, RAY_USAGE_STATS_ENABLED="0")
    series = simulate_tile(SimulationConfig(height=32, width=32, days=60), 1, 0)
    content = netcdf.encode(series)
    print(
        f"{given.clients} clients, {len(series.optical)} dates of 32×32 pixels, {len(content) / 1e3:.0f} kB per request"
    )
    print(f"{'':34} {'requests/s':>10} {'p50 s':>7} {'p95 s':>7} {'p99 s':>7}  answers")
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_model(folder)
        alone, of_eight = network_alone(model, series, 8)
        with threads.in_ray_environment(os.environ):
            ray.init(include_dashboard=False, log_to_driver=False)
        cases = {
            "one by one": ("batch_size=1", "batch_wait=0"),
            "together": (),
            "together, room for a tenth": (f"limits.queue={max(1, given.clients // 10)}",),
        }
        for title, changes in cases.items():
            row = rows[title] = measured(model, folder, content, given, *changes)
            shown = f"{title:34} {row['requests_a_second']:10.2f} {row['p50']:7.2f} {row['p95']:7.2f} {row['p99']:7.2f}"
            print(f"{shown}  {row['statuses']}, {row['memory_megabytes']} MB before and after", flush=True)
        ray.shutdown()
    gain = rows["together"]["requests_a_second"] / rows["one by one"]["requests_a_second"]
    print(f"together / one by one: {gain:.2f}")
    print(
        f"network alone: {1e3 * alone:.1f} ms per window singly, {1e3 * of_eight:.1f} ms per window in a batch of eight"
    )
    print(json.dumps({
        "benchmark": "serving", "clients": given.clients, "gain": gain, "network_seconds": [alone, of_eight],
        "rows": rows,
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
