"""Speed of training steps and forward passes while other processes keep the CPUs busy, relative to an idle machine.

`python -m benchmarks.busy [--rounds 3] [--seconds 3]` prints a table and, as the last line, JSON. Each case runs in two
processes that alternate in short slices, so that conditions are the same: one with the project's thread settings
(`restore_dit.threads`), one with PyTorch's defaults. The busy processes are single-threaded Python loops. Shares are
medians over the rounds of the speed under load divided by the speed of the same process without load.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

BUSY = (0, 1, 2)
"""Numbers of busy processes."""

CASES = {
    "tiny-step": "step of `tiny`, 8 crops of 32 pixels",
    "published-forward": "forward pass, published size",
    "published-step": "step, published size",
}
WAYS = {"settled": "project settings", "library": "PyTorch defaults"}


class Computer:
    """A process that runs one case on request."""

    def __init__(self, case: str, way: str) -> None:
        command = [sys.executable, "-m", "benchmarks.busy", "--compute", case, "--way", way]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def speed(self, seconds: float) -> float:
        """Calls per second, measured over this many seconds but at least one call."""
        assert self._process.stdin is not None
        print(seconds, file=self._process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended: {' '.join(map(str, self._process.args))}")  # type: ignore[arg-type]
        return line

    def close(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Runs this many busy processes in the background."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for other in others:
            other.send_signal(signal.SIGKILL)
            other.wait()


def measure(case: str, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """For each way: calls per second without load, that speed relative to PyTorch's defaults, and the share that
    remains beside one and two busy processes."""
    speeds: dict[tuple[str, int], list[float]] = {(way, count): [] for way in WAYS for count in BUSY}
    with ExitStack() as stack:
        computers = {way: Computer(case, way) for way in WAYS}
        for computer in computers.values():
            stack.callback(computer.close)
        for _ in range(rounds):
            for count in BUSY:
                with busy(count):
                    for way, computer in computers.items():
                        if case == "tiny-step":  # the thread settings adapt to the load during a longer call
                            computer.speed(1.5)
                        speeds[way, count].append(computer.speed(seconds))
    results = {}
    for way in WAYS:
        alone = speeds[way, 0]
        results[way] = {"alone": statistics.median(alone), "over_library": _ratio(alone, speeds["library", 0])}
        results[way] |= {f"beside_{count}": _ratio(speeds[way, count], alone) for count in BUSY[1:]}
    return results


def _ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def compute(case: str, way: str, orders: IO[str]) -> None:
    """Reads durations in seconds from `orders`, one per line, and prints the calls per second for each."""
    from restore_dit import threads

    if way == "settled":
        threads.watch()
    import torch

    from restore_dit.config import paper, tiny
    from restore_dit.model.conditioning import Conditioning
    from restore_dit.model.denoiser import Denoiser
    from restore_dit.series import S2_BANDS

    config, (batch, frames, side) = (tiny(), (8, 10, 32)) if case.startswith("tiny") else (paper(), (1, 15, 128))
    model = config.model.model_copy(update={"bands": S2_BANDS})
    torch.manual_seed(0)
    denoiser = Denoiser(model)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)  # avoid products with zeros
    noisy = torch.randn(batch, frames, len(S2_BANDS), side, side)
    radar = torch.randn(batch, frames, 3, side, side)
    dates = torch.arange(frames).repeat(batch, 1) * 10.0
    conditioning, step = Conditioning(optical_dates=dates, radar=radar), torch.full((batch,), 500)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-4)
    # Without bf16 instructions, a CPU is many times slower in bf16 than in fp32.
    precision = torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16())

    def call() -> None:
        training = case.endswith("step")
        with torch.set_grad_enabled(training), precision:
            output = denoiser(noisy, step, conditioning)
        if training:
            optimiser.zero_grad()
            output.square().mean().backward()
            optimiser.step()

    call()
    print("ready", flush=True)
    for line in orders:
        calls, seconds, begun = 0, float(line), time.perf_counter()
        while not calls or time.perf_counter() - begun < seconds:
            call()
            calls += 1
        print(calls / (time.perf_counter() - begun), flush=True)


def computes_in_bf16() -> bool:
    """Whether the CPU has bf16 instructions."""
    return bool({"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split()))


def main() -> int:
    """Runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="slices per process and load (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a slice (default 3)")
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases to run (default: all)")
    parser.add_argument("--compute", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compute:
        compute(given.compute, given.way, sys.stdin)
        return 0
    print(f"{len(os.sched_getaffinity(0))} CPUs, {'bf16' if computes_in_bf16() else 'fp32'}")
    print(f"{'':40}{'threads':28}{'alone/s':>9}{'to PyTorch':>12}{'beside one':>12}{'beside two':>12}")
    results = {}
    for case in given.only or CASES:
        results[case] = measure(case, given.rounds, given.seconds)
        for way, row in results[case].items():
            print(
                f"{CASES[case]:40}{WAYS[way]:28}{row['alone']:9.3f}{row['over_library']:12.2f}"
                f"{row['beside_1']:12.0%}{row['beside_2']:12.0%}",
                flush=True,
            )
    print(json.dumps({"benchmark": "busy", "bf16": computes_in_bf16(), "cases": results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
