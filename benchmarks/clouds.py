"""Cloud masking of a store of full-size tiles, by a network of the published architecture and by the physical rule.

`python -m benchmarks.clouds [--tiles 40] [--folder F]` simulates tiles of 128×128 pixels, masks all of them once per
case, and prints tiles/s, frames/s and the peak private memory and, as the last line, JSON. The baseline is the network
in plain PyTorch: one tile at a time, fp32, default memory layout. Each case runs in its own process and includes
reading, statistics and writing. The case `csmask`, which takes many times as long, runs if `--only` names it.

`python -m benchmarks.clouds --agreement [SITE …]` scores the masks instead; see `benchmarks.cloud_agreement`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.memory import own_memory, watched_memory
from restore_dit.threads import ONE_THREAD, in_ray_environment

CPUS = 2

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Default folder of the sites' files, beside the checkout."""


@dataclass(frozen=True)
class Case:
    """One row of the table; `workers` is the number of Ray actors, 0 for the current process."""

    title: str
    method: str
    workers: int = 0
    precision: str = "fp32"
    plain: bool = False


CASES = {
    "plain": Case("U-Net, plain PyTorch, tile by tile", "network", plain=True),
    "fp32": Case("U-Net, in process, fp32", "network"),
    "bf16": Case("U-Net, in process, bf16", "network", precision="bf16"),
    "ray-fp32": Case("U-Net, Ray, 2 actors, fp32", "network", workers=2),
    "ray-bf16": Case("U-Net, Ray, 2 actors, bf16", "network", workers=2, precision="bf16"),
    "rule": Case("rule, in process", "rule"),
    "ray-rule": Case("rule, Ray, 2 actors", "rule", workers=2),
    "csmask": Case("csmask, in process", "csmask"),
}


class PlainDetector:
    """The baseline: the same weights without our optimised inference."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.origin = detector.origin

    def detect(self, tiles: Iterable[Any]) -> Iterator[NDArray[np.uint8]]:
        """Yields the masks of each tile."""
        import torch

        from restore_dit.clouds.network.weights import build_network
        from restore_dit.config.clouds import PUBLISHED_BANDS, CloudNetworkConfig
        from restore_dit.series import REFLECTANCE_SCALE

        network = build_network(CloudNetworkConfig()).eval()
        network.load_state_dict(self.detector.network.state_dict())
        for series in tiles:
            channels = [series.optical.bands.index(band) for band in PUBLISHED_BANDS]
            frames = torch.from_numpy(series.optical.values[:, channels].astype(np.float32) / REFLECTANCE_SCALE)
            with torch.no_grad():
                yield network(frames).argmax(dim=1).numpy().astype(np.uint8)


def run_case(case: Case, store: str, weights: str) -> dict[str, float]:
    """Masks the whole store once and returns the rates and the peak memory."""
    from dataclasses import replace

    from restore_dit.clouds.detect import frames_masked, plan_detection
    from restore_dit.config.clouds import DetectionConfig
    from restore_dit.data.runner import run

    config = DetectionConfig.model_validate(
        {"store": store, "method": case.method, "workers": case.workers, "precision": case.precision}
        | ({"weights": weights} if case.method == "network" else {})
    )
    plan = plan_detection(config)
    if case.plain:
        plan = replace(plan, work=replace(plan.work, detector=PlainDetector(plan.work.detector)))
    if case.workers:
        return _through_ray(plan, case.workers)
    report = run(plan)
    return {
        "tiles_a_second": len(report.results) / report.seconds,
        "frames_a_second": frames_masked(report) / report.seconds,
        "peak_mb": own_memory("VmHWM") / 1e6,
    }


def _through_ray(plan: Any, workers: int) -> dict[str, float]:
    import ray

    from restore_dit.clouds.detect import frames_masked
    from restore_dit.data.runner import run

    with in_ray_environment(os.environ):
        ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 30,
                 logging_level="WARNING")  # fmt: skip
    arrivals: list[float] = []
    begin = time.perf_counter()
    with watched_memory("ray::") as peaks:
        report = run(plan, workers, lambda *_: arrivals.append(time.perf_counter()))
    ray.shutdown()
    # Start-up does not depend on the size of the store, so the first tenth is excluded from the rate.
    warm = len(arrivals) // 10
    rate = (len(arrivals) - 1 - warm) / (arrivals[-1] - arrivals[warm])
    return {
        "tiles_a_second": rate,
        "frames_a_second": rate * frames_masked(report) / len(report.results),
        "peak_mb": max(peaks.values()) / 1e6,
        "first_tile_s": arrivals[0] - begin,
    }


def prepare(folder: Path, tiles: int) -> tuple[str, str]:
    """Simulates the store and saves random weights; returns both paths."""
    import torch

    from restore_dit.clouds.network.weights import build_network
    from restore_dit.config.clouds import CloudNetworkConfig

    store, weights = folder / f"store-{tiles}", folder / "weights.pth"
    command = [sys.executable, "-m", "restore_dit.cli", "simulate", str(store), "--tiles", str(tiles)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | ONE_THREAD)
    torch.manual_seed(0)
    torch.save(build_network(CloudNetworkConfig()).state_dict(), weights)
    return str(store), str(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="folder for the store (default: a temporary folder)")
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases to run (default: all but csmask)")
    parser.add_argument("--agreement", nargs="*", metavar="SITE", help="instead, score masks on these sites (or all)")
    parser.add_argument("--data", type=Path, default=SHARED, help="agreement: folder of the sites' files")
    parser.add_argument("--weights", help="agreement: a cloud network to score as well")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--places", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(CASES[arguments.case], *arguments.places)))
        return
    if arguments.agreement is not None:
        from benchmarks.cloud_agreement import agreement

        agreement(arguments.data, arguments.folder, arguments.agreement, arguments.weights)
        return
    with tempfile.TemporaryDirectory() as temporary:
        places = prepare(arguments.folder or Path(temporary), arguments.tiles)
        report(list(arguments.only or (name for name in CASES if name != "csmask")), places, arguments.tiles)


def report(names: list[str], places: tuple[str, str], tiles: int) -> None:
    """Runs the cases one after the other and prints the table."""
    print(f"{tiles} tiles of 128×128 pixels, all optical acquisitions of 14 months, {os.cpu_count()} CPUs")
    print(f"{'':40}{'tiles/s':>9}{'frames/s':>10}{'of plain':>10}{'peak MB':>9}{'first tile':>12}")
    store = Path(places[0])
    manifest = (store / "manifest.json").read_bytes()
    results: dict[str, dict[str, float]] = {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.clouds", "--case", name, "--places", *places]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=1800)
        result = results[name] = json.loads(run.stdout.splitlines()[-1])
        if "plain" in results:
            result["times_plain"] = result["tiles_a_second"] / results["plain"]["tiles_a_second"]
        columns = [
            f"{result['tiles_a_second']:9.2f}",
            f"{result['frames_a_second']:10.0f}",
            f"{result['times_plain']:9.1f}×" if "times_plain" in result else " " * 10,
            f"{result['peak_mb']:9.0f}",
            f"{result['first_tile_s']:10.1f} s" if "first_tile_s" in result else "",
        ]
        print(f"{CASES[name].title:40}{''.join(columns)}", flush=True)
        (store / "manifest.json").write_bytes(manifest)  # so that the next case computes all masks again
        for layer in store.glob("layers/clouds-*"):
            shutil.rmtree(layer)
    print(json.dumps({"benchmark": "clouds", "tiles": tiles, "cases": results}))


if __name__ == "__main__":
    from restore_dit.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"{error}")
