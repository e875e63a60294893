"""Simulated series that match real ones in climate, dates and pixel size, for comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from restore_dit.config.simulation import climate
from restore_dit.data.crs import pixel_sides
from restore_dit.data.simulation.revisit import Dates
from restore_dit.data.simulation.simulator import simulate_tile
from restore_dit.series import Acquisitions, TileSeries

PASTIS_TILES = ("t30uxv", "t31tfj", "t31tfm", "t32ulu")


def counterparts_of(site: TileSeries, climate_name: str, count: int, seed: int) -> Iterator[TileSeries]:
    """Simulated tiles with the size, dates, pixel size (10 or 20 m) and radar tracks of a real site."""
    height, width = site.size
    coarse = site.georeference is not None and max(pixel_sides(site.georeference, site.size)) > 15
    factor = 2 if coarse else 1
    config = climate(
        climate_name,
        height=factor * height,
        width=factor * width,
        orbit_overlap=coarse,
        radar_tracks=tuple(site.radar),
    )
    radar_dates = {track: series.dates for track, series in site.radar.items()}
    for index in range(count):
        tile = simulate_tile(config, seed, index, optical_dates=site.optical.dates, radar_dates=radar_dates)
        yield _every_second_pixel(tile) if coarse else tile


def counterparts_of_pastis(metadata: Path, name: str, count: int, seed: int, side: int = 128) -> Iterator[TileSeries]:
    """Simulated patches of side×side pixels with the real dates of one of `PASTIS_TILES`, read from the file
    `pastis_r_dates_by_tile.json` in the folder `metadata`."""
    dates = json.loads((metadata / "pastis_r_dates_by_tile.json").read_text())[name]
    config = climate(name, height=side, width=side)
    radar_dates: dict[str, Dates] = {track: _days(dates[f"dates-{track}"]) for track in config.radar_tracks}
    for index in range(count):
        yield simulate_tile(config, seed, index, optical_dates=_days(dates["dates-S2"]), radar_dates=radar_dates)


def _days(numbers: list[int]) -> Dates:
    """20180924 → 2018-09-24."""
    return np.array([f"{day // 10000}-{day // 100 % 100:02}-{day % 100:02}" for day in numbers], "datetime64[D]")


def _every_second_pixel(tile: TileSeries) -> TileSeries:
    def thinned(series: Acquisitions) -> Acquisitions:
        return replace(series, values=np.ascontiguousarray(series.values[:, :, ::2, ::2]))

    return replace(
        tile,
        optical=thinned(tile.optical),
        clouds=None if tile.clouds is None else np.ascontiguousarray(tile.clouds[:, ::2, ::2]),
        radar={track: thinned(series) for track, series in tile.radar.items()},
        georeference=None,
    )
