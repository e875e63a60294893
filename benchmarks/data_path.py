"""Throughput of training examples of PASTIS-R's size from its .npy files, from a local tile store and from one on S3.

`python -m benchmarks.data_path [--patches 64] [--examples 768] [--folder F]` writes simulated patches in PASTIS-R's
layout, ingests them, and prints examples/s, bytes and requests per example, and peak memory of every case and, as the
last line, JSON. Each case runs in its own process. S3 is a real server (Ceph) on the same machine, with which it shares
the cores; without Ceph, these cases are skipped with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.memory import own_memory, watched_memory
from restore_dit.threads import ONE_THREAD

BATCH = 16
MICRO_BATCH = 8
CPUS = 2


@dataclass(frozen=True)
class Case:
    """One row of the table. `source` is npy, store or s3; `consumers` is the number of Ray consumers, 0 for the current
    process; `workers` that of PyTorch's loader. `as_input` includes the conversion to floating point on the network's
    scale, as the published loader does; without it, integers are delivered and the conversion is left to a GPU."""

    title: str
    source: str
    consumers: int = 0
    workers: int = 0
    stage: str = "together"
    as_input: bool = True


CASES = {
    "npy-0": Case("DataLoader over .npy, in process", "npy"),
    "npy-2": Case("DataLoader over .npy, 2 processes", "npy", workers=2),
    "open": Case("opening tiles: footers and masks", "store", stage="open"),
    "read": Case("reading 15 + 15 frames' bytes", "store", stage="read"),
    "decode": Case("decoding 15 + 15 frames", "store", stage="decode"),
    "cut": Case("examples, in process", "store", as_input=False),
    "input": Case("network's input, in process", "store"),
    "ray-1": Case("Ray Data, 1 consumer", "store", consumers=1, as_input=False),
    "ray-1-input": Case("Ray Data, 1 consumer, network's input", "store", consumers=1),
    "ray-2": Case("Ray Data, 2 consumers", "store", consumers=2, as_input=False),
    "s3-read": Case("S3: reading 15 + 15 frames' bytes", "s3", stage="read"),
    "s3-cut": Case("S3: examples, in process", "s3", as_input=False),
    "s3-ray-1": Case("S3: Ray Data, 1 consumer", "s3", consumers=1, as_input=False),
    "s3-ray-2": Case("S3: Ray Data, 2 consumers", "s3", consumers=2, as_input=False),
}


def setup_of(store: str) -> Any:
    """The training setup of the published method on a store, which determines the frames of each example."""
    from restore_dit.config import TargetConfig, paper
    from restore_dit.training.setup import set_up

    config = paper()
    data = config.data.model_copy(update={"store": store, "targets": TargetConfig(by="source_list")})
    training = config.training.model_copy(update={"batch_size": BATCH, "micro_batch_size": MICRO_BATCH})
    return set_up(config.model_copy(update={"data": data, "training": training}))


@contextmanager
def counted_requests() -> Iterator[dict[str, int]]:
    """Counts the bytes and requests that this process reads from storage."""
    from restore_dit.data import storage
    from restore_dit.data.storage import ranges

    counts = {"bytes": 0, "requests": 0}
    read_span, read_ranges = ranges.read_span, storage.read_ranges

    def counting_server(*arguments: Any, **options: Any) -> Any:
        content = read_span(*arguments, **options)
        counts["bytes"] += len(content)
        counts["requests"] += 1
        return content

    def counting_disk(place: Any, wanted: Any, *arguments: Any, **options: Any) -> Any:
        if storage.locate(place).is_local:
            counts["bytes"] += sum(length for _, length in wanted)
            counts["requests"] += len(wanted)
        return read_ranges(place, wanted, *arguments, **options)

    with (
        mock.patch.object(ranges, "read_span", counting_server),
        mock.patch.object(storage, "read_ranges", counting_disk),
    ):
        yield counts


def in_process(case: Case, store: str, examples: int) -> dict[str, float]:
    """Makes the examples of the plan in this process, batch by batch."""
    import torch

    from restore_dit.data.examples.batch import to_batch

    torch.set_num_threads(1)
    setup = setup_of(store)
    steps = examples // BATCH

    def planned(step: int) -> Iterator[Any]:
        return (micro for micro in setup.plan.share(step, 0, 1, MICRO_BATCH))

    def run(step: int) -> None:
        for micro in planned(step):
            if case.stage == "open":
                for entry in micro:
                    setup.reader.store.load(entry.tile_id, radar_tracks=("S1A",))
                continue
            tiles = setup.reader.all([entry.tile_id for entry in micro])
            if case.stage == "together":
                columns = setup.maker.training(tiles, micro, threads=setup.reader.threads)
                if case.as_input:
                    to_batch(columns, setup.normalisation)
                continue
            for tile in tiles:
                for stored in (tile.optical, tile.radar["S1A"]):
                    frames = np.arange(15)
                    stored.encoded(frames) if case.stage == "read" else [None for _ in stored.frames(frames)]

    for step in range(setup.plan.steps_per_epoch):
        run(step)
    with counted_requests() as counts:
        begin = time.perf_counter()
        for step in range(steps):
            run(step)
        seconds = time.perf_counter() - begin
    done = steps * BATCH
    rates = {f"{name}_an_example": count / done for name, count in counts.items()}
    return {"examples_a_second": done / seconds, "peak_mb": own_memory("VmHWM") / 1e6} | rates


def over_npy(case: Case, folder: Path, examples: int) -> dict[str, float]:
    """Runs the baseline over .npy files."""
    import torch

    from benchmarks.npy_loader import batches

    torch.set_num_threads(1)
    with watched_memory("benchmarks.data_path") as peaks:
        loader = batches(folder, examples, MICRO_BATCH, case.workers)
        iterator = iter(loader)
        next(iterator)
        begin, count = time.perf_counter(), 0
        for batch in iterator:
            count += len(batch["optical"])
        seconds = time.perf_counter() - begin
    one = [folder / "DATA_S2" / "S2_*.npy", folder / "DATA_S1A" / "S1A_*.npy", folder / "REAL_MASKS" / "*.npy"]
    sizes = [np.mean([file.stat().st_size for file in pattern.parent.glob(pattern.name)]) for pattern in one]
    return {
        "examples_a_second": count / seconds,
        "peak_mb": max(peaks.values()) / 1e6,
        "bytes_an_example": float(sum(sizes)),
        "requests_an_example": 3.0,
    }


def through_ray(case: Case, store: str, examples: int) -> dict[str, float]:
    """Streams examples through Ray Data on two CPUs to one or two consumers, each taking its share of every step."""
    import ray

    from restore_dit.data import stream

    environment = {"env_vars": ONE_THREAD}
    ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False, runtime_env=environment,
             object_store_memory=2 << 30, logging_level="WARNING")  # fmt: skip
    setup = setup_of(store)
    source = ray.put(stream.StreamSource(setup.plan, setup.reader, setup.maker))
    steps = examples // BATCH

    @ray.remote(num_cpus=0)
    def consume(rank: int) -> list[float]:
        from restore_dit.data.examples.batch import to_batch

        micro = MICRO_BATCH if case.consumers == 1 else BATCH // case.consumers
        times = []
        for micro_batches in stream.step_batches(
            source, setup.plan, 0, steps, micro, rank=rank, world_size=case.consumers,
            cpus_for_training=0, cpus_a_task=0.5,
        ):  # fmt: skip
            for columns in micro_batches:
                if case.as_input:
                    to_batch(columns, setup.normalisation)
            times.append(time.time())
        return times

    begin = time.time()
    with watched_memory("ray::") as peaks:
        arrivals = ray.get([consume.remote(rank) for rank in range(case.consumers)], timeout=900)
    warm = steps // 4  # processes start, and every tile is opened for the first time
    started, ended = max(times[warm - 1] for times in arrivals), max(times[-1] for times in arrivals)
    spilled = _spilled_bytes()
    ray.shutdown()
    return {
        "examples_a_second": (steps - warm) * BATCH / (ended - started),
        "first_step_s": max(times[0] for times in arrivals) - begin,
        "peak_mb": max(peaks.values()) / 1e6,
        "spilled_bytes": spilled,
    }


def _spilled_bytes() -> float:
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    return float(reply.store_stats.spilled_bytes_total)


def run_case(case: Case, places: dict[str, str], examples: int) -> dict[str, float]:
    """Runs one case in this process."""
    place = places[case.source]
    if case.source == "npy":
        return over_npy(case, Path(place), examples)
    return through_ray(case, place, examples) if case.consumers else in_process(case, place, examples)


def prepare(folder: Path, patches: int) -> dict[str, str]:
    """Simulates patches in PASTIS-R's layout and ingests them to a store, unless they exist."""
    npy, store = folder / f"pastis-{patches}", folder / f"store-{patches}"
    command = [sys.executable, "-m", "restore_dit.cli"]
    if not (npy / "metadata.geojson").exists():
        _quietly([*command, "simulate", str(npy), "--layout", "pastis", "--tiles", str(patches)])
    _quietly([*command, "ingest-pastis", str(npy), str(store), "--workers", "0"])
    return {"npy": str(npy), "store": str(store)}


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | ONE_THREAD)


def upload(store: str, bucket: str) -> str:
    """Uploads the store's files to a bucket, the manifest last, and returns its URI."""
    from restore_dit.data import storage

    target = f"s3://{bucket}/store"
    files = sorted(Path(store).rglob("*"), key=lambda file: file.name == "manifest.json")
    for file in files:
        if file.is_file() and not file.name.startswith("."):
            storage.write_bytes_atomically(f"{target}/{file.relative_to(store)}", file.read_bytes())
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=64)
    parser.add_argument("--examples", type=int, default=768, help="examples per case (default 768)")
    parser.add_argument("--folder", type=Path, help="folder for patches and store (default: a temporary folder)")
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases to run (default: all)")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--places", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(CASES[arguments.case], arguments.places, arguments.examples)))
        return
    with ExitStack() as at_end:
        folder = arguments.folder or Path(at_end.enter_context(tempfile.TemporaryDirectory()))
        places = prepare(folder, arguments.patches)
        names = list(arguments.only or CASES)
        if any(CASES[name].source == "s3" for name in names):
            from tests.s3.ceph_server import CephNotInstalled, CephServer

            try:
                server = at_end.enter_context(CephServer())
            except CephNotInstalled as error:
                print(f"without S3: {error}")
                names = [name for name in names if CASES[name].source != "s3"]
            else:
                os.environ |= server.environment()
                server.client().create_bucket(Bucket="bench")
                places["s3"] = upload(places["store"], "bench")
        report(names, places, arguments.examples, arguments.patches)


def report(names: list[str], places: dict[str, str], examples: int, patches: int) -> None:
    """Runs the cases one after the other and prints the table."""
    print(f"{patches} patches of PASTIS-R's size, {examples} examples per case, {os.cpu_count()} CPUs, cached files")
    print(f"{'':40}{'examples/s':>11}{'of .npy':>9}{'MB each':>9}{'requests':>9}{'peak MB':>9}{'spilled':>9}")
    results: dict[str, dict[str, float]] = {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.data_path", "--case", name, "--places", json.dumps(places)]
        run = subprocess.run(
            [*command, "--examples", str(examples)], check=True, stdout=subprocess.PIPE, text=True, timeout=1200
        )
        result = results[name] = json.loads(run.stdout.splitlines()[-1])
        baseline = max(
            (results[case]["examples_a_second"] for case in ("npy-0", "npy-2") if case in results), default=0
        )
        same_work = baseline > 0 and CASES[name].as_input and CASES[name].stage == "together"
        if same_work:
            result["times_npy"] = result["examples_a_second"] / baseline
        columns = [
            f"{result['examples_a_second']:11.1f}",
            f"{result['times_npy']:8.2f}×" if same_work else " " * 9,
            f"{result['bytes_an_example'] / 1e6:9.2f}" if "bytes_an_example" in result else " " * 9,
            f"{result['requests_an_example']:9.1f}" if "requests_an_example" in result else " " * 9,
            f"{result['peak_mb']:9.0f}",
            f"{result['spilled_bytes']:9.0f}" if "spilled_bytes" in result else "",
        ]
        print(f"{CASES[name].title:40}{''.join(columns)}", flush=True)
    print(json.dumps({"benchmark": "data_path", "patches": patches, "examples": examples, "cases": results}))


if __name__ == "__main__":
    main()
