"""What a better cloud mask is worth: the quality of filled series by the masks that hide their clouds.

`python -m benchmarks.quality.masks --sites A B` fills each site with each of its masks in turn. Only the masks that
hide pixels from the model differ. What is hidden in addition, and scored, is the same: pixels that every mask calls
clear, on dates that every mask calls clear. As in real use, all other dates are visible where the mask calls them
clear, so clouds that it misses count as ground. `missing-frame` hides a third of the clear dates at a time, never two
in a row, and scores each of them; `paper` hides, in all of them at once, what the site's own masks hide in its first
dates. PSNR is in dB on the published scale, mean over dates (`paper`: over tiles). The model is not calibrated on the
series, which would take most of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.__main__ import SHARED
from benchmarks.quality.sites import SITES, prepare
from benchmarks.quality.table import PROTOCOLS
from restore_dit.clouds.comparison import mask_layer
from restore_dit.clouds.detect import plan_detection
from restore_dit.config.clouds import DetectionConfig
from restore_dit.data.examples.dilation import hidden_pixels, mistaken_ground
from restore_dit.data.examples.normalisation import stored_to_published_scale
from restore_dit.data.runner import run
from restore_dit.data.store.masks import SOURCE, TRUTH
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.evaluation.frames import RESAMPLES
from restore_dit.evaluation.protocols import Method, baseline_methods, model_method
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import CLEAR, CLOUD_NO_DATA, NO_DATA, S2_BANDS, Acquisitions, TileSeries

METHODS = (SOURCE, "rule", "csmask", TRUTH)

LEAST_CLEAR = 0.95
"""Share of a date's pixels that every mask must call clear for it to be hidden and scored."""

GROUPS = 3
"""`missing-frame` hides every so many of these dates at once, so that the dates around each are visible."""

Masks = dict[str, NDArray[np.uint8]]
"""Masks [T, H, W] of one tile by method."""


@dataclass(frozen=True)
class Trial:
    """`gaps` [T, H, W] are hidden in addition to a mask's own, and of these the pixels `scored` [T, H, W] count. `sets`
    are the dates that are scored together."""

    gaps: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    sets: Sequence[NDArray[np.intp]]


def trials(masks: Masks, no_data: NDArray[np.bool_], protocol: str) -> Iterator[Trial]:
    """The trials of a tile, at pixels that every mask calls clear. `no_data`: pixels [T, H, W] that lack a band."""
    clear = np.all([clouds == CLEAR for clouds in masks.values()], axis=0) & ~no_data
    dates = np.flatnonzero(clear.mean(axis=(1, 2)) >= LEAST_CLEAR)
    if protocol == "paper":
        gaps = np.zeros_like(clear)
        gaps[dates] = (masks[SOURCE] != CLEAR)[: len(dates)]
        yield Trial(gaps, gaps & clear, [dates])
        return
    for first in range(GROUPS):
        hidden = dates[first::GROUPS]
        gaps = np.zeros_like(clear)
        gaps[hidden] = True
        yield Trial(gaps, gaps & clear, hidden[:, None])


def squared_errors(method: Method, series: TileSeries, hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Squared error [T, H, W] on the published scale, mean over bands, with the pixels `hidden` [T, H, W] filled."""
    filled = method(series, np.arange(len(series.optical)), hidden).values
    error = filled.astype(np.float64) - stored_to_published_scale(series.optical.values)
    return np.asarray(np.square(error).mean(axis=1))


def scores(
    store: TileStore, tile_id: str, methods: dict[str, Method], dilation: int, protocols: Sequence[str]
) -> Iterator[dict[str, str | float]]:
    """A row for each protocol, set of dates, mask and method."""
    whole = store.load(tile_id).series()
    bands = tuple(band for band in S2_BANDS if band in whole.optical.bands)
    values = whole.optical.values[:, [whole.optical.bands.index(band) for band in bands]]
    series = replace(whole, optical=Acquisitions(values, whole.optical.dates, bands))
    record, masks = store.record(tile_id), Masks()
    for name in METHODS:
        if any(one.origin.method == name for one in record.masks.values()):
            clouds = store.load(tile_id, radar_tracks=(), masks=mask_layer(record, name, tile_id)).series().clouds
            assert clouds is not None
            masks[name] = clouds
    no_data = (values == NO_DATA).any(axis=1)
    for protocol in protocols:
        for trial in trials(masks, no_data, protocol):
            for mask, clouds in masks.items():
                hidden = no_data | trial.gaps | hidden_pixels(clouds, dilation, mistaken_ground(clouds))
                own = replace(series, clouds=np.where(no_data, np.uint8(CLOUD_NO_DATA), clouds))
                for name, method in methods.items():
                    squared = squared_errors(method, own, hidden)
                    for dates in trial.sets:
                        counted = squared[dates][trial.scored[dates]]
                        if counted.size:
                            yield {"protocol": protocol, "tile": tile_id, "date": str(whole.optical.dates[dates[0]]),
                                   "masks": mask, "method": name, "pixels": counted.size,
                                   "psnr": float(-10 * np.log10(counted.mean()))}  # fmt: skip


def main() -> int:
    """Scores all sites and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="default", help="model directory (default: the shipped one)")
    parser.add_argument("--sites", nargs="+", choices=SITES, default=["A", "B"], metavar="SITE")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--tiles", type=int, default=3, help="tiles of a site (default 3)")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the sites' files")
    parser.add_argument("--folder", type=Path, help="folder for the tile stores (default: a temporary folder)")
    given = parser.parse_args()
    model = load_model(given.model)
    rows: list[dict[str, str | float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for site in given.sites:
            store = with_masks(site, given.data, given.folder or Path(temporary), given.tiles)
            its = [
                {"site": site} | row
                for tile_id in store.tile_ids[: given.tiles]
                for row in scores(store, tile_id, methods_of(model), model.config.data.gaps.dilation, given.protocols)
            ]
            rows += its
            report(its)
    print(json.dumps({"benchmark": "masks", "model": given.model, "rows": rows}))
    return 0


def with_masks(site: str, data: Path, folder: Path, most: int) -> TileStore:
    """The store of a site, with the masks of every method that its bands allow for up to so many tiles."""
    store = prepare(site, data, folder, "source").store
    for method in ("rule", "csmask"):
        try:
            run(plan_detection(DetectionConfig(store=store.uri, method=method, tiles=store.tile_ids[:most], workers=0)))
        except UserError as error:
            print(f"{site}: no masks by {method}: {error}", file=sys.stderr)
    return TileStore.open(store.uri)


def methods_of(model: Model) -> dict[str, Method]:
    """The model and linear interpolation."""
    return {"linear": baseline_methods()["linear"], "model": model_method(model, SamplingOptions(calibrate=False))}


def report(rows: Sequence[Mapping[str, str | float]]) -> None:
    """Prints the mean PSNR of a site by protocol, method and masks, and its difference from that with the site's own
    masks, with the 95 % interval of a bootstrap over dates where there are several."""
    groups: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        key = (str(row["site"]), str(row["protocol"]), str(row["method"]))
        groups.setdefault(key, {}).setdefault(str(row["masks"]), []).append(float(row["psnr"]))
    random = np.random.default_rng(0)
    for key, by_masks in groups.items():
        for masks, found in by_masks.items():
            gains = np.subtract(found, by_masks[SOURCE])
            means = random.choice(gains, (RESAMPLES, len(gains))).mean(axis=1)
            low, high = np.percentile(means, [2.5, 97.5])
            interval = f" ({low:+.2f} to {high:+.2f})" if len(gains) > 1 and masks != SOURCE else ""
            names = "".join(f"{name:18}" for name in (*key, masks))
            print(f"{names}{len(found):3} × {fmean(found):6.2f} dB {gains.mean():+.2f}{interval}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
