"""Time and memory of the published-size denoiser on one sample, with explicit and with fused attention.

`python -m benchmarks.denoiser [--repeats 3] [--threads 2]` prints a table and, as the last line, JSON. Every case runs
in its own process, so that peak memory is measured separately.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from restore_dit.config import paper
from restore_dit.model import attention
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.denoiser import Denoiser

FRAMES, BANDS, RADAR, SIDE = 15, 10, 3, 128
"""Shape of a sample in the paper."""


@dataclass(frozen=True)
class Case:
    """One row of the table: how attention is computed, in which precision, and what is measured."""

    title: str
    training: bool
    written_out: bool = False
    autocast: bool = False
    bf16_weights: bool = False
    activation_checkpointing: bool = False


CASES = {
    "a-forward": Case("(a) fp32, attention written out", training=False, written_out=True),
    "b-forward": Case("(b) fp32", training=False),
    "c-forward": Case("(c) bf16 autocast", training=False, autocast=True),
    "c-forward-weights": Case("(c) bf16 weights", training=False, bf16_weights=True),
    "a-step": Case("(a) fp32, attention written out", training=True, written_out=True),
    "b-step": Case("(b) fp32", training=True),
    "c-step": Case("(c) bf16 autocast", training=True, autocast=True),
    "d-step": Case("(d) bf16 autocast, checkpointing", training=True, autocast=True, activation_checkpointing=True),
}


def written_out_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(QKᵀ/√d)V with the whole score matrix in memory, as in the published network."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    return scores.softmax(dim=-1) @ value


@contextmanager
def attention_written_out() -> Iterator[None]:
    """Replaces the fused attention of our model by the explicit one."""
    with mock.patch.object(attention.functional, "scaled_dot_product_attention", written_out_attention):
        yield


def sample() -> tuple[Tensor, Tensor, Conditioning]:
    """A random input of the paper's shape."""
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, FRAMES, BANDS, SIDE, SIDE, generator=generator)
    radar = torch.randn(1, FRAMES, RADAR, SIDE, SIDE, generator=generator)
    dates = torch.arange(FRAMES)[None] * 10.0
    return noisy, torch.tensor([500]), Conditioning(optical_dates=dates, radar=radar)


def published_size(*, activation_checkpointing: bool = False) -> Denoiser:
    """The paper's network, with small random weights in its zero-initialised layers to avoid products with zeros."""
    denoiser = Denoiser(paper().model, activation_checkpointing=activation_checkpointing)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return denoiser


def forward_gflop() -> float:
    """GFLOP of all matrix products in a forward pass, as counted by PyTorch."""
    with torch.inference_mode(), attention_written_out(), FlopCounterMode(display=False) as counter:
        published_size()(*sample())
    return float(counter.get_total_flops()) / 1e9


def best_of(repeats: int, function: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, after one warm-up call."""
    function()
    fastest = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6


def run_case(case: Case, repeats: int) -> dict[str, float]:
    """Runs one case in this process: seconds, and peak memory in MB above that of the built model."""
    noisy, step, conditioning = sample()
    denoiser = published_size(activation_checkpointing=case.activation_checkpointing)
    if case.bf16_weights:
        denoiser = denoiser.bfloat16()
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=2e-4)
    precision = torch.autocast("cpu", torch.bfloat16) if case.autocast else nullcontext()

    def forward() -> None:
        with torch.inference_mode(), precision:
            denoiser(noisy, step, conditioning)

    def training_step() -> None:
        optimiser.zero_grad()
        with precision:
            output = denoiser(noisy, step, conditioning)
        output.square().mean().backward()
        optimiser.step()

    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    with attention_written_out() if case.written_out else nullcontext():
        seconds = best_of(repeats, training_step if case.training else forward)
    return {"seconds": seconds, "peak_mb": memory_mb("VmHWM") - before}


def matmul_peak(dtype: torch.dtype, repeats: int) -> float:
    """Peak GFLOP/s of this machine: the fastest of three matrix products, square and tall."""
    best = 0.0
    for rows, inner, columns in ((4096, 4096, 4096), (2048, 2048, 2048), (15360, 1024, 1024)):
        left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
        seconds = best_of(repeats, lambda left=left, right=right: left @ right)  # type: ignore[misc]
        best = max(best, 2e-9 * rows * inner * columns / seconds)
    return best


def in_own_process(arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.denoiser", *arguments]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed calls per case, of which the fastest counts (default 3)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases to run (default: all)")
    parser.add_argument("--case", choices=[*CASES, "peak"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case == "peak":
        types = {"fp32": torch.float32, "bf16": torch.bfloat16}
        print(json.dumps({name: matmul_peak(dtype, arguments.repeats) for name, dtype in types.items()}))
        return
    if arguments.case:
        print(json.dumps(run_case(CASES[arguments.case], arguments.repeats)))
        return

    options = ["--repeats", str(arguments.repeats), "--threads", str(arguments.threads)]
    gflop = forward_gflop()
    peak = in_own_process(["--case", "peak", *options])
    print(f"forward pass of one sample of {FRAMES}×{SIDE}×{SIDE}: {gflop:.1f} GFLOP; a training step counts as three")
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in peak.items())
    print(f"peak of matrix products, {arguments.threads} threads: {rates} GFLOP/s")
    print(f"{'':34}{'':9}{'s':>7}{'GFLOP/s':>9}{'of peak':>9}{'MB':>7}{'faster':>8}{'memory':>8}")
    results: dict[str, dict[str, float]] = {}
    for name in arguments.only or CASES:
        case = CASES[name]
        result = in_own_process(["--case", name, *options])
        rate = gflop * (3 if case.training else 1) / result["seconds"]
        result |= {"gflops": rate, "of_peak": rate / peak["bf16" if case.autocast or case.bf16_weights else "fp32"]}
        baseline = results.get("a-step" if case.training else "a-forward")
        if baseline:
            result["times_faster"] = baseline["seconds"] / result["seconds"]
            result["memory_share"] = result["peak_mb"] / baseline["peak_mb"]
        results[name] = result
        ratios = f"{result['times_faster']:8.2f}{result['memory_share']:8.2f}" if baseline else ""
        print(
            f"{case.title:34}{'step' if case.training else 'forward':9}{result['seconds']:7.2f}{rate:9.0f}"
            f"{result['of_peak']:9.0%}{result['peak_mb']:7.0f}{ratios}",
            flush=True,
        )
    print(json.dumps({"benchmark": "denoiser", "forward_gflop": gflop, "peak_gflops": peak, "cases": results}))


if __name__ == "__main__":
    main()
