"""Error of dates without an acquisition, by their distance to the nearest observation.

`python -m benchmarks.any_date MODEL --sites A B` asks for each clear date of a site in turn, after removing its
acquisition and all others within so many days: on both sides (as within a series) or on one side and everything beyond
(as before its beginning or after its end). The table has PSNR in dB, mean over dates, beside linear interpolation and
kriging; the last line is JSON. The model is not calibrated on the series, which would take most of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.__main__ import SHARED
from benchmarks.quality.sites import SOURCES, Site, prepare
from restore_dit.config import DataConfig, RadarConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.decoded_tile import DecodedTile
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.examples.normalisation import stored_to_published_scale
from restore_dit.data.loader import tile_reader
from restore_dit.evaluation.protocols import Method, baseline_methods, model_method
from restore_dit.reconstruction.model_directory import load_model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NO_DATA, Acquisitions, days_since_origin

DISTANCES = (5, 10, 20, 40)
"""Days to the nearest observation, at least."""

BASELINES = ("linear", "kriging")
KINDS = {"within": (True, True), "end": (True, False), "beginning": (False, True)}
"""Whether there are observations before and after the date."""


@dataclass(frozen=True)
class Found:
    """PSNR in dB of each method on one date without acquisition."""

    kind: str
    distance: int
    of_methods: dict[str, float]


def frames_left(days: NDArray[np.floating], frame: int, distance: int, kind: str) -> NDArray[np.intp] | None:
    """The frames that stay; None if a side that should have some has none, or fewer than four stay."""
    away, sides = days - days[frame], KINDS[kind]
    before, after = (away <= -distance) & sides[0], (away >= distance) & sides[1]
    if before.any() != sides[0] or after.any() != sides[1] or (before | after).sum() < 4:
        return None
    return np.flatnonzero(before | after)


def scores(site: Site, methods: dict[str, Method], most: int) -> Iterator[Found]:
    """Scores each date that has observations at all distances, for at most so many dates a tile."""
    maker = ExampleMaker(DataConfig(targets=site.targets), site.bands, seed=0)
    reader = tile_reader(site.store, DataConfig(targets=site.targets, radar=RadarConfig(track=BOTH_TRACKS)), keep=1)
    for tile_id in site.tile_ids:
        whole = reader(tile_id).series()
        tile = DecodedTile(whole)
        order = [whole.optical.bands.index(band) for band in site.bands]
        values = whole.optical.values[:, order]
        series = replace(whole, optical=Acquisitions(values, whole.optical.dates, site.bands))
        frames = maker.clear_frames(tile, "all")
        unknown = maker.unknown(tile)[frames] | (values[frames] == NO_DATA).any(axis=1)
        days = days_since_origin(series.optical.dates[frames])
        for target in np.unique(np.linspace(0, len(frames) - 1, most).astype(int)):
            truth = stored_to_published_scale(values[frames[target]])[:, ~unknown[target]]
            for kind in KINDS:
                left = [frames_left(days, target, distance, kind) for distance in DISTANCES]
                for distance, stays in zip(DISTANCES, left, strict=True):
                    if stays is None or any(one is None for one in left):
                        break
                    kept = np.sort(np.append(stays, target))
                    place = int(np.searchsorted(kept, target))
                    gaps = unknown[kept]
                    gaps[place] = True
                    of_methods = {}
                    for name, method in methods.items():
                        filled = method(series, frames[kept], gaps).values[place][:, ~unknown[target]]
                        of_methods[name] = float(-10 * np.log10(np.square(filled - truth).mean()))
                    yield Found(kind, distance, of_methods)


def main() -> int:
    """Scores all sites and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="default", help="model directory (default: the shipped one)")
    parser.add_argument("--sites", nargs="+", choices=list(SOURCES), default=list(SOURCES), metavar="SITE")
    parser.add_argument("--dates", type=int, default=15, help="maximum number of dates of a site (default 15)")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the sites' files")
    parser.add_argument("--folder", type=Path, help="folder for the tile stores (default: a temporary folder)")
    given = parser.parse_args()
    baselines = baseline_methods()
    methods = {name: baselines[name] for name in BASELINES}
    methods["model"] = model_method(load_model(given.model), SamplingOptions(calibrate=False))
    rows: list[dict[str, Any]] = []
    print(f"| site | side | days | dates | {' | '.join(methods)} |\n|---|---|---:|---:|{'---:|' * len(methods)}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.sites:
            site = prepare(name, given.data, given.folder or Path(temporary), "both")
            groups: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
            for found in scores(site, methods, given.dates):
                groups[found.kind, found.distance].append(found.of_methods)
            for kind, distance in product(KINDS, DISTANCES):
                of_dates = groups[kind, distance]
                if not of_dates:
                    continue
                means = {method: fmean(one[method] for one in of_dates) for method in methods}
                rows.append({"site": name, "side": kind, "days": distance, "dates": len(of_dates)} | means)
                shown = " | ".join(f"{value:.2f}" for value in means.values())
                print(f"| {name} | {kind} | {distance} | {len(of_dates)} | {shown} |", flush=True)
    print(json.dumps({"benchmark": "any_date", "model": given.model, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
