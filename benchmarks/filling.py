"""Time to fill a series compared with kriging alone, in seconds per million pixel-dates.

`python -m benchmarks.filling [--model default] [--side 64] [--rounds 3]` fills a simulated series of clear dates, a
third of which are hidden entirely or in part, and prints a table and, as the last line, JSON. "kriging" is the
network's prior alone, for all dates and bands at once; the rest is the cost of the network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.examples.normalisation import stored_to_published_scale
from restore_dit.data.simulation import simulate_tile
from restore_dit.model.interpolation import krige
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.reconstruct import reconstruct
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import TileSeries, days_since_origin


def cases(
    model: Model, series: TileSeries, frames: NDArray[np.intp], gaps: NDArray[np.bool_]
) -> dict[str, Callable[[], object]]:
    """The functions to time, by name."""
    values = torch.from_numpy(stored_to_published_scale(series.optical.values[frames]))[None]
    observed = torch.from_numpy(~gaps)[None, :, None]
    days = torch.from_numpy(days_since_origin(series.optical.dates[frames]))[None]

    def filled(precision: Literal["fp32", "bf16"], *, calibrate: bool) -> Callable[[], object]:
        options = SamplingOptions(precision=precision, calibrate=calibrate, mask_dilation=0)
        return lambda: reconstruct(model, series, frames, gaps, options)

    return {
        "kriging": lambda: krige(values, observed, days),
        "network, fp32": filled("fp32", calibrate=False),
        "network, fp32, calibrated on the series": filled("fp32", calibrate=True),
        "network, bf16": filled("bf16", calibrate=False),
    }


def main() -> int:
    """Times all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--side", type=int, default=64, help="side length of the area in pixels (default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = load_model(given.model)
    config = SimulationConfig(
        height=given.side, width=given.side, days=400, cloudiness=0.2, cloudiness_spread=0, orbit_overlap=True
    )
    series = simulate_tile(config, 4711, 0)
    assert series.clouds is not None
    frames = np.flatnonzero((series.clouds == 0).mean(axis=(1, 2)) > 0.9)
    gaps = np.zeros((len(frames), given.side, given.side), bool)
    gaps[::6] = True
    gaps[3::6, :, given.side // 3 :] = True
    pixel_dates = gaps.size / 1e6
    print(f"{len(frames)} dates of {given.side}×{given.side} pixels, ten bands, radar of both tracks")
    print(f"{'':44} {'s per million pixel-dates':>24} {'to kriging':>11}")
    timed = cases(model, series, frames, gaps)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    with torch.no_grad():
        for run in timed.values():
            run()
        for _ in range(given.rounds):
            for name, run in timed.items():
                begin = time.perf_counter()
                run()
                seconds[name].append((time.perf_counter() - begin) / pixel_dates)
    found = {name: statistics.median(each) for name, each in seconds.items()}
    for name, value in found.items():
        print(f"{name:44} {value:24.1f} {value / found['kriging']:11.1f}")
    print(json.dumps({"benchmark": "filling", "dates": len(frames), "side": given.side, "seconds": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
