"""Speed of training and sampling steps of the published size on one GPU, relative to the peak of the GPU.

`python -m benchmarks.gpu [--repeats 8] [--presets paper tiny]` prints tables and, as the last line, JSON. The
baseline is the published method: fp32 without checkpointing. Without a GPU, it prints a message and exits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from restore_dit.config import PRESETS, RunConfig
from restore_dit.data.examples.batch import Batch
from restore_dit.diffusion.prediction import Prediction
from restore_dit.diffusion.samplers import sample_inpainting
from restore_dit.model.conditioning import Conditioning
from restore_dit.model.denoiser import Denoiser
from restore_dit.training.run import ObjectiveModule

SIDE = 128
"""Side length of a tile in pixels."""


@dataclass(frozen=True)
class Case:
    """One row of the training table."""

    micro_batch: int
    precision: str
    checkpointing: bool = False

    @property
    def title(self) -> str:
        """Title of the row."""
        return f"{self.micro_batch} examples, {self.precision}{', checkpointing' if self.checkpointing else ''}"


CASES = (
    Case(1, "fp32"),
    Case(4, "fp32"),
    Case(1, "bf16"),
    Case(4, "bf16"),
    Case(16, "bf16"),
    Case(16, "bf16", checkpointing=True),
)


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """Median time on the GPU in milliseconds, after a warm-up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def ceilings(repeats: int) -> dict[str, float]:
    """Measured peaks of the GPU: bf16 and fp32 matrix products in TFLOP/s, a copy in TB/s (bytes read and written)."""
    side = 8192
    found = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        one, other = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
        found[f"{name}_tflops"] = 2 * side**3 / milliseconds(partial(torch.matmul, one, other), repeats) / 1e9
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    found["copy_tb_s"] = 2 * source.nbytes / milliseconds(lambda: target.copy_(source), repeats) / 1e9
    return found


def batch_of(config: RunConfig, count: int) -> Batch:
    """Random examples of the preset's shape, with a third of the pixels missing."""
    generator = torch.Generator("cuda").manual_seed(0)
    frames, bands = config.data.frames, len(config.model.bands)
    radar_frames = frames if config.model.radar_attention == "paired" else config.data.radar.frames

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, device="cuda")

    target = uniform(count, frames, bands, SIDE, SIDE) * 2 - 1
    return Batch(
        target=target,
        conditioning=Conditioning(
            optical_dates=torch.arange(frames, device="cuda").expand(count, frames) * 10.0,
            frame_mask=torch.ones(count, frames, dtype=torch.bool, device="cuda") if config.data.mask_padding else None,
            observed=target,
            gap_mask=uniform(count, frames, 1, SIDE, SIDE) < 1 / 3,
            radar=uniform(count, radar_frames, len(config.model.radar_channels), SIDE, SIDE) * 2 - 1,
            radar_dates=torch.arange(radar_frames, device="cuda").expand(count, radar_frames) * 6.0,
        ),
        valid=torch.ones(count, frames, 1, SIDE, SIDE, dtype=torch.bool, device="cuda"),
        quantile=uniform(count),
        noise_seed=torch.arange(count),
        weight=torch.ones(count, device="cuda"),
        examples=(),
    )


def training_step(config: RunConfig, case: Case, repeats: int) -> tuple[float, float]:
    """Time in milliseconds and peak memory in GiB of loss, gradient and AdamW step on one micro-batch."""
    denoiser = Denoiser(config.model, activation_checkpointing=case.checkpointing)
    module = ObjectiveModule(denoiser, config.diffusion, case.precision).cuda()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)
    batch = batch_of(config, case.micro_batch)

    def step() -> None:
        module(batch).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    torch.cuda.reset_peak_memory_stats()
    return milliseconds(step, repeats), torch.cuda.max_memory_allocated() / 2**30


def sampling(config: RunConfig, count: int, precision: str, repeats: int) -> float:
    """Time of one sampling step over a batch of windows, in milliseconds."""
    denoiser = Denoiser(config.model).cuda().eval()
    batch = batch_of(config, count)
    prediction = Prediction.from_config(config.diffusion)
    noise = torch.randn_like(batch.target)

    def sample() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            sample_inpainting(denoiser, noise, batch.conditioning, prediction, 1)

    return milliseconds(sample, repeats)


def forward_gflop(config: RunConfig) -> float:
    """GFLOP of the forward pass of one window."""
    denoiser, batch = Denoiser(config.model).cuda(), batch_of(config, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(batch.target, torch.tensor([500], device="cuda"), batch.conditioning)
    return counter.get_total_flops() / 1e9


def measure(preset: str, limits: dict[str, float], repeats: int) -> list[dict[str, Any]]:
    """Measures one preset and prints each row as soon as it is known."""
    config = PRESETS[preset]()
    gflop = forward_gflop(config)
    print(f"\n{preset}: {gflop:.0f} GFLOP per forward pass of 15×{SIDE}×{SIDE}, three times that per training step")
    print(f"{'':40} {'ms':>8} {'examples/s':>11} {'TFLOP/s':>8} {'of peak':>8} {'GiB':>6}")
    rows = []
    for case in CASES:
        try:
            time, peak = training_step(config, case, repeats)
        except torch.OutOfMemoryError:
            print(f"{case.title:40} does not fit")
            continue
        finally:
            torch.cuda.empty_cache()
        rate = case.micro_batch / time * 1e3
        reached = rate * 3 * gflop / 1e3
        share = reached / limits[f"{case.precision}_tflops"]
        print(f"{case.title:40} {time:8.1f} {rate:11.1f} {reached:8.1f} {share:8.1%} {peak:6.1f}", flush=True)
        rows.append({"preset": preset, "case": case.title, "ms": time, "examples_s": rate, "share": share, "gib": peak})
    for count, precision in ((1, "fp32"), (1, "bf16"), (16, "bf16")):
        time = sampling(config, count, precision, repeats)
        print(
            f"{f'one sampling step of {count} windows, {precision}':40} {time:8.1f} {count / time * 1e3:11.1f}",
            flush=True,
        )
        rows.append({"preset": preset, "sampling": count, "precision": precision, "ms": time})
    return rows


def main() -> int:
    """Measures the presets and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--presets", nargs="+", default=["paper"], choices=["paper", "tiny"])
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("PyTorch sees no GPU on this machine; nothing was measured", file=sys.stderr)
        return 0
    card = torch.cuda.get_device_name()
    limits = ceilings(given.repeats)
    print(f"{card}, torch {torch.__version__}: " + ", ".join(f"{name} {value:.1f}" for name, value in limits.items()))
    rows = [row for preset in given.presets for row in measure(preset, limits, given.repeats)]
    print(json.dumps({"benchmark": "gpu", "card": card, "torch": torch.__version__, **limits, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
