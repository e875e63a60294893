"""Comparison of simulated series with real ones: statistics, computed in the same way for both, and simulated
counterparts that match a real series in climate, dates and pixel size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore_dit.config.simulation import climate
from restore_dit.data.crs import pixel_sides
from restore_dit.data.simulation.revisit import Dates
from restore_dit.data.simulation.simulator import simulate_tile
from restore_dit.series import DECIBEL_SCALE, NO_DATA, S1_BANDS, S2_BANDS, SHADOW, Acquisitions, TileSeries

CLEAR_FRAME = 0.05
"""A frame counts as clear below this share of missing pixels."""

BAD_FRAME = 0.1
"""A frame cannot be a target above this share of missing pixels."""

LAGS = ((5, 3, 7), (10, 8, 12), (30, 25, 35), (60, 50, 70))
"""Time lags in days: nominal, minimum, maximum."""

DISTANCES = (1, 2, 5, 10)
"""Distances in pixels."""

Table = NDArray[np.float64]


@dataclass(frozen=True)
class SeriesStatistics:
    """Statistics of a set of series, in reflectance × 10000 and dB, for C `bands`, L `LAGS` and D `DISTANCES`.

    - `mean`, `deviation` [C], `correlation` [C, C]: of clear pixels in clear frames.
    - `all_mean`, `all_deviation` [C]: of all pixels, including clouds.
    - `ndvi` [12, 3]: 10th, 50th and 90th percentile by month (NaN without B04, B08 or clear frames).
    - `change` [L, C]: root mean square difference between clear frames at each lag.
    - `roughness` [D, C]: root mean square difference between pixels of a clear frame at each distance.
    - `interpolation` [C]: RMSE of linear interpolation between the neighbouring clear frames, averaged over clear
      frames; `neighbour_days`: mean time between these neighbours.
    - `clear_frames`, `bad_frames`, `covered_frames`: shares of frames with less than 5 %, more than 10 % and more than
      50 % missing pixels.
    - `patchiness`: share of neighbouring pixel pairs of which one is cloud, in partly cloudy frames.
    - `radar`: band → mean and standard deviation of means of 2×2 pixels, and RMS difference between neighbouring ones.
    - `monthly_radar`: band → mean and standard deviation of the pixels' monthly means, in dB.
    """

    bands: tuple[str, ...]
    mean: Table
    deviation: Table
    correlation: Table
    all_mean: Table
    all_deviation: Table
    ndvi: Table
    change: Table
    roughness: Table
    interpolation: Table
    neighbour_days: float
    clear_frames: float
    bad_frames: float
    covered_frames: float
    patchiness: float
    radar: dict[str, tuple[float, float, float]]
    monthly_radar: dict[str, tuple[float, float]]


def describe_series(tiles: Iterable[TileSeries], bands: Sequence[str] = S2_BANDS) -> SeriesStatistics:
    """The statistics of series that all have the given bands."""
    sums, all_sums = _Moments(len(bands)), _Moments(len(bands))
    vegetation: list[list[NDArray[np.float32]]] = [[] for _ in range(12)]
    change, roughness = _SquareMeans((len(LAGS), len(bands))), _SquareMeans((len(DISTANCES), len(bands)))
    interpolation: list[NDArray[np.float64]] = []
    apart: list[NDArray[np.float64]] = []
    shares: list[NDArray[np.float64]] = []
    edges = _SquareMeans((1, 1))
    radar = {band: _Moments(1) for band in S1_BANDS}
    monthly = {band: _Moments(1) for band in S1_BANDS}
    texture = {band: _SquareMeans((1, 1)) for band in S1_BANDS}
    for tile in tiles:
        columns = [tile.optical.bands.index(band) for band in bands]
        missing = tile.missing()
        share = missing.mean(axis=(1, 2))
        shares.append(share)
        seen = ~(tile.optical.values == NO_DATA).any(axis=1)
        values = tile.optical.values[:, columns]
        all_sums.add(values.transpose(1, 0, 2, 3)[:, seen])
        clear = share < CLEAR_FRAME
        frames, present = values[clear].astype(np.float32), ~missing[clear]
        sums.add(frames.transpose(1, 0, 2, 3)[:, present])
        days = (tile.optical.dates[clear] - tile.optical.dates[0]).astype(float)
        _add_changes(change, frames, present, days)
        _add_roughness(roughness, frames, present)
        errors, between = _interpolation_errors(frames, present, days)
        interpolation.append(errors)
        apart.append(between)
        if {"B04", "B08"} <= set(bands):
            red, near_infrared = frames[:, bands.index("B04")], frames[:, bands.index("B08")]
            index = (near_infrared - red) / np.maximum(near_infrared + red, 1)
            for month, image, kept in zip(_months(tile.optical.dates[clear]), index, present, strict=True):
                vegetation[month].append(image[kept])
        if tile.clouds is not None:
            _add_edges(edges, (tile.clouds > 0) & (tile.clouds < SHADOW))
        for series in tile.radar.values():
            for number, band in enumerate(series.bands):
                decibel = _decibels(series.values[:, number])
                blocks = _block_means(decibel)
                radar[band].add(_present(blocks))
                texture[band].add(0, _present(blocks[:, :, 1:] - blocks[:, :, :-1]))
                months = series.dates.astype("datetime64[M]")
                for month in np.unique(months):
                    monthly[band].add(_present(decibel[months == month].mean(axis=0)))
    frame_shares = np.concatenate(shares)
    return SeriesStatistics(
        bands=tuple(bands),
        mean=sums.mean,
        deviation=sums.deviation,
        correlation=sums.correlation,
        all_mean=all_sums.mean,
        all_deviation=all_sums.deviation,
        ndvi=np.array([_percentiles(images) for images in vegetation]),
        change=change.root(),
        roughness=roughness.root(),
        interpolation=np.concatenate(interpolation).mean(axis=0),
        neighbour_days=float(np.concatenate(apart).mean()),
        clear_frames=float((frame_shares < CLEAR_FRAME).mean()),
        bad_frames=float((frame_shares > BAD_FRAME).mean()),
        covered_frames=float((frame_shares > 0.5).mean()),
        patchiness=float(edges.root()[0, 0] ** 2),
        radar={band: (*_summary(radar[band]), float(texture[band].root()[0, 0])) for band in S1_BANDS},
        monthly_radar={band: _summary(monthly[band]) for band in S1_BANDS},
    )


class _Moments:
    """Accumulates means, standard deviations and correlations of vectors, added in parts [C, n]."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.sum, self.products = np.zeros(size), np.zeros((size, size))

    def add(self, values: NDArray[np.number]) -> None:
        vectors = values.astype(np.float64)
        self.count += vectors.shape[1]
        self.sum += vectors.sum(axis=1)
        self.products += vectors @ vectors.T

    @property
    def mean(self) -> Table:
        return self.sum / self.count

    @property
    def covariance(self) -> Table:
        return self.products / self.count - np.outer(self.mean, self.mean)

    @property
    def deviation(self) -> Table:
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> Table:
        return self.covariance / np.outer(self.deviation, self.deviation)


class _SquareMeans:
    """Accumulates mean squares [rows, columns], added one row at a time as [columns, n]."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.sum, self.count = np.zeros(shape), np.zeros(shape)

    def add(self, row: int, values: NDArray[np.floating]) -> None:
        self.sum[row] += (values.astype(np.float64) ** 2).sum(axis=1)
        self.count[row] += values.shape[1]

    def root(self) -> Table:
        """The square roots; NaN where nothing was added."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.sum / self.count)


def _summary(moments: _Moments) -> tuple[float, float]:
    return float(moments.mean[0]), float(moments.deviation[0])


def _decibels(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """Stored integers as dB, NaN where missing."""
    return np.where(stored == NO_DATA, np.float32(np.nan), stored / np.float32(DECIBEL_SCALE))


def _block_means(decibel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean power of 2×2 pixels in dB, [T, H/2, W/2]: similar to a radar product at 20 m."""
    frames, height, width = decibel.shape
    power = 10 ** (decibel[:, : height // 2 * 2, : width // 2 * 2] / 10)
    blocks = power.reshape(frames, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return 10 * np.log10(blocks)


def _present(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """All values that are not NaN, [1, n]."""
    return values[np.isfinite(values)][None]


def _months(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return dates.astype("datetime64[M]").astype(np.int64) % 12


def _percentiles(images: list[NDArray[np.float32]]) -> Table:
    values = np.concatenate(images) if images else np.empty(0)
    return np.percentile(values, (10, 50, 90)) if values.size else np.full(3, np.nan)


def _add_changes(
    sums: _SquareMeans, frames: NDArray[np.float32], present: NDArray[np.bool_], days: NDArray[np.float64]
) -> None:
    apart = days[None] - days[:, None]
    for row, (_, least, most) in enumerate(LAGS):
        for first, second in np.argwhere((apart >= least) & (apart <= most)):
            both = present[first] & present[second]
            sums.add(row, (frames[second] - frames[first])[:, both])


def _add_roughness(sums: _SquareMeans, frames: NDArray[np.float32], present: NDArray[np.bool_]) -> None:
    for row, apart in enumerate(DISTANCES):
        for axis in (1, 2):
            here, there = [slice(None)] * 3, [slice(None)] * 3
            here[axis], there[axis] = slice(None, -apart), slice(apart, None)
            both = present[tuple(here)] & present[tuple(there)]
            bands = frames.transpose(1, 0, 2, 3)
            sums.add(row, (bands[:, *there] - bands[:, *here])[:, both])


def _interpolation_errors(
    frames: NDArray[np.float32], present: NDArray[np.bool_], days: NDArray[np.float64]
) -> tuple[Table, Table]:
    """RMSE [n, C] of linear interpolation between the neighbours in time of every frame except the first and last, and
    the days between these neighbours [n]."""
    errors, apart = [], []
    for frame in range(1, len(frames) - 1):
        before, after = days[frame] - days[frame - 1], days[frame + 1] - days[frame]
        line = (after * frames[frame - 1] + before * frames[frame + 1]) / (before + after)
        kept = present[frame - 1 : frame + 2].all(axis=0)
        errors.append(np.sqrt(((frames[frame] - line)[:, kept].astype(np.float64) ** 2).mean(axis=1)))
        apart.append(before + after)
    return np.array(errors).reshape(-1, frames.shape[1]), np.array(apart)


def _add_edges(sums: _SquareMeans, cloud: NDArray[np.bool_]) -> None:
    share = cloud.mean(axis=(1, 2))
    partly = cloud[(share > CLEAR_FRAME) & (share < 1 - CLEAR_FRAME)]
    for differs in (partly[:, 1:] != partly[:, :-1], partly[:, :, 1:] != partly[:, :, :-1]):
        sums.add(0, differs.reshape(1, -1).astype(np.float32))


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
