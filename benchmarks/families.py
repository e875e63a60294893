"""Checks that every diffusion family learns: its loss, and the PSNR of its samples compared with filling by the mean.

`python -m benchmarks.families [--anchor linear] [key=value …]` trains each family in this process, on 40 simulated
tiles unless a store is given, and prints a table and, as the last line, JSON. It is not part of `make bench`: it takes
half an hour on two cores.

The network must be wide enough to represent noise: three bands, 48 values per patch, and 128 channels. In `tiny`, 160
values would have to pass through 64 channels, so that a network could not predict the noise.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from restore_dit.config import RunConfig, load
from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tiles
from restore_dit.data.store.tile_store import TileStoreWriter
from restore_dit.evaluation.metrics import PUBLISHED_SCALE, score_series
from restore_dit.reconstruction.model_directory import load_model
from restore_dit.trainer.monitor import Report, StepReport
from restore_dit.training.run import run_training
from restore_dit.training.setup import TrainingSetup, set_up
from restore_dit.training.validation import validate

FAMILIES: dict[str, dict[str, Any]] = {
    "linear, x0": {},
    "linear, epsilon": {"prediction": "epsilon"},
    "linear, v": {"prediction": "v"},
    "scaled linear, x0": {"schedule": "scaled_linear"},
    "cosine, x0": {"schedule": "cosine"},
    "cosine, epsilon": {"schedule": "cosine", "prediction": "epsilon"},
    "cosine, v, zero SNR": {"schedule": "cosine", "prediction": "v", "zero_terminal_snr": True},
    "sigmoid, v": {"schedule": "sigmoid", "prediction": "v"},
    "linear, v, min-SNR": {"prediction": "v", "loss_weighting": "min_snr"},
    "linear, x0, logit-normal": {"timestep_sampling": "logit_normal"},
    "straight, x0": {"schedule": "straight"},
    "straight, flow": {"schedule": "straight", "prediction": "flow", "sampler": "euler"},
}

NETWORK = ("model.bands=[B03,B04,B8A]", "model.hidden_size=128", "model.heads=4", "data.crop=16")
EVERY_STEP = "diffusion.sampled_share=0.0"

STEPS = (1, 10)
"""Numbers of sampling steps in the table."""


class Losses:
    """A sink that records the losses of a training run."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def show(self, report: Report) -> None:
        """Records a report."""
        if isinstance(report, StepReport):
            self.values.append(report.loss)

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


def simulated_store(folder: str) -> str:
    """Simulates a store of forty tiles of 64×64 pixels and returns its path."""
    writer = TileStoreWriter(folder, source="simulation")
    for series in simulate_tiles(SimulationConfig(height=64, width=64), 0, range(40)):
        writer.add(series)
    writer.commit()
    return folder


def mean_fill_psnr(setup: TrainingSetup) -> float:
    """PSNR of missing pixels when the gaps of each pixel are filled with the mean of its visible values."""
    scores = []
    for tile_id, draw in setup.validation:
        example = setup.maker.validation(setup.reader(tile_id), draw)
        frames = example["frame_mask"][0]
        target = np.clip(example["optical"][0, frames], 0, 8000).astype(np.float32) / 8000
        gaps, unknown = example["gap_mask"][0, frames, 0], ~example["valid"][0, frames, 0]
        seen = ~(gaps | unknown)[:, None]
        count = seen.sum(axis=0)
        pixel_mean = np.where(seen, target, 0).sum(axis=0) / np.maximum(count, 1)
        band_mean = np.where(seen, target, 0).sum(axis=(0, 2, 3)) / max(int(count.sum()), 1)
        estimate = np.broadcast_to(np.where(count, pixel_mean, band_mean[:, None, None]), target.shape)
        psnr = score_series(target, estimate, gaps, unknown, scale_name=PUBLISHED_SCALE).missing.psnr
        if psnr is not None:
            scores.append(psnr)
    return statistics.fmean(scores)


def train(name: str, settings: dict[str, Any], store: str, runs: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains a family and returns its row of the table."""
    base = load(
        "tiny",
        [
            f"data.store={store}", f"output={runs}", f"training.epochs={given.epochs}", "training.log_every=10",
            "training.validate_every=100000", f"model.anchor={given.anchor}", f"name=family-{[*FAMILIES].index(name)}",
            *NETWORK, EVERY_STEP, *given.overrides,
        ],
    )  # fmt: skip
    config = base.model_copy(update={"diffusion": base.diffusion.model_validate(settings)})
    losses = Losses()
    result = run_training(config, Console(file=io.StringIO()), [losses])
    row: dict[str, Any] = {
        "family": name,
        "start": losses.values[0],
        "end": statistics.fmean(losses.values[-5:]),
        "steps": result.step,
    }
    for steps in STEPS:
        row[f"psnr_{steps}"] = sampled_psnr(config, steps, result.model)
    return row


def sampled_psnr(config: RunConfig, steps: int, model: str) -> float:
    """Validation PSNR with this many sampling steps."""
    diffusion = config.diffusion.model_copy(update={"sampling_steps": steps})
    setup = set_up(config.model_copy(update={"diffusion": diffusion}))
    return validate(setup, load_model(model).denoiser).score


def main() -> int:
    """Trains all families and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="tile store to train on (default: 40 simulated tiles)")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--anchor", choices=("none", "linear"), default="none")
    parser.add_argument("--only", choices=[*FAMILIES], action="append", help="a family to train; can be repeated")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the run's configuration")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or simulated_store(str(Path(folder) / "store"))
        reference = set_up(load("tiny", [f"data.store={store}", f"output={folder}", *NETWORK, *given.overrides]))
        baseline = mean_fill_psnr(reference)
        print(f"filling with the mean: {baseline:.2f} dB")
        print(f"{'family':26} {'loss at 10 steps':>17} {'at the end':>11} {'ratio':>6}", end="")
        print("".join(f" {f'{steps} step(s), dB':>15}" for steps in STEPS))
        rows = []
        for name in given.only or [*FAMILIES]:
            row = train(name, FAMILIES[name], store, str(Path(folder) / "runs"), given)
            rows.append(row)
            print(f"{name:26} {row['start']:17.4f} {row['end']:11.4f} {row['end'] / row['start']:6.2f}", end="")
            print("".join(f" {row[f'psnr_{steps}']:15.2f}" for steps in STEPS), flush=True)
    print(json.dumps({"benchmark": "families", "anchor": given.anchor, "mean_fill": baseline, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
